"""The zooms of a plane that does not fit into memory: windows that are read, or halved, where they are asked for."""

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unetbio.io.image import Image
from unetbio.results.disk_arrays import DiskArray
from unetbio.viewer.pictures import TILE, halved

__all__ = ["Level", "large_pyramid"]

HALVED_AT_ONCE = 2
"""Zooms that are made of a finer one for each tile: a tile of the last takes 16 times its pixels."""

PIXELS_AT_ONCE = 1 << 24
ROWS_OF_CHUNKS = 256
"""Files are read in multiples of so many rows where this is possible: most have chunks as high, or twice."""

Shape = tuple[int, int]
Window = tuple[slice, slice]


class Level(Protocol):
    """A plane at one zoom, in memory or not."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""

    def __getitem__(self, window: Any, /) -> NDArray[Any]:
        """Pixels of rows and columns."""


def large_pyramid(image: Image, t: int, sections: Sequence[int], channel: int, folder: Path) -> list[Level]:
    """A plane, and the same at half the size until a tile holds it, as `unetbio.viewer.pictures.pyramid` has them.

    Smaller resolutions of the file are used as they are. Where there are none, every third zoom is computed once, when
    it is asked for, and lies on disk.

    Parameters
    ----------
    image : Image
        The image.
    t, channel : int
        Time and channel of the plane.
    sections : sequence of int
        Its section, or those whose maximum it is.
    folder : pathlib.Path
        For what lies on disk.
    """
    source: Level = _Stored(image, t, tuple(sections), channel)
    found = [source]
    shape: Shape = (image.size("Y"), image.size("X"))
    stored = _resolutions(image)
    steps = 0
    while max(shape) > TILE:
        shape = _half(shape)
        steps += 1
        number = next((number for number, size in stored.items() if _is_about(size, shape)), None)
        if number is not None:
            source, steps = _Stored(image.at_level(number), t, tuple(sections), channel), 0
        elif steps > HALVED_AT_ONCE:
            source, steps = _Kept(_Halved(source, steps), image.dtype, folder), 0
        found.append(_Halved(source, steps) if steps else source)
    return found


def _resolutions(image: Image) -> dict[int, Shape]:
    return dict(enumerate(image.levels[1:], 1)) if hasattr(image.pixels, "at_level") else {}


def _half(shape: Shape) -> Shape:
    return -(-shape[0] // 2), -(-shape[1] // 2)


def _is_about(size: Shape, shape: Shape) -> bool:
    """Whether a resolution has a size, which programs round in both ways."""
    return all(abs(found - wanted) <= 1 for found, wanted in zip(size, shape, strict=True))


@dataclass(frozen=True)
class _Stored:
    """A plane in the file."""

    image: Image
    t: int
    sections: tuple[int, ...]
    channel: int

    @property
    def shape(self) -> Shape:
        return self.image.size("Y"), self.image.size("X")

    def __getitem__(self, window: Window) -> NDArray[Any]:
        y, x = window
        planes = (self.image.read(t=self.t, c=self.channel, z=z, y=y, x=x) for z in self.sections)
        highest: NDArray[Any] = functools.reduce(np.maximum, planes)
        return highest


class _Halved:
    """A plane at half the size, so many times."""

    def __init__(self, source: Level, times: int) -> None:
        self._source, self._times = source, times
        rows, columns = source.shape
        self.shape: Shape = (rows, columns)
        for _ in range(times):
            self.shape = _half(self.shape)

    @property
    def pixels_per_row(self) -> int:
        """Pixels of the source in a row."""
        return self._source.shape[1] << self._times

    def __getitem__(self, window: Window) -> NDArray[Any]:
        parts = [slice(*part.indices(size)) for part, size in zip(window, self.shape, strict=True)]
        values = self._source[tuple(slice(part.start << self._times, part.stop << self._times) for part in parts)]
        for _ in range(self._times):
            values = halved(values)
        return values


class _Kept:
    """A plane on disk, which is made when it is asked for."""

    def __init__(self, source: _Halved, dtype: Any, folder: Path) -> None:
        self._source, self._dtype, self._folder = source, dtype, folder
        self.shape = source.shape
        self._lock = threading.Lock()

    def __getitem__(self, window: Window) -> NDArray[Any]:
        return self._array[window]

    @property
    def _array(self) -> DiskArray:
        with self._lock:
            return self._made

    @functools.cached_property
    def _made(self) -> DiskArray:
        array = DiskArray(self._folder, self.shape, self._dtype)
        rows = max(1, PIXELS_AT_ONCE // self._source.pixels_per_row)
        step = ROWS_OF_CHUNKS >> (HALVED_AT_ONCE + 1)
        rows = max(rows // step, 1) * step
        for start in range(0, self.shape[0], rows):
            band = slice(start, start + rows)
            array[band] = self._source[band, slice(None)]
        return array
