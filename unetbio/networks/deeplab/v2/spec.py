"""DeepLab v2 (arXiv 1606.00915), as far as it is known without torch."""

from unetbio.geometry import Layer, padded_geometry
from unetbio.networks.deeplab.v1.spec import POOLINGS
from unetbio.networks.encoders.resnet.spec import (
    BACKBONES,
    bilinear_layer,
    encoder_path,
    output_stride,
    padded_layer,
    rates_at,
)
from unetbio.networks.encoders.vgg import spec
from unetbio.networks.registry import (
    Architecture,
    Parameters,
    Published,
    check_choices,
    check_flags,
    check_fractions,
    check_planar,
    register,
)

__all__ = ["STRIDE", "VGG", "atrous_rates", "vgg_stages"]

STRIDE = 8
"""Output stride with dilation."""

VGG = "vgg16"
"""The backbone that is no ResNet."""


def atrous_rates(stride: int) -> tuple[int, ...]:
    """Rates of the pyramid's convolutions (ASPP-L of table 3) at an output stride."""
    return rates_at(stride, (6, 12, 18, 24), given_at=STRIDE)


def vgg_stages(dilated: bool) -> tuple[tuple[spec.Pooling, ...], int]:
    """What follows each stage of VGG-16, and the dilation of its last one: as in DeepLab v1, or in a plain VGG-16."""
    return (POOLINGS, 2) if dilated else (spec.HALVINGS, 1)


def _check(parameters: Parameters) -> None:
    check_planar("deeplab_v2", parameters)
    check_choices("deeplab_v2", parameters, {"backbone": (*BACKBONES, VGG)})
    check_flags("deeplab_v2", parameters, ("batch_norm", "dilated"))
    check_fractions("deeplab_v2", parameters, ("dropout",))


def _path(parameters: Parameters) -> tuple[Layer, ...]:
    stride = output_stride(parameters["dilated"], STRIDE)
    widest = padded_layer(3, dilation=atrous_rates(stride)[-1])
    if parameters["backbone"] == VGG:
        poolings, dilation = vgg_stages(parameters["dilated"])
        encoder = spec.encoder_path(poolings, dilation=dilation)
    else:
        encoder = encoder_path(parameters["backbone"], stride)
    return (*encoder, widest, bilinear_layer(stride))


register(
    Architecture(
        name="deeplab_v2",
        summary="DeepLab v2: dilated ResNet or VGG-16, atrous convolutions of four rates summed, bilinear x 8",
        paper="Chen et al. 2016, arXiv 1606.00915",
        import_path="unetbio.networks.deeplab.v2.network:DeepLabV2",
        defaults={
            "ndim": 2,
            "in_channels": 1,
            "num_classes": 2,
            "width": 1.0,
            "backbone": "resnet101",
            "batch_norm": False,
            "dropout": 0.5,
            "dilated": True,
        },
        check=_check,
        geometry=lambda parameters: padded_geometry(_path(parameters)),
        exact=lambda parameters: True,
        path=_path,
        tricks=(2, 3, 5),
        paper_tricks=(2, 3, 5),
        published=(
            Published(
                44_048_532,
                {"in_channels": 3, "num_classes": 21},
                "counted by hand: torchvision's resnet101 without its classifier (44 549 160 - 2 049 000) and four "
                "convolutions of 9 * 2048 * 21 + 21",
            ),
        ),
    )
)
