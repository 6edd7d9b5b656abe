"""DeepLab v1 with a large field of view (arXiv 1412.7062), as far as it is known without torch."""

from unetbio.geometry import Layer, padded_geometry
from unetbio.networks.encoders.vgg.spec import Pooling, encoder_path
from unetbio.networks.registry import (
    Architecture,
    Parameters,
    Published,
    check_flags,
    check_fractions,
    check_planar,
    check_whole_numbers,
    register,
)

__all__ = ["POOLINGS", "dilation_of_conv5"]

POOLINGS: tuple[Pooling, ...] = ("halve", "halve", "halve", "keep", "keep")


def dilation_of_conv5(dilation: int) -> int:
    """Dilation of the last stage of the encoder, given that of fc6: 2, unless dilation is switched off."""
    return min(2, dilation)


def _check(parameters: Parameters) -> None:
    check_planar("deeplab_v1", parameters)
    check_whole_numbers("deeplab_v1", parameters, {"dilation": 1})
    check_flags("deeplab_v1", parameters, ("batch_norm",))
    check_fractions("deeplab_v1", parameters, ("dropout",))


def _path(parameters: Parameters) -> tuple[Layer, ...]:
    dilation = parameters["dilation"]
    return (
        *encoder_path(POOLINGS, dilation=dilation_of_conv5(dilation)),
        Layer(3, dilation=dilation, padding=dilation),
        Layer(16, stride=8, padding=4, transposed=True),
    )


register(
    Architecture(
        name="deeplab_v1",
        summary="DeepLab v1 LargeFOV: VGG-16 at stride 8 with dilated convolutions, upsampled 8 times",
        paper="Chen et al. 2015, arXiv 1412.7062",
        import_path="unetbio.networks.deeplab.v1.network:DeepLabV1",
        defaults={
            "ndim": 2,
            "in_channels": 1,
            "num_classes": 2,
            "width": 1.0,
            "batch_norm": False,
            "dropout": 0.5,
            "dilation": 12,
        },
        check=_check,
        geometry=lambda parameters: padded_geometry(_path(parameters)),
        exact=lambda parameters: True,
        path=_path,
        tricks=(2, 5),
        paper_tricks=(2, 5),
        published=(
            Published(
                20_500_000,
                {"in_channels": 3, "num_classes": 21},
                "arXiv 1412.7062, table 2: DeepLab-CRF-LargeFOV, 20.5 M",
            ),
        ),
    )
)
