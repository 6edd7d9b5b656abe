"""Corrections of a label image by hand, as pure functions: each gives the pixels that change, and changes nothing.

A label image is a volume ``(Z, Y, X)``, in memory or on disk: planes that share the ids of their cells. Cells that are
not corrected keep their ids, so that their rows in the table stay theirs; new cells get ids above all others.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unetbio.annotations.outlines import Patch, Polygons, as_ring
from unetbio.errors import UsageError
from unetbio.labels import connected_components, label_dtype
from unetbio.postprocessing.bands import Rows, parts_in_memory, planes_of

__all__ = ["Change", "changed_ids", "delete", "draw", "erase", "extend", "merge", "split"]

Labels = NDArray[Any]

MAX_GAP = 5
"""Pixels that `merge` adds to each of two cells to join them; cells that are farther apart are not one."""

SMALLEST_PIECE = 4
"""Pixels of a piece that `split` makes a cell; smaller ones stay with the nearest piece."""

MOST_PIXELS = 1 << 25
"""Pixels of the largest box that is changed at once, since it is held in memory."""

SHOWN = 3


class Change(NamedTuple):
    """Pixels of a box in a volume, before and after a correction."""

    box: tuple[slice, ...]
    before: Labels
    after: Labels

    @property
    def undone(self) -> "Change":
        """The change back."""
        return Change(self.box, self.after, self.before)


def changed_ids(change: Change) -> set[int]:
    """Ids of the cells that gain or lose pixels."""
    differs = change.before != change.after
    return {*np.unique(change.before[differs]).tolist(), *np.unique(change.after[differs]).tolist()} - {0}


def delete(labels: Rows, ids: Sequence[int]) -> Change:
    """Remove cells.

    Examples
    --------
    >>> delete(np.array([[[1, 1, 2]]]), [1]).after
    array([[[0, 0]]])
    """
    box = _box_of(labels, ids)
    before = labels[box].copy()
    return Change(box, before, np.where(_is_any(before, ids), 0, before).astype(before.dtype))


def merge(labels: Rows, ids: Sequence[int]) -> Change:
    """Join cells into the one with the smallest id, and close gaps of background between them.

    Raises
    ------
    UsageError
        When a gap is wider than twice `MAX_GAP` pixels.
    """
    if len(set(ids)) < 2:
        raise UsageError("merge joins cells: select two or more (Shift and click)")
    box = _grown(_box_of(labels, ids), labels.shape)
    before = labels[box].copy()
    cells = _is_any(before, ids)
    free = cells | (before == 0)
    wanted = sum(_count(before == number) for number in set(ids)) - len(set(ids)) + 1
    for gap in range(MAX_GAP + 1):
        joined = _closed(cells, gap) & free
        if _count(joined) <= wanted:
            return Change(box, before, np.where(joined, min(ids), before).astype(before.dtype))
    raise UsageError(f"cells {_listed(ids)} are more than {2 * MAX_GAP} pixels apart: merge joins cells that touch")


def _closed(cells: NDArray[np.bool_], gap: int) -> NDArray[np.bool_]:
    """Cells with gaps in the plane closed that are at most twice as wide."""
    if not gap:
        return cells
    from scipy import ndimage

    wide = np.pad(cells, [(0, 0), (gap, gap), (gap, gap)])
    closed: NDArray[np.bool_] = ndimage.binary_closing(wide, np.ones((1, 3, 3)), iterations=gap)
    return closed[:, gap:-gap, gap:-gap]


def split(
    labels: Rows, plane: int, line: Sequence[Sequence[float]], ids: Sequence[int] = (), above: int | None = None
) -> Change:
    """Cut cells of a plane along a line; the largest piece keeps the id.

    Parameters
    ----------
    labels : array
        ``(Z, Y, X)``.
    plane : int
        Index along Z.
    line : sequence
        Corners, x before y, in pixels from the upper left corner of the image.
    ids : sequence of int
        Cells to cut; the one below most of the line, if it crosses none of them.
    above : int, optional
        The largest id, also of other planes: new ones are larger. That of ``labels`` by default.

    Raises
    ------
    UsageError
        When the line does not cut a cell in two.
    """
    section = planes_of(labels, plane)
    rows, columns = _pixels_of_line(line, section.shape)
    below = section[rows, columns]
    crossed, counts = np.unique(below[below > 0], return_counts=True)
    if not crossed.size:
        raise UsageError("the line crosses no cell: draw it from one side of a cell to the other")
    ids = sorted(set(ids) & set(crossed.tolist())) or [int(crossed[counts.argmax()])]
    box = _box_of(section, ids)
    before = section[box].copy()
    cut = _in_box(rows, columns, box)
    after, new = before.astype(np.int64), _free_id(labels, above)
    for number in ids:
        pieces = _pieces(before == number, cut)
        for piece in range(2, int(pieces.max(initial=0)) + 1):
            after[pieces == piece] = new
            new += 1
    if np.array_equal(after, before):
        raise UsageError(f"the line does not cut cell {_listed(ids)} in two: begin and end it outside the cell")
    return _in_plane(plane, box, before, after)


def _pieces(cell: NDArray[np.bool_], cut: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number of the piece of each pixel of a cell, from 1, the largest first; all 1 if the cut parts nothing."""
    from scipy import ndimage

    parts, count = connected_components(cell & ~cut)
    sizes = np.bincount(parts.reshape(-1), minlength=count + 1)[1:]
    large = np.flatnonzero(sizes >= SMALLEST_PIECE) + 1
    if len(large) <= _count(cell):
        return cell.astype(np.int64)
    rest = ~np.isin(parts, large)
    nearest = ndimage.distance_transform_edt(rest, return_distances=False, return_indices=True)
    pieces = np.where(cell, parts[tuple(nearest)], 0)
    # With the pixels of the cut, which can decide which piece is the largest.
    sizes = np.bincount(pieces.reshape(-1), minlength=count + 1)
    order = large[np.argsort(-sizes[large], kind="stable")]
    numbers = np.zeros(count + 1, np.int64)
    numbers[order] = np.arange(1, len(order) + 1)
    return numbers[pieces]


def draw(labels: Rows, plane: int, outline: Sequence[Sequence[float]], above: int | None = None) -> Change:
    """Make a cell of the background within an outline, with an id larger than ``above``; see `split`.

    Pixels of other cells stay theirs.

    Raises
    ------
    UsageError
        When there is none.
    """
    return _fill(labels, plane, outline, _free_id(labels, above))


def extend(labels: Rows, plane: int, outline: Sequence[Sequence[float]], ids: Sequence[int]) -> Change:
    """Add the background within an outline to a cell.

    Raises
    ------
    UsageError
        When there is none, or not one cell is given.
    """
    if len(ids) != 1:
        raise UsageError("extend adds to one cell: select it first")
    _box_of(labels, ids)
    return _fill(labels, plane, outline, ids[0])


def _free_id(labels: Rows, above: int | None) -> int:
    if above is None:
        above = max(int(labels[part].max(initial=0)) for part in parts_in_memory(labels))
    return above + 1


def _fill(labels: Rows, plane: int, outline: Sequence[Sequence[float]], number: int) -> Change:
    patch = _patch(outline, labels.shape)
    before = planes_of(labels, plane)[patch.box].copy()
    free = patch.mask & (before == 0)
    if not free.any():
        raise UsageError("the outline encloses no background: a pixel of another cell stays that cell's")
    return _in_plane(plane, patch.box, before, np.where(free, number, before.astype(np.int64)))


def erase(labels: Rows, plane: int, outline: Sequence[Sequence[float]], ids: Sequence[int] = ()) -> Change:
    """Make background of the pixels of cells within an outline: of the given ones, or of all.

    Raises
    ------
    UsageError
        When there are none.
    """
    patch = _patch(outline, labels.shape)
    before = planes_of(labels, plane)[patch.box].copy()
    gone = patch.mask & (_is_any(before, ids) if ids else before > 0)
    if not gone.any():
        raise UsageError(f"the outline encloses no pixel of {'the selected cells' if ids else 'a cell'}")
    return _in_plane(plane, patch.box, before, np.where(gone, 0, before))


def _in_plane(plane: int, box: tuple[slice, ...], before: Labels, after: Labels) -> Change:
    kind = np.promote_types(before.dtype, label_dtype(int(after.max(initial=0))))
    return Change((slice(plane, plane + 1), *box), before[np.newaxis], after.astype(kind)[np.newaxis])


def _patch(outline: Sequence[Sequence[float]], shape: tuple[int, ...]) -> Patch:
    return Polygons([[as_ring(outline, "the outline")]]).pixels(*shape[-2:])


def _pixels_of_line(line: Sequence[Sequence[float]], shape: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows and columns of the pixels below a line; what lies outside the image is left out."""
    from skimage.draw import line as pixels_between

    # Beyond the image by its own size: the line stays short, and its direction right.
    limits = (max(shape), 2 * max(shape))
    corners = np.clip(np.floor(as_ring(line, "the line")), -limits[0], limits[1]).astype(np.int64)
    parts = [pixels_between(y, x, to_y, to_x) for (x, y), (to_x, to_y) in pairwise(corners)]
    if not parts:
        raise UsageError("a line has two ends: press, and draw across the cell")
    rows, columns = (np.concatenate(axis) for axis in zip(*parts, strict=True))
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    return rows[inside], columns[inside]


def _is_any(labels: Labels, ids: Sequence[int]) -> NDArray[np.bool_]:
    if len(ids) == 1:
        return np.asarray(labels == ids[0])
    return np.isin(labels, np.array(ids, np.int64))


def _in_box(rows: NDArray[Any], columns: NDArray[Any], box: tuple[slice, ...]) -> NDArray[np.bool_]:
    """Which pixels of a box are among those with these rows and columns."""
    (top, bottom), (left, right) = ((side.start, side.stop) for side in box)
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    found = np.zeros((bottom - top, right - left), np.bool_)
    found[rows[inside] - top, columns[inside] - left] = True
    return found


def _box_of(labels: Rows, ids: Sequence[int]) -> tuple[slice, ...]:
    """The smallest box that holds all pixels of cells.

    Raises
    ------
    UsageError
        When one of the cells is not there, or the box does not fit into memory.
    """
    if not ids:
        raise UsageError("no cell is selected: click one")
    boxes: list[list[tuple[int, int]]] = []
    found: set[int] = set()
    for place in parts_in_memory(labels):
        values = np.asarray(labels[place])
        mask = _is_any(values, ids)
        if mask.any():
            boxes.append(_box_in(mask, place, len(labels.shape)))
            found |= {*np.unique(values[mask]).tolist()}
    if missing := set(ids) - found:
        raise UsageError(f"there is no cell {_listed(sorted(missing))} here: it was changed; load the image again")
    starts, stops = np.array(boxes).min(axis=0)[:, 0], np.array(boxes).max(axis=0)[:, 1]
    box = tuple(slice(int(start), int(stop)) for start, stop in zip(starts, stops, strict=True))
    pixels = math.prod(side.stop - side.start for side in box)
    if pixels > MOST_PIXELS:
        size = " x ".join(str(side.stop - side.start) for side in reversed(box[-2:]))
        if len(ids) == 1:
            raise UsageError(f"cell {ids[0]} lies in a box of {size} pixels, which is too large to correct it here")
        raise UsageError(f"cells {_listed(ids)} lie in a box of {size} pixels: correct fewer of them at once")
    return box


def _box_in(mask: NDArray[np.bool_], place: tuple[Any, ...], dimensions: int) -> list[tuple[int, int]]:
    """First index and the one after the last along each axis, of pixels of a part at a place of the label image."""
    offsets = [part.start if isinstance(part, slice) else part for part in place]
    offsets += [0] * (dimensions - len(offsets))
    mask = mask.reshape((1,) * (dimensions - mask.ndim) + mask.shape)
    box = []
    for axis, offset in enumerate(offsets):
        side = np.flatnonzero(mask.any(axis=tuple(each for each in range(dimensions) if each != axis)))
        box.append((offset + int(side[0]), offset + int(side[-1]) + 1))
    return box


def _grown(box: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """A box with room for gaps in the plane."""
    rows, columns = (
        slice(max(0, side.start - MAX_GAP), min(size, side.stop + MAX_GAP))
        for side, size in zip(box[1:], shape[1:], strict=True)
    )
    return box[0], rows, columns


def _count(cells: NDArray[np.bool_]) -> int:
    """Connected parts that are joined over corners too."""
    return connected_components(cells, cells.ndim)[1]


def _listed(ids: Sequence[int]) -> str:
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return ", ".join(map(str, ids[:SHOWN])) + more
