"""The two nearest cells of every pixel, at a cost that does not depend on how many cells there are.

One plane per cell would give the distances, at a cost that grows with the number of cells. Here the two nearest
*distinct* labels travel together through one pass per axis, as a squared distance does in a separable distance
transform: a label that is among the two nearest of a pixel is also among the two nearest of its foot on the line that
the pass looks along, or two others there are at least as near. The passes look no farther than asked, so that one cell
in the image costs no more than thousands.

Compiled functions call compiled functions of this module alone: numba's cache on disk follows changes of one file.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unetbio.compilation import compiled, in_threads
from unetbio.errors import ImageError, UsageError
from unetbio.labels import as_volume, check_label_image

__all__ = ["IGNORED", "Cells", "Nearest", "Squares", "axis_steps", "compact", "two_nearest"]

IGNORED = -1  # in the compact form of a label image
COLUMNS_PER_TASK = 4096  # keeps the scratch lines of the first pass small for planes of any size
BLOCK = 128  # positions that search together: long enough for vector instructions, short enough to stop early
ROUNDING = 1 + 2.0**-20  # bounds are widened by this, so that float32 does not drop a distance that equals one

Cells = NDArray[np.int32]
Squares = NDArray[np.float32]


class Nearest(NamedTuple):
    """Squared distance and label of the nearest and the second nearest cell; infinite and 0 where there is none."""

    d1: Squares
    l1: Cells
    d2: Squares
    l2: Cells


def compact(label_image: ArrayLike, ignore_label: int | None) -> Cells:
    """Convert a label image for `two_nearest` and tables by label.

    Parameters
    ----------
    label_image
        ``(Y, X)`` or ``(Z, Y, X)`` integers, one per cell, 0 = background.
    ignore_label
        Value of unannotated pixels, if any.

    Returns
    -------
    ndarray of int32
        ``(Z, Y, X)``, a plane being a stack of one: the same labels, or their ranks where they are huge; `IGNORED`
        for unannotated pixels.

    Raises
    ------
    ImageError
        ``not_labels``, ``wrong_ndim`` or ``no_pixels``: `label_image` is not one.
    """
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


def axis_steps(spacing: Sequence[float] | None, ndim: int) -> tuple[float, float, float]:
    """Spacing along z, y, x; a plane is a stack of one.

    Parameters
    ----------
    spacing
        One number for each of the `ndim` axes, or None: 1 along each.
    ndim
        2 or 3.

    Returns
    -------
    tuple of float

    Raises
    ------
    UsageError
        The spacing cannot be used.
    """
    if spacing is None:
        return 1.0, 1.0, 1.0
    if len(spacing) != ndim or not all(math.isfinite(step) and step > 0 for step in spacing):
        raise UsageError(f"spacing is {list(spacing)}, needs one number above 0 for each of the {ndim} axes")
    z, y, x = [1.0] * (3 - ndim) + [float(step) for step in spacing]
    return z, y, x


def two_nearest(
    cells: Cells, steps: tuple[float, float, float], reach: float, *, total: float, wanted: Cells
) -> Nearest:
    """The two nearest cells of pixels, as squared distances and labels.

    Parameters
    ----------
    cells : ndarray of int32
        ``(Z, Y, X)``, as from `compact`.
    steps : tuple of float
        As from `axis_steps`; the unit of all distances.
    reach : float
        Largest distance of a cell.
    total : float
        Largest sum of both distances at which a second cell is searched for.
    wanted : ndarray of int32
        ``(Z, Y, X)``: the pixels with 0 are computed.

    Returns
    -------
    Nearest
        Four arrays of the shape of `cells`; values at other pixels are undefined.
    """
    depth, height, width = cells.shape
    d1, d2 = np.empty(cells.shape, np.float32), np.empty(cells.shape, np.float32)
    nearest = Nearest(d1, np.empty_like(cells), d2, np.empty_like(cells))
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

    in_threads(sweep, cells.size // length, cells.size, COLUMNS_PER_TASK)
    if depth > 1:
        in_threads(search_planes, depth, cells.size)
    in_threads(search_rows, depth * height, cells.size)
    return nearest


def _squared_steps(step: float, reach: float, length: int) -> Squares:
    """Squared lengths of 0, 1, 2 ... steps, as many as fit the reach and the line."""
    count = min(length, math.floor(reach / step * ROUNDING) + 1)
    return ((np.arange(count) * step) ** 2).astype(np.float32)


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
def _update_nearest(b1: Squares, k1: Cells, d1: Squares, l1: Cells, square: float) -> None:
    """Replace the nearest label where the feet ``sqrt(square)`` away have a nearer one."""
    for i in range(b1.size):
        # Loads stand before the choices and stores are unconditional, so that the compiler makes vector instructions.
        distance, label, best, owner = d1[i] + square, l1[i], b1[i], k1[i]
        nearer = distance < best
        b1[i] = distance if nearer else best
        k1[i] = label if nearer else owner


@compiled
def _update_second(
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
            _update_nearest(b1, k1, d1[foot : foot + size], l1[foot : foot + size], square)
    for i in range(size):
        farthest = max(min(reach, total - math.sqrt(b1[i])), 0.0)
        b2[i] = farthest * farthest * ROUNDING if k1[i] > 0 else 0.0
    for offset in range(squares.size):
        square = squares[offset]
        if not _any_above(b2, square):
            break
        for foot in (first - offset * stride, first + offset * stride):
            end = foot + size
            _update_second(b2, k2, k1, d1[foot:end], l1[foot:end], d2[foot:end], l2[foot:end], square)
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
