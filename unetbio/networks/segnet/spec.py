"""SegNet (arXiv 1511.00561), as far as it is known without torch."""

from unetbio.geometry import padded_geometry
from unetbio.networks.encoders.vgg.spec import decoder_path, encoder_path
from unetbio.networks.registry import Architecture, Published, check_planar, register

__all__: list[str] = []

PATH = (*encoder_path(), *decoder_path())

register(
    Architecture(
        name="segnet",
        summary="SegNet: VGG-16's convolutions, mirrored after max-unpooling by the encoder's switches",
        paper="Badrinarayanan, Kendall, Cipolla 2015, arXiv 1511.00561",
        import_path="unetbio.networks.segnet.network:SegNet",
        defaults={"ndim": 2, "in_channels": 1, "num_classes": 2, "width": 1.0},
        check=lambda parameters: check_planar("segnet", parameters),
        geometry=lambda parameters: padded_geometry(PATH),
        exact=lambda parameters: True,
        path=lambda parameters: PATH,
        tricks=(1,),
        paper_tricks=(1,),
        published=(
            Published(
                29_447_047,
                {"in_channels": 3, "num_classes": 7},
                "github.com/jaeoh2/Road-Lane-Instance-Segmentation-PyTorch, model summary (heads of 2 and of 5 maps)",
            ),
        ),
    )
)
