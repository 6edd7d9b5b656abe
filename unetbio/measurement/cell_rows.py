"""Which cells a label image holds and in which rows they lie, found some rows at a time."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unetbio.compilation import compiled
from unetbio.labels import as_volume
from unetbio.postprocessing.bands import Band, Rows

__all__ = ["RUN_CELL", "RUN_START", "RUN_STOP", "RUN_WIDTH", "RUN_Y", "RUN_Z", "CellRows", "find_cells", "find_runs"]

RUN_CELL, RUN_Z, RUN_Y, RUN_START, RUN_STOP, RUN_WIDTH = 0, 1, 2, 3, 4, 5
"""Columns of a run: pixels of one id side by side in a row."""

TABLE_ENTRIES_PER_CELL = 8
TABLE_ENTRIES_ALWAYS = 1 << 20

Numbers = NDArray[np.int64]


class CellRows(NamedTuple):
    """Cells of a label image, by ascending ids.

    Parameters
    ----------
    ids : ndarray of int64
        Their ids.
    first, stop : ndarray of int64
        First row of each (section in 3-D), and the one after its last.
    """

    ids: Numbers
    first: Numbers
    stop: Numbers

    def positions(self, rows: NDArray[Any]) -> NDArray[np.int32]:
        """Some rows of the label image with the positions of the ids, counted from 1, in their place."""
        largest = int(self.ids[-1]) if len(self.ids) else 0
        if largest == len(self.ids):
            return np.ascontiguousarray(rows, np.int32)
        if largest <= max(TABLE_ENTRIES_ALWAYS, TABLE_ENTRIES_PER_CELL * len(self.ids)):
            table = np.zeros(largest + 1, np.int32)
            table[self.ids] = np.arange(1, len(self.ids) + 1)
            positions: NDArray[np.int32] = table[rows]
            return positions
        found = np.searchsorted(self.ids, rows.reshape(-1)).reshape(rows.shape) + 1
        return np.where(rows > 0, found, 0).astype(np.int32)


def find_cells(label_image: Rows, bands: Iterable[Band]) -> CellRows:
    """The cells of a label image ``(Y, X)`` or ``(Z, Y, X)``, in memory or on disk, with any ids.

    Parameters
    ----------
    label_image : array of unsigned int
        0 is background.
    bands : iterable of slice
        The rows (sections in 3-D) to read at once, in their order.
    """
    found = [np.zeros((3, 0), np.int64)]
    for band in bands:
        rows = np.asarray(label_image[band])
        # Large ids become negative numbers for a moment, so that there is one loop for all types.
        runs = find_runs(as_volume(rows.astype(np.int32, copy=False)))
        ids = runs[:, RUN_CELL].astype(np.uint32).astype(np.int64)
        lines = runs[:, RUN_Y if rows.ndim == 2 else RUN_Z] + band.start
        found.append(_of_each(ids, lines, lines + 1))
    # Each is in the order of the bands.
    return CellRows(*_of_each(*np.concatenate(found, axis=1)))


def _of_each(ids: Numbers, first: Numbers, stop: Numbers) -> Numbers:
    """Ids in ascending order, each with its first start and its last stop: ``(3, N)``."""
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    begins = np.flatnonzero(np.diff(ids, prepend=-1))
    ends = np.append(begins[1:], len(ids)) - 1 if len(ids) else begins
    return np.stack([ids[begins], first[order[begins]], stop[order[ends]]])


@compiled
def find_runs(labels: NDArray[np.int32]) -> Numbers:
    """Cell, z, y, start and stop (in x) of every run, in raster order."""
    depth, height, width = labels.shape
    runs = np.empty((1024, RUN_WIDTH), dtype=np.int64)
    count = 0
    for z in range(depth):
        for y in range(height):
            row = labels[z, y]
            start = 0
            for x in range(1, width + 1):
                if x < width and row[x] == row[start]:
                    continue
                if row[start] != 0:
                    if count == len(runs):
                        runs = np.concatenate((runs, np.empty_like(runs)))
                    runs[count] = np.int64(row[start]), z, y, start, x
                    count += 1
                start = x
    return runs[:count]
