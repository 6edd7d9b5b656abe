"""Regions of the plane of an image, as options and tables write them.

``X,Y,W,H`` in pixels and ``X,Y,W,Hum`` in um are boxes. ``POLYGON ((x y, x y, ...))`` and ``MULTIPOLYGON`` are outlines
in pixels, in the well-known text of OGC Simple Feature Access (06-103r4).
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from unetbio.errors import ImageError, UsageError

__all__ = ["FILE_ENDINGS", "Outline", "Region", "is_region_file", "parse_region", "region_of_outline"]

Outline = tuple[tuple[tuple[tuple[float, float], ...], ...], ...]
"""Polygons of rings, the outer one and those of holes, of corners, x before y; the first corner is not repeated."""

FILE_ENDINGS = (".geojson", ".json")
"""Endings of files of regions."""

SHOWN = 60
"""Characters of a text that a message repeats."""

FARTHEST = 1e8
"""Largest coordinate of a corner that is typed; those beyond are mistakes."""

_UM = re.compile(r"\s*[uµμ]m\s*$")
_OUTLINE = re.compile(r"\s*(MULTI)?POLYGON\s*(\(.*\))\s*", re.IGNORECASE | re.DOTALL)
_CORNER = re.compile(r"([^\s,()]+)\s+([^\s,()]+)")


@dataclass(frozen=True)
class Region:
    """A box in the plane, from the upper left corner of the image at its full resolution, or what an outline encloses.

    Parameters
    ----------
    x, y : float
        Upper left corner.
    width, height : float
        Sides.
    in_um : bool
        Whether the numbers are micrometres; whole pixels if not.
    outline : Outline
        Polygons in pixels, of which the box is the smallest around them; none for a box.
    """

    x: float
    y: float
    width: float
    height: float
    in_um: bool = False
    outline: Outline = ()

    def __str__(self) -> str:
        """As it is given: ``1000,2000,512,512``, or the outline as text."""
        return self._text

    @property
    def title(self) -> str:
        """As tables and messages name it: as it is given; of an outline the box, and a hash of the outline."""
        return f"{self._box_text} outline {self._digest}" if self.outline else str(self)

    @property
    def name(self) -> str:
        """Part of the names of results: ``x1000_y2000_w512_h512``; of an outline with a hash of it."""
        named = zip("xywh", self._numbers, strict=True)
        end = f"_{self._digest}" if self.outline else "_um" if self.in_um else ""
        return "_".join(f"{letter}{number:.12g}" for letter, number in named) + end

    @property
    def fragment(self) -> str:
        """End of the path in tables, as a fragment of an address (W3C Media Fragments): ``#xywh=1000,2000,512,512``."""
        box = f"#xywh={'um:' if self.in_um else ''}{self._box_text.removesuffix('um')}"
        return f"{box}&outline={self._digest}" if self.outline else box

    @property
    def _numbers(self) -> tuple[float, ...]:
        return self.x, self.y, self.width, self.height

    @property
    def _box_text(self) -> str:
        return ",".join(f"{number:.12g}" for number in self._numbers) + ("um" if self.in_um else "")

    @cached_property
    def _text(self) -> str:
        return _outline_text(self.outline) if self.outline else self._box_text

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(str(self).encode()).hexdigest()[:8]

    def box(self, height: int, width: int, pixel_size_um: Mapping[str, float]) -> tuple[slice, slice]:
        """Rows and columns of an image of this size; a region in um takes all pixels that it touches.

        Raises
        ------
        ImageError
            ``no_such_region``: it reaches beyond the image; ``wrong_scale``: the pixel size is unknown.
        """
        if self.in_um and not {"Y", "X"} <= set(pixel_size_um):
            raise ImageError("wrong_scale", f"region {self} is in um, and the pixel size is unknown: give --pixel-size")
        rows = self._range(self.y, self.height, pixel_size_um.get("Y", 1.0))
        columns = self._range(self.x, self.width, pixel_size_um.get("X", 1.0))
        if min(rows.start, columns.start) < 0:
            raise ImageError(
                "no_such_region",
                f"region {self.title} begins at column {columns.start} and row {rows.start}: draw it within the image",
            )
        if rows.stop > height or columns.stop > width:
            raise ImageError(
                "no_such_region",
                f"region {self.title} ends at column {columns.stop} and row {rows.stop}: the image has {width} columns "
                f"and {height} rows",
            )
        return rows, columns

    def _range(self, start: float, length: float, size: float) -> slice:
        if not self.in_um:
            return slice(int(start), int(start + length))
        # Rounded first, since 25.6 um of .1 um are 256 pixels, and not 257.
        first, last = round(start / size, 6), round((start + length) / size, 6)
        return slice(math.floor(first), math.ceil(last))


def is_region_file(text: str) -> bool:
    """Whether a region is given as the name or address of a file that holds regions."""
    name = text.partition("?")[0] if "://" in text else text
    return name.strip().lower().endswith(FILE_ENDINGS)


# Settings are checked, and images named, many times; an outline can have many thousands of corners.
@lru_cache(maxsize=256)
def parse_region(text: str) -> Region:
    """Read a region that is a box or an outline.

    Raises
    ------
    UsageError
        When it is none.
    """
    outline = _OUTLINE.fullmatch(text)
    return _parse_box(text) if outline is None else region_of_outline(_parse_outline(text, outline))


def region_of_outline(outline: Outline) -> Region:
    """What polygons hold.

    Raises
    ------
    UsageError
        When their corners lie on a line.
    """
    corners = [corner for rings in outline for ring in rings for corner in ring]
    xs, ys = zip(*corners, strict=True)
    if min(xs) == max(xs) or min(ys) == max(ys):
        raise UsageError(f"region {_shortened(_outline_text(outline))} has no area: draw it anew")
    x, y = math.floor(min(xs)), math.floor(min(ys))
    return Region(x, y, math.ceil(max(xs)) - x, math.ceil(max(ys)) - y, outline=outline)


def _parse_box(text: str) -> Region:
    in_um = _UM.search(text) is not None
    try:
        numbers = [float(part) for part in _UM.sub("", text).split(",")]
    except ValueError:
        numbers = []
    is_box = len(numbers) == 4 and all(map(math.isfinite, numbers)) and min(numbers) >= 0 and min(numbers[2:]) > 0
    if not is_box or not (in_um or all(number == int(number) for number in numbers)):
        raise UsageError(
            f"region {_shortened(text)!r}: give X,Y,W,H in whole pixels, such as 1000,2000,512,512, or in um as "
            "250,500,128,128um, or a file of QuPath that ends in .geojson"
        )
    x, y, width, height = numbers
    return Region(x, y, width, height, in_um)


def _parse_outline(text: str, found: re.Match[str]) -> Outline:
    is_several, body = found.groups()
    try:
        nested = json.loads(_CORNER.sub(r"[\1,\2]", body).replace("(", "[").replace(")", "]"))
        outline = tuple(tuple(map(_as_ring, rings)) for rings in (nested if is_several else [nested]))
    except (ValueError, TypeError, RecursionError):
        outline = ()
    if not outline or not all(outline):
        raise UsageError(
            f"region {_shortened(text)!r}: write an outline of three corners or more as POLYGON ((x y, x y, x y)), "
            "in pixels of the image"
        )
    return outline


def _as_ring(corners: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    ring = [(_coordinate(x), _coordinate(y)) for x, y in corners]
    if ring[1:] and ring[0] == ring[-1]:
        ring.pop()
    if len(ring) < 3:
        raise ValueError(f"{len(ring)} corners are no ring")
    return tuple(ring)


def _coordinate(value: Any) -> float:
    # Written so that NaN is refused too.
    if type(value) not in (int, float) or not abs(value) <= FARTHEST:
        raise ValueError(f"{_shortened(repr(value))} is no number near an image")
    return float(value)


def _outline_text(outline: Outline) -> str:
    polygons = [f"({', '.join(map(_ring_text, rings))})" for rings in outline]
    return f"POLYGON {polygons[0]}" if len(polygons) == 1 else f"MULTIPOLYGON ({', '.join(polygons)})"


def _ring_text(ring: tuple[tuple[float, float], ...]) -> str:
    return f"({', '.join(f'{x:.12g} {y:.12g}' for x, y in (*ring, ring[0]))})"


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
