"""Ids of cells: in raster order, in the smallest type."""

from collections.abc import Iterable
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unetbio.compilation import compiled
from unetbio.labels.arrays import IntArray, LabelImage, label_dtype, unsigned
from unetbio.labels.checks import check_label_image

__all__ = [
    "LUT_ENTRIES_ALWAYS",
    "LUT_ENTRIES_PER_PIXEL",
    "number_in_raster_order",
    "relabel_raster",
    "renumbered",
]

# A table from old to new ids is faster than sorting while it is not much larger than the image.
LUT_ENTRIES_PER_PIXEL = 4
LUT_ENTRIES_ALWAYS = 1 << 20


def relabel_raster(label_image: ArrayLike) -> LabelImage:
    """Give the cells the ids 1, 2, 3 ... in raster order of each cell's first pixel.

    Parameters
    ----------
    label_image : array-like of int
        Any ids, 0 is background.

    Returns
    -------
    ndarray of uint16 or uint32
        Same shape; uint32 when there are more than 65 535 cells.

    Raises
    ------
    ImageError
        When the pixels are not integers, or negative, or the array is neither 2-D nor 3-D.

    Examples
    --------
    >>> relabel_raster([[0, 9, 9], [4, 0, 9]])
    array([[0, 1, 1],
           [2, 0, 1]], dtype=uint16)
    """
    labels = check_label_image(label_image)
    largest = int(labels.max(initial=0))
    if largest > max(LUT_ENTRIES_ALWAYS, LUT_ENTRIES_PER_PIXEL * labels.size):
        ids, inverse = np.unique(labels, return_inverse=True)
        # Id 0 has to stay 0, also in an image without background.
        labels = inverse.reshape(labels.shape) + int(ids[0] != 0)
    return cast("LabelImage", renumbered(labels, number_in_raster_order([labels])))


def number_in_raster_order(bands: Iterable[IntArray]) -> NDArray[np.unsignedinteger]:
    """Number the cells of a label image in raster order of each cell's first pixel.

    Parameters
    ----------
    bands : iterable of ndarray of int
        The label image, or its rows one after another; 0 is background.

    Returns
    -------
    ndarray of uint16 or uint32
        The new id of each old one, from 0.
    """
    table, count = np.zeros(1, np.uint32), 0
    for band in bands:
        table = np.pad(table, (0, max(0, int(band.max(initial=0)) + 1 - len(table))))
        count = _number_in_raster_order(np.ascontiguousarray(unsigned(band)).reshape(-1), table, count)
    return table.astype(label_dtype(count))


@compiled
def _number_in_raster_order(labels: IntArray, table: NDArray[np.uint32], count: int) -> int:
    """Write the new id of every old id to ``table``, after ``count`` that are there, and return how many there are."""
    previous = labels.dtype.type(0)
    for label in labels:
        # Runs of one id are long: most pixels need no look into the table.
        if label != previous:
            previous = label
            if label != 0 and table[label] == 0:
                count += 1
                table[label] = count
    return count


def renumbered(label_image: IntArray, numbers: IntArray) -> NDArray[Any]:
    """Give each pixel the number of its id: ``numbers[label_image]``, in a third of the time and without a lock.

    Parameters
    ----------
    label_image : ndarray of int
        Ids from 0 to below ``len(numbers)``.
    numbers : ndarray of int
        Number of each id.

    Returns
    -------
    ndarray
        Shape of the label image, type of the numbers.
    """
    found = np.empty(label_image.shape, numbers.dtype)
    _look_up(np.ascontiguousarray(unsigned(label_image)).reshape(-1), numbers, found.reshape(-1))
    return found


@compiled
def _look_up(ids: IntArray, numbers: IntArray, found: IntArray) -> None:
    for pixel in range(len(ids)):
        found[pixel] = numbers[ids[pixel]]
