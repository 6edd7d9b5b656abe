"""Growth of cells from their seeds, band by band.

The nearest seed of a pixel lies within the reach. Whether the pixel hangs together with that seed can depend on pixels
however far away, along a thin path beside a long seed. So bands are flooded again from the bands next to them, until
none changes.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from unetbio.compilation import compiled
from unetbio.labels import as_volume
from unetbio.postprocessing.bands import Allocate, Band, Ids, RowArray, with_context

__all__ = ["grow"]

# Squared distance and label share one integer, so that one comparison prefers the nearer seed and then the lower label.
LABEL_BITS = 32
LABEL_MASK = (1 << LABEL_BITS) - 1
NO_SEED = np.iinfo(np.int64).max


def grow(seeds: Iterable[Ids], shape: tuple[int, ...], bands: list[Band], reach: int, allocate: Allocate) -> RowArray:
    """Give each foreground pixel to the nearest seed within reach, if it hangs together with it over faces.

    Parameters
    ----------
    seeds : iterable of ndarray
        A band each, as `unetbio.postprocessing.seeds.find_seeds` gives them.
    shape : tuple of int
        Of the image.
    bands : list of slice
        Of its first axis.
    reach : int
        In pixels, Euclidean; a tie goes to the lower seed.
    allocate : callable
        Makes the result, unless there is one band.

    Returns
    -------
    array of int32
        The cells, with the numbers of their seeds; pixels of no cell are 0 or below.
    """
    grown = (_grown(window, core, reach) for window, core in with_context(seeds, reach))
    if len(bands) == 1:
        return next(grown)
    cells = allocate(shape, np.int32)
    for band, part in zip(bands, grown, strict=True):
        cells[band] = part
    if reach > 0:
        _flood_over_seams(cells, bands)
    return cells


def _grown(window: Ids, core: Band, reach: int) -> Ids:
    """Cells of a band, flooded as far as it reaches; below 0 where a pixel is not claimed."""
    foreground = as_volume(window[core] != 0)
    np.maximum(window, 0, out=window)
    cells = window[core]
    if reach > 0:
        keys = _nearest_along_y(as_volume(window), reach)
        if len(keys) > 1:
            keys = _nearest_along_z(keys, reach)
        keys = keys[core] if window.ndim == 3 else keys[:, core]
        _assign_nearest(as_volume(cells), np.ascontiguousarray(keys), foreground, reach)
        _flood(as_volume(cells))
    return cells


def _flood_over_seams(cells: RowArray, bands: list[Band]) -> None:
    """Claim pixels that hang together with their seed through another band."""
    pending = set(range(1, len(bands)))
    while pending:
        seam = min(pending)
        pending.discard(seam)
        upper, lower = cells[bands[seam].start - 1], cells[bands[seam].start]
        continues = (upper == -lower) & (upper != 0)
        for number, face in ((seam - 1, upper), (seam, lower)):
            if (continues & (face < 0)).any():
                _flood_band(cells, bands[number])
                pending |= {number, number + 1} & set(range(1, len(bands)))


def _flood_band(cells: RowArray, band: Band) -> None:
    start = max(0, band.start - 1)
    # A copy: what is claimed of the rows beside the band is found again when their own band is flooded.
    window = np.array(cells[start : band.stop + 1])
    _flood(as_volume(window))
    cells[band] = window[band.start - start : band.stop - start]


# The nearest seed is found one axis after another. For a pixel (y, x) and a column x', the seed of that column with the
# lowest (squared distance, label) does not depend on x, since all of the column is (x - x')**2 further away; so the
# lowest pair over a column first, and over columns second, is the lowest of all, ties included.


@compiled
def _nearest_along_y(seeds: NDArray[np.int32], reach: int) -> NDArray[np.int64]:
    """Squared distance and label of the nearest seed in the same column, as one integer."""
    depth, height, width = seeds.shape
    keys = np.full(seeds.shape, NO_SEED, dtype=np.int64)
    for z in range(depth):
        for direction in (1, -1):
            distances = np.full(width, reach + 1, dtype=np.int64)
            nearest = np.zeros(width, dtype=np.int64)
            for step in range(height):
                y = step if direction == 1 else height - 1 - step
                # Rows of their own and no branches: so the compiler works on several columns at once.
                row, found = seeds[z, y], keys[z, y]
                for x in range(width):
                    seed = np.int64(row[x])
                    distance = 0 if seed > 0 else min(distances[x] + 1, reach + 1)
                    label = seed if seed > 0 else nearest[x]
                    distances[x], nearest[x] = distance, label
                    key = (distance * distance) << LABEL_BITS | label
                    found[x] = min(found[x], key if distance <= reach else NO_SEED)
    return keys


@compiled
def _nearest_along_z(keys: NDArray[np.int64], reach: int) -> NDArray[np.int64]:
    """Look through the slices within reach; keys that are too far in all are left out along x."""
    depth, height, width = keys.shape
    best = keys.copy()
    for z in range(depth):
        for other in range(max(0, z - reach), min(depth, z + reach + 1)):
            offset = ((z - other) * (z - other)) << LABEL_BITS
            for y in range(height):
                for x in range(width):
                    if keys[other, y, x] != NO_SEED:
                        best[z, y, x] = min(best[z, y, x], keys[other, y, x] + offset)
    return best


@compiled
def _assign_nearest(
    cells: NDArray[np.int32], keys: NDArray[np.int64], foreground: NDArray[np.bool_], reach: int
) -> None:
    """Write the label of the nearest seed within reach to foreground pixels, as a negative number: not yet claimed."""
    depth, height, width = cells.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                if not foreground[z, y, x] or cells[z, y, x] > 0:
                    continue
                best = (reach * reach + 1) << LABEL_BITS
                best = min(best, keys[z, y, x])
                step = 1
                # A column step pixels away can still win or tie while step**2 is at most the best squared distance.
                while step <= reach and step * step <= best >> LABEL_BITS:
                    offset = (step * step) << LABEL_BITS
                    if x >= step and keys[z, y, x - step] != NO_SEED:
                        best = min(best, keys[z, y, x - step] + offset)
                    if x + step < width and keys[z, y, x + step] != NO_SEED:
                        best = min(best, keys[z, y, x + step] + offset)
                    step += 1
                if best >> LABEL_BITS <= reach * reach:
                    cells[z, y, x] = -(best & LABEL_MASK)


@compiled
def _touches(cells: NDArray[np.int32], cell: int, z: int, y: int, x: int) -> bool:
    """Whether a face neighbour of the pixel belongs to the cell."""
    depth, height, width = cells.shape
    return bool(
        (x > 0 and cells[z, y, x - 1] == cell)
        or (x < width - 1 and cells[z, y, x + 1] == cell)
        or (y > 0 and cells[z, y - 1, x] == cell)
        or (y < height - 1 and cells[z, y + 1, x] == cell)
        or (z > 0 and cells[z - 1, y, x] == cell)
        or (z < depth - 1 and cells[z + 1, y, x] == cell)
    )


@compiled
def _claim_neighbours(cells: NDArray[np.int32], z: int, y: int, x: int, stack: NDArray[np.int64], size: int) -> int:
    """Claim the pixels over the faces of a cell's pixel that were assigned to the cell; they go on the stack."""
    depth, height, width = cells.shape
    cell = cells[z, y, x]
    for step in (-1, 1):
        if 0 <= x + step < width and cells[z, y, x + step] == -cell:
            cells[z, y, x + step] = cell
            stack[size] = (z * height + y) * width + x + step
            size += 1
        if 0 <= y + step < height and cells[z, y + step, x] == -cell:
            cells[z, y + step, x] = cell
            stack[size] = (z * height + y + step) * width + x
            size += 1
        if 0 <= z + step < depth and cells[z + step, y, x] == -cell:
            cells[z + step, y, x] = cell
            stack[size] = ((z + step) * height + y) * width + x
            size += 1
    return size


@compiled
def _flood(cells: NDArray[np.int32]) -> None:
    """Claim the pixels connected with their own seed over faces, the same set in any order."""
    depth, height, width = cells.shape
    stack = np.empty(1024, dtype=np.int64)
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                if cells[z, y, x] >= 0 or not _touches(cells, -cells[z, y, x], z, y, x):
                    continue
                cells[z, y, x] = -cells[z, y, x]
                size = _claim_neighbours(cells, z, y, x, stack, 0)
                while size > 0:
                    if size + 6 > len(stack):
                        stack = np.concatenate((stack, np.empty_like(stack)))
                    size -= 1
                    row, column = divmod(stack[size], width)
                    size = _claim_neighbours(cells, row // height, row % height, column, stack, size)
