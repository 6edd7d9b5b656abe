"""Bands: consecutive rows of an image, or sections of a stack, that are worked on together.

An image that fits into memory is one band. Bands follow each other in raster order, so numbers that are given band by
band are in raster order. Components that continue in the next band are joined by union-find.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unetbio.compilation import compiled

__all__ = [
    "BAND_PIXELS",
    "Allocate",
    "Area",
    "Band",
    "FinishedBands",
    "Ids",
    "Numbers",
    "Repeated",
    "RowArray",
    "Rows",
    "Seams",
    "bands_in_memory",
    "bands_of",
    "parts_in_memory",
    "planes_of",
    "with_context",
]

BAND_PIXELS = 1 << 22

Band = slice
Ids = NDArray[np.int32]
Numbers = NDArray[np.int64]


class Rows(Protocol):
    """An array in memory or on disk, of which rows are read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the elements."""

    def __getitem__(self, index: Any, /) -> Any:
        """A part of the array."""


class RowArray(Rows, Protocol):
    """An array in memory or on disk, of which rows are read and written."""

    def __setitem__(self, index: Any, values: Any, /) -> None:
        """Write a part of the array."""


Allocate = Callable[[tuple[int, ...], Any], RowArray]
"""Makes an array of zeros of a shape and a type."""


Area = Callable[[tuple[slice, ...]], NDArray[np.bool_]]
"""Which pixels are segmented, ``(rows, columns)`` of a part of an image; the slices of the other axes do not matter."""


class FinishedBands(Protocol):
    """Bands that are kept as they are finished, for a run that goes on after this one was killed."""

    def take(self, name: str) -> Iterator[NDArray[Any]] | None:
        """Arrays of a band that is kept, one after another; None of any other."""

    def keep(self, name: str, arrays: Iterable[NDArray[Any]]) -> None:
        """Keep the arrays of a band."""


def bands_of(length: int, rows: int | None) -> list[Band]:
    """Bands of so many rows of ``length``; one of all where ``rows`` is None."""
    step = length if rows is None else rows
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def bands_in_memory(array: Rows) -> list[Band]:
    """Bands of an array to look at one after another: of about `BAND_PIXELS` on disk, one in memory."""
    rows = None if isinstance(array, np.ndarray) else max(1, BAND_PIXELS // prod(array.shape[1:]))
    return bands_of(array.shape[0], rows)


def parts_in_memory(array: Rows) -> Iterator[tuple[Any, ...]]:
    """Places of the parts of an array ``(..., Y, X)`` to look at one after another: all of one in memory.

    Of one on disk, they are numbers along the first axes, and about `BAND_PIXELS` in rows of a plane.
    """
    if isinstance(array, np.ndarray):
        yield ()
        return
    *first, height, width = array.shape
    bands = bands_of(height, max(1, BAND_PIXELS // width))
    yield from ((*place, band) for place in np.ndindex(*first) for band in bands)


def planes_of(planes: Rows, chosen: int | slice) -> Any:
    """One or some of planes ``(P, *spatial)``; of an array on disk they are read with the rows that are asked for."""
    return planes[chosen] if isinstance(planes, np.ndarray) else _Planes(planes, chosen)


class _Planes:
    def __init__(self, planes: Rows, chosen: int | slice) -> None:
        self._planes, self._chosen = planes, chosen
        count = () if isinstance(chosen, int) else (len(range(planes.shape[0])[chosen]),)
        self.shape, self.dtype = (*count, *planes.shape[1:]), planes.dtype

    def __getitem__(self, index: Any) -> Any:
        index = index if isinstance(index, tuple) else (index,)
        if isinstance(self._chosen, int):
            return self._planes[(self._chosen, *index)]
        numbers = range(self._planes.shape[0])[self._chosen][index[0]]
        first = numbers if isinstance(numbers, int) else slice(numbers.start, numbers.stop)
        return self._planes[(first, *index[1:])]


class Repeated:
    """Bands that are computed again each time they are iterated over.

    Parameters
    ----------
    make : callable
        Computes the bands, one after another.
    """

    def __init__(self, make: Callable[[], Iterator[Any]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[Any]:
        return self._make()


def with_context(bands: Iterable[Ids], reach: int) -> Iterator[tuple[Ids, Band]]:
    """Each band with the rows near it.

    Parameters
    ----------
    bands : iterable of ndarray
        ``(rows, ...)``, all of an image.
    reach : int
        Rows wanted before and after each band; there are fewer at the ends of the image.

    Yields
    ------
    ndarray
        The rows before the band, its own and those after it.
    slice
        Where its own are.
    """
    stream = iter(bands)
    ahead: deque[Ids] = deque()
    band = next(stream, None)
    before = None if band is None else band[:0]
    while band is not None and before is not None:
        while sum(map(len, ahead)) < reach and (further := next(stream, None)) is not None:
            ahead.append(further)
        parts = [part for part in (before, band, *ahead) if len(part)]
        core = slice(len(before), len(before) + len(band))
        window = parts[0] if len(parts) == 1 else np.concatenate(parts)[: core.stop + reach]
        # Copied before the caller changes the rows.
        before = window[max(0, core.stop - reach) : core.stop].copy()
        yield window, core
        band = ahead.popleft() if ahead else next(stream, None)


class Seams:
    """Union-find over the components of all bands, which are numbered from 1 in the order in which they come."""

    def __init__(self) -> None:
        self.total = 0
        self._pairs: list[Numbers] = []

    def join(self, upper: Numbers, lower: Numbers) -> None:
        """Join components that face each other: numbers on both sides of a seam, 0 for no component."""
        touching = (upper > 0) & (lower > 0)
        if touching.any():
            self._pairs.append(np.unique(np.stack([upper[touching], lower[touching]], axis=1), axis=0))

    def roots(self) -> Numbers:
        """For each number, 0 included, the lowest one of the same component."""
        if not self._pairs:
            return np.arange(self.total + 1)
        roots: Numbers = _roots(np.concatenate(self._pairs), self.total)
        return roots


@compiled
def _root(parents: Numbers, number: int) -> int:
    while parents[number] != number:
        parents[number] = parents[parents[number]]
        number = parents[number]
    return number


@compiled
def _roots(pairs: Numbers, total: int) -> Numbers:
    parents = np.arange(total + 1)
    for pair in range(len(pairs)):
        a, b = _root(parents, pairs[pair, 0]), _root(parents, pairs[pair, 1])
        parents[max(a, b)] = min(a, b)
    for number in range(total + 1):
        parents[number] = _root(parents, number)
    return parents
