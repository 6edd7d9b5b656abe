"""Regions of the plane of an image, as options and tables write them: ``X,Y,W,H`` in pixels, ``X,Y,W,Hum`` in um."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from unetbio.errors import ImageError, UsageError

__all__ = ["Region", "parse_region"]

_UM = re.compile(r"\s*[uµμ]m\s*$")


@dataclass(frozen=True)
class Region:
    """A box in the plane, from the upper left corner of the image at its full resolution.

    Parameters
    ----------
    x, y : float
        Upper left corner.
    width, height : float
        Sides.
    in_um : bool
        Whether the numbers are micrometres; whole pixels if not.
    """

    x: float
    y: float
    width: float
    height: float
    in_um: bool = False

    def __str__(self) -> str:
        """As it is given: ``1000,2000,512,512``."""
        return ",".join(f"{number:.12g}" for number in self._numbers) + ("um" if self.in_um else "")

    @property
    def name(self) -> str:
        """Part of the names of results: ``x1000_y2000_w512_h512``."""
        named = zip("xywh", self._numbers, strict=True)
        return "_".join(f"{letter}{number:.12g}" for letter, number in named) + ("_um" if self.in_um else "")

    @property
    def fragment(self) -> str:
        """End of the path in tables, as a fragment of an address (W3C Media Fragments): ``#xywh=1000,2000,512,512``."""
        return f"#xywh={'um:' if self.in_um else ''}{str(self).removesuffix('um')}"

    @property
    def _numbers(self) -> tuple[float, ...]:
        return self.x, self.y, self.width, self.height

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
        if rows.stop > height or columns.stop > width:
            raise ImageError(
                "no_such_region",
                f"region {self} ends at column {columns.stop} and row {rows.stop}: the image has {width} columns and "
                f"{height} rows",
            )
        return rows, columns

    def _range(self, start: float, length: float, size: float) -> slice:
        if not self.in_um:
            return slice(int(start), int(start + length))
        # Rounded first, since 25.6 um of .1 um are 256 pixels, and not 257.
        first, last = round(start / size, 6), round((start + length) / size, 6)
        return slice(math.floor(first), math.ceil(last))


def parse_region(text: str) -> Region:
    """Read a region.

    Raises
    ------
    UsageError
        When it is none.
    """
    in_um = _UM.search(text) is not None
    try:
        numbers = [float(part) for part in _UM.sub("", text).split(",")]
    except ValueError:
        numbers = []
    is_box = len(numbers) == 4 and all(map(math.isfinite, numbers)) and min(numbers) >= 0 and min(numbers[2:]) > 0
    if not is_box or not (in_um or all(number == int(number) for number in numbers)):
        raise UsageError(
            f"region {text!r}: give X,Y,W,H in whole pixels, such as 1000,2000,512,512, or in um as 250,500,128,128um"
        )
    x, y, width, height = numbers
    return Region(x, y, width, height, in_um)
