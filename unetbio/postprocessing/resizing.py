"""Cells from the grid of a network to the size of the image, in bands of rows that do not change the result."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.labels import nearest_pixels, number_in_raster_order, renumbered
from unetbio.postprocessing.bands import Allocate, Band, Repeated, RowArray, Rows, bands_of

__all__ = ["resize_cells", "resize_rows"]


def resize_rows(
    array: RowArray, shape: tuple[int, ...], *, rows: int | None = None, allocate: Allocate = np.zeros
) -> RowArray:
    """`unetbio.labels.resize_nearest` of an array in memory or on disk; the same array when the shape is the same.

    Parameters
    ----------
    array : array-like
        ``(*grid)``.
    shape : tuple of int
        The new size.
    rows : int, optional
        Rows of the new size (sections in 3-D) that are worked on at once; all unless given.
    allocate : callable
        Makes the new array, where not all rows are worked on at once.
    """
    if tuple(array.shape) == shape:
        return array
    bands = _resized(array, shape, rows)
    if isinstance(bands, list):
        whole: NDArray[Any] = bands[0][1]
        return whole
    resized = allocate(shape, array.dtype)
    for band, part in bands:
        resized[band] = part
    return resized


def resize_cells(
    cells: RowArray, shape: tuple[int, ...], *, rows: int | None = None, allocate: Allocate = np.zeros
) -> RowArray:
    """Resize a label image as `resize_rows` does; ids follow the new raster order.

    A cell can lose its last pixel or its place in raster order on the way.
    """
    if tuple(cells.shape) == shape:
        return cells
    bands = _resized(cells, shape, rows)
    numbers = number_in_raster_order(part for _, part in bands)
    if isinstance(bands, list):
        return renumbered(bands[0][1], numbers)
    resized = allocate(shape, numbers.dtype)
    for band, part in bands:
        resized[band] = renumbered(part, numbers)
    return resized


def _resized(array: Rows, shape: tuple[int, ...], rows: int | None) -> Iterable[tuple[Band, NDArray[Any]]]:
    """Bands of the new size: a list of the only one, or bands that are read again each time."""
    places, *others = (nearest_pixels(old, new) for old, new in zip(array.shape, shape, strict=True))

    def read() -> Iterator[tuple[Band, NDArray[Any]]]:
        for band in bands_of(shape[0], rows):
            wanted = places[band]
            part = array[wanted[0] : wanted[-1] + 1]
            yield band, part[np.ix_(wanted - wanted[0], *others)]

    return list(read()) if rows is None or rows >= shape[0] else Repeated(read)
