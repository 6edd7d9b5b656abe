"""Pixel weights for the loss that keep touching cells apart.

Source: Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
arXiv 1505.04597, equation 2::

    w(x) = w_c(x) + w0 * exp(-(d1(x) + d2(x))**2 / (2 * sigma**2))

with the distances d1 and d2 to the nearest and the second nearest cell. One plane per cell would give them, at a cost
that grows with the number of cells. Here the two nearest *distinct* labels travel together through one pass per axis,
as a squared distance does in a separable distance transform: if a label is among the two nearest of a pixel, it is among
the two nearest of every pixel's foot on the way there, or two others are no farther. The passes look no
farther than the weight reaches, so an image with one cell costs no more than one with thousands.
"""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError, UsageError

__all__ = ["class_weights", "force_gap", "nearest_two_distances", "weight_map"]

NEGLIGIBLE_WEIGHT = 1e-6  # a border term below this is left out, which bounds the search
SERIAL_PIXELS = 1 << 18  # below this, threads cost more than they save
COLUMNS_PER_TASK = 4096  # keeps the scratch lines of the first pass small whatever the size of a plane
BLOCK = 128  # positions that search together: long enough for vector instructions, short enough to stop early
ROUNDING = 1 + 2.0**-20  # bounds are widened by this, so that float32 does not drop a distance that equals one
IGNORED = -1  # in the compact form of a label image


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile without the interpreter lock, cached on disk where some folder for the cache can be written."""
    try:
        return numba.njit(nogil=True, cache=True)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # read-only installation and no home folder: compile once per process instead
        return numba.njit(nogil=True)(function)  # type: ignore[no-any-return]


def weight_map(
    label_image: NDArray[np.integer],
    *,
    class_weights: Sequence[float] = (1.0, 1.0),
    border_weight: float = 10.0,
    border_sigma: float = 5.0,
    spacing: Sequence[float] | None = None,
    ignore_label: int | None = None,
) -> NDArray[np.float32]:
    """Weight of every pixel in the loss: its class's, and more on background between neighbouring cells.

    A gap is forced between touching cells first (`force_gap`); the pixels of the gap are background.

    Parameters
    ----------
    label_image : (Y, X) or (Z, Y, X)
        One integer per cell, 0 = background.
    class_weights
        Weight of background and of cells, as from `class_weights`.
    border_weight
        w0, the largest border term.
    border_sigma
        sigma, in in-plane pixels.
    spacing
        Size of a voxel along each axis, in in-plane pixels: ``(2.2, 1, 1)`` for a stack whose planes lie 2.2 pixels
        apart. Default: 1 along each axis.
    ignore_label
        Value of pixels that nobody annotated: they weigh 0 and are no cell.

    Returns
    -------
    ndarray, float32, of the shape of `label_image`
        Exact to 1e-6 times the border weight's scale: terms below 1e-6 are left out.

    Raises
    ------
    ImageError
        When `label_image` is not an integer image of two or three axes, or holds other negative values.
    UsageError
        When a weight, sigma or the spacing is not usable.

    Notes
    -----
    Safe to call from several threads at once; the same bits whatever the number of threads.
    """
    background, cell = _two_class_weights(class_weights)
    if not (math.isfinite(border_weight) and border_weight >= 0):
        raise UsageError(f"border weight is {border_weight}, needs to be 0 or more: give 10 as in the U-Net paper")
    if not (math.isfinite(border_sigma) and border_sigma > 0):
        raise UsageError(f"border sigma is {border_sigma}, needs to be above 0 pixels: give 5 as in the U-Net paper")
    steps = _steps(spacing, label_image.ndim)
    cells = _gapped(_compact(label_image, ignore_label)[0])
    reach = 0.0
    if border_weight > NEGLIGIBLE_WEIGHT and _has_two_cells(cells):
        reach = border_sigma * math.sqrt(2 * math.log(border_weight / NEGLIGIBLE_WEIGHT))
    if reach == 0.0:
        table = np.array([background, cell, 0.0], np.float32)  # ignored pixels are -1: the last entry
        return table[np.minimum(cells, 1)].reshape(label_image.shape)
    d1, _, d2, _ = _two_nearest(cells, steps, reach, total=reach, wanted=cells)
    planes = [plane.ravel() for plane in (cells, d1, d2)]
    sharpness = 0.5 / border_sigma**2
    _in_threads(
        lambda start, stop: _weigh(*planes, background, cell, border_weight, sharpness, start, stop),
        cells.size, cells.size,
    )  # fmt: skip
    return d1.reshape(label_image.shape)


def nearest_two_distances(
    label_image: NDArray[np.integer],
    *,
    spacing: Sequence[float] | None = None,
    max_distance: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Distances from every pixel to the nearest and to the second nearest distinct label.

    Parameters
    ----------
    label_image : (Y, X) or (Z, Y, X)
        One positive integer per cell; 0 is background.
    spacing
        Size of a voxel along each axis, in the unit of the distances. Default: 1 along each axis.
    max_distance
        Where a distance is larger, it is reported as infinite; the work grows with this bound.

    Returns
    -------
    d1, d2 : ndarray, float32, of the shape of `label_image`
        Euclidean distances between pixel centres; inside a cell d1 is 0 and d2 the distance to the nearest other cell.
        Two labels at the same distance give d1 == d2. Infinite where there is no such label within `max_distance`.

    Raises
    ------
    ImageError
        When `label_image` is not an integer image of two or three axes, or holds negative values.
    UsageError
        When `max_distance` or the spacing is not usable.
    """
    if not (math.isfinite(max_distance) and max_distance >= 0):
        raise UsageError(f"max_distance is {max_distance}, needs to be a finite distance of 0 or more")
    steps = _steps(spacing, label_image.ndim)
    cells = _compact(label_image, None)[0]
    everywhere = np.zeros((), np.int32)
    d1, _, d2, _ = _two_nearest(
        cells, steps, max_distance, total=2 * max_distance, wanted=np.broadcast_to(everywhere, cells.shape)
    )
    for squared in (d1, d2):
        np.sqrt(squared, out=squared)
        squared[squared > max_distance] = np.inf
    return d1.reshape(label_image.shape), d2.reshape(label_image.shape)


def force_gap(label_image: NDArray[np.integer], *, ignore_label: int | None = None) -> NDArray[np.integer]:
    """Turn pixels where cells touch into background, so that at least one background pixel lies between cells.

    Pixels touch over faces, edges and corners. Where two cells touch, the larger one gives up its touching pixels; of
    two equally large ones, the one with the higher label. So a small cell loses nothing to a large one, and the result does
    not depend on the direction in which the image is read. A cell that would lose all its pixels this way gives up none
    and its neighbours give way instead. Only where two cells are both so thin, they keep touching: no cell ever vanishes.

    Parameters
    ----------
    label_image : (Y, X) or (Z, Y, X)
        One integer per cell, 0 = background.
    ignore_label
        Value of pixels that nobody annotated: it is no cell and stays.

    Returns
    -------
    ndarray of the shape and dtype of `label_image`, a copy

    Raises
    ------
    ImageError
        When `label_image` is not an integer image of two or three axes, or holds other negative values.
    """
    cells, _ = _compact(label_image, ignore_label)
    kept = _gapped(cells).reshape(label_image.shape)
    return np.where(kept == 0, np.zeros((), label_image.dtype), label_image)


def class_weights(counts: Sequence[int], *, cap: float = 3.0) -> tuple[float, ...]:
    """Weights that balance how often classes occur over a whole data set.

    Each class weighs as the inverse of its frequency, at most `cap`, scaled so that the mean over all pixels is 1: the
    loss keeps its scale, and learning rates carry over between data sets. What the cap takes from a rare class goes back
    to the others. Balancing shifts the predicted odds of a class by its weight over the others', so a rare class is
    predicted too large; hence the cap. Counts of one image at a time would make the shift differ from image to image.

    Parameters
    ----------
    counts
        Pixels of each class, background first, over all images; a class without pixels weighs `cap`.
    cap
        Largest weight, at least 1; 1 turns balancing off.

    Returns
    -------
    tuple of float
        One weight per class.

    Raises
    ------
    UsageError
        When no pixels were counted, a count is negative, or `cap` is below 1.

    Examples
    --------
    >>> class_weights([800, 200])
    (0.625, 2.5)
    >>> class_weights([900, 100])
    (0.7777777777777778, 3.0)
    """
    if not (math.isfinite(cap) and cap >= 1):
        raise UsageError(f"cap of the class weights is {cap}, needs to be 1 or more: the mean weight is 1")
    total = sum(counts)
    if total <= 0 or min(counts) < 0:
        raise UsageError(f"class weights need pixel counts of 0 or more and at least one pixel, got {list(counts)}")
    frequencies = [count / total for count in counts]
    capped = {index for index, count in enumerate(counts) if count == 0}
    while True:
        free = [index for index in range(len(counts)) if index not in capped]
        # The free classes share equally the mass that the capped ones leave of a mean of 1.
        share = (1 - cap * sum(frequencies[index] for index in capped)) / max(len(free), 1)
        over = {index for index in free if share > cap * frequencies[index] * (1 + 1e-12)}
        if not over:
            break
        capped |= over
    return tuple(cap if index in capped else share / frequencies[index] for index in range(len(counts)))


def _two_class_weights(weights: Sequence[float]) -> tuple[float, float]:
    if len(weights) != 2 or not all(math.isfinite(weight) and weight >= 0 for weight in weights):
        raise UsageError(f"class weights are {list(weights)}, need two numbers of 0 or more: background, cell")
    return float(weights[0]), float(weights[1])


def _steps(spacing: Sequence[float] | None, ndim: int) -> tuple[float, float, float]:
    """Spacing along z, y, x; a plane is a stack of one."""
    if spacing is None:
        return 1.0, 1.0, 1.0
    if len(spacing) != ndim or not all(math.isfinite(step) and step > 0 for step in spacing):
        raise UsageError(f"spacing is {list(spacing)}, needs one number above 0 for each of the {ndim} axes")
    steps = [1.0] * (3 - ndim) + [float(step) for step in spacing]
    return steps[0], steps[1], steps[2]


def _compact(label_image: NDArray[np.integer], ignore_label: int | None) -> tuple[NDArray[np.int32], int]:
    """Labels as contiguous (Z, Y, X) int32 with ignored pixels as -1, and the largest label; order is kept."""
    if label_image.ndim not in (2, 3):
        raise ImageError("wrong_axes", f"label image has {label_image.ndim} axes, needs (Y, X) or (Z, Y, X)")
    if label_image.size == 0:
        raise ImageError("no_pixels", f"label image of shape {label_image.shape} has no pixels: leave it out")
    if not np.issubdtype(label_image.dtype, np.integer):
        raise ImageError(
            "not_integer",
            f"label image has dtype {label_image.dtype}, needs integers: 0 background, one number per cell",
        )
    ignored = None if ignore_label is None else label_image == ignore_label
    largest = int(label_image.max(initial=0, where=True if ignored is None else ~ignored))
    smallest = int(label_image.min(initial=0, where=True if ignored is None else ~ignored))
    if smallest < 0:
        raise ImageError(
            "negative_labels",
            f"label image holds {smallest}, needs 0 or more: name the value as ignore label if it is one",
        )
    if largest > max(np.iinfo(np.uint16).max, label_image.size):  # tables are indexed by label
        values, inverse = np.unique(
            label_image if ignored is None else np.where(ignored, 0, label_image), return_inverse=True
        )
        if values[0] != 0:
            inverse += 1
        label_image, largest = inverse, int(inverse.max())
    cells = np.array(label_image, dtype=np.int32, order="C", copy=True)
    if ignored is not None:
        cells[ignored] = IGNORED
    shape = (1,) * (3 - cells.ndim) + cells.shape
    return cells.reshape(shape), largest


def _gapped(cells: NDArray[np.int32]) -> NDArray[np.int32]:
    """The compact label image with a gap between touching cells."""
    areas = _areas(cells.ravel(), int(cells.max(initial=0)) + 1)
    labels = np.arange(areas.size)
    thin = np.zeros(areas.size, bool)
    while True:
        # Of two touching cells the one of the higher rank gives way; thin cells hold rank 0 and give way to none.
        ranks = np.empty(areas.size, np.int32)
        ranks[np.lexsort((labels, areas))] = np.arange(1, areas.size + 1)
        ranks[thin] = 0
        gapped = np.empty_like(cells)
        rows = cells.shape[0] * cells.shape[1]
        _in_threads(lambda start, stop: _cut_rows(cells, gapped, ranks, start, stop), rows, cells.size)  # noqa: B023
        vanished = (areas > 0) & (_areas(gapped.ravel(), areas.size) == 0)
        if not vanished.any():
            return gapped
        thin |= vanished


def _has_two_cells(cells: NDArray[np.int32]) -> bool:
    areas = _areas(cells.ravel(), int(cells.max(initial=0)) + 1)
    return np.count_nonzero(areas) > 1


def _squared_steps(step: float, reach: float, length: int) -> NDArray[np.float32]:
    """Squared lengths of 0, 1, 2, ... steps, as many as fit the reach and the line."""
    count = min(length, math.floor(reach / step) + 1)
    return ((np.arange(count) * step) ** 2).astype(np.float32)


def _two_nearest(
    cells: NDArray[np.int32],
    steps: tuple[float, float, float],
    reach: float,
    *,
    total: float,
    wanted: NDArray[np.int32],
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32], NDArray[np.int32]]:
    """Squared distances and labels of the two nearest cells, on pixels that are 0 in `wanted`."""
    depth, height, width = cells.shape
    d1, l1, d2, l2 = (np.empty(cells.shape, dtype) for dtype in (np.float32, np.int32, np.float32, np.int32))
    nearest = (d1, l1, d2, l2)
    axis, length = (0, depth) if depth > 1 else (1, height)
    lines = [plane.reshape(length, cells.size // length) for plane in (cells, *nearest)]
    _in_threads(
        lambda start, stop: _sweep_columns(*lines, steps[axis], reach, start, stop),
        lines[0].shape[1], cells.size, COLUMNS_PER_TASK,
    )  # fmt: skip
    if depth > 1:
        squares = _squared_steps(steps[1], reach, height)
        _in_threads(lambda start, stop: _search_columns(*nearest, squares, reach, start, stop), depth, cells.size)
    squares = _squared_steps(steps[2], reach, width)
    rows = [plane.reshape(depth * height, width) for plane in (wanted, *nearest)]
    _in_threads(lambda start, stop: _search_rows(*rows, squares, reach, total, start, stop), depth * height, cells.size)
    return nearest


def _in_threads(work: Callable[[int, int], None], length: int, pixels: int, largest: int | None = None) -> None:
    """Call ``work(start, stop)`` over parts of ``range(length)``, in threads when the image is large.

    Python threads, since the compiled functions hold no interpreter lock: numba's own threading layers abort when two
    threads call them at once (workqueue) or when a process forks afterwards (OpenMP). Parts write disjoint pixels, so
    their order and number do not change the result.
    """
    threads = 1 if pixels < SERIAL_PIXELS else min(numba.config.NUMBA_NUM_THREADS, os.cpu_count() or 1)
    size = max(1, math.ceil(length / (4 * threads if threads > 1 else 1)))
    if largest is not None:
        size = min(size, largest)
    starts = range(0, length, size)
    if threads == 1 or len(starts) < 2:
        for start in starts:
            work(start, min(start + size, length))
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda start: work(start, min(start + size, length)), starts):
            pass


@_compiled
def _areas(cells: NDArray[np.int32], size: int) -> NDArray[np.int64]:
    """Pixels of each label above 0."""
    areas = np.zeros(size, np.int64)
    for label in cells:
        if label > 0:
            areas[label] += 1
    return areas


@_compiled
def _cut_rows(cells: Any, gapped: Any, ranks: Any, start: int, stop: int) -> None:
    """Copy rows of `cells`, without the pixels that touch a cell of a lower rank."""
    depth, height, width = cells.shape
    for row in range(start, stop):
        z, y = row // height, row % height
        for x in range(width):
            label = cells[z, y, x]
            gapped[z, y, x] = label
            if label <= 0:
                continue
            rank = ranks[label]
            for v in range(max(z - 1, 0), min(z + 2, depth)):
                for w in range(max(y - 1, 0), min(y + 2, height)):
                    for u in range(max(x - 1, 0), min(x + 2, width)):
                        other = cells[v, w, u]
                        if other > 0 and other != label and ranks[other] < rank:
                            gapped[z, y, x] = 0


@_compiled
def _sweep_columns(
    cells: Any, d1: Any, l1: Any, d2: Any, l2: Any, step: float, reach: float, start: int, stop: int
) -> None:
    """Squared distances and labels of the two nearest cells along axis 0 of (length, columns)."""
    length = cells.shape[0]
    # Down: steps since the last cell above and since the last other one, kept in the outputs.
    for row in range(length):
        for column in range(start, stop):
            label = cells[row, column]
            n1, m1, n2, m2 = np.float32(np.inf), np.int32(0), np.float32(np.inf), np.int32(0)
            if row > 0:
                n1, m1 = d1[row - 1, column] + np.float32(1), l1[row - 1, column]
                n2, m2 = d2[row - 1, column] + np.float32(1), l2[row - 1, column]
            if label > 0:
                if m1 != label:
                    n2, m2 = n1, m1
                n1, m1 = np.float32(0), label
            d1[row, column], l1[row, column] = n1, m1
            d2[row, column], l2[row, column] = n2, m2
    # Up: the same from below, kept in scratch lines, merged with what came from above.
    below = np.full((2, stop - start), np.inf, np.float32)
    owner = np.zeros((2, stop - start), np.int32)
    limit = np.float32(reach)
    for row in range(length - 1, -1, -1):
        for column in range(start, stop):
            index = column - start
            n1, m1 = below[0, index] + np.float32(1), owner[0, index]
            n2, m2 = below[1, index] + np.float32(1), owner[1, index]
            label = cells[row, column]
            if label > 0:
                if m1 != label:
                    n2, m2 = n1, m1
                n1, m1 = np.float32(0), label
            below[0, index], owner[0, index] = n1, m1
            below[1, index], owner[1, index] = n2, m2
            a1, k1, a2, k2 = d1[row, column], l1[row, column], d2[row, column], l2[row, column]
            if n1 < a1:
                a1, k1, a2, k2, n1, m1, n2, m2 = n1, m1, n2, m2, a1, k1, a2, k2
            # a1 is the nearest now; the second is the nearest of the rest that has another label.
            if m1 != k1:
                if n1 < a2:
                    a2, k2 = n1, m1
            elif n2 < a2:
                a2, k2 = n2, m2
            s1, s2 = a1 * np.float32(step), a2 * np.float32(step)
            near1, near2 = s1 <= limit, s2 <= limit
            d1[row, column], l1[row, column] = (s1 * s1 if near1 else np.float32(np.inf)), (k1 if near1 else 0)
            d2[row, column], l2[row, column] = (s2 * s2 if near2 else np.float32(np.inf)), (k2 if near2 else 0)


@_compiled
def _any_above(values: Any, threshold: float) -> bool:
    for value in values:  # noqa: SIM110 - any() of a generator does not compile
        if value > threshold:
            return True
    return False


@_compiled
def _take_nearest(b1: Any, k1: Any, d1: Any, l1: Any, square: float) -> None:
    """Where the feet ``sqrt(square)`` away offer a nearer label than the nearest so far, take it."""
    for index in range(b1.size):
        # Loads stand before the choices and stores are unconditional, so that the compiler makes vector instructions.
        distance, label, best, owner = d1[index] + square, l1[index], b1[index], k1[index]
        nearer = distance < best
        b1[index] = distance if nearer else best
        k1[index] = label if nearer else owner


@_compiled
def _take_second(b2: Any, k2: Any, k1: Any, d1: Any, l1: Any, d2: Any, l2: Any, square: float) -> None:
    """The same for the second nearest: each foot offers the nearer of its labels that is not `k1`, the nearest."""
    for index in range(b2.size):
        near, near_label, far, far_label = d1[index], l1[index], d2[index], l2[index]
        best, owner = b2[index], k2[index]
        taken = near_label == k1[index]
        distance = (far if taken else near) + square
        label = far_label if taken else near_label
        nearer = distance < best
        b2[index] = distance if nearer else best
        k2[index] = label if nearer else owner


@_compiled
def _search(
    b1: Any, k1: Any, b2: Any, k2: Any,
    d1: Any, l1: Any, d2: Any, l2: Any,
    first: int, stride: int, squares: Any, reach: float, total: float,
) -> None:  # fmt: skip
    """Find the two nearest labels of a run of positions (b, k) from those of their feet (d, l), squared distances.

    The feet are flat and padded; the foot of position ``index`` in the run is ``first + index``, the next one along the
    line of the search is `stride` farther. All positions look 0, 1, 2 ... feet to either side together, until no foot
    that is left can be near enough for any. On entry `b1` holds the squared distances within which a nearest label is
    wanted; a second one is wanted within `reach`, and only if both distances together stay within `total`. Where a label
    is not found, its distance is infinite.
    """
    size = b1.size
    k1[:] = 0
    k2[:] = 0
    for offset in range(squares.size):
        square = squares[offset]
        if not _any_above(b1, square):
            break
        for foot in (first - offset * stride, first + offset * stride):
            _take_nearest(b1, k1, d1[foot : foot + size], l1[foot : foot + size], square)
    for index in range(size):
        farthest = max(min(reach, total - math.sqrt(b1[index])), 0.0)
        b2[index] = farthest * farthest * ROUNDING if k1[index] > 0 else 0.0
    for offset in range(squares.size):
        square = squares[offset]
        if not _any_above(b2, square):
            break
        for foot in (first - offset * stride, first + offset * stride):
            end = foot + size
            _take_second(b2, k2, k1, d1[foot:end], l1[foot:end], d2[foot:end], l2[foot:end], square)
    for index in range(size):
        b1[index] = b1[index] if k1[index] > 0 else np.inf
        b2[index] = b2[index] if k2[index] > 0 else np.inf


@_compiled
def _search_columns(d1: Any, l1: Any, d2: Any, l2: Any, squares: Any, reach: float, start: int, stop: int) -> None:
    """Search along axis 1 of the planes `start` to `stop` of (Z, Y, X), in place."""
    _, height, width = d1.shape
    block = min(BLOCK, width)
    pad = squares.size * block
    e1, e2 = (
        np.full(height * block + 2 * pad, np.inf, np.float32),
        np.full(height * block + 2 * pad, np.inf, np.float32),
    )
    m1, m2 = np.zeros(e1.size, np.int32), np.zeros(e1.size, np.int32)
    for z in range(start, stop):
        for left in range(0, width, block):
            right = min(left + block, width)
            for y in range(height):
                first = pad + y * block
                end = first + right - left
                e1[first:end], m1[first:end] = d1[z, y, left:right], l1[z, y, left:right]
                e2[first:end], m2[first:end] = d2[z, y, left:right], l2[z, y, left:right]
            for y in range(height):
                b1, k1, b2, k2 = d1[z, y, left:right], l1[z, y, left:right], d2[z, y, left:right], l2[z, y, left:right]
                b1[:] = reach * reach * ROUNDING
                _search(b1, k1, b2, k2, e1, m1, e2, m2, pad + y * block, block, squares, reach, 2 * reach)


@_compiled
def _search_rows(
    cells: Any, d1: Any, l1: Any, d2: Any, l2: Any, squares: Any, reach: float, total: float, start: int, stop: int
) -> None:
    """Search along the rows `start` to `stop` of (rows, X), in place, on pixels that are 0 in `cells`.

    A nearest label farther than half the `total` makes no pair within it, and is left out.
    """
    width, pad = d1.shape[1], squares.size
    e1, e2 = np.full(width + 2 * pad, np.inf, np.float32), np.full(width + 2 * pad, np.inf, np.float32)
    m1, m2 = np.zeros(e1.size, np.int32), np.zeros(e1.size, np.int32)
    farthest = min(reach, total / 2)
    for row in range(start, stop):
        e1[pad : pad + width], m1[pad : pad + width] = d1[row], l1[row]
        e2[pad : pad + width], m2[pad : pad + width] = d2[row], l2[row]
        for left in range(0, width, BLOCK):
            right = min(left + BLOCK, width)
            b1, k1, b2, k2 = d1[row, left:right], l1[row, left:right], d2[row, left:right], l2[row, left:right]
            for index in range(right - left):
                b1[index] = farthest * farthest * ROUNDING if cells[row, left + index] == 0 else 0.0
            _search(b1, k1, b2, k2, e1, m1, e2, m2, pad + left, 1, squares, reach, total)


@_compiled
def _weigh(
    cells: Any, d1: Any, d2: Any, background: float, cell: float, border_weight: float, sharpness: float,
    start: int, stop: int,
) -> None:  # fmt: skip
    """Write weights over the squared distances `d1` of the pixels `start` to `stop`; `sharpness` is 1 / (2 sigma**2)."""
    for index in range(start, stop):
        weight = np.float64(0.0)
        if cells[index] > 0:
            weight = cell
        elif cells[index] == 0:
            weight = background
            if d2[index] < np.inf:
                both = math.sqrt(d1[index]) + math.sqrt(d2[index])
                weight += border_weight * math.exp(-both * both * sharpness)
        d1[index] = weight
