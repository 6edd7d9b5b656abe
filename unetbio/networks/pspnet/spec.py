"""PSPNet (arXiv 1612.01105), as far as it is known without torch."""

from unetbio.geometry import Layer, padded_geometry
from unetbio.networks.encoders.resnet.spec import BACKBONES, bilinear_layer, encoder_path, output_stride, padded_layer
from unetbio.networks.registry import (
    Architecture,
    Parameters,
    Published,
    check_choices,
    check_flags,
    check_planar,
    register,
)

__all__ = ["AUXILIARY_SHARE", "BINS", "STRIDE"]

STRIDE = 8
"""Output stride with dilation."""

BINS = (1, 2, 3, 6)
"""Cells along each axis of the four grids (section 3.2)."""

AUXILIARY_SHARE = 0.4
"""Of the loss of the third stage's logits (section 5.1)."""


def _check(parameters: Parameters) -> None:
    check_planar("pspnet", parameters)
    check_choices("pspnet", parameters, {"backbone": tuple(BACKBONES)})
    check_flags("pspnet", parameters, ("dilated",))


def _path(parameters: Parameters) -> tuple[Layer, ...]:
    stride = output_stride(parameters["dilated"], STRIDE)
    return (*encoder_path(parameters["backbone"], stride), padded_layer(3), bilinear_layer(stride))


register(
    Architecture(
        name="pspnet",
        summary="PSPNet: dilated ResNet, averages over grids of 1, 2, 3 and 6 cells beside the features",
        paper="Zhao et al. 2017, arXiv 1612.01105",
        import_path="unetbio.networks.pspnet.network:PSPNet",
        defaults={
            "ndim": 2,
            "in_channels": 1,
            "num_classes": 2,
            "width": 1.0,
            "backbone": "resnet101",
            "dilated": True,
        },
        check=_check,
        geometry=lambda parameters: padded_geometry(_path(parameters)),
        exact=lambda parameters: False,
        path=_path,
        tricks=(1, 2, 4),
        paper_tricks=(2, 4),
        published=(
            Published(
                67_948_390,
                {"in_channels": 3, "num_classes": 19},
                "counted by hand from github.com/hszhao/semseg, with torchvision's stem in the place of its three "
                "convolutions (123 776 more)",
            ),
        ),
    )
)
