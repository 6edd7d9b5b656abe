"""DeepLab v3 (arXiv 1706.05587), as far as it is known without torch; DeepLab v3+ shares its encoder."""

from unetbio.geometry import Layer, padded_geometry
from unetbio.networks.encoders.resnet.spec import (
    BACKBONES,
    bilinear_layer,
    encoder_path,
    output_stride,
    padded_layer,
    rates_at,
)
from unetbio.networks.registry import (
    Architecture,
    Parameters,
    Published,
    check_choices,
    check_flags,
    check_planar,
    register,
)

__all__ = ["DEFAULTS", "MAPS", "atrous_rates", "check_encoder", "context_path", "multi_grid"]

MAPS = 256
"""Channels of each branch of the pyramid, and of what leaves it."""

DEFAULTS = {
    "ndim": 2,
    "in_channels": 1,
    "num_classes": 2,
    "width": 1.0,
    "backbone": "resnet101",
    "dilated": True,
    "output_stride": 16,
    "image_pooling": True,
}


def atrous_rates(stride: int) -> tuple[int, ...]:
    """Rates of the pyramid's 3 x 3 convolutions at an output stride: doubled at 8 (section 3.3)."""
    return rates_at(stride, (6, 12, 18), given_at=16)


def multi_grid(dilated: bool) -> tuple[int, ...]:
    """Factors of the dilation in the three blocks of the last stage (table 5's choice)."""
    return (1, 2, 4) if dilated else (1, 1, 1)


def check_encoder(network: str, parameters: Parameters) -> None:
    """Refuse parameters that no encoder of DeepLab v3 can have; raises as `check_planar`."""
    check_planar(network, parameters)
    check_choices(network, parameters, {"backbone": tuple(BACKBONES), "output_stride": (8, 16)})
    check_flags(network, parameters, ("dilated", "image_pooling"))


def context_path(parameters: Parameters) -> tuple[Layer, ...]:
    """Layers from the image through the encoder and the pyramid's widest convolution."""
    stride = output_stride(parameters["dilated"], parameters["output_stride"])
    encoder = encoder_path(parameters["backbone"], stride, multi_grid(parameters["dilated"]))
    return (*encoder, padded_layer(3, dilation=atrous_rates(stride)[-1]))


def _path(parameters: Parameters) -> tuple[Layer, ...]:
    stride = output_stride(parameters["dilated"], parameters["output_stride"])
    return (*context_path(parameters), bilinear_layer(stride))


register(
    Architecture(
        name="deeplab_v3",
        summary="DeepLab v3: dilated ResNet with multi-grid, atrous convolutions and the pooled image concatenated",
        paper="Chen et al. 2017, arXiv 1706.05587",
        import_path="unetbio.networks.deeplab.v3.network:DeepLabV3",
        defaults=DEFAULTS,
        check=lambda parameters: check_encoder("deeplab_v3", parameters),
        geometry=lambda parameters: padded_geometry(_path(parameters)),
        exact=lambda parameters: not parameters["image_pooling"],
        path=_path,
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
    )
)
