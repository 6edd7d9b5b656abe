"""Label images: ids in raster order, connected components, neighbours, hashes.

A label image is an integer array ``(Y, X)`` or ``(Z, Y, X)``; 0 is background and every other value is the id of one
cell. All functions run on 2-D and 3-D through the same code: a 2-D image is a volume of one slice.

Compiled functions call compiled functions of their own module alone: numba's cache on disk follows changes of one file,
not of the files that it calls into.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unetbio.compilation import compiled
from unetbio.errors import ImageError

__all__ = [
    "RUN_CELL",
    "RUN_START",
    "RUN_STOP",
    "RUN_WIDTH",
    "RUN_Y",
    "RUN_Z",
    "LabelImage",
    "Mask",
    "as_volume",
    "check_label_image",
    "check_plausible",
    "connected_components",
    "is_binary_mask",
    "label_dtype",
    "label_hash",
    "label_runs",
    "nearest_pixels",
    "number_in_raster_order",
    "pairs_of_runs",
    "relabel_raster",
    "renumbered",
    "resize_nearest",
    "split_components",
    "touching_pairs",
]

IntArray = NDArray[np.integer[Any]]
LabelImage = NDArray[np.uint16] | NDArray[np.uint32]
Mask = LabelImage | NDArray[np.uint8]
"""A label image, or a class mask."""
BoolArray = NDArray[np.bool_]

MAX_UINT16_LABEL = int(np.iinfo(np.uint16).max)
# A table from old to new ids is faster than sorting while it is not much larger than the image.
LUT_ENTRIES_PER_PIXEL = 4
LUT_ENTRIES_ALWAYS = 1 << 20
# Share of the labelled pixels that are alone among other ids. Measured on the masks of five sets of real images, 774
# files, it is at most .00012; in their images, blurred 8-bit ones included, at least .083.
MAX_LONELY_SHARE = 0.01
# Pixels of a label image that are hashed together: one that is on disk need not fit into memory.
HASHED_AT_ONCE = 1 << 22
# In fewer pixels a share says nothing.
MIN_LONELY_PIXELS = 100
# Columns of a table of runs, see `label_runs`.
RUN_CELL, RUN_Z, RUN_Y, RUN_START, RUN_STOP, RUN_WIDTH = 0, 1, 2, 3, 4, 5


def check_label_image(label_image: ArrayLike, name: str = "the label image") -> IntArray:
    """Check ``label_image`` and return it as an array.

    Parameters
    ----------
    label_image : array-like
        Array to check.
    name : str
        Name in messages.

    Returns
    -------
    ndarray
        The same integer pixels, 2-D or 3-D, native byte order.

    Raises
    ------
    ImageError
        ``not_labels`` when the pixels are not integers or are negative; ``wrong_ndim`` when it is neither 2-D nor 3-D.
    """
    array = np.asarray(label_image)
    if array.ndim not in (2, 3):
        raise ImageError(
            "wrong_ndim",
            f"{name} has shape {array.shape}: needs the axes (Y, X) or (Z, Y, X); select one plane or channel",
        )
    if array.dtype.kind not in "ui":
        raise ImageError(
            "not_labels",
            f"{name} holds {array.dtype} pixels: needs integer ids, 0 for background; "
            "turn a mask into ids with --split-components",
        )
    if array.dtype.kind == "i" and array.size and int(array.min()) < 0:
        raise ImageError(
            "not_labels", f"{name} holds the negative value {int(array.min())}: needs ids from 1, 0 for background"
        )
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def check_plausible(label_image: NDArray[Any], name: str = "the label image") -> None:
    """Refuse whole numbers that are grey values: an image that was given in place of its label image.

    Pixels of a cell agree with a neighbour; in an image, noise makes most of them differ from all of theirs.
    A pixel is lonely when its four neighbours in the plane are all labelled, and all differ from it. Points on a
    background of zeros are not lonely by this, nor are cells of one pixel that lie apart.

    Parameters
    ----------
    label_image : ndarray of int
        ``(..., Y, X)``.
    name : str
        Name in messages.

    Raises
    ------
    ImageError
        ``not_labels`` when more than one in a hundred labelled pixels are lonely, and there are at least a hundred of
        them.

    Examples
    --------
    >>> check_plausible(np.repeat(np.repeat(np.arange(25).reshape(5, 5), 9, axis=0), 9, axis=1))
    """
    lonely = labelled = 0
    for index in np.ndindex(label_image.shape[:-2]):
        plane = label_image[index]
        lonely += _count_lonely(plane)
        labelled += int(np.count_nonzero(plane))
    if lonely >= MIN_LONELY_PIXELS and lonely > MAX_LONELY_SHARE * labelled:
        raise ImageError(
            "not_labels",
            f"{name} looks like an image, not like labels: {round(100 * lonely / labelled)} % of its pixels above 0 "
            "differ from all their neighbours; are image and mask swapped? Was the mask saved as JPEG, or resized "
            "with interpolation? Give each cell one number",
        )


def _count_lonely(plane: NDArray[Any]) -> int:
    is_labelled = plane != 0
    lonely = is_labelled.copy()
    for axis in (0, 1):
        ids, labelled = np.moveaxis(plane, axis, 0), np.moveaxis(is_labelled, axis, 0)
        view = np.moveaxis(lonely, axis, 0)
        differs = ids[1:] != ids[:-1]
        view[1:] &= differs & labelled[:-1]
        view[:-1] &= differs & labelled[1:]
    return int(np.count_nonzero(lonely))


def as_volume(array: NDArray[Any]) -> NDArray[Any]:
    """Give a C-contiguous ``(Z, Y, X)`` view (or copy) of a 2-D or 3-D array: what the compiled loops take."""
    volume = array[np.newaxis] if array.ndim == 2 else array
    return np.ascontiguousarray(volume)


def label_dtype(count: int) -> type[np.uint16] | type[np.uint32]:
    """Give the type of a label image that holds ids up to ``count``: uint16, or uint32 above 65 535."""
    return np.uint16 if count <= MAX_UINT16_LABEL else np.uint32


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
        count = _number_in_raster_order(np.ascontiguousarray(_unsigned(band)).reshape(-1), table, count)
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
    _look_up(np.ascontiguousarray(_unsigned(label_image)).reshape(-1), numbers, found.reshape(-1))
    return found


@compiled
def _look_up(ids: IntArray, numbers: IntArray, found: IntArray) -> None:
    for pixel in range(len(ids)):
        found[pixel] = numbers[ids[pixel]]


def label_hash(label_image: Any) -> str:
    """SHA-256 of shape, dtype and little-endian pixels, as 64 hexadecimal digits: "byte for byte" means this.

    The dtype is hashed by its little-endian name (``<u2``), so that byte order and memory layout do not count.
    """
    array: Any = label_image if hasattr(label_image, "shape") else np.asarray(label_image)
    little = array.dtype.newbyteorder("<")
    digest = hashlib.sha256(f"{tuple(array.shape)}{little.str}".encode())
    if not array.shape:
        array = array[np.newaxis]
    rows = max(1, HASHED_AT_ONCE // max(1, math.prod(array.shape[1:])))
    for start in range(0, array.shape[0], rows):
        part = np.ascontiguousarray(array[start : start + rows], dtype=little)
        digest.update(part.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


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


def is_binary_mask(image: ArrayLike) -> bool:
    """Whether an image is a mask of foreground and background rather than a label image.

    True for booleans, for 0 and the largest value of a type (0/255, 0/65535), and for 0/1 where the ones form more than
    one component: a label image with one cell holds 0 and 1 too, and is no mask. 0/255 is a mask in any type.

    Examples
    --------
    >>> is_binary_mask(np.array([[255, 0, 255]], dtype=np.uint8)), is_binary_mask(np.array([[1, 1, 0]]))
    (True, False)
    """
    array = np.asarray(image)
    if array.dtype == np.bool_:
        return True
    if array.dtype.kind not in "ui" or not array.any():
        return False
    value = int(array.max())
    if not ((array == 0) | (array == value)).all():
        return False
    if value == 1:
        # Full connectivity: a single cell may hang together over corners.
        return array.ndim in (2, 3) and connected_components(array, array.ndim)[1] > 1
    return value in (255, int(np.iinfo(array.dtype).max))


def resize_nearest(label_image: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Resize a label image without inventing ids: every pixel takes the id of the nearest one.

    Pixel centres are aligned (pixel ``i`` of ``n`` lies at ``(i + 1/2) / n``); the index is exact integer arithmetic,
    and a centre on the line between two pixels takes the later one.

    Parameters
    ----------
    label_image : ndarray
        Any number of axes, none of length 0.
    shape : sequence of int
        The new size, one entry an axis.

    Returns
    -------
    ndarray
        Same dtype; the same array when the shape is the same.

    Raises
    ------
    ValueError
        When the number of axes differs.
    """
    if len(shape) != label_image.ndim:
        raise ValueError(f"a label image of shape {label_image.shape} cannot be resized to {tuple(shape)}")
    if tuple(shape) == label_image.shape:
        return label_image
    places = (nearest_pixels(old, new) for old, new in zip(label_image.shape, shape, strict=True))
    return label_image[np.ix_(*places)]


def nearest_pixels(old: int, new: int) -> NDArray[np.int64]:
    """For each of ``new`` pixels along an axis the nearest of ``old`` ones, see `resize_nearest`."""
    # floor((i + 1/2) * old / new)
    return (2 * np.arange(new) + 1) * old // (2 * new)


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
    runs: NDArray[np.int64] = _find_label_runs(_unsigned(as_volume(label_image)))
    return runs


def pairs_of_runs(runs: NDArray[np.int64], distance: int) -> NDArray[np.int64]:
    """`touching_pairs` of the cells whose runs `label_runs` gives."""
    return np.unique(_find_pairs(runs, distance), axis=0)


def _unsigned(labels: IntArray) -> IntArray:
    """The same ids, which are not negative, as unsigned numbers: loops are compiled for half as many types."""
    return labels.view(f"u{labels.itemsize}")


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
