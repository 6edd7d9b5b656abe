"""Images larger than memory: grey values that are read, and scaled, where they are asked for."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.io.image import Image
from unetbio.postprocessing.bands import Allocate, FinishedBands, Rows
from unetbio.preprocessing.normalization import Scaling, apply

__all__ = ["LazyInput", "LazyPixels", "Streaming"]


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

    The rows that were read last are kept in full width, since the next tile is mostly beside the last one.

    Parameters
    ----------
    image : Image
        The image.
    t : int, optional
        Time of the frame.
    z : int, optional
        Section of a plane; None for a stack, or an image of one section.
    channels : sequence of int
        Channels of the image.
    shape : tuple of int
        Of the frame, without channels.
    """

    def __init__(
        self, image: Image, t: int | None, z: int | None, channels: Sequence[int], shape: tuple[int, ...]
    ) -> None:
        self._image, self._t, self._z, self._channels = image, t, z, channels
        self.shape = (len(channels), *shape)
        self.dtype = image.dtype
        self._lock = threading.Lock()
        self._kept: tuple[list[tuple[int, int]], NDArray[Any]] | None = None

    def channel(self, number: int) -> "LazyPixels":
        """One of the channels, read without the others."""
        return LazyPixels(self._image, self._t, self._z, (self._channels[number],), self.shape[1:])

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Read a part: channels by number or slice, then slices of step 1."""
        channel, *spatial = index if isinstance(index, tuple) else (index,)
        spatial += [slice(None)] * (len(self.shape) - 1 - len(spatial))
        *rows, columns = (slice(*part.indices(size)[:2]) for part, size in zip(spatial, self.shape[1:], strict=True))
        return self._read(rows)[(channel, ..., columns)]

    def _read(self, rows: list[slice]) -> NDArray[Any]:
        wanted = [(part.start, part.stop) for part in rows]
        with self._lock:
            if self._kept is None or self._kept[0] != wanted:
                self._kept = None  # Freed before the next rows need memory.
                self._kept = wanted, self._read_channels(rows[0] if len(rows) == 2 else self._z, rows[-1])
            return self._kept[1]

    def _read_channels(self, z: int | slice | None, y: slice) -> NDArray[Any]:
        first, count = self._channels[0], len(self._channels)
        if count > 1 and list(self._channels) == list(range(first, first + count)):
            # At once, since the colours of a picture are decoded together.
            return self._image.read(t=self._t or 0, c=slice(first, first + count), z=z, y=y)
        read = [self._image.read(t=self._t or 0, c=channel, z=z, y=y) for channel in self._channels]
        return read[0][np.newaxis] if count == 1 else np.stack(read)


class LazyInput:
    """The input of a network ``(C, *spatial)``: grey values, normalized.

    Parameters
    ----------
    raw : array-like
        The grey values, of which parts are read.
    scaling : Scaling
        Those that become 0 and 1.
    """

    def __init__(self, raw: Rows, scaling: Scaling) -> None:
        self._raw, self._scaling = raw, scaling
        self.shape = raw.shape

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        """Read a part of all channels."""
        return apply(self._raw[index], self._scaling)
