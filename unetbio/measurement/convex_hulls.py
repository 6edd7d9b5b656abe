"""Pixels in the convex hull of each cell in a plane, in exact integer arithmetic."""

import numpy as np

from unetbio.compilation import compiled
from unetbio.labels import RUN_CELL, RUN_START, RUN_STOP, RUN_Y
from unetbio.measurement.cell_sums import START, STOP
from unetbio.measurement.columns import Table

__all__ = ["convex_areas"]

# The convex hull of a cell is that of the middles of its pixels' edges. In doubled coordinates these are the integers
# (2 y, 2 x - 1), (2 y, 2 x + 1), (2 y - 1, 2 x), (2 y + 1, 2 x), and only those of a row's first and last pixel can lie
# on the hull. Its left side is the lower convex envelope of x over y, its right side that of -x mirrored. With f the
# first and l the last pixel of a row in the hull, the row holds 1 - f + l pixels; -l is the first one of the mirrored.


def convex_areas(runs: Table, table: Table) -> Table:
    """Pixels in the convex hull of each cell.

    Parameters
    ----------
    runs : ndarray of int64
        Runs of all cells, numbered from 1.
    table : ndarray of int64
        Sums of the cells (`unetbio.measurement.cell_sums`), of which the bounding boxes are used.

    Returns
    -------
    ndarray of int64
        One number a cell.
    """
    heights = table[:, STOP + 1] - table[:, START + 1]
    offsets = np.concatenate(([0], np.cumsum(heights)))
    first, last = _row_ends(runs, table[:, START + 1].copy(), offsets)
    areas: Table = heights - _sum_envelopes(first, offsets) - _sum_envelopes(-last, offsets)
    return areas


NO_PIXEL = np.iinfo(np.int64).max


@compiled
def _row_ends(runs: Table, tops: Table, offsets: Table) -> tuple[Table, Table]:
    """First and last pixel of each cell in each row of its bounding box; rows of cell ``i`` start at ``offsets[i]``."""
    first = np.full(offsets[-1], NO_PIXEL)
    last = np.full(offsets[-1], -NO_PIXEL)
    for run in range(len(runs)):
        cell = runs[run, RUN_CELL] - 1
        row = offsets[cell] + runs[run, RUN_Y] - tops[cell]
        first[row] = min(first[row], runs[run, RUN_START])
        last[row] = max(last[row], runs[run, RUN_STOP] - 1)
    return first, last


@compiled
def _sum_envelopes(ends: Table, offsets: Table) -> Table:
    """Sum of the first pixels in the hull over the rows of each cell."""
    sums = np.zeros(len(offsets) - 1, dtype=np.int64)
    for cell in range(len(sums)):
        rows = ends[offsets[cell] : offsets[cell + 1]]
        hull = np.empty((2 * len(rows) + 1, 2), dtype=np.int64)
        size = 0
        # Doubled y from the top edge of the first row to the bottom edge of the last; even ones are rows of pixels.
        for y in range(-1, 2 * len(rows)):
            if y % 2 == 0:
                x = rows[y // 2] if rows[y // 2] == NO_PIXEL else 2 * rows[y // 2] - 1
            else:
                above = rows[y // 2] if y > 0 else NO_PIXEL
                below = rows[y // 2 + 1] if y + 1 < 2 * len(rows) else NO_PIXEL
                x = min(above, below)
                x = x if x == NO_PIXEL else 2 * x
            if x == NO_PIXEL:
                continue
            while size >= 2 and _is_outside(hull[size - 2], hull[size - 1], y, x):
                size -= 1
            hull[size] = y, x
            size += 1
        edge = 0
        for row in range(len(rows)):
            while hull[edge + 1, 0] < 2 * row:
                edge += 1
            (top, left), (bottom, right) = hull[edge], hull[edge + 1]
            # ceil of half the envelope's x at this row
            twice = left * (bottom - top) + (right - left) * (2 * row - top)
            sums[cell] -= -twice // (2 * (bottom - top))
    return sums


@compiled
def _is_outside(before: Table, point: Table, y: int, x: int) -> bool:
    """Tell whether a point of the envelope lies on or right of the line from the one before it to a new one."""
    return bool((point[1] - before[1]) * (y - before[0]) >= (x - before[1]) * (point[0] - before[0]))
