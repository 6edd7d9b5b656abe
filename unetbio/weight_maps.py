"""Pixel weights for the loss that keep touching cells apart.

Source: Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
arXiv 1505.04597, equation 2::

    w(x) = w_c(x) + w0 * exp(-(d1(x) + d2(x))**2 / (2 * sigma**2))

with the distances d1 and d2 to the nearest and the second nearest cell. One plane per cell would give them, at a cost
that grows with the number of cells. Here the two nearest *distinct* labels travel together through one pass per axis,
as a squared distance does in a separable distance transform: a label that is among the two nearest of a pixel is also
among the two nearest of its foot on the line that the pass looks along, or two others there are at least as near. The
passes look no farther than the weight reaches, so that one cell in the image costs no more than thousands.

Compiled functions call compiled functions of this module alone: numba's cache on disk follows changes of one file.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unetbio.compilation import compiled
from unetbio.errors import ImageError, UsageError
from unetbio.labels import as_volume, check_label_image

__all__ = ["class_weights", "force_gap", "median_frequency_weights", "nearest_two_distances", "weight_map"]

NEGLIGIBLE_WEIGHT = 1e-6  # a border term below this is left out, which bounds the search
IGNORED = -1  # in the compact form of a label image
SERIAL_PIXELS = 1 << 20  # below this, threads cost more than they save; training draws many small patches at a time
COLUMNS_PER_TASK = 4096  # keeps the scratch lines of the first pass small whatever the size of a plane
BLOCK = 128  # positions that search together: long enough for vector instructions, short enough to stop early
ROUNDING = 1 + 2.0**-20  # bounds are widened by this, so that float32 does not drop a distance that equals one

Cells = NDArray[np.int32]
Squares = NDArray[np.float32]


class _Nearest(NamedTuple):
    """Squared distance and label of the nearest and the second nearest cell; infinite and 0 where there is none."""

    d1: Squares
    l1: Cells
    d2: Squares
    l2: Cells


def weight_map(
    label_image: ArrayLike,
    *,
    class_weights: Sequence[float] = (1.0, 1.0),
    border_weight: float = 10.0,
    border_sigma: float = 5.0,
    spacing: Sequence[float] | None = None,
    ignore_label: int | None = None,
) -> NDArray[np.float32]:
    """Weight of every pixel in the loss: that of its class, and more on background between neighbouring cells.

    Touching cells are parted first, as by `force_gap`; the pixels of the gap are background.

    Parameters
    ----------
    label_image
        ``(Y, X)`` or ``(Z, Y, X)`` integers, one per cell, 0 = background.
    class_weights
        Weight of background and of cells, as from `class_weights`.
    border_weight
        w0, the largest border term; 0 leaves the term out.
    border_sigma
        sigma, in in-plane pixels.
    spacing
        Size of a voxel along each axis, in in-plane pixels: ``(2.2, 1, 1)`` for a stack whose planes lie 2.2 pixels
        apart. By default 1 along each axis.
    ignore_label
        Value of pixels that nobody annotated: they weigh 0 and are no cell.

    Returns
    -------
    ndarray of float32
        Shape of `label_image`; within 2e-6 of the definition, since border terms below 1e-6 are left out.

    Raises
    ------
    ImageError
        ``not_labels``, ``wrong_ndim`` or ``no_pixels``: `label_image` is not one.
    UsageError
        A weight, sigma or the spacing cannot be used.

    Notes
    -----
    Safe to call from several threads at once; the same bits for any number of threads.

    Examples
    --------
    >>> weight_map(np.array([[1, 0, 0, 2]]), border_weight=10, border_sigma=5).round(2)
    array([[1.  , 9.35, 9.35, 1.  ]], dtype=float32)
    """
    background, cell = _two_class_weights(class_weights)
    if not (math.isfinite(border_weight) and border_weight >= 0):
        raise UsageError(f"border weight is {border_weight}, needs to be 0 or more: 10 in the U-Net paper")
    if not (math.isfinite(border_sigma) and border_sigma > 0):
        raise UsageError(f"border sigma is {border_sigma}, needs to be above 0 pixels: 5 in the U-Net paper")
    cells = _gapped(_compact(label_image, ignore_label))
    shape, steps = np.shape(label_image), _steps(spacing, np.ndim(label_image))
    if border_weight <= NEGLIGIBLE_WEIGHT or np.count_nonzero(_areas(cells)) < 2:
        table = np.array([background, cell, 0.0], np.float32)  # ignored pixels, -1, take the last entry
        return table[np.minimum(cells, 1)].reshape(shape)
    reach = border_sigma * math.sqrt(2 * math.log(border_weight / NEGLIGIBLE_WEIGHT))
    nearest = _two_nearest(cells, steps, reach, total=reach, wanted=cells)
    planes = [plane.reshape(-1) for plane in (cells, nearest.d1, nearest.d2)]
    sharpness = 0.5 / border_sigma**2

    def weigh(start: int, stop: int) -> None:
        _weigh(*planes, background, cell, border_weight, sharpness, start, stop)

    _in_threads(weigh, cells.size, cells.size)
    return nearest.d1.reshape(shape)


def nearest_two_distances(
    label_image: ArrayLike, *, spacing: Sequence[float] | None = None, max_distance: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Distances from every pixel to the nearest and to the second nearest distinct label.

    Parameters
    ----------
    label_image
        ``(Y, X)`` or ``(Z, Y, X)`` integers, one per cell, 0 = background.
    spacing
        Size of a voxel along each axis, in the unit of the distances. By default 1 along each axis.
    max_distance
        A larger distance is reported as infinite; the work grows with this bound.

    Returns
    -------
    d1, d2 : ndarray of float32
        Shape of `label_image`; Euclidean, between pixel centres. Inside a cell d1 is 0 and d2 the distance to the
        nearest other cell. Where two cells are equally near, d1 equals d2.

    Raises
    ------
    ImageError
        ``not_labels``, ``wrong_ndim`` or ``no_pixels``: `label_image` is not one.
    UsageError
        `max_distance` or the spacing cannot be used.

    Examples
    --------
    >>> d1, d2 = nearest_two_distances(np.array([[1, 1, 0, 0, 0, 7]]), max_distance=3)
    >>> d1
    array([[0., 0., 1., 2., 1., 0.]], dtype=float32)
    >>> d2
    array([[inf, inf,  3.,  2.,  3., inf]], dtype=float32)
    """
    if not (math.isfinite(max_distance) and max_distance > 0):
        raise UsageError(f"max_distance is {max_distance}, needs to be a finite number above 0")
    cells = _compact(label_image, None)
    shape, steps = np.shape(label_image), _steps(spacing, np.ndim(label_image))
    everywhere = np.zeros_like(cells)
    nearest = _two_nearest(cells, steps, max_distance, total=2 * max_distance, wanted=everywhere)
    for squares in (nearest.d1, nearest.d2):
        np.sqrt(squares, out=squares)
        squares[squares > np.float32(max_distance)] = np.inf
    return nearest.d1.reshape(shape), nearest.d2.reshape(shape)


def force_gap(label_image: ArrayLike, *, ignore_label: int | None = None) -> NDArray[Any]:
    """Turn pixels where cells touch into background, so that at least one background pixel parts any two cells.

    Pixels touch over faces, edges and corners. Where two cells touch, the larger one gives up the pixels that touch; of
    two equally large ones, the one with the higher label. So a small cell loses nothing to a large one, and the result
    does not depend on how the image is turned or mirrored. A cell that would lose all its pixels gives up none, and its
    neighbours give way. Two such cells side by side, a pixel thin, keep touching: no cell ever vanishes.

    Parameters
    ----------
    label_image
        ``(Y, X)`` or ``(Z, Y, X)`` integers, one per cell, 0 = background.
    ignore_label
        Value of pixels that nobody annotated: they are no cell, part no cells and stay.

    Returns
    -------
    ndarray
        A copy of `label_image` with the gaps, of the same shape and dtype.

    Raises
    ------
    ImageError
        ``not_labels``, ``wrong_ndim`` or ``no_pixels``: `label_image` is not one.

    Examples
    --------
    >>> force_gap(np.array([[1, 1, 1, 2, 2]]))
    array([[1, 1, 0, 2, 2]])
    """
    parted = np.array(label_image)
    parted[(_gapped(_compact(label_image, ignore_label)) == 0).reshape(parted.shape)] = 0
    return parted


def class_weights(counts: Sequence[int], *, cap: float = 2.0) -> tuple[float, ...]:
    """Weights that balance how often classes occur over a whole data set.

    A class weighs the inverse of its frequency, at most `cap`, scaled so that the mean over all pixels is 1: the loss
    keeps its scale, and learning rates carry over between data sets. What the cap takes from a rare class goes to the
    others. Weights multiply the odds that a network learns to predict, so a rare class comes out too large: hence the
    cap. Counted image by image, that shift would differ from image to image, and no threshold could undo it.

    Parameters
    ----------
    counts
        Pixels of each class over all images, background first; a class without pixels weighs `cap`.
    cap
        Largest weight, at least 1; 1 turns the balance off.

    Returns
    -------
    tuple of float
        One weight per class.

    Raises
    ------
    UsageError
        No pixel was counted, a count is negative, or `cap` is below 1.

    Examples
    --------
    >>> class_weights([750, 250])
    (0.6666666666666666, 2.0)
    >>> class_weights([750, 250], cap=1.5)
    (0.8333333333333334, 1.5)
    """
    if not (math.isfinite(cap) and cap >= 1):
        raise UsageError(f"the cap of the class weights is {cap}, needs to be 1 or more, the mean weight")
    total = sum(counts)
    if total <= 0 or min(counts) < 0:
        raise UsageError(f"class weights need pixel counts of 0 or more, not all 0, got {list(counts)}")
    frequencies = [count / total for count in counts]
    capped = {index for index, count in enumerate(counts) if count == 0}
    while True:
        # What the capped classes leave of the mean of 1 is shared equally: weight * frequency is the same for the rest.
        free = [index for index in range(len(counts)) if index not in capped]
        share = (1 - cap * sum(frequencies[index] for index in capped)) / max(len(free), 1)
        over = {index for index in free if share > cap * frequencies[index]}
        if not over:
            break
        capped |= over
    return tuple(cap if index in capped else share / frequency for index, frequency in enumerate(frequencies))


def median_frequency_weights(counts: ArrayLike) -> tuple[float, ...]:
    """Weights that balance classes by the median of their frequencies.

    ``weight(c) = median(freq) / freq(c)`` with ``freq(c)`` the pixels of class c over the pixels of all images in which
    c occurs (Eigen & Fergus 2015, arXiv 1411.4734, section 4.3.2; SegNet, arXiv 1511.00561, section 3.1). A class that
    occurs in few images is so not taken for one that is small wherever it occurs. There is no cap.

    Parameters
    ----------
    counts
        ``(images, K)``: pixels of each class in each image; pixels that nobody annotated are counted nowhere.

    Returns
    -------
    tuple of float
        One weight per class; 1 for a class without pixels.

    Raises
    ------
    UsageError
        No pixel was counted, or a count is negative.

    Examples
    --------
    >>> median_frequency_weights([[60, 40, 0], [90, 0, 10]])
    (0.5333333333333333, 1.0, 4.0)
    """
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim != 2 or table.sum() <= 0 or table.min() < 0:
        raise UsageError(f"class weights need pixel counts of 0 or more, not all 0, got {table.tolist()}")
    occurs = table.sum(axis=0) > 0
    where_it_occurs = ((table > 0) * table.sum(axis=1, keepdims=True)).sum(axis=0)
    frequencies = table.sum(axis=0)[occurs] / where_it_occurs[occurs]
    weights = np.ones(table.shape[1])
    weights[occurs] = np.median(frequencies) / frequencies
    return tuple(float(weight) for weight in weights)


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
    z, y, x = [1.0] * (3 - ndim) + [float(step) for step in spacing]
    return z, y, x


def _compact(label_image: ArrayLike, ignore_label: int | None) -> Cells:
    """The same labels, or their ranks where they are huge, as ``(Z, Y, X)``; ignored pixels are -1."""
    label_image = np.asarray(label_image)
    ignored = None if ignore_label is None else label_image == ignore_label
    labels = check_label_image(label_image if ignored is None else np.where(ignored, 0, label_image))
    if labels.size == 0:
        raise ImageError(
            "no_pixels", f"the label image has shape {labels.shape}: without pixels nothing can be weighed"
        )
    # Tables are indexed by label.
    if int(labels.max()) > max(np.iinfo(np.uint16).max, labels.size):
        values, ranks = np.unique(labels, return_inverse=True)
        labels = ranks.reshape(labels.shape) + int(values[0] != 0)
    cells = labels.astype(np.int32)
    if ignored is not None:
        cells[ignored] = IGNORED
    return as_volume(cells)


def _gapped(cells: Cells) -> Cells:
    """A copy with gaps, as `force_gap` describes them."""
    areas = _areas(cells)
    # Of two touching cells the one of the higher rank gives way.
    ranks = np.empty(areas.size, np.int32)
    ranks[np.lexsort((np.arange(areas.size), areas))] = np.arange(areas.size)
    height = cells.shape[1]
    while True:
        gapped = np.empty_like(cells)

        def cut(start: int, stop: int, ranks: Cells = ranks, gapped: Cells = gapped) -> None:
            _cut_rows(cells, ranks, gapped, start, stop)

        _in_threads(cut, cells.shape[0] * height, cells.size)
        vanished = (areas > 0) & (_areas(gapped, areas.size) == 0)
        if not vanished.any():
            return gapped
        ranks[vanished] = -1  # gives way to none


def _areas(cells: Cells, size: int | None = None) -> NDArray[np.int64]:
    """Pixels of each label; 0 for background."""
    size = max(int(cells.max()), 0) + 1 if size is None else size
    areas: NDArray[np.int64] = _count(cells.reshape(-1), size)
    return areas


def _two_nearest(
    cells: Cells, steps: tuple[float, float, float], reach: float, *, total: float, wanted: Cells
) -> _Nearest:
    """The two nearest cells of the pixels that are 0 in `wanted`: within `reach` each, and `total` together."""
    depth, height, width = cells.shape
    d1, d2 = np.empty(cells.shape, np.float32), np.empty(cells.shape, np.float32)
    nearest = _Nearest(d1, np.empty_like(cells), d2, np.empty_like(cells))
    # The first axis is swept line by line in memory, all other axes together being one.
    axis, length = (0, depth) if depth > 1 else (1, height)
    columns = [plane.reshape(length, -1) for plane in (cells, *nearest)]
    rows = [plane.reshape(-1, width) for plane in (wanted, *nearest)]

    def sweep(start: int, stop: int) -> None:
        _sweep_down(*columns, start, stop)
        _sweep_up(*columns, steps[axis], reach, start, stop)

    def search_planes(start: int, stop: int) -> None:
        _search_planes(*nearest, _squared_steps(steps[1], reach, height), reach, start, stop)

    def search_rows(start: int, stop: int) -> None:
        _search_rows(*rows, _squared_steps(steps[2], reach, width), reach, total, start, stop)

    _in_threads(sweep, cells.size // length, cells.size, COLUMNS_PER_TASK)
    if depth > 1:
        _in_threads(search_planes, depth, cells.size)
    _in_threads(search_rows, depth * height, cells.size)
    return nearest


def _squared_steps(step: float, reach: float, length: int) -> Squares:
    """Squared lengths of 0, 1, 2 ... steps, as many as fit the reach and the line."""
    count = min(length, math.floor(reach / step * ROUNDING) + 1)
    return ((np.arange(count) * step) ** 2).astype(np.float32)


def _in_threads(work: Callable[[int, int], None], length: int, pixels: int, largest: int | None = None) -> None:
    """Call ``work(start, stop)`` over parts of ``range(length)``, in threads when the image is large.

    Python threads, since the compiled functions hold no interpreter lock: numba's own threads abort the process when
    two Python threads use them at once (workqueue) or when it forks afterwards (OpenMP). Every part writes pixels of
    its own and reads none that another part writes, so that neither their number nor their order changes the result.
    """
    import numba

    threads = 1 if pixels < SERIAL_PIXELS else numba.config.NUMBA_NUM_THREADS
    # Several parts a thread, since cells are not spread evenly.
    size = length if threads == 1 else math.ceil(length / (4 * threads))
    size = size if largest is None else min(size, largest)
    parts = [(start, min(start + size, length)) for start in range(0, length, size)]
    if threads == 1:
        for start, stop in parts:
            work(start, stop)
        return
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(work, start, stop) for start, stop in parts]:
            future.result()


@compiled
def _count(labels: Cells, size: int) -> NDArray[np.int64]:
    areas = np.zeros(size, np.int64)
    for label in labels:
        if label > 0:
            areas[label] += 1
    return areas


@compiled
def _cut_rows(cells: Cells, ranks: Cells, gapped: Cells, start: int, stop: int) -> None:
    """Copy rows of `cells` to `gapped`, without the pixels that touch a cell of a lower rank."""
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


@compiled
def _advance(n1: Any, k1: Any, n2: Any, k2: Any, label: Any) -> tuple[Any, Any, Any, Any]:
    """Steps to, and labels of, the last two cells met on a line, one pixel farther, where `label` is."""
    one, none = np.float32(1), np.float32(0)
    if label <= 0:
        return n1 + one, k1, n2 + one, k2
    if label == k1:
        return none, label, n2 + one, k2
    return none, label, n1 + one, k1


@compiled
def _sweep_down(cells: Cells, d1: Squares, l1: Cells, d2: Squares, l2: Cells, start: int, stop: int) -> None:
    """Steps to the two nearest cells above each pixel, itself included, in columns of (length, columns)."""
    far = np.float32(np.inf)
    for column in range(start, stop):
        none = np.int32(0)
        first = _advance(far, none, far, none, cells[0, column])
        d1[0, column], l1[0, column], d2[0, column], l2[0, column] = first
    for row in range(1, cells.shape[0]):
        for column in range(start, stop):
            n1, k1, n2, k2 = d1[row - 1, column], l1[row - 1, column], d2[row - 1, column], l2[row - 1, column]
            n1, k1, n2, k2 = _advance(n1, k1, n2, k2, cells[row, column])
            d1[row, column], l1[row, column], d2[row, column], l2[row, column] = n1, k1, n2, k2


@compiled
def _sweep_up(
    cells: Cells, d1: Squares, l1: Cells, d2: Squares, l2: Cells, step: float, reach: float, start: int, stop: int
) -> None:
    """Join what `_sweep_down` found above with what lies below: squared distances, infinite beyond `reach`."""
    far, limit = np.float32(np.inf), np.float32(reach * ROUNDING)
    below = np.full((2, stop - start), far, np.float32)
    owner = np.zeros((2, stop - start), np.int32)
    for row in range(cells.shape[0] - 1, -1, -1):
        for column in range(start, stop):
            i = column - start
            n1, k1, n2, k2 = _advance(below[0, i], owner[0, i], below[1, i], owner[1, i], cells[row, column])
            below[0, i], owner[0, i], below[1, i], owner[1, i] = n1, k1, n2, k2
            a1, m1, a2, m2 = d1[row, column], l1[row, column], d2[row, column], l2[row, column]
            if n1 < a1:
                a1, m1, a2, m2, n1, k1, n2, k2 = n1, k1, n2, k2, a1, m1, a2, m2
            # a1 is the nearest now. The second is the nearest of the other three that has another label.
            if k1 == m1:
                n1, k1 = n2, k2
            if n1 < a2:
                a2, m2 = n1, k1
            a1, a2 = a1 * np.float32(step), a2 * np.float32(step)
            d1[row, column], l1[row, column] = (a1 * a1, m1) if a1 <= limit else (far, np.int32(0))
            d2[row, column], l2[row, column] = (a2 * a2, m2) if a2 <= limit else (far, np.int32(0))


@compiled
def _any_above(values: Squares | Cells, threshold: float) -> bool:
    for value in values:  # noqa: SIM110 - any() of a generator does not compile
        if value > threshold:
            return True
    return False


@compiled
def _take_nearest(b1: Squares, k1: Cells, d1: Squares, l1: Cells, square: float) -> None:
    """Where the feet ``sqrt(square)`` away offer a nearer label than the nearest so far, take it."""
    for i in range(b1.size):
        # Loads stand before the choices and stores are unconditional, so that the compiler makes vector instructions.
        distance, label, best, owner = d1[i] + square, l1[i], b1[i], k1[i]
        nearer = distance < best
        b1[i] = distance if nearer else best
        k1[i] = label if nearer else owner


@compiled
def _take_second(
    b2: Squares, k2: Cells, k1: Cells, d1: Squares, l1: Cells, d2: Squares, l2: Cells, square: float
) -> None:
    """The same for the second nearest: a foot offers the nearer of its labels that is not `k1`, the nearest."""
    for i in range(b2.size):
        near, near_label, far, far_label = d1[i], l1[i], d2[i], l2[i]
        best, owner = b2[i], k2[i]
        taken = near_label == k1[i]
        distance = (far if taken else near) + square
        label = far_label if taken else near_label
        nearer = distance < best
        b2[i] = distance if nearer else best
        k2[i] = label if nearer else owner


@compiled
def _search(
    b1: Squares, k1: Cells, b2: Squares, k2: Cells,
    d1: Squares, l1: Cells, d2: Squares, l2: Cells,
    first: int, stride: int, squares: Squares, reach: float, total: float,
) -> None:  # fmt: skip
    """Find the two nearest labels of a run of positions (b, k) from those of their feet (d, l).

    The feet are flat and padded: the foot of position ``i`` is ``first + i``, and the next one along the line of the
    search is `stride` farther. All positions look 0, 1, 2 ... feet to either side together, until no foot that is left
    can be near enough for any of them. On entry `b1` holds the squared distances within which a nearest label is
    wanted; a second one is wanted within `reach`, and only if both distances together stay within `total`.
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
    for i in range(size):
        farthest = max(min(reach, total - math.sqrt(b1[i])), 0.0)
        b2[i] = farthest * farthest * ROUNDING if k1[i] > 0 else 0.0
    for offset in range(squares.size):
        square = squares[offset]
        if not _any_above(b2, square):
            break
        for foot in (first - offset * stride, first + offset * stride):
            end = foot + size
            _take_second(b2, k2, k1, d1[foot:end], l1[foot:end], d2[foot:end], l2[foot:end], square)
    for i in range(size):
        b1[i] = b1[i] if k1[i] > 0 else np.inf
        b2[i] = b2[i] if k2[i] > 0 else np.inf


@compiled
def _search_planes(
    d1: Squares, l1: Cells, d2: Squares, l2: Cells, squares: Squares, reach: float, start: int, stop: int
) -> None:
    """Search along y in the planes `start` to `stop` of (Z, Y, X), in place."""
    _, height, width = d1.shape
    block = min(BLOCK, width)
    pad = squares.size * block
    e1, m1 = np.full(height * block + 2 * pad, np.inf, np.float32), np.zeros(height * block + 2 * pad, np.int32)
    e2, m2 = e1.copy(), m1.copy()
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


@compiled
def _search_rows(
    wanted: Cells, d1: Squares, l1: Cells, d2: Squares, l2: Cells,
    squares: Squares, reach: float, total: float, start: int, stop: int,
) -> None:  # fmt: skip
    """Search along x in the rows `start` to `stop` of (rows, X), in place, on the pixels that are 0 in `wanted`.

    A nearest label farther than half the `total` makes no pair within it: it is left out.
    """
    width, pad = d1.shape[1], squares.size
    e1, m1 = np.full(width + 2 * pad, np.inf, np.float32), np.zeros(width + 2 * pad, np.int32)
    e2, m2 = e1.copy(), m1.copy()
    farthest = min(reach, total / 2)
    for row in range(start, stop):
        e1[pad : pad + width], m1[pad : pad + width] = d1[row], l1[row]
        e2[pad : pad + width], m2[pad : pad + width] = d2[row], l2[row]
        for left in range(0, width, BLOCK):
            right = min(left + BLOCK, width)
            if not _any_above(m1[left : right + 2 * pad], 0):
                continue  # no foot within reach: infinite already
            b1, k1, b2, k2 = d1[row, left:right], l1[row, left:right], d2[row, left:right], l2[row, left:right]
            for i in range(right - left):
                b1[i] = farthest * farthest * ROUNDING if wanted[row, left + i] == 0 else 0.0
            _search(b1, k1, b2, k2, e1, m1, e2, m2, pad + left, 1, squares, reach, total)


@compiled
def _weigh(
    cells: Cells, d1: Squares, d2: Squares,
    background: float, cell: float, border_weight: float, sharpness: float, start: int, stop: int,
) -> None:  # fmt: skip
    """Write the weights of the pixels `start` to `stop` over `d1`; `sharpness` is ``1 / (2 * sigma**2)``."""
    for i in range(start, stop):
        weight = 0.0
        if cells[i] > 0:
            weight = cell
        elif cells[i] == 0:
            weight = background
            if d2[i] < np.inf:
                both = math.sqrt(d1[i]) + math.sqrt(d2[i])
                weight += border_weight * math.exp(-both * both * sharpness)
        d1[i] = weight
