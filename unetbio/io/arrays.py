"""Grey values that are in memory, as an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.io.image import AXES, Image

__all__ = ["image_of_array"]


def image_of_array(array: NDArray[Any], axes: str) -> Image:
    """An image of grey values that are in memory already.

    Parameters
    ----------
    array : ndarray
        Grey values.
    axes : str
        One letter of ``TCZYX`` an axis, in any order.

    Raises
    ------
    ImageError
        ``unknown_axes``: the letters do not fit the array.
    """
    axes = axes.upper()
    if len(axes) != array.ndim or not set("YX") <= set(axes) <= set(AXES) or len(set(axes)) != len(axes):
        raise ImageError(
            "unknown_axes", f"axes {axes!r} for an array of shape {array.shape}: give one letter of {AXES} an axis"
        )
    # (T, C, Z, Y, X), with length 1 where the array has no such axis
    present = [axis for axis in AXES if axis in axes]
    ordered = array.transpose([axes.index(axis) for axis in present])
    full = ordered[tuple(slice(None) if axis in axes else np.newaxis for axis in AXES)]
    kept = [(axis, size) for axis, size in zip(AXES, full.shape, strict=True) if size != 1 or axis in "YX"]
    names = tuple("" for _ in range(full.shape[AXES.index("C")]))
    return Image(
        axes="".join(axis for axis, _ in kept),
        shape=tuple(size for _, size in kept),
        dtype=array.dtype,
        pixel_size_um={},
        pixel_size_trusted=False,
        channel_names=names,
        source=Path("array"),
        pixels=_ArrayPixels(full),
    )


@dataclass(frozen=True)
class _ArrayPixels:
    values: NDArray[Any]

    def read(self, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        return self.values[t, list(channels), z, y, x]
