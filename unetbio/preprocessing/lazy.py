"""Images larger than memory: grey values that are read, and scaled, where they are asked for."""

import copy
import functools
import itertools
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unetbio.io.image import Image
from unetbio.postprocessing.bands import Allocate, FinishedBands, Rows
from unetbio.preprocessing.normalization import Scaling, apply

__all__ = ["LazyInput", "LazyPixels", "Streaming"]

WINDOW = {2: (256, 256), 3: (32, 128, 128)}
"""Size of the windows that are kept, by the number of axes: those of planes are tiles of most files, which are unpacked
as a whole in any case."""

WINDOW_BYTES = 1 << 26
"""Bytes of the windows that are kept."""


@dataclass(frozen=True)
class Streaming:
    """How an image that does not fit into memory is segmented.

    Parameters
    ----------
    pixels : int
        Pixels that are worked on at once, in whole rows (sections in 3-D), of which it is one at least.
    allocate : callable
        Makes an array of the size of the image, on disk.
    finished : FinishedBands, optional
        Bands that the network has decided, of this run and of one that was killed.
    """

    pixels: int
    allocate: Allocate
    finished: FinishedBands | None = None


class LazyPixels:
    """Grey values ``(C, *spatial)`` of one frame.

    The rows that were read last are kept in full width, since the next tile is mostly beside the last one; with
    `in_windows`, windows are kept, for small parts that overlap; with `unkept`, nothing is.

    Parameters
    ----------
    image : Image
        The image.
    t : int, optional
        Time of the frame.
    z : int or "max", optional
        Section of a plane, or the maximum of all; None for a stack, or an image of one section.
    channels : sequence of int
        Channels of the image.
    shape : tuple of int
        Of the frame, without channels.
    keeps : {"rows", "windows", "nothing"}
        What is kept for the next reading.
    """

    def __init__(
        self,
        image: Image,
        t: int | None,
        z: int | Literal["max"] | None,
        channels: Sequence[int],
        shape: tuple[int, ...],
        *,
        keeps: Literal["rows", "windows", "nothing"] = "rows",
    ) -> None:
        self._image, self._t, self._z, self._channels, self._keeps = image, t, z, channels, keeps
        self.shape = (len(channels), *shape)
        self.dtype = image.dtype
        self._lock = threading.Lock()
        self._kept: tuple[list[tuple[int, int]], NDArray[Any]] | None = None
        self._windows: OrderedDict[tuple[int, ...], NDArray[Any]] = OrderedDict()

    def channel(self, number: int) -> "LazyPixels":
        """One of the channels, read without the others."""
        return LazyPixels(self._image, self._t, self._z, (self._channels[number],), self.shape[1:])

    @property
    def in_windows(self) -> "LazyPixels":
        """The same, read in windows of one grid, of which the last ones are kept."""
        return LazyPixels(self._image, self._t, self._z, self._channels, self.shape[1:], keeps="windows")

    @property
    def unkept(self) -> "LazyPixels | None":
        """The same for several threads at once, which read no pixel twice; None where these would hinder each other."""
        if not getattr(self._image.pixels, "windows_apart", False):
            return None
        return LazyPixels(self._image, self._t, self._z, self._channels, self.shape[1:], keeps="nothing")

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Read a part: channels by number or slice, then slices of step 1."""
        channel, *spatial = index if isinstance(index, tuple) else (index,)
        spatial += [slice(None)] * (len(self.shape) - 1 - len(spatial))
        *rows, columns = (slice(*part.indices(size)[:2]) for part, size in zip(spatial, self.shape[1:], strict=True))
        if self._keeps == "rows":
            return self._read(rows)[(channel, ..., columns)]
        if self._keeps == "windows":
            return self._read_windows((*rows, columns))[channel]
        return self._read_sections(rows, columns)[channel]

    def _read(self, rows: list[slice]) -> NDArray[Any]:
        wanted = [(part.start, part.stop) for part in rows]
        with self._lock:
            if self._kept is None or self._kept[0] != wanted:
                # Rows in common are not decoded again; the others are freed before the next need memory.
                common = self._common_rows(rows)
                self._kept = None
                self._kept = wanted, self._read_after(common, rows)
            return self._kept[1]

    def _common_rows(self, rows: list[slice]) -> NDArray[Any] | None:
        """The first of these rows of a plane, where they are the last of those that are kept; None of any others."""
        if self._kept is None or len(rows) > 1:
            return None
        [(start, stop)], values = self._kept
        if not start < rows[0].start < stop < rows[0].stop:
            return None
        return values[:, rows[0].start - start :].copy()

    def _read_after(self, common: NDArray[Any] | None, rows: list[slice]) -> NDArray[Any]:
        if common is None:
            return self._read_sections(rows, slice(None))
        rest = slice(rows[0].start + common.shape[1], rows[0].stop)
        return np.concatenate([common, self._read_sections([rest], slice(None))], axis=1)

    def _read_windows(self, place: tuple[slice, ...]) -> NDArray[Any]:
        out = np.empty((self.shape[0], *(max(0, part.stop - part.start) for part in place)), self.dtype)
        sizes = WINDOW[len(place)]
        firsts = (range(part.start // size, -(-part.stop // size)) for part, size in zip(place, sizes, strict=True))
        for number in itertools.product(*firsts):
            start = [at * size for at, size in zip(number, sizes, strict=True)]
            window = self._window(number, start)
            shared = [
                slice(max(part.start, first), min(part.stop, first + length))
                for part, first, length in zip(place, start, window.shape[1:], strict=True)
            ]
            into = (slice(s.start - part.start, s.stop - part.start) for s, part in zip(shared, place, strict=True))
            of = (slice(s.start - first, s.stop - first) for s, first in zip(shared, start, strict=True))
            out[(slice(None), *into)] = window[(slice(None), *of)]
        return out

    def _window(self, number: tuple[int, ...], start: Sequence[int]) -> NDArray[Any]:
        """One of the grid's windows; the last ones asked for are kept."""
        with self._lock:
            if number in self._windows:
                self._windows.move_to_end(number)
                return self._windows[number]
        ends = zip(start, WINDOW[len(start)], self.shape[1:], strict=True)
        *rows, columns = (slice(first, min(first + size, length)) for first, size, length in ends)
        window = self._read_sections(rows, columns)
        with self._lock:
            self._windows[number] = window
            while len(self._windows) * window.nbytes > WINDOW_BYTES and len(self._windows) > 1:
                self._windows.popitem(last=False)
        return window

    def _read_sections(self, rows: list[slice], x: slice) -> NDArray[Any]:
        if self._z != "max":
            return self._read_channels(rows[0] if len(rows) == 2 else self._z, rows[-1], x)
        sections = (self._read_channels(z, rows[-1], x) for z in range(self._image.size("Z")))
        highest: NDArray[Any] = functools.reduce(np.maximum, sections)
        return highest

    def _read_channels(self, z: int | slice | None, y: slice, x: slice) -> NDArray[Any]:
        first, count = self._channels[0], len(self._channels)
        if count > 1 and list(self._channels) == list(range(first, first + count)):
            # At once, since the colours of a picture are decoded together.
            return self._image.read(t=self._t or 0, c=slice(first, first + count), z=z, y=y, x=x)
        read = [self._image.read(t=self._t or 0, c=channel, z=z, y=y, x=x) for channel in self._channels]
        return read[0][np.newaxis] if count == 1 else np.stack(read)


class LazyInput:
    """The input of a network ``(C, *spatial)``: grey values, normalized.

    Parameters
    ----------
    raw : array-like
        The grey values, of which parts are read.
    scaling : Scaling
        Those that become 0 and 1.
    extremes : sequence of (float, float), optional
        The smallest and the largest grey value of each channel, where they are known.

    Attributes
    ----------
    largest : float or None
        The largest value, without its sign, where the extremes are known.
    """

    def __init__(self, raw: Rows, scaling: Scaling, extremes: Sequence[tuple[float, float]] | None = None) -> None:
        self._raw, self._scaling = raw, scaling
        self.shape = raw.shape
        self.largest: float | None = None
        if extremes is not None:
            # Scaling keeps the order of grey values, and is computed in the same precision for these types.
            ends = np.array(extremes, np.float32 if raw.dtype.itemsize <= 2 else np.float64)
            self.largest = float(np.abs(apply(ends, scaling)).max())

    @property
    def in_windows(self) -> "LazyInput":
        """The same; see `LazyPixels.in_windows`."""
        other = copy.copy(self)
        other._raw = getattr(self._raw, "in_windows", self._raw)
        return other

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        """Read a part of all channels."""
        return apply(self._raw[index], self._scaling)
