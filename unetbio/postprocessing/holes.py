"""Holes in cells, band by band; components that continue in the next band are joined."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from unetbio.compilation import compiled
from unetbio.labels import as_volume, connected_components
from unetbio.postprocessing.bands import Band, Ids, Numbers, RowArray, Seams

__all__ = ["fill_holes"]

AREA, LOWEST, HIGHEST = 0, 1, 2
"""Columns of the table of components: pixels, and the lowest and the highest cell around; equal where there is one."""

NO_CELL = np.iinfo(np.int64).max


def fill_holes(cells: RowArray, bands: list[Band], max_hole_area: int) -> Iterator[Ids]:
    """Give components of the background to the one cell that surrounds them.

    Parameters
    ----------
    cells : array of int32
        The cells; pixels of no cell are 0 or below.
    bands : list of slice
        Of its first axis.
    max_hole_area : int
        Pixels of a hole, at most; 0 fills none.

    Yields
    ------
    ndarray of int32
        A band: the cells and their holes, 0 in the background.
    """
    if max_hole_area == 0:
        yield from (_clean(cells, band) for band in bands)
        return
    holes = _Holes(cells.shape, max_hole_area)
    for band in bands:
        ids = _clean(cells, band)
        background = holes.add(ids, band)
    owners = holes.owners()
    has_holes = bool(owners.any())
    for band, start in zip(bands, holes.starts, strict=True):
        if len(bands) > 1:
            ids = _clean(cells, band)
        if has_holes:
            background = background if len(bands) == 1 else connected_components(ids == 0)[0]
            _fill(ids.reshape(-1), background.reshape(-1), owners[start:])
        yield ids


def _clean(cells: RowArray, band: Band) -> Ids:
    ids: Ids = cells[band]
    return np.maximum(ids, 0, out=ids)


class _Holes:
    """Components of the background and the cells around them.

    Parameters
    ----------
    shape : tuple of int
        Of the image.
    max_hole_area : int
        Larger components need not be looked at.

    Attributes
    ----------
    starts : list of int
        Number of components before each band.
    """

    def __init__(self, shape: tuple[int, ...], max_hole_area: int) -> None:
        self._shape, self._max_hole_area = shape, max_hole_area
        self._seams = Seams()
        self._tables = [_empty_table(1)]
        self._around: list[Numbers] = [np.zeros((0, 2), np.int64)]
        self._last: tuple[Ids, Numbers] | None = None
        self.starts: list[int] = []

    def add(self, ids: Ids, band: Band) -> Ids:
        """Find the components of the background of a band, numbered from 1."""
        background, count = connected_components(ids == 0)
        table = _empty_table(count + 1)
        _measure(as_volume(ids), as_volume(background), table, self._max_hole_area, self._borders(band))
        self._tables.append(table[1:])
        first, last = (_number(background[row], self._seams.total) for row in (0, -1))
        if self._last is not None:
            cells, components = self._last
            self._seams.join(components, first)
            self._surround(components, ids[0])
            self._surround(first, cells)
        self._last = ids[-1].copy(), last
        self.starts.append(self._seams.total)
        self._seams.total += count
        return background

    def owners(self) -> Ids:
        """For each component the cell that it is filled with, or 0."""
        table, roots, around = np.concatenate(self._tables), self._seams.roots(), np.concatenate(self._around)
        np.minimum.at(table[:, LOWEST], around[:, 0], around[:, 1])
        np.maximum.at(table[:, HIGHEST], around[:, 0], around[:, 1])
        moved = np.flatnonzero(roots != np.arange(len(roots)))
        for column, merge in ((AREA, np.add), (LOWEST, np.minimum), (HIGHEST, np.maximum)):
            merge.at(table[:, column], roots[moved], table[moved, column])
        is_hole = (table[:, AREA] <= self._max_hole_area) & (table[:, LOWEST] == table[:, HIGHEST])
        owners: Ids = np.where(is_hole, table[:, LOWEST], 0).astype(np.int32)[roots]
        return owners

    def _surround(self, components: Numbers, cells: Ids) -> None:
        """Note the cells that face components over a seam."""
        facing = (components > 0) & (cells > 0)
        self._around.append(np.unique(np.stack([components[facing], cells[facing]], axis=1), axis=0))

    def _borders(self, band: Band) -> NDArray[np.bool_]:
        """Whether each end of the axes (Z, Y, X) of a band is a border of the image; an axis of length 1 has none."""
        borders = np.array([[size > 1] * 2 for size in (1, *self._shape)[-3:]])
        borders[-len(self._shape)] &= [band.start == 0, band.stop == self._shape[0]]
        return borders


def _empty_table(count: int) -> Numbers:
    return np.tile(np.array([0, NO_CELL, 0]), (count, 1))


def _number(components: Ids, start: int) -> Numbers:
    return np.where(components > 0, components + np.int64(start), 0)


@compiled
def _measure(cells: Ids, background: Ids, table: Numbers, max_hole_area: int, borders: NDArray[np.bool_]) -> None:
    """Area of each component, and the lowest and the highest cell around it; none is all of these at the border."""
    depth, height, width = cells.shape
    flat_cells = cells.reshape(-1)
    flat_background = background.reshape(-1)
    # Most pixels are of the component of the one before; adding up one by one in memory would take longer.
    last, area = 0, 0
    for pixel in range(flat_cells.size):
        component = flat_background[pixel]
        if component != last:
            table[last, 0] += area
            last, area = component, 0
        area += 1
    table[last, 0] += area
    if not (table[1:, 0] <= max_hole_area).any():
        return
    sizes = (depth, height, width)
    strides = (width * height, width, 1)
    for pixel in range(flat_cells.size):
        component = flat_background[pixel]
        # The highest is above all cells where the answer is known.
        if component == 0 or table[component, 0] > max_hole_area or table[component, 2] == NO_CELL:
            continue
        for axis in range(3):
            position = pixel // strides[axis] % sizes[axis]
            for end in range(2):
                if position == (sizes[axis] - 1 if end else 0):
                    if borders[axis, end]:
                        table[component, 1], table[component, 2] = 0, NO_CELL
                    continue
                cell = flat_cells[pixel + (strides[axis] if end else -strides[axis])]
                if cell != 0:
                    table[component, 1] = min(table[component, 1], cell)
                    table[component, 2] = max(table[component, 2], cell)


@compiled
def _fill(cells: Ids, background: Ids, owners: Ids) -> None:
    for pixel in range(len(cells)):
        if background[pixel] != 0 and owners[background[pixel]] > 0:
            cells[pixel] = owners[background[pixel]]
