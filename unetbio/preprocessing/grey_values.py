"""Statistics of grey values of an image, counted in pieces, and of all training images."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.compilation import compiled
from unetbio.machine import available_cores

__all__ = [
    "FULL_SCALE",
    "GreyFingerprint",
    "GreyLevels",
    "LevelCounter",
    "Range",
    "count_channels",
    "count_differences",
    "is_counted",
    "is_saturated",
    "levels_of_channels",
    "row_blocks",
    "values_in_order",
]

Range = tuple[float, float]

# Largest grey values of detectors, by their bits.
FULL_SCALE = tuple(2**bits - 1 for bits in (8, 10, 12, 14, 16))
SATURATED_FRACTION = 0.01

LOW, MEDIAN, HIGH = 1.0, 50.0, 99.8
"""Percentiles; the outer two are those of the usual normalization."""

SAMPLES = 1 << 18
"""Pixels that are kept to find the percentiles of types too wide for counting."""

MEASURED_AT_ONCE = 1 << 22
"""Pixels of which copies are made at a time."""

COUNTED_BY_NUMPY = 1 << 22
"""Up to so many values numpy counts, ten times as slow: to import numba takes longer."""

BLOCK_PIXELS = 1 << 23
"""Pixels of an image that are read at once to measure it."""

MOST_READERS = 2
"""Blocks that are read at the same time; in most runs each has a process of its own."""

ALIGNED_ROWS = 256
"""Blocks of planes hold a multiple of so many rows: most files have tiles of that size, which are unpacked once, and
damaged parts are squares of that size."""

ROWS_APART = 4
"""Of so many rows one is read to measure the noise."""

# Images between the two shares are what training has seen; a stray one does not widen the range.
TYPICAL_SHARE = (0.01, 0.99)
RANGES = ("low", "median", "high", "level")


@dataclass(frozen=True)
class GreyLevels:
    """Grey values of one channel.

    Parameters
    ----------
    lowest, highest : float
        Of all pixels that are numbers.
    low, median, high : float
        Percentiles 1, 50 and 99.8; exact for 8 and 16 bits, and for other types estimated from at least 200 000 pixels.
    at_highest : int
        Pixels with the highest value; 0 for real numbers, which do not saturate.
    pixels : int
        In all.
    not_finite : int
        Pixels that are NaN or infinite.
    """

    lowest: float
    low: float
    median: float
    high: float
    highest: float
    at_highest: int
    pixels: int
    not_finite: int = 0

    @property
    def is_constant(self) -> bool:
        """Whether there is one grey value everywhere."""
        return self.lowest == self.highest and not self.not_finite

    @property
    def filled(self) -> "GreyLevels":
        """The statistics once pixels that are not numbers have the value of the nearest; 0 where there is no number."""
        if self.not_finite == self.pixels:
            return GreyLevels(0, 0, 0, 0, 0, 0, self.pixels)
        return replace(self, not_finite=0)

    @property
    def is_saturated(self) -> bool:
        """As `is_saturated`."""
        return is_saturated(self.highest, self.at_highest, self.pixels)

    @property
    def level(self) -> float | None:
        """Where the median lies between low (0) and high (1).

        Near 0 when bright things lie on a dark ground, near 1 the other way round. A network that normalizes by
        percentiles sees this and not the grey values.
        """
        return (self.median - self.low) / (self.high - self.low) if self.high > self.low else None


@dataclass(frozen=True)
class GreyFingerprint:
    """Grey values of training images, before normalization: the ranges that all but a few images share.

    Parameters
    ----------
    dtypes : tuple of str
        Of the files.
    channels : tuple of dict
        A channel: its ranges of ``low``, ``median``, ``high`` and ``level`` over the images.
    """

    dtypes: tuple[str, ...]
    channels: tuple[Mapping[str, Range], ...]

    @classmethod
    def of_images(cls, images: Iterable[NDArray[Any]]) -> "GreyFingerprint":
        """Measure images ``(C, *spatial)`` that have the same channels."""
        dtypes: set[str] = set()
        found: list[list[GreyLevels]] = []
        for image in images:
            dtypes.add(str(image.dtype))
            found.append(list(levels_of_channels(image)))
        channels = tuple(
            {name: _typical([getattr(level, name) for level in levels]) for name in RANGES}
            for levels in zip(*found, strict=True)
        )
        return cls(tuple(sorted(dtypes)), channels)

    @classmethod
    def from_record(cls, record: Any) -> "GreyFingerprint | None":
        """Read what `as_record` wrote; None for anything else, such as nothing."""
        try:
            channels = tuple(
                {name: (float(channel[name][0]), float(channel[name][1])) for name in RANGES}
                for channel in record["channels"]
            )
            return cls(tuple(map(str, record["dtypes"])), channels)
        except (TypeError, KeyError, IndexError, ValueError):
            return None

    def as_record(self) -> dict[str, Any]:
        """For a model file."""
        channels = [{name: list(limits) for name, limits in channel.items()} for channel in self.channels]
        return {"dtypes": list(self.dtypes), "channels": channels}


class LevelCounter:
    """Counts the grey values of one channel as they come.

    Parameters
    ----------
    dtype : numpy.dtype
        Of the pixels.
    size : int
        Pixels that will come.
    with_differences : bool
        Count also the differences of neighbours, of types that are counted.
    """

    def __init__(self, dtype: np.dtype[Any], size: int, *, with_differences: bool = False) -> None:
        self._counts = np.zeros(1 << (8 * dtype.itemsize), np.int64) if is_counted(dtype) else None
        self.differences = np.zeros_like(self._counts) if with_differences and self._counts is not None else None
        self._offset = len(self._counts) // 2 if self._counts is not None and dtype.kind == "i" else 0
        self._step = max(1, size // SAMPLES)
        self._skip = 0
        self._samples: list[NDArray[Any]] = []
        self._is_integer = dtype.kind in "ui"
        self._lowest, self._highest = math.inf, -math.inf
        self._at_highest = self._not_finite = self._pixels = 0

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of pixels of each grey value, from the lowest of the type."""
        if self._counts is None:
            raise ValueError("grey values of this type are not counted")
        # As unsigned numbers the negative values stand behind the positive ones: turn them to the front.
        return np.roll(self._counts, self._offset) if self._offset else self._counts

    def add(self, values: NDArray[Any]) -> None:
        """Count more pixels: some rows."""
        if self.differences is not None:
            self.differences += count_differences(values)
        flat = np.ascontiguousarray(values, values.dtype.newbyteorder("=")).reshape(-1)
        self._pixels += flat.size
        if self._counts is not None:
            is_bool = flat.dtype == np.bool_
            _add_counts(self._counts, flat.astype(np.uint8) if is_bool else flat.view(f"u{flat.dtype.itemsize}"))
            return
        for start in range(0, flat.size, MEASURED_AT_ONCE):
            self._measure(flat[start : start + MEASURED_AT_ONCE])

    def result(self) -> GreyLevels:
        """Statistics of the counted pixels."""
        if self._counts is not None:
            return self._counted()
        sample = np.concatenate(self._samples) if self._samples else np.zeros(0)
        if not sample.size:
            nan = math.nan
            return GreyLevels(nan, nan, nan, nan, nan, 0, self._pixels, self._not_finite)
        low, median, high = (float(value) for value in np.percentile(sample, (LOW, MEDIAN, HIGH)))
        at_highest = self._at_highest if self._is_integer else 0
        return GreyLevels(self._lowest, low, median, high, self._highest, at_highest, self._pixels, self._not_finite)

    def _measure(self, block: NDArray[Any]) -> None:
        if block.dtype.kind == "f":
            finite = np.isfinite(block)
            self._not_finite += block.size - int(np.count_nonzero(finite))
            block = block[finite]
        if not block.size:
            return
        highest = float(block.max())
        if highest > self._highest:
            self._highest, self._at_highest = highest, 0
        if highest == self._highest:
            self._at_highest += int(np.count_nonzero(block == block.max()))
        self._lowest = min(self._lowest, float(block.min()))
        self._samples.append(block[self._skip :: self._step].astype(np.float64))
        self._skip = (self._skip - block.size) % self._step

    def _counted(self) -> GreyLevels:
        counts = self.counts
        below = np.cumsum(counts)
        ranks = [round(share / 100 * (self._pixels - 1)) for share in (LOW, MEDIAN, HIGH)]
        low, median, high = (int(np.searchsorted(below, rank, side="right")) for rank in ranks)
        first, last = int(np.searchsorted(below, 0, side="right")), int(np.searchsorted(below, self._pixels))
        shifted = [float(value - self._offset) for value in (first, low, median, high, last)]
        return GreyLevels(
            lowest=shifted[0],
            low=shifted[1],
            median=shifted[2],
            high=shifted[3],
            highest=shifted[4],
            at_highest=int(counts[last]),
            pixels=self._pixels,
        )


def is_saturated(highest: float, count: int, pixels: int) -> bool:
    """Whether more than one pixel in a hundred has the highest grey value, and it is the largest of a detector."""
    return highest in FULL_SCALE and count > SATURATED_FRACTION * pixels


def is_counted(dtype: np.dtype[Any]) -> bool:
    """Whether the pixels of each grey value are counted: integers of 8 and 16 bits."""
    return dtype.kind in "bui" and dtype.itemsize <= 2


def count_differences(rows: NDArray[Any]) -> NDArray[np.int64]:
    """Number of each difference of neighbours in every fourth of some rows, of a type that is counted."""
    differences = np.abs(np.diff(rows[..., ::ROWS_APART, :].astype(np.int32), axis=-1))
    counts = np.zeros(1 << (8 * rows.dtype.itemsize), np.int64)
    _add_counts(counts, differences.reshape(-1))
    return counts


def _add_counts(counts: NDArray[np.int64], values: NDArray[np.integer]) -> None:
    """Add the number of each value, from 0."""
    if values.size <= COUNTED_BY_NUMPY:
        counts += np.bincount(values, minlength=len(counts))
    else:
        _count(counts, values)


@compiled
def _count(counts: NDArray[np.int64], values: NDArray[np.integer]) -> None:
    for value in values:
        counts[value] += 1


def levels_of_channels(image: Any) -> tuple[GreyLevels, ...]:
    """Statistics of each channel of an image ``(C, *spatial)``, see `row_blocks`."""
    return tuple(counter.result() for counter in count_channels(image))


def count_channels(image: Any, *, with_differences: bool = False) -> list[LevelCounter]:
    """Count each channel of an image ``(C, *spatial)`` in one pass, see `row_blocks`."""
    size = math.prod(image.shape[1:])
    counters = [LevelCounter(image.dtype, size, with_differences=with_differences) for _ in range(image.shape[0])]
    for block in row_blocks(image):
        for counter, channel in zip(counters, block, strict=True):
            counter.add(channel)
    return counters


def row_blocks(image: Any) -> Iterator[NDArray[Any]]:
    """An image ``(C, *spatial)`` in blocks of rows (sections in 3-D): a single one where it is in memory."""
    if isinstance(image, np.ndarray):
        yield image
        return
    multiple = ALIGNED_ROWS if len(image.shape) == 3 else 1
    rows = max(1, BLOCK_PIXELS // (multiple * math.prod(image.shape[2:]))) * multiple
    blocks = (slice(start, start + rows) for start in range(0, image.shape[1], rows))
    # Those after a block are read while it is counted; unpacking takes longer.
    unkept = getattr(image, "unkept", None)
    source, readers = (image, 1) if unkept is None else (unkept, min(MOST_READERS, available_cores()))
    with ThreadPoolExecutor(readers) as pool:
        ahead: deque[Future[NDArray[Any]]] = deque()
        for block in blocks:
            ahead.append(pool.submit(source.__getitem__, (slice(None), block)))
            if len(ahead) > readers:
                yield ahead.popleft().result()
        yield from (each.result() for each in ahead)


def values_in_order(blocks: Callable[[], Iterator[NDArray[Any]]], ranks: Sequence[int]) -> dict[int, float]:
    """Values at given places in the order of all values, exactly.

    Parameters
    ----------
    blocks : callable
        Gives the values: one block of any type, or blocks of finite float32, which are gone through twice.
    ranks : sequence of int
        Places from 0.
    """
    whole = _only(blocks())
    if whole is not None:
        ordered = np.partition(whole.reshape(-1), ranks)
        return {rank: float(ordered[rank]) for rank in ranks}
    # By the upper half of the bits the places of the values are narrowed, by the lower half found.
    upper = np.zeros(1 << 16, np.int64)
    for bits in _ordered_bits(blocks()):
        _add_counts(upper, bits >> _HALF)
    halves = {rank: int(np.searchsorted(np.cumsum(upper), rank, side="right")) for rank in ranks}
    lower = {half: np.zeros(1 << 16, np.int64) for half in halves.values()}
    for bits in _ordered_bits(blocks()):
        for half, counts in lower.items():
            _add_counts(counts, bits[bits >> _HALF == half] & _LOWER)
    found = {}
    for rank, half in halves.items():
        left = rank - int(upper[:half].sum())
        found[rank] = _float_of((half << 16) + int(np.searchsorted(np.cumsum(lower[half]), left, side="right")))
    return found


_HALF, _LOWER, _SIGN = np.uint32(16), np.uint32(0xFFFF), np.uint32(1 << 31)


def _only(blocks: Iterator[NDArray[Any]]) -> NDArray[Any] | None:
    """The only block; None of several."""
    first = next(blocks)
    return first if next(blocks, None) is None else None


def _ordered_bits(blocks: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.uint32]]:
    """Whole numbers in the order of float32 values: all bits of negative ones are turned, the sign of the others."""
    for block in blocks:
        all_bits = np.ascontiguousarray(block, np.float32).reshape(-1).view(np.uint32)
        for start in range(0, all_bits.size, MEASURED_AT_ONCE):
            bits = all_bits[start : start + MEASURED_AT_ONCE]
            yield np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _float_of(ordered: int) -> float:
    bits = np.uint32(ordered)
    return float((bits ^ _SIGN if bits & _SIGN else ~bits).view(np.float32))


def _typical(values: Iterable[float | None]) -> Range:
    numbers = [value for value in values if value is not None and math.isfinite(value)]
    if not numbers:
        return (-math.inf, math.inf)
    low, high = np.quantile(numbers, TYPICAL_SHARE)
    return float(low), float(high)
