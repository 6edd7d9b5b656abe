"""Connected components of bit planes."""

from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unetbio.compilation import compiled
from unetbio.labels.arrays import BoolArray, LabelImage, as_volume, label_dtype

__all__ = ["connected_components", "split_components"]


def connected_components(plane: ArrayLike, connectivity: int = 1) -> tuple[NDArray[np.int32], int]:
    """Find the connected components of a bit plane, with ids in raster order of their first pixels.

    Runs of a row are joined with the runs of the rows before it by union-find; two runs touch when they overlap, or
    nearly so where diagonal steps are allowed.

    Parameters
    ----------
    plane : array-like of bool
        ``(Y, X)`` or ``(Z, Y, X)``; anything that is not zero counts as set.
    connectivity : int
        How many coordinates may differ between neighbours: 1 joins over faces (4 neighbours in 2-D, 6 in 3-D), up to
        ``ndim``, which joins over corners too (8, 26).

    Returns
    -------
    ndarray of int32
        Same shape, 0 where the plane is not set.
    int
        Number of components.

    Raises
    ------
    ValueError
        When the plane is neither 2-D nor 3-D or the connectivity does not fit.
    """
    bits = np.asarray(plane)
    if bits.ndim not in (2, 3) or not 1 <= connectivity <= bits.ndim:
        raise ValueError(f"a plane of {bits.ndim} axes has no components of connectivity {connectivity}")
    bits = as_volume(bits if bits.dtype == np.bool_ else bits != 0)
    labels, count = _label_runs(bits, connectivity)
    return labels.reshape(np.shape(plane)), int(count)


@compiled
def _find_runs(plane: BoolArray) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    """Start and stop of every run along x, and the index of the first run of every row."""
    depth, height, width = plane.shape
    first_run = np.zeros(depth * height + 1, dtype=np.int64)
    for row in range(depth * height):
        bits = plane[row // height, row % height]
        count = 0
        inside = False
        for x in range(width):
            count += bits[x] and not inside
            inside = bits[x]
        first_run[row + 1] = first_run[row] + count
    starts = np.empty(first_run[-1], dtype=np.int32)
    stops = np.empty(first_run[-1], dtype=np.int32)
    for row in range(depth * height):
        bits = plane[row // height, row % height]
        run = first_run[row]
        inside = False
        for x in range(width):
            if bits[x] != inside:
                if inside:
                    stops[run] = x
                    run += 1
                else:
                    starts[run] = x
                inside = not inside
        if inside:
            stops[run] = width
    return starts, stops, first_run


@compiled
def _root(parents: NDArray[np.int64], run: int) -> int:
    while parents[run] != run:
        parents[run] = parents[parents[run]]
        run = parents[run]
    return run


@compiled
def _join_rows(
    starts: NDArray[np.int32],
    stops: NDArray[np.int32],
    parents: NDArray[np.int64],
    first_run: NDArray[np.int64],
    row: int,
    earlier_row: int,
    slack: int,
) -> None:
    """Join the runs of two rows that overlap, or lie within ``slack`` pixels of it."""
    run, run_end = first_run[row], first_run[row + 1]
    earlier, earlier_end = first_run[earlier_row], first_run[earlier_row + 1]
    while run < run_end and earlier < earlier_end:
        if starts[run] < stops[earlier] + slack and starts[earlier] < stops[run] + slack:
            a, b = _root(parents, run), _root(parents, earlier)
            # The smaller index is the root, so that a root is the component's first run in raster order.
            if a < b:
                parents[b] = a
            else:
                parents[a] = b
        if stops[run] < stops[earlier]:
            run += 1
        else:
            earlier += 1


@compiled
def _label_runs(plane: BoolArray, connectivity: int) -> tuple[NDArray[np.int32], int]:
    depth, height, width = plane.shape
    starts, stops, first_run = _find_runs(plane)
    parents = np.arange(starts.size)
    for z in range(depth):
        for y in range(height):
            # The rows before this one in raster order; each step away in z or y uses up one of the allowed changes.
            for dz in range(-1, 1):
                for dy in range(-1, 2):
                    steps = abs(dz) + abs(dy)
                    if (dz == 0 and dy >= 0) or steps > connectivity or z + dz < 0 or not 0 <= y + dy < height:
                        continue
                    slack = 1 if steps < connectivity else 0
                    row = z * height + y
                    _join_rows(starts, stops, parents, first_run, row, row + dz * height + dy, slack)
    labels = np.zeros((depth, height, width), dtype=np.int32)
    ids = np.empty(starts.size, dtype=np.int32)
    count = 0
    for row in range(depth * height):
        for run in range(first_run[row], first_run[row + 1]):
            root = _root(parents, run)
            if root == run:
                count += 1
                ids[run] = count
            else:
                ids[run] = ids[root]
            labels[row // height, row % height, starts[run] : stops[run]] = ids[run]
    return labels, count


def split_components(mask: ArrayLike, connectivity: int = 1) -> LabelImage:
    """Turn a mask into a label image: every connected component becomes a cell, so touching cells become one.

    Parameters
    ----------
    mask : array-like
        ``(Y, X)`` or ``(Z, Y, X)``; anything that is not zero counts as cell.
    connectivity : int
        As in `connected_components`; the default joins over faces.

    Returns
    -------
    ndarray of uint16 or uint32
        Ids from 1 in raster order.
    """
    labels, count = connected_components(mask, connectivity)
    return cast("LabelImage", labels.astype(label_dtype(count)))
