"""The planes of an image that is looked at, at all zooms of the page; the last ones stay in memory."""

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.preprocessing.selection import ImageSelection
from unetbio.results.reuse import is_large
from unetbio.viewer.large_planes import Level, large_pyramid
from unetbio.viewer.pictures import pyramid

__all__ = ["ImagePlanes"]

KEPT_PLANES = 12
"""Channels of planes in memory."""

SAMPLED_PIXELS = 1 << 20


class ImagePlanes:
    """Planes of an image, numbered over times, then sections.

    Parameters
    ----------
    opened : ImageSelection
        The image.
    folder : pathlib.Path
        For what is too large for memory.
    """

    def __init__(self, opened: ImageSelection, folder: Path) -> None:
        self._opened, self._folder = opened, folder
        self._sections = math.prod(opened.shape[:-2])
        self._kept: OrderedDict[tuple[int, int], Sequence[Level]] = OrderedDict()
        self._reading = threading.Lock()

    def holds(self, plane: int, channel: int) -> bool:
        """Whether a channel of a plane is there: an image of several files may lack the file of one at a time."""
        return channel in self._opened.present_channels(self._place(plane)[0])

    def levels(self, plane: int, channel: int) -> Sequence[Level]:
        """A channel of a plane at all zooms, in memory or not."""
        with self._reading:
            if (plane, channel) not in self._kept:
                is_whole = not is_large(self._opened.shape[-2:])
                make = self._levels_in_memory if is_whole else self._large_levels
                self._kept[plane, channel] = make(plane, channel)
                if len(self._kept) > KEPT_PLANES:
                    self._kept.popitem(last=False)
            self._kept.move_to_end((plane, channel))
            return self._kept[plane, channel]

    def samples(self, channel: int) -> Iterator[NDArray[Any]]:
        """The first, the middle and the last plane, as sections differ in brightness; of large planes the middle one.

        Planes that are not there are left out.
        """
        count = len(self._opened.times) * self._sections
        others = () if is_large(self._opened.shape[-2:]) else (0, count - 1)
        for plane in sorted({count // 2, *others}):
            if self.holds(plane, channel):
                yield _sampled(self.levels(plane, channel))

    def _place(self, plane: int) -> tuple[int | None, int]:
        """Time of a plane, and its section."""
        t, z = divmod(plane, self._sections)
        return self._opened.times[t], z

    def _read(self, plane: int, channel: int) -> NDArray[Any]:
        time, z = self._place(plane)
        if len(self._opened.shape) == 2:
            values: NDArray[Any] = self._opened.read_channels(time, [channel])[0]
            return values
        return self._opened.image.read(t=time or 0, c=channel, z=z)

    def _levels_in_memory(self, plane: int, channel: int) -> Sequence[Level]:
        return pyramid(self._read(plane, channel))

    def _large_levels(self, plane: int, channel: int) -> Sequence[Level]:
        time, z = self._place(plane)
        image, chosen = self._opened.image, self._opened.settings.z
        sections = range(image.size("Z")) if chosen == "max" else [chosen if isinstance(chosen, int) else z]
        return large_pyramid(image, time or 0, sections, channel, self._folder)


def _sampled(levels: Sequence[Level]) -> NDArray[Any]:
    """The plane, or a zoom of one that does not fit into memory, to find its grey values."""
    level = levels[0]
    if not isinstance(level, np.ndarray):
        level = next(level for level in levels if math.prod(level.shape) <= SAMPLED_PIXELS)
    return np.asarray(level[:, :])
