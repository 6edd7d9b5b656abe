"""The convolutions of VGG-16 (arXiv 1409.1556, configuration D), which five families of networks have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from unetbio.geometry import Layer
from unetbio.networks.parameters import PlanarParameters, batch_norm, dropout

__all__ = ["HALVINGS", "STAGES", "Pooling", "VGGParameters", "decoder_path", "encoder_path"]

Pooling = Literal["halve", "keep", "none"]
"""Pooling after a stage: 2 x 2 max pooling with stride 2, 3 x 3 max pooling with stride 1, or nothing."""

STAGES = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
"""Number of 3 x 3 convolutions of each stage and their feature maps."""

HALVINGS: tuple[Pooling, ...] = ("halve",) * 5
"""The poolings of VGG-16 itself."""

_POOLINGS: dict[Pooling, tuple[Layer, ...]] = {
    "halve": (Layer(2, stride=2),),
    "keep": (Layer(3, padding=1),),
    "none": (),
}


@dataclass(frozen=True, kw_only=True)
class VGGParameters(PlanarParameters):
    """Parameters of a network that classifies pixels by fc6 and fc7 of VGG-16."""

    batch_norm: bool = batch_norm("the paper has none: it starts from weights of ImageNet")
    dropout: float = dropout("after fc6 and fc7")


def encoder_path(
    poolings: Sequence[Pooling] = HALVINGS, *, dilation: int = 1, padding: bool = True
) -> tuple[Layer, ...]:
    """Layers of the encoder, one after another.

    Parameters
    ----------
    poolings : sequence of {"halve", "keep", "none"}
        What follows each stage.
    dilation : int
        Of the last stage.
    padding : bool
        Whether the convolutions pad with zeros.
    """
    path: list[Layer] = []
    rates = (1, 1, 1, 1, dilation)
    for (convolutions, _), pooling, rate in zip(STAGES, poolings, rates, strict=True):
        path += [Layer(3, dilation=rate, padding=rate * padding)] * convolutions
        path += _POOLINGS[pooling]
    return tuple(path)


def decoder_path() -> tuple[Layer, ...]:
    """Layers of the mirrored encoder: unpooling and padded convolutions, stage by stage."""
    path: list[Layer] = []
    for convolutions, _ in reversed(STAGES):
        path += [Layer(2, stride=2, transposed=True), *[Layer(3, padding=1)] * convolutions]
    return tuple(path)
