"""Images with damaged parts, which are read as the grey value in the middle of those of the plane, and remembered."""

import dataclasses
import logging
import threading
from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.io.damage import PART, DamagedPart, damaged_parts, halves, is_damage
from unetbio.io.image import Image, WrappedPixels

__all__ = ["Box", "Damage", "without_damage"]

logger = logging.getLogger(__name__)

SCANNED_PIXELS = 1 << 24
"""Pixels that are read at once, while damaged parts are looked for."""

SAMPLED = 8
"""One pixel in so many along each axis counts for the grey value in the middle."""

SHOWN = 3

Box = tuple[int, int, int, int]
"""First row, row after the last, first column, column after the last."""

_Key = tuple[int, int, tuple[int, ...]]


class Damage:
    """Damaged parts of an image, as far as it was read."""

    def __init__(self, rows: int, columns: int) -> None:
        self._shape = rows, columns
        self._found: dict[_Key, tuple[frozenset[Box], NDArray[Any]]] = {}
        self._is_complete = False
        self.lock = threading.Lock()

    def boxes(self, channels: Sequence[int]) -> list[Box]:
        """Damaged parts of these channels in any section."""
        found = [boxes for (_, _, of), (boxes, _) in [*self._found.items()] if {*of} <= {*channels}]
        return sorted(frozenset().union(*found))

    def complete(self) -> None:
        """Take no more parts: the cells are decided, and would keep invented grey values in other parts."""
        self._is_complete = True

    def takes(self, boxes: frozenset[Box]) -> bool:
        """Whether these parts can be left out."""
        return not self._is_complete or boxes <= frozenset().union(*(known for known, _ in self._found.values()))

    @property
    def total(self) -> int:
        """Number of parts of the plane."""
        return ceil(self._shape[0] / PART) * ceil(self._shape[1] / PART)

    def of(self, key: _Key) -> tuple[frozenset[Box], NDArray[Any]] | None:
        """Damaged parts of channels of a plane, and the grey value of each channel in them."""
        return self._found.get(key)

    def note(self, key: _Key, boxes: frozenset[Box], fill: NDArray[Any]) -> None:
        """Remember them."""
        self._found[key] = boxes, fill


def without_damage(image: Image) -> tuple[Image, Damage]:
    """The image, of which damaged parts are left out, and what is found of them where it is read."""
    damage = Damage(image.size("Y"), image.size("X"))
    pixels = _TolerantPixels(image.pixels, damage, image.size("Y"), image.size("X"), image.start, str(image.source))
    return dataclasses.replace(image, pixels=pixels), damage


@dataclasses.dataclass(frozen=True)
class _TolerantPixels(WrappedPixels):
    """The pixels of an image."""

    damage: Damage
    rows: int
    columns: int
    start: tuple[int, int]
    name: str

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        return getattr(self.whole, "levels", ())

    def at_level(self, level: int) -> "_TolerantPixels":
        """Pixels of a smaller resolution of the file, which has damaged parts of its own."""
        rows, columns = self.levels[level - 1]
        whole = getattr(self.whole, "at_level")(level)  # noqa: B009 -- of readers of pyramids alone
        return _TolerantPixels(whole, Damage(rows, columns), rows, columns, (0, 0), f"{self.name} (level {level})")

    def read(self, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        if len(channels) > 1:
            return self._read_together(t, z, channels, y, x)
        key = (t, z, tuple(channels))
        found = self.damage.of(key)
        if found is None:
            try:
                return self.whole.read(t, z, channels, y, x)
            except ImageError as error:
                if not is_damage(error):
                    raise
                found = self._scan_once(key, error)
        boxes, fill = found
        out = np.empty((len(key[2]), y.stop - y.start, x.stop - x.start), fill.dtype)
        self._put(out, key, boxes, fill, (y.start, x.start), (y, x))
        return out

    def _read_together(self, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        """Several channels, each by itself where one is damaged: the others stay as they are."""
        if all(self.damage.of((t, z, (channel,))) is None for channel in channels):
            try:
                return self.whole.read(t, z, channels, y, x)
            except ImageError as error:
                if not is_damage(error):
                    raise
        return np.concatenate([self.read(t, z, (channel,), y, x) for channel in channels])

    def _put(
        self,
        out: NDArray[Any],
        key: _Key,
        boxes: frozenset[Box],
        fill: NDArray[Any],
        corner: tuple[int, int],
        window: tuple[slice, slice],
    ) -> None:
        y, x = window
        place = (slice(None), *(slice(s.start - at, s.stop - at) for s, at in zip(window, corner, strict=True)))
        if not any(top < y.stop and y.start < bottom and a < x.stop and x.start < b for top, bottom, a, b in boxes):
            out[place] = self.whole.read(*key, y, x)
        elif smaller := halves(y, x):
            for half in smaller:
                self._put(out, key, boxes, fill, corner, half)
        else:
            out[place] = fill[:, np.newaxis, np.newaxis]

    def _scan_once(self, key: _Key, error: ImageError) -> tuple[frozenset[Box], NDArray[Any]]:
        with self.damage.lock:
            found = self.damage.of(key)
            if found is None:
                found = self._scan(key, error)
                self.damage.note(key, *found)
            return found

    def _scan(self, key: _Key, error: ImageError) -> tuple[frozenset[Box], NDArray[Any]]:
        """Read the whole plane for its damaged parts, and the median of its grey values where it is whole."""
        parts: list[DamagedPart] = []
        samples: list[NDArray[Any]] = []

        def read(y: slice, x: slice) -> None:
            pixels = self.whole.read(*key, y, x)
            samples.append(pixels[:, ::SAMPLED, ::SAMPLED].reshape(len(pixels), -1))

        rows = max(1, SCANNED_PIXELS // (self.columns * len(key[2]) * PART)) * PART
        for start in range(0, self.rows, rows):
            band = slice(start, min(start + rows, self.rows))
            parts += damaged_parts(read, band, slice(0, self.columns))
        if not parts or not samples:
            raise error
        boxes = frozenset((part.y.start, part.y.stop, part.x.start, part.x.stop) for part in parts)
        if not self.damage.takes(boxes):
            raise ImageError(
                error.reason,
                f"{error}; the channels that were segmented are whole there, and --partial leaves out no part of the "
                "others, in which cells are measured: copy the file again, or segment a file without these channels",
            )
        self._warn(parts)
        values = np.concatenate(samples, axis=1)
        middle = np.sort(values, axis=1)[:, values.shape[1] // 2]
        return boxes, middle

    def _warn(self, parts: Sequence[DamagedPart]) -> None:
        for part in parts[:SHOWN]:
            logger.warning("%s: %s are left out: %s", self.name, part.within(self.start), part.error)
        if len(parts) > SHOWN:
            logger.warning("%s: and %d more parts are left out", self.name, len(parts) - SHOWN)
