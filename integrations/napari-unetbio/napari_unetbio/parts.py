"""Which pixels of a layer are segmented, and where their label image lies."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.io.grey_pictures import ALPHA, COLOURS

__all__ = ["Box", "Part", "Planes", "cut"]

Planes = Literal["shown", "sections", "volume", "times"]
"""The plane that is shown; every section by itself; the stack as a volume; every time."""

Box = tuple[slice, slice]
"""Rows and columns."""

AXES: dict[Planes, str] = {"shown": "YX", "sections": "ZYX", "volume": "ZYX", "times": "TYX"}


class Layer(Protocol):
    """What is needed of an image layer."""

    name: str
    data: Any
    rgb: bool
    multiscale: bool


@dataclass(frozen=True)
class Part:
    """Pixels to segment.

    Parameters
    ----------
    pixels : ndarray
        Grey values.
    axes : str
        Their axes, as `unetbio.segment` takes them.
    corner : tuple of int
        Index of the first pixel of the label image in the layer, along each of its axes but that of colours.
    options : dict
        Further options of `unetbio.segment`.
    """

    pixels: NDArray[Any]
    axes: str
    corner: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)


def cut(layers: Sequence[Layer], planes: Planes, step: Sequence[int], box: Box | None) -> Part:
    """Cut the pixels to segment out of layers.

    Parameters
    ----------
    layers : sequence of Layer
        One for each channel that the model takes; a colour picture alone.
    planes : str
        Planes of layers with more than two axes.
    step : sequence of int
        Index of the shown plane along the axes before rows and columns.
    box : Box, optional
        Part of the plane; all by default.

    Raises
    ------
    ImageError
        When the layers differ in shape, lack the axis, or the part lies outside.
    """
    whole = [_full_resolution(layer) for layer in layers]
    colours = int(layers[0].rgb)
    if colours and len(layers) > 1:
        raise ImageError("wrong_channels", f"{layers[0].name} holds colours: choose it alone, or layers of one channel")
    shape = whole[0].shape[: whole[0].ndim - colours]
    for layer, data in zip(layers, whole, strict=True):
        if data.shape != whole[0].shape:
            raise ImageError(
                "wrong_shape",
                f"layers {layers[0].name} {whole[0].shape} and {layer.name} {data.shape} differ: "
                "choose channels of one image",
            )
    leading = len(shape) - 2
    if planes != "shown" and leading != 1:
        raise ImageError("unknown_axes", f"{layers[0].name} has {len(shape)} axes: only the shown plane can be chosen")
    rows, columns = _inside(box, shape[-2:])
    where: tuple[Any, ...] = tuple(step[:leading]) if planes == "shown" else (slice(None),) * leading
    cropped = [np.asarray(data[(*where, rows, columns)]) for data in whole]
    first = step[:leading] if planes == "shown" else [0] * leading
    corner = (*first, rows.start, columns.start)
    options: dict[str, Any] = {"z": "each"} if planes == "sections" else {}
    axes = AXES[planes]
    if len(cropped) > 1:
        return Part(np.stack(cropped), "C" + axes, corner, options)
    if not colours:
        return Part(cropped[0], axes, corner, options)
    # By the names of its channels a colour picture is segmented as its file would be.
    options["channel_names"] = (*COLOURS, ALPHA)[: cropped[0].shape[-1]]
    return Part(cropped[0], axes + "C", corner, options)


def _full_resolution(layer: Layer) -> Any:
    return layer.data[0] if layer.multiscale else layer.data


def _inside(box: Box | None, shape: Sequence[int]) -> Box:
    """The part of a box that lies in a plane."""
    if box is None:
        return slice(0, shape[0]), slice(0, shape[1])
    limits = [(max(0, part.start), min(size, part.stop)) for part, size in zip(box, shape, strict=True)]
    (top, bottom), (left, right) = limits
    if bottom <= top or right <= left:
        raise ImageError("empty", "no pixel of the layer lies in the chosen part: move it over the image")
    return slice(top, bottom), slice(left, right)
