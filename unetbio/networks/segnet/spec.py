"""SegNet (arXiv 1511.00561): parameters and geometry, without torch."""

from unetbio.geometry import Layer
from unetbio.networks.encoders.vgg.spec import decoder_path, encoder_path
from unetbio.networks.parameters import PlanarParameters
from unetbio.networks.recipes import Recipe, augmented, sgd
from unetbio.networks.registry import Architecture, Published, register

__all__ = ["SegNetParameters"]


class SegNetParameters(PlanarParameters):
    """Parameters of SegNet: those of every network in the plane."""

    @property
    def path(self) -> tuple[Layer, ...]:
        """See `NetworkParameters`."""
        return (*encoder_path(), *decoder_path())


register(
    Architecture(
        name="segnet",
        summary="SegNet: VGG-16's convolutions, mirrored after max-unpooling by the encoder's switches",
        paper="Badrinarayanan, Kendall, Cipolla 2015, arXiv 1511.00561",
        import_path="unetbio.networks.segnet.network:SegNet",
        parameters=SegNetParameters,
        tricks=(1,),
        paper_tricks=(1,),
        published=(
            Published(
                29_447_047,
                {"in_channels": 3, "num_classes": 7},
                "github.com/jaeoh2/Road-Lane-Instance-Segmentation-PyTorch, model summary (heads of 2 and of 5 maps)",
            ),
        ),
        recipe=Recipe(
            {
                "patch_size": (384, 480),
                "batch_size": 12,
                **sgd(0.1),
                **augmented(),
                "class_weighting": "median_frequency",
            },
            "arXiv 1511.00561, section 3.1",
            "The paper trained until the loss stopped falling, on images of 360 x 480, and normalised local contrast.",
        ),
    )
)
