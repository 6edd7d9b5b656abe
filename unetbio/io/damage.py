"""Parts of a plane that cannot be decoded: a damaged tile or chunk in the middle of a file."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from unetbio.errors import ImageError

__all__ = ["PART", "DamagedPart", "damaged_parts", "first_damaged", "halves", "is_damage"]

PART = 256
"""Rows and columns of a part, from the first pixel of the plane: about a tile of most files."""

_REASONS = ("unreadable", "truncated", "inconsistent")

Read = Callable[[slice, slice], Any]
"""Reads a window, rows and columns, of a plane."""


class DamagedPart(NamedTuple):
    """Rows and columns that cannot be decoded, and why."""

    y: slice
    x: slice
    error: ImageError

    def within(self, start: tuple[int, int]) -> str:
        """Its place in words, in a plane of which the image begins at this row and column."""
        (top, bottom), (left, right) = (
            (part.start + at, part.stop + at - 1) for part, at in zip((self.y, self.x), start, strict=True)
        )
        return f"rows {top} to {bottom}, columns {left} to {right}"


def is_damage(error: ImageError) -> bool:
    """Whether other parts of the plane may be whole."""
    return error.reason in _REASONS


def damaged_parts(read: Read, y: slice, x: slice) -> Iterator[DamagedPart]:
    """Parts of a window that cannot be decoded, each within a square of `PART` pixels.

    Windows that fail are halved, and halves are read, so that it takes no more memory than the window.
    """
    try:
        read(y, x)
    except ImageError as error:
        if not is_damage(error):
            raise
        smaller = halves(y, x)
        if not smaller:
            yield DamagedPart(y, x, error)
        for half in smaller:
            yield from damaged_parts(read, *half)


def first_damaged(read: Read, y: slice, x: slice) -> DamagedPart | None:
    """First part of a window that cannot be decoded; None where no part of it can, as if the whole file was broken."""
    found = next(damaged_parts(read, y, x), None)
    if found is None or (found.y, found.x) == (y, x):
        return None
    if (found.y.start, found.x.start) != (y.start, x.start):
        return found
    last = slice(_below(y.stop - 1), y.stop), slice(_below(x.stop - 1), x.stop)
    return found if next(damaged_parts(read, *last), None) is None else None


def halves(y: slice, x: slice) -> tuple[tuple[slice, slice], ...]:
    """A window in two, along its longer side if possible; none of one that lies within a part."""
    along_y, along_x = ((part.start // PART, _below(part.stop - 1) // PART) for part in (y, x))
    if along_y[1] - along_y[0] >= max(1, along_x[1] - along_x[0]):
        middle = PART * (sum(along_y) // 2 + 1)
        return (slice(y.start, middle), x), (slice(middle, y.stop), x)
    if along_x[1] > along_x[0]:
        middle = PART * (sum(along_x) // 2 + 1)
        return (y, slice(x.start, middle)), (y, slice(middle, x.stop))
    return ()


def _below(pixel: int) -> int:
    """First pixel of a part."""
    return pixel // PART * PART
