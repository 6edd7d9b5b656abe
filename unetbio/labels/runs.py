"""Runs of pixels of one id in a row, and the pairs of cells that they show to be near each other."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unetbio.compilation import compiled
from unetbio.labels.arrays import IntArray, as_volume, unsigned
from unetbio.labels.checks import check_label_image

__all__ = [
    "RUN_CELL",
    "RUN_START",
    "RUN_STOP",
    "RUN_WIDTH",
    "RUN_Y",
    "RUN_Z",
    "label_runs",
    "pairs_of_runs",
    "touching_pairs",
]

# Columns of a table of runs, see `label_runs`.
RUN_CELL, RUN_Z, RUN_Y, RUN_START, RUN_STOP, RUN_WIDTH = 0, 1, 2, 3, 4, 5


def touching_pairs(label_image: ArrayLike, distance: int = 1) -> NDArray[np.int64]:
    """Pairs of cells that come within ``distance`` pixels of each other, diagonals included.

    Parameters
    ----------
    label_image : array-like of int
        ``(Y, X)`` or ``(Z, Y, X)``.
    distance : int
        Largest step along any axis (Chebyshev distance): 1 means that pixels touch over faces, edges or corners; 2 also
        sees across a line of background one pixel wide.

    Returns
    -------
    ndarray of int64, shape (N, 2)
        Ids, the smaller one first, rows sorted, each pair once.

    Raises
    ------
    ImageError
        When the array is no label image.
    """
    return pairs_of_runs(label_runs(check_label_image(label_image)), distance)


def label_runs(label_image: IntArray) -> NDArray[np.int64]:
    """Cut a label image into runs: pixels of one id beside each other in a row.

    Parameters
    ----------
    label_image : ndarray of int
        ``(Y, X)`` or ``(Z, Y, X)``, 0 is background.

    Returns
    -------
    ndarray of int64, shape (N, 5)
        Id, z, y, and first x and the one after the last of each run, in raster order.
    """
    runs: NDArray[np.int64] = _find_label_runs(unsigned(as_volume(label_image)))
    return runs


def pairs_of_runs(runs: NDArray[np.int64], distance: int) -> NDArray[np.int64]:
    """`touching_pairs` of the cells whose runs `label_runs` gives."""
    return np.unique(_find_pairs(runs, distance), axis=0)


@compiled
def _find_label_runs(labels: IntArray) -> NDArray[np.int64]:
    depth, height, width = labels.shape
    runs = np.empty((1024, RUN_WIDTH), dtype=np.int64)
    count = 0
    for z in range(depth if width else 0):
        for y in range(height):
            row = labels[z, y]
            start, label = 0, row[0]
            for x in range(1, width + 1):
                if x < width and row[x] == label:
                    continue
                if label != 0:
                    if count == len(runs):
                        runs = np.concatenate((runs, np.empty_like(runs)))
                    runs[count] = np.int64(label), z, y, start, x
                    count += 1
                if x < width:
                    start, label = x, row[x]
    return runs[:count]


@compiled
def _find_pairs(runs: NDArray[np.int64], distance: int) -> NDArray[np.int64]:
    """Pairs of ids of runs that are near each other; most repetitions are left out already."""
    # A direct-mapped memory of pairs seen: along a shared border the same few pairs come again and again.
    seen = np.zeros((4096, 2), dtype=np.int64)
    pairs = np.empty((1024, 2), dtype=np.int64)
    count = 0
    depth = runs[-1, RUN_Z] - runs[0, RUN_Z] if len(runs) else 0
    for dz in range(min(distance, depth) + 1):
        # Half of the neighbourhood: the other half gives the same pairs.
        for dy in range(-distance if dz > 0 else 0, distance + 1):
            near = 0
            for run in range(len(runs)):
                label, z, y, start, stop = runs[run]
                z, y = z + dz, y + dy
                # Runs are in raster order, so what lies before the surroundings of a run also does for the next one.
                while near < len(runs) and (
                    runs[near, RUN_Z] < z
                    or (runs[near, RUN_Z] == z and runs[near, RUN_Y] < y)
                    or (runs[near, RUN_Z] == z and runs[near, RUN_Y] == y and runs[near, RUN_STOP] <= start - distance)
                ):
                    near += 1
                other = near
                while (
                    other < len(runs)
                    and runs[other, RUN_Z] == z
                    and runs[other, RUN_Y] == y
                    and runs[other, RUN_START] < stop + distance
                ):
                    low, high = min(label, runs[other, RUN_CELL]), max(label, runs[other, RUN_CELL])
                    other += 1
                    slot = (31 * low + high) % 4096
                    if low == high or (seen[slot, 0] == low and seen[slot, 1] == high):
                        continue
                    seen[slot] = low, high
                    if count == len(pairs):
                        pairs = np.concatenate((pairs, np.empty_like(pairs)))
                    pairs[count] = low, high
                    count += 1
    return pairs[:count]
