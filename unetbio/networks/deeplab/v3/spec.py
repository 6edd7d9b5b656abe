"""DeepLab v3 (arXiv 1706.05587): parameters and geometry, without torch."""

from unetbio.geometry import Layer
from unetbio.networks.deeplab.encoders import MultiGridParameters
from unetbio.networks.encoders.resnet.spec import bilinear_layer
from unetbio.networks.recipes import Recipe, augmented, sgd
from unetbio.networks.registry import Architecture, Published, register

__all__ = ["DeepLabV3Parameters"]


class DeepLabV3Parameters(MultiGridParameters):
    """Parameters of DeepLab v3: those of its encoder."""

    @property
    def path(self) -> tuple[Layer, ...]:
        """See `NetworkParameters`."""
        return (*self.pyramid_path, bilinear_layer(self.stride))


register(
    Architecture(
        name="deeplab_v3",
        summary="DeepLab v3: dilated ResNet with multi-grid, atrous convolutions and the pooled image concatenated",
        paper="Chen et al. 2017, arXiv 1706.05587",
        import_path="unetbio.networks.deeplab.v3.network:DeepLabV3",
        parameters=DeepLabV3Parameters,
        tricks=(1, 2, 3, 5),
        paper_tricks=(2, 3),
        published=(
            Published(
                39_048_533,
                {"in_channels": 3, "num_classes": 21, "backbone": "resnet50"},
                "torchvision deeplabv3_resnet50: 42 004 074, less its auxiliary head (2 365 205) and the 3 x 3 "
                "convolution in its head (590 336), neither of which is in the paper",
            ),
            Published(
                58_040_661,
                {"in_channels": 3, "num_classes": 21},
                "torchvision deeplabv3_resnet101: 60 996 202, less the same two",
            ),
            Published(
                58_000_000,
                {"in_channels": 3, "num_classes": 19},
                "arXiv 1908.07919, comparison on Cityscapes val (58.0 M)",
            ),
        ),
        recipe=Recipe(
            {
                "patch_size": 513,
                "batch_size": 16,
                **sgd(0.007, decay=1e-4, poly=True),
                **augmented(flip=True, scale=2.0),
            },
            "arXiv 1706.05587, section 4.1",
            "The paper trained for 30 000 steps at output stride 16 from weights of ResNet, and then 30 000 steps at "
            "rate .001 with batch norm fixed.",
        ),
    )
)
