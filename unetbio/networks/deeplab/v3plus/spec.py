"""DeepLab v3+ (arXiv 1802.02611), as far as it is known without torch."""

from unetbio.geometry import Layer, padded_geometry
from unetbio.networks.deeplab.v3.spec import DEFAULTS, check_encoder, context_path
from unetbio.networks.encoders.resnet.spec import bilinear_layer, output_stride, padded_layer
from unetbio.networks.registry import Architecture, Parameters, Published, check_flags, register

__all__ = ["LOW_LEVEL_MAPS", "LOW_LEVEL_STRIDE"]

LOW_LEVEL_STRIDE = 4
"""Of the encoder's features that the decoder takes, those of the first stage."""

LOW_LEVEL_MAPS = 48
"""To which they are reduced, so that they do not outweigh the encoder's 256 (section 4.1)."""


def _check(parameters: Parameters) -> None:
    check_encoder("deeplab_v3plus", parameters)
    check_flags("deeplab_v3plus", parameters, ("separable",))


def _path(parameters: Parameters) -> tuple[Layer, ...]:
    stride = output_stride(parameters["dilated"], parameters["output_stride"])
    return (
        *context_path(parameters),
        bilinear_layer(stride // LOW_LEVEL_STRIDE),
        padded_layer(3),
        padded_layer(3),
        bilinear_layer(LOW_LEVEL_STRIDE),
    )


register(
    Architecture(
        name="deeplab_v3plus",
        summary="DeepLab v3+ (the lecture's v4): DeepLab v3 as the encoder, a decoder with features of stride 4",
        paper="Chen et al. 2018, arXiv 1802.02611",
        import_path="unetbio.networks.deeplab.v3plus.network:DeepLabV3Plus",
        defaults={**DEFAULTS, "separable": False},
        check=_check,
        geometry=lambda parameters: padded_geometry(_path(parameters)),
        exact=lambda parameters: not parameters["image_pooling"],
        path=_path,
        tricks=(1, 2, 3, 5),
        paper_tricks=(2, 3, 6),
        published=(
            Published(
                59_344_309,
                {"in_channels": 3, "num_classes": 21},
                "counted by hand from github.com/jfzhang95/pytorch-deeplab-xception with ResNet-101",
            ),
        ),
    )
)
