"""Which cells a label image holds and in which rows they lie, found some rows at a time."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unetbio.labels import RUN_CELL, RUN_Y, RUN_Z, label_runs, renumbered
from unetbio.postprocessing.bands import Band, Rows

__all__ = ["CellRows", "find_cells"]

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
            return renumbered(rows, table)
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
        # One loop for all types.
        runs = label_runs(rows.astype(np.uint32, copy=False))
        ids = runs[:, RUN_CELL]
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
