"""ResNet encoders (He et al. 2016, arXiv 1512.03385): parameters and geometry, without torch.

An encoder with output stride 8 or 16 replaces the strides that are too many by dilation, in all blocks of the stage
whose stride is replaced and twice as much in the next one (arXiv 1606.00915, section 3.1).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from unetbio.geometry import Layer
from unetbio.networks.parameters import PlanarParameters, choice

__all__ = [
    "BACKBONES",
    "ResNetParameters",
    "Stage",
    "backbone",
    "bilinear_layer",
    "encoder_path",
    "output_stride",
    "padded_layer",
    "rates_at",
    "stages",
]

PLAIN_STRIDE = 32
"""Of a ResNet without dilation."""


@dataclass(frozen=True)
class Backbone:
    """Blocks of each stage, and whether a block is a bottleneck (1 x 1, 3 x 3, 1 x 1) or two 3 x 3 convolutions."""

    blocks: tuple[int, ...]
    bottleneck: bool


BACKBONES = {
    "resnet18": Backbone((2, 2, 2, 2), bottleneck=False),
    "resnet34": Backbone((3, 4, 6, 3), bottleneck=False),
    "resnet50": Backbone((3, 4, 6, 3), bottleneck=True),
    "resnet101": Backbone((3, 4, 23, 3), bottleneck=True),
}
"""Table 1 of the paper."""


def backbone(default: str, others: Mapping[str, str] | None = None) -> Any:
    """Define ``backbone``: one of `BACKBONES`, or one of ``others``, each with its meaning."""
    known = {
        name: f"ResNet with {sum(plan.blocks)} blocks of {3 if plan.bottleneck else 2} convolutions"
        for name, plan in BACKBONES.items()
    }
    return choice(default, "the encoder", {**known, **(others or {})})


@dataclass(frozen=True, kw_only=True)
class ResNetParameters(PlanarParameters):
    """Parameters of a network on a ResNet of 101 layers."""

    backbone: str = backbone("resnet101")


@dataclass(frozen=True)
class Stage:
    """One of the four stages: the stride of its first block, and the dilation of the 3 x 3 convolutions of each."""

    stride: int
    dilations: tuple[int, ...]


def stages(backbone: str, output_stride: int, multi_grid: Sequence[int] = (1, 1, 1)) -> tuple[Stage, ...]:
    """Strides and dilations of a ResNet.

    Parameters
    ----------
    backbone : str
        One of `BACKBONES`.
    output_stride : {8, 16, 32}
        Pixels of the image for one of the last feature map.
    multi_grid : sequence of int
        Factors of the dilation in the blocks of the last stage (arXiv 1706.05587, section 3.2.1); of a backbone with
        fewer blocks there the first ones count.

    Examples
    --------
    >>> [stage.dilations for stage in stages("resnet50", 16, multi_grid=(1, 2, 4))][2:]
    [(1, 1, 1, 1, 1, 1), (2, 4, 8)]
    """
    made, reached = [], 4
    for plain, blocks in zip((4, 8, 16, 32), BACKBONES[backbone].blocks, strict=True):
        total = min(plain, output_stride)
        made.append(Stage(total // reached, (plain // total,) * blocks))
        reached = total
    last = made[-1]
    dilations = tuple(rate * grid for rate, grid in zip(last.dilations, multi_grid, strict=False))
    return (*made[:-1], Stage(last.stride, dilations))


def output_stride(dilated: bool, wanted: int) -> int:
    """Output stride of an encoder: ``wanted`` with dilation, that of a plain ResNet without."""
    return wanted if dilated else PLAIN_STRIDE


def rates_at(stride: int, rates: Sequence[int], *, given_at: int) -> tuple[int, ...]:
    """Rates of atrous convolutions at another output stride with the same reach in pixels of the image, rounded up.

    Examples
    --------
    >>> rates_at(8, (6, 12, 18), given_at=16)
    (12, 24, 36)
    """
    return tuple(ceil(rate * given_at / stride) for rate in rates)


def padded_layer(kernel: int, *, stride: int = 1, dilation: int = 1) -> Layer:
    """Convolution or pooling that pads as much as keeps the size, or divides it by the stride."""
    return Layer(kernel, stride, dilation, padding=dilation * (kernel // 2))


def bilinear_layer(factor: int) -> Layer:
    """Bilinear upsampling between pixel centres."""
    return Layer(2 * factor, factor, padding=factor // 2, transposed=True)


def encoder_path(backbone: str, output_stride: int, multi_grid: Sequence[int] = (1, 1, 1)) -> tuple[Layer, ...]:
    """Layers of a ResNet that see beyond one pixel; parameters as `stages`.

    Examples
    --------
    >>> from unetbio.geometry import receptive_field
    >>> receptive_field(encoder_path("resnet50", 32))
    427
    """
    path = [padded_layer(7, stride=2), padded_layer(3, stride=2)]
    for stage in stages(backbone, output_stride, multi_grid):
        stride = stage.stride
        for dilation in stage.dilations:
            path.append(padded_layer(3, stride=stride, dilation=dilation))
            if not BACKBONES[backbone].bottleneck:
                path.append(padded_layer(3, dilation=dilation))
            stride = 1
    return tuple(path)
