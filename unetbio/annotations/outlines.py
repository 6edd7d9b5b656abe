"""Shapes of regions, and the pixels that they cover.

Coordinates count from the upper left corner of the first pixel, x before y: pixel (y, x) covers the square from (x, y)
to (x + 1, y + 1). A pixel belongs to a shape when its centre lies inside. Of centres on the outline, those on a left
edge are outside and those on a right edge inside, as in ImageJ (``ij.process.PolygonFiller``, 1.52u and later).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from unetbio.compilation import compiled
from unetbio.errors import ImageError

__all__ = [
    "Ellipse",
    "Patch",
    "Pixels",
    "Polygons",
    "Ring",
    "Runs",
    "Several",
    "Shape",
    "as_ring",
    "count_of",
    "join_patches",
    "number_of",
]

Ring = NDArray[np.float64]
"""Corners ``(N, 2)`` of a closed outline, x before y."""

FARTHEST = 1e8
"""Largest distance of a coordinate from the image; those beyond are damaged files."""

MAX_CROSSINGS = 1 << 30
"""Most crossings of an outline with rows of pixels: some seconds of work."""

MAX_BOX = 1 << 28
"""Most pixels of the box around pixels that a file lists."""

# ImageJ moves outlines to the left by this, so that rounding does not decide about centres on an edge.
SHIFT = 1e-8


class Patch(NamedTuple):
    """Pixels of a shape within an image: a box, and which of its pixels are covered."""

    top: int
    left: int
    mask: NDArray[np.bool_]

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of the box."""
        height, width = self.mask.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


class Shape(Protocol):
    """A shape in a plane."""

    def pixels(self, height: int, width: int) -> Patch:
        """Pixels that the shape covers in an image of this size; what lies outside is cut off."""


@dataclass(frozen=True)
class Polygons:
    """Polygons with holes.

    Parameters
    ----------
    parts : sequence of sequence of Ring
        Each part holds a pixel that an odd number of its rings encloses; parts are joined.
    """

    parts: Sequence[Sequence[Ring]]

    def pixels(self, height: int, width: int) -> Patch:
        """See `Shape`."""
        patches = [_fill(rings, slice(0, height), slice(0, width)) for rings in self.parts]
        return patches[0] if len(patches) == 1 else join_patches(patches)

    def covers(self, rows: slice, columns: slice) -> NDArray[np.bool_]:
        """Which pixels of these rows and columns are covered; the same for a pixel of every window."""
        mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.bool_)
        low, high = self._boxes
        # An annotation of a classifier can have many thousands of parts.
        meet = (low < (columns.stop, rows.stop)) & (high > (columns.start, rows.start))
        for number in np.flatnonzero(meet.all(axis=1)).tolist():
            patch = _fill(self.parts[number], rows, columns)
            if patch.mask.size:
                top, left = patch.top - rows.start, patch.left - columns.start
                mask[top : top + patch.mask.shape[0], left : left + patch.mask.shape[1]] |= patch.mask
        return mask

    @cached_property
    def _boxes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Smallest and largest x and y of each part."""
        corners = [np.concatenate(rings) for rings in self.parts]
        low, high = (np.array([end(ring, axis=0) for ring in corners]).reshape(-1, 2) for end in (np.min, np.max))
        return low, high

    def seen_from(self, start: tuple[int, int], scale: tuple[float, float]) -> "Polygons":
        """The polygons in pixels of a part of the image: ``scale`` pixels each, from row and column ``start``."""
        size, first = np.array(scale[::-1]), np.array(start[::-1])
        return Polygons([[ring / size - first for ring in rings] for rings in self.parts])


@dataclass(frozen=True)
class Several:
    """Shapes that are one region together."""

    shapes: Sequence[Shape]

    def pixels(self, height: int, width: int) -> Patch:
        """See `Shape`."""
        return join_patches([shape.pixels(height, width) for shape in self.shapes])


@dataclass(frozen=True)
class Ellipse:
    """An ellipse: its centre, its half axes, and its turn in radians (from x towards y)."""

    x: float
    y: float
    half_width: float
    half_height: float
    angle: float = 0.0

    def pixels(self, height: int, width: int) -> Patch:
        """See `Shape`."""
        if self.half_width <= 0 or self.half_height <= 0:
            return _EMPTY
        # Half the sides of the box around the turned ellipse.
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        reach_x = np.hypot(self.half_width * cosine, self.half_height * sine)
        reach_y = np.hypot(self.half_width * sine, self.half_height * cosine)
        top, bottom = _clip(self.y - reach_y, self.y + reach_y, slice(0, height))
        left, right = _clip(self.x - reach_x, self.x + reach_x, slice(0, width))
        y, x = np.ogrid[top:bottom, left:right]
        dx, dy = x + 0.5 - self.x, y + 0.5 - self.y
        if self.angle:
            dx, dy = dx * cosine + dy * sine, dy * cosine - dx * sine
        mask = dx * dx / self.half_width**2 + dy * dy / self.half_height**2 <= 1.0
        return Patch(top, left, mask)

    def seen_from(self, start: tuple[int, int], scale: tuple[float, float]) -> "Ellipse":
        """See `Polygons.seen_from`; scales that differ turn no ellipse."""
        (down, right), (row, column) = scale, start
        place = self.x / right - column, self.y / down - row
        return Ellipse(*place, self.half_width / right, self.half_height / down, self.angle)


@dataclass(frozen=True)
class Pixels:
    """Pixels that were painted, in a box that may lie partly outside the image."""

    top: int
    left: int
    mask: NDArray[np.bool_]

    @classmethod
    def at(cls, x: NDArray[np.int64], y: NDArray[np.int64], what: str) -> "Pixels":
        """The pixels at these columns and rows.

        Raises
        ------
        ImageError
            ``bad_outline``: they lie too far apart for any image.
        """
        if not len(x):
            return cls(0, 0, np.zeros((0, 0), np.bool_))
        left, top = int(x.min()), int(y.min())
        height, width = int(y.max()) - top + 1, int(x.max()) - left + 1
        if height * width > MAX_BOX:
            raise ImageError("bad_outline", f"{what} spans {width} x {height} pixels; save it again")
        mask = np.zeros((height, width), np.bool_)
        mask[y - top, x - left] = True
        return cls(top, left, mask)

    def pixels(self, height: int, width: int) -> Patch:
        """See `Shape`."""
        rows, columns = self.mask.shape
        top, bottom = max(self.top, 0), min(self.top + rows, height)
        left, right = max(self.left, 0), min(self.left + columns, width)
        if top >= bottom or left >= right:
            return _EMPTY
        return Patch(top, left, self.mask[top - self.top : bottom - self.top, left - self.left : right - self.left])


@dataclass(frozen=True)
class Runs:
    """Run lengths of COCO: alternately outside and inside, outside first, column by column.

    Parameters
    ----------
    lengths : ndarray of int64
        They add up to the size of the image.
    size : tuple of int
        Height and width of the image.
    """

    lengths: NDArray[np.int64]
    size: tuple[int, int]

    def pixels(self, height: int, width: int) -> Patch:
        """See `Shape`."""
        edges = np.cumsum(self.lengths)
        edges = edges if len(edges) % 2 == 0 else edges[:-1]
        starts, stops = edges[0::2], edges[1::2]
        full = stops > starts
        starts, stops = starts[full], stops[full]
        if not len(starts):
            return _EMPTY
        rows = self.size[0]
        first, last = starts // rows, (stops - 1) // rows
        left, right = int(first[0]), int(last[-1]) + 1
        is_long = bool((first != last).any())
        top = 0 if is_long else int((starts - first * rows).min())
        bottom = rows if is_long else int((stops - first * rows).max())
        mask = np.zeros((bottom - top, right - left), np.bool_)
        _draw_runs(mask, starts, stops, rows, top, left)
        return Pixels(top, left, mask).pixels(height, width)


_EMPTY = Patch(0, 0, np.zeros((0, 0), np.bool_))


def as_ring(points: Any, what: str) -> Ring:
    """Coordinates of a file as an outline.

    Parameters
    ----------
    points : sequence
        Pairs of numbers, x before y; further coordinates are left out.
    what : str
        Place in the file, which begins the message.

    Raises
    ------
    ImageError
        ``bad_outline``: these are no pairs of finite numbers near the image.
    """
    try:
        ring = np.array(points)
    except (ValueError, TypeError, OverflowError):
        ring = np.array("ragged")
    if ring.size == 0:
        return np.zeros((0, 2))
    if ring.dtype.kind not in "iuf" or ring.ndim != 2 or ring.shape[1] < 2:
        raise ImageError("bad_outline", f"{what}: its corners are no pairs of numbers; export the file again")
    ring = ring[:, :2].astype(np.float64)
    # Written so that NaN is refused too.
    if not (np.abs(ring) <= FARTHEST).all():
        raise ImageError("bad_outline", f"{what}: a corner is infinite, NaN or far outside any image; draw it again")
    return ring


def number_of(value: Any, what: str) -> float:
    """A number of a file.

    Raises
    ------
    ImageError
        ``bad_outline``: this is no finite number near the image.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and -FARTHEST <= value <= FARTHEST):
        raise ImageError("bad_outline", f"{what} is {str(value)[:40]!r}, not a number near the image; draw it again")
    return float(value)


def count_of(value: Any, what: str) -> int:
    """A whole number from 0 of a file.

    Raises
    ------
    ImageError
        ``bad_outline``: this is none.
    """
    number = number_of(value, what)
    if number < 0 or number != int(number):
        raise ImageError("bad_outline", f"{what} is {value}, not a whole number from 0; export the file again")
    return int(number)


def _clip(low: float, high: float, within: slice) -> tuple[int, int]:
    """First pixel that a stretch may cover, and the one after the last, within a range of pixels."""
    start = min(max(int(np.floor(low)), within.start), within.stop)
    return start, max(start, min(int(np.ceil(high)) + 1, within.stop))


def _fill(rings: Sequence[Ring], within_rows: slice, within_columns: slice) -> Patch:
    rings = [ring for ring in rings if len(ring) > 2]
    if not rings:
        return _EMPTY
    corners = np.concatenate(rings)
    ends = np.cumsum([len(ring) for ring in rings])
    top, bottom = _clip(corners[:, 1].min(), corners[:, 1].max(), within_rows)
    left, right = _clip(corners[:, 0].min(), corners[:, 0].max(), within_columns)
    following = np.arange(1, len(corners) + 1)
    following[ends - 1] = np.concatenate(([0], ends[:-1]))
    rows = np.clip(np.ceil(corners[:, 1] - 0.5), top, bottom)
    if np.abs(rows[following] - rows).sum() > MAX_CROSSINGS:
        raise ImageError("bad_outline", f"an outline of {len(corners)} corners crosses too many rows; draw it again")
    flips = np.zeros((bottom - top, right - left + 1), np.uint8)
    _cross_rows(flips, corners, following, top, left)
    return Patch(top, left, np.bitwise_xor.accumulate(flips, axis=1)[:, :-1].astype(np.bool_))


def join_patches(patches: Sequence[Patch]) -> Patch:
    """Pixels that any of several patches covers."""
    full = [patch for patch in patches if patch.mask.size]
    if not full:
        return _EMPTY
    top, left = min(patch.top for patch in full), min(patch.left for patch in full)
    bottom = max(patch.box[0].stop for patch in full)
    right = max(patch.box[1].stop for patch in full)
    mask = np.zeros((bottom - top, right - left), np.bool_)
    for patch in full:
        rows, columns = patch.box
        mask[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] |= patch.mask
    return Patch(top, left, mask)


@compiled
def _cross_rows(flips: NDArray[np.uint8], corners: Ring, following: NDArray[np.int64], top: int, left: int) -> None:
    """Mark where each row enters or leaves the polygon: at the first pixel whose centre lies right of the edge."""
    height, columns = flips.shape
    for corner in range(len(corners)):
        x1, y1 = corners[corner]
        x2, y2 = corners[following[corner]]
        if y1 > y2:
            x1, y1, x2, y2 = x2, y2, x1, y1
        # A row is crossed when its centre lies from y1 to y2, the latter left out.
        first = max(int(np.ceil(y1 - 0.5)) - top, 0)
        stop = min(int(np.ceil(y2 - 0.5)) - top, height)
        if first >= stop:
            continue
        slope = (x2 - x1) / (y2 - y1)
        for row in range(first, stop):
            x = x1 + (row + top + 0.5 - y1) * slope + SHIFT
            column = int(np.floor(x + 0.5)) - left
            flips[row, min(max(column, 0), columns - 1)] ^= 1


@compiled
def _draw_runs(
    mask: NDArray[np.bool_], starts: NDArray[np.int64], stops: NDArray[np.int64], rows: int, top: int, left: int
) -> None:
    for run in range(len(starts)):
        for place in range(starts[run], stops[run]):
            mask[place % rows - top, place // rows - left] = True
