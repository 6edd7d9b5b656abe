"""Types of label images, and the forms in which compiled loops take them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BoolArray", "IntArray", "LabelImage", "Mask", "as_volume", "each_time", "label_dtype", "unsigned"]

IntArray = NDArray[np.integer[Any]]
LabelImage = NDArray[np.uint16] | NDArray[np.uint32]
Mask = LabelImage | NDArray[np.uint8]
"""A label image, or a class mask."""
BoolArray = NDArray[np.bool_]

MAX_UINT16_LABEL = int(np.iinfo(np.uint16).max)


def as_volume(array: NDArray[Any]) -> NDArray[Any]:
    """Give a C-contiguous ``(Z, Y, X)`` view (or copy) of a 2-D or 3-D array: what the compiled loops take."""
    volume = array[np.newaxis] if array.ndim == 2 else array
    return np.ascontiguousarray(volume)


def each_time(function: Callable[[Any], NDArray[Any]], array: NDArray[Any], axes: str) -> NDArray[Any]:
    """The function of the array, or of every time of a time-lapse: cells of two times are no neighbours.

    Examples
    --------
    >>> each_time(lambda plane: plane - plane.max(), np.array([[[1, 2]], [[5, 6]]]), "TYX").tolist()
    [[[-1, 0]], [[-1, 0]]]
    """
    return np.stack([function(moment) for moment in array]) if "T" in axes else function(array)


def unsigned(labels: IntArray) -> IntArray:
    """The same ids, which are not negative, as unsigned numbers: loops are compiled for half as many types."""
    return labels.view(f"u{labels.itemsize}")


def without_label(labels: NDArray[Any], ignore_label: int | None) -> NDArray[Any]:
    """Labels with 0 in place of the label of pixels that are not annotated; the same array where there is none."""
    return labels if ignore_label is None else np.where(labels == ignore_label, labels.dtype.type(0), labels)


def label_dtype(count: int) -> type[np.uint16] | type[np.uint32]:
    """Give the type of a label image that holds ids up to ``count``: uint16, or uint32 above 65 535."""
    return np.uint16 if count <= MAX_UINT16_LABEL else np.uint32
