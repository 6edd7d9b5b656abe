"""Mask R-CNN (arXiv 1703.06870), as far as it is known without torch."""

from dataclasses import replace

from unetbio.errors import UsageError
from unetbio.geometry import Geometry, Layer, padded_geometry
from unetbio.networks.encoders.resnet.spec import BACKBONES, encoder_path, padded_layer
from unetbio.networks.registry import (
    Architecture,
    Parameters,
    Published,
    check_choices,
    check_planar,
    register,
)

__all__ = ["MAPS", "STRIDE"]

STRIDE = 32
"""Of the encoder, which is not dilated."""

MAPS = 5
"""P2 to P6, with strides from 4 to 64 pixels."""


def _check(parameters: Parameters) -> None:
    check_planar("mask_rcnn", parameters)
    check_choices("mask_rcnn", parameters, {"backbone": tuple(BACKBONES)})
    sizes = parameters["anchor_sizes"]
    whole = isinstance(sizes, list | tuple) and all(isinstance(size, int) and size > 0 for size in sizes)
    if not whole or len(sizes) != MAPS:
        raise UsageError(
            f"mask_rcnn: anchor_sizes is {sizes!r}; it must be {MAPS} whole numbers from 1, in pixels, for the maps of "
            "strides 4, 8, 16, 32 and 64"
        )


def _path(parameters: Parameters) -> tuple[Layer, ...]:
    # What the answer for an anchor of P6 depends on: P5 is smoothed, every other pixel of it taken, and looked at with
    # 3 x 3. Heads see their boxes besides, however large these are.
    coarsest = (padded_layer(3), Layer(1, 2), padded_layer(3), Layer(64, 64, transposed=True))
    return (*encoder_path(parameters["backbone"], STRIDE), *coarsest)


def _geometry(parameters: Parameters) -> Geometry:
    # The size of P6 is rounded up, so that the image need be divisible by the stride of P5 alone.
    return replace(padded_geometry(_path(parameters)), stride=(STRIDE,) * 2, minimum=(STRIDE,) * 2)


register(
    Architecture(
        name="mask_rcnn",
        summary="Mask R-CNN: boxes and masks of objects, from proposals on a feature pyramid",
        paper="He et al. 2017, arXiv 1703.06870; pyramid: arXiv 1612.03144; proposals: arXiv 1506.01497",
        import_path="unetbio.networks.mask_rcnn.network:MaskRCNN",
        defaults={
            "ndim": 2,
            "in_channels": 1,
            "num_classes": 2,
            "width": 1.0,
            "backbone": "resnet50",
            "anchor_sizes": (16, 32, 64, 128, 256),
        },
        check=_check,
        geometry=_geometry,
        exact=lambda parameters: False,
        path=_path,
        tricks=(),
        paper_tricks=(1, 6),
        published=(
            Published(
                44_401_393,
                {"in_channels": 3, "num_classes": 91},
                "torchvision's maskrcnn_resnet50_fpn; its batch norm is frozen, ours has 53 120 trainable numbers more",
            ),
        ),
        output="objects",
    )
)
