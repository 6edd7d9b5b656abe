"""Grey values to the range a network was trained on: measured on the whole image, recorded, applied to any part of it.

Percentiles stretch what is there. Where cells are less than a few thousandths of the pixels, both percentiles lie in
the noise of the camera and would stretch it to full contrast. `measure` finds such sparse images by the noise, which is
the difference of neighbouring pixels, and takes the brightness of the few cells as the upper limit. Where something
that covers more than .2 % of the image outshines the cells, as a crystal of dye does, the upper percentile lies in it
and would leave the cells dark; then the limit follows from all that is brighter than the noise.

Colour pictures of 8 bits (stained tissue in brightfield) are not stretched: white is the empty slide and stays white,
however much tissue there is, and the colours keep their relation. `for_picture` says where this holds.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.io.grey_pictures import COLOURS
from unetbio.preprocessing.grey_values import (
    ROWS_APART,
    LevelCounter,
    count_channels,
    count_differences,
    is_counted,
    row_blocks,
    values_in_order,
)
from unetbio.settings.normalization import Normalization

__all__ = ["Scaling", "apply", "for_picture", "measure"]

SPARSE = 0.0025
"""Share of pixels above the noise below which an image is sparse: the upper percentile lies in the noise, or at the rim
of a cell. All usual images of the sets that the shipped model was trained on have more."""

NOISE_REACH = 6.0
"""Standard deviations of the noise that separate the background from all that is brighter."""

EVEN_GROUND = 7.0
"""Standard deviations of the noise between the lower percentile and the median, at most: beyond, the background is not
noise alone, as in stained tissue, and percentiles stay as they are."""

CELL_CONTRAST = 1.5
"""Upper limit of a sparse image above its background, as a multiple of the median contrast above the noise."""

LEAST_CONTRAST = 20.0
"""Least upper limit above the background, in standard deviations of the noise: without a cell the noise stays dim."""

OUTSHONE_BY_FAR, OUTSHONE = 16.0, 5.0
"""Contrasts beyond which a pixel belongs to something that outshines the cells: in multiples of the contrast of the
middle one of all pixels above the noise, and of the one that nine tenths of them do not exceed. Those of the upper
percentile are at most 13 and 4.4 in the fluorescence images of the training, and below 11 and 2.8 in 99 of 100. What
outshines the cells by far may so cover nearly half of what is bright, and anything else a tenth."""

BRIGHT_CONTRAST = 1.5
"""Upper limit beside something that outshines the cells, as a multiple of the latter contrast: the usual one of the
upper percentile."""

HIGHEST = 99.9
"""Percentile above which none is looked at: a few pixels may lie above it on purpose."""

MOST_OUTSHINING = 5
"""Things that may outshine the cells: more of them are cells, and what they outshine is haze, or an uneven ground."""

LARGEST_THING = 0.1
"""Share of the image above which what is bright is its ground."""

SAMPLED_PIXELS = 1 << 20
"""Pixels in which such things are looked for: of larger images every second along each axis, or every third ..."""


@dataclasses.dataclass(frozen=True)
class Scaling:
    """The grey values of each channel that become 0 and 1, as measured; both equal in a constant channel.

    Channels that are ``sparse`` were scaled by their few bright pixels, and in those that are ``outshone`` something is
    much brighter than the cells, see `measure`.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    sparse: tuple[bool, ...] = ()
    outshone: tuple[bool, ...] = ()

    def as_record(self) -> dict[str, Any]:
        """For the provenance."""
        marks = {name: list(marked) for name in ("sparse", "outshone") if any(marked := getattr(self, name))}
        return {"low": list(self.low), "high": list(self.high), **marks}

    def is_percentile(self, channel: int) -> bool:
        """Whether the upper limit of a channel that was scaled by percentiles is one."""
        return not (any(self.sparse[channel : channel + 1]) or any(self.outshone[channel : channel + 1]))


def for_picture(
    automatic: Normalization, dtype: np.dtype[Any] | type[Any], channel_names: Sequence[str]
) -> Normalization:
    """Normalization of an image by the default of a model: the range, not percentiles, for 8-bit colour pictures.

    Training and segmentation ask this alike, so that a model sees what it was trained on. What a person asks for
    (``--normalize``) holds as it is.

    Parameters
    ----------
    automatic : Normalization
        The model's, or that of the training.
    dtype : dtype
        Of the image as stored.
    channel_names : sequence of str
        Of the channels that the model gets.

    Returns
    -------
    Normalization
        Grey values 0 to 255 where percentiles were asked for and the channels are red, green and blue of 8 bits.

    Examples
    --------
    >>> for_picture(Normalization(), np.uint8, ("red", "green", "blue"))
    Normalization(kind='range', low=0.0, high=255.0)
    >>> for_picture(Normalization(), np.uint8, ("DAPI",))
    Normalization(kind='percentile', low=1.0, high=99.8)
    """
    if automatic.kind == "percentile" and np.dtype(dtype) == np.uint8 and tuple(channel_names) == COLOURS:
        return Normalization("range", 0.0, 255.0)
    return automatic


def measure(
    image: Any,
    normalization: Normalization,
    *,
    is_automatic: bool = False,
    counters: Sequence[LevelCounter | None] | None = None,
) -> Scaling:
    """Measure the grey values that become 0 and 1.

    Parameters
    ----------
    image : numpy.ndarray
        ``(C, *spatial)``, raw grey values of the whole image (all planes that belong together), never of a tile; or an
        array that is read in rows (`unetbio.preprocessing.grey_values.row_blocks`): integers of 8 or 16 bits, or finite
        float32.
    normalization : Normalization
        What to measure.
    is_automatic : bool
        Scale channels by their bright pixels where percentiles mislead: fewer than `SPARSE` of the pixels are brighter
        than the noise, or the upper percentile lies in something that outshines the cells (`OUTSHONE`). All other
        channels have their percentiles, to the bit.
    counters : sequence of LevelCounter, optional
        Of each channel, where it was counted before, with its differences.

    Returns
    -------
    Scaling
        Two grey values a channel. Percentiles are exact and interpolate linearly between neighbours, as
        `numpy.percentile` does by default. Where both fall on the same grey value although the channel is not constant
        (a few bright cells on an even background), its minimum and maximum are taken; with ``is_automatic`` it is
        scaled as other sparse channels are.

    Raises
    ------
    ImageError
        ``not_finite``: NaN or infinity in the image; ``unsupported_type``: complex numbers.
    """
    if image.dtype.kind not in "buif":
        raise ImageError("unsupported_type", f"grey values of type {image.dtype}: integers or real numbers are needed")
    _check_finite(image)
    if normalization.kind != "percentile":
        low, high = normalization.limits
        return Scaling((low,) * image.shape[0], (high,) * image.shape[0])
    counted = counters or [None] * image.shape[0]
    channels = (_Channel(image, channel, counter) for channel, counter in enumerate(counted))
    limits = [_limits(channel, normalization, is_automatic=is_automatic) for channel in channels]
    lows, highs, sparse, outshone = zip(*limits, strict=True)
    return Scaling(lows, highs, sparse, outshone)


def apply(image: NDArray[Any], scaling: Scaling) -> NDArray[np.float32]:
    """Scale grey values: ``(image - low) / (high - low)``, not clipped.

    Parameters
    ----------
    image : numpy.ndarray
        ``(C, *spatial)``: the image measured, or any part of it.
    scaling : Scaling
        As measured.

    Returns
    -------
    numpy.ndarray
        float32 of the same shape. A channel whose limits are equal (a constant one) becomes zeros. Each pixel depends
        on its own grey value alone, so a part of the image gets the values that the whole gets.

    Raises
    ------
    ImageError
        ``wrong_channels``: the number of channels differs from that measured.
    """
    if len(image) != len(scaling.low):
        raise ImageError("wrong_channels", f"{len(image)} channels, but {len(scaling.low)} were measured")
    out = np.empty(image.shape, np.float32)
    # float32 holds integers up to 24 bits exactly; wider types keep their precision until the limits are subtracted.
    exact = np.float32 if np.result_type(image.dtype, np.float32) == np.float32 else np.float64
    for channel, low, high, target in zip(image, scaling.low, scaling.high, out, strict=True):
        if high <= low:
            target[...] = 0
        else:
            shifted = np.subtract(channel, exact(low), dtype=exact)
            np.multiply(shifted, exact(1.0 / (high - low)), out=target, casting="same_kind")
    return out


def _check_finite(image: NDArray[Any]) -> None:
    if image.dtype.kind != "f" or not isinstance(image, np.ndarray):
        return
    # A sum is the cheapest test; it may overflow where all values are finite, and only then the count is made.
    with np.errstate(all="ignore"):
        total = image.sum(dtype=np.float64)
    if not np.isfinite(total):
        bad = image.size - int(np.count_nonzero(np.isfinite(image)))
        if bad:
            raise ImageError(
                "not_finite",
                f"{bad} of {image.size} pixels are NaN or infinite: replace them with grey values, for example zeros",
            )


class _Channel:
    """One channel of an image, in blocks of rows: one block where the image is in memory.

    Of types that are counted, ``counts`` has the number of pixels of each grey value from ``lowest``.
    """

    def __init__(self, image: Any, channel: int, counter: LevelCounter | None) -> None:
        self._image = image[channel : channel + 1] if isinstance(image, np.ndarray) else image.channel(channel)
        self._counter = counter
        self.dtype, self.shape, self.size = image.dtype, image.shape[1:], math.prod(image.shape[1:])
        self.is_counted = is_counted(self.dtype)
        self.lowest = -(1 << (8 * self.dtype.itemsize - 1)) if self.dtype.kind == "i" else 0

    def blocks(self) -> Iterator[NDArray[Any]]:
        for block in row_blocks(self._image):
            yield block[0]

    @cached_property
    def sample(self) -> NDArray[Any]:
        """Every n-th pixel along each axis, in all at most `SAMPLED_PIXELS` or about as many."""
        ndim = len(self.shape)
        step = math.ceil((self.size / SAMPLED_PIXELS) ** (1 / ndim))
        kept, start = [], 0
        for block in self.blocks():
            kept.append(block[(-start % step) :: step, *[slice(None, None, step)] * (ndim - 1)])
            start += len(block)
        return np.concatenate(kept)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        counter = self._counter or count_channels(self._image)[0]
        return counter.counts

    def float_differences(self) -> Iterator[NDArray[Any]]:
        """Absolute differences of neighbours in some of the rows, of types that are not counted."""
        for block in self.blocks():
            rows = block[..., ::ROWS_APART, :]
            yield np.abs(np.diff(rows.astype(np.float32 if rows.dtype == np.float32 else np.float64), axis=-1))

    @cached_property
    def differences(self) -> NDArray[np.int64]:
        """Number of each difference of neighbours."""
        if self._counter is not None and self._counter.differences is not None:
            return self._counter.differences
        counts: NDArray[np.int64] = np.sum([count_differences(block) for block in self.blocks()], axis=0)
        return counts


def _limits(channel: _Channel, normalization: Normalization, *, is_automatic: bool) -> tuple[float, float, bool, bool]:
    """Lower and upper limit, and whether the channel is sparse or outshone."""
    low, median, high = _percentiles(channel, (normalization.low, 50.0, normalization.high))
    if high <= low:
        return _limits_on_even_ground(channel, low, is_automatic=is_automatic)
    noise = _noise(channel) if is_automatic else 0.0
    if noise <= 0:
        return low, high, False, False
    ceiling = median + NOISE_REACH * noise
    bright = _count_above(channel, ceiling)
    if bright <= SPARSE * channel.size:
        has_even_ground = median - low <= EVEN_GROUND * noise
        return low, _sparse_high(channel, median, noise) if has_even_ground else high, has_even_ground, False
    # Higher percentiles are meant to lie in single pixels; and nothing that counts as bright has less contrast.
    if normalization.high > HIGHEST or high - median <= OUTSHONE * NOISE_REACH * noise:
        return low, high, False, False
    limit = _outshone_high(channel, bright, median, high, normalization.high / 100)
    return low, limit, False, limit < high


def _limits_on_even_ground(channel: _Channel, ground: float, *, is_automatic: bool) -> tuple[float, float, bool, bool]:
    """As `_limits`, where both percentiles are the grey value ``ground``."""
    lowest, highest = _extremes(channel)
    noise = _noise(channel) if is_automatic else math.inf
    limit = _sparse_high(channel, ground, noise) if highest > ground + NOISE_REACH * noise else ground
    return (ground, limit, True, False) if limit > ground else (lowest, highest, False, False)


def _extremes(channel: _Channel) -> tuple[float, float]:
    if channel.is_counted:
        first, last = np.flatnonzero(channel.counts)[[0, -1]] + channel.lowest
        return float(first), float(last)
    extremes = [(float(block.min()), float(block.max())) for block in channel.blocks()]
    return min(low for low, _ in extremes), max(high for _, high in extremes)


def _sparse_high(channel: _Channel, median: float, noise: float) -> float:
    """Upper limit of a sparse channel."""
    ceiling = median + NOISE_REACH * noise
    # Single bright pixels are faults of a detector.
    pairs = (np.minimum(block[..., 1:], block[..., :-1]) for block in channel.blocks())
    bright = np.concatenate([pair[pair > ceiling] for pair in pairs])
    contrast = float(np.median(bright)) - median if bright.size else 0.0
    return median + max(CELL_CONTRAST * contrast, LEAST_CONTRAST * noise)


def _outshone_high(channel: _Channel, bright: int, median: float, high: float, share: float) -> float:
    """Upper limit of a channel in which something may outshine the cells; ``high`` if nothing does.

    ``bright`` pixels are above the noise, and ``high`` is not below the ``share`` of all.
    """
    dark, pixels = channel.size - bright, channel.size
    middle, contrast = (value - median for value in _at_ranks(channel, dark + bright // 2, dark + 9 * bright // 10))
    by_far = high - median > OUTSHONE_BY_FAR * middle and _is_outshone(channel, median, middle, OUTSHONE_BY_FAR)
    if by_far:
        pixels -= _count_above(channel, median + OUTSHONE_BY_FAR * middle)
        value, high = _at_ranks(channel, dark + 9 * (pixels - dark) // 10, round(share * (pixels - 1)))
        contrast = value - median
    # What is left of something by far brighter, such as its blur, may still be brighter than the cells.
    if by_far or (high - median > OUTSHONE * contrast and _is_outshone(channel, median, contrast, OUTSHONE)):
        return min(high, median + BRIGHT_CONTRAST * contrast)
    return high


def _is_outshone(channel: _Channel, median: float, contrast: float, factor: float) -> bool:
    """Whether pixels of more than ``factor`` times the contrast lie in few things, apart from most that have it.

    Nuclei in haze, or on an uneven ground, lie in what is bright around them; a crystal lies beside the nuclei.
    """
    from scipy import ndimage  # here, since few images need it

    sample = channel.sample
    things, count = ndimage.label(sample > median + contrast / 2)
    areas = np.bincount(things.reshape(-1), minlength=count + 1)
    areas[0] = 0
    outshining = np.unique(things[sample > median + factor * contrast])
    apart = areas[areas <= LARGEST_THING * sample.size].sum() - areas[outshining].sum()
    return bool(0 < len(outshining) <= MOST_OUTSHINING and 2 * apart > areas.sum())


def _count_above(channel: _Channel, value: float) -> int:
    if channel.is_counted:
        return int(channel.counts[max(0, math.floor(value) + 1 - channel.lowest) :].sum())
    return sum(int(np.count_nonzero(block > value)) for block in channel.blocks())


def _noise(channel: _Channel) -> float:
    """Standard deviation of the noise, by the differences of neighbours in some of the rows."""
    median = _median_difference(channel)
    if median is None:
        return 0.0
    measured = median / (0.6745 * math.sqrt(2))
    # Whole numbers hide noise below half a step.
    return max(measured, 0.5) if channel.dtype.kind in "ui" else measured


def _median_difference(channel: _Channel) -> float | None:
    """Median of the absolute differences; None without neighbours."""
    if channel.is_counted:
        counts = channel.differences
        total = int(counts.sum())
        found = _values_at(counts, _middle(total))
    else:
        *sections, rows, columns = channel.shape
        total = math.prod(sections) * math.ceil(rows / ROWS_APART) * (columns - 1)
        found = values_in_order(channel.float_differences, _middle(total)) if total else {}
    return sum(found.values()) / len(found) if total else None


def _middle(count: int) -> list[int]:
    """Places of the median, in order: one, or the two beside it."""
    return sorted({(count - 1) // 2, count // 2})


def _percentiles(channel: _Channel, percentiles: Sequence[float]) -> Iterator[float]:
    """Exact percentiles: by counting for 8 and 16 bit, by `values_in_order` for other types."""
    positions = [percentile / 100 * (channel.size - 1) for percentile in percentiles]
    ranks = sorted({rank for position in positions for rank in (math.floor(position), math.ceil(position))})
    found = _values_of_ranks(channel, ranks)
    for position in positions:
        below, above = found[math.floor(position)], found[math.ceil(position)]
        yield below + (position % 1) * (above - below)


def _at_ranks(channel: _Channel, *ranks: int) -> list[float]:
    found = _values_of_ranks(channel, sorted(set(ranks)))
    return [found[rank] for rank in ranks]


def _values_of_ranks(channel: _Channel, ranks: Sequence[int]) -> dict[int, float]:
    """Grey values at the given places in the order of all, from 0."""
    if channel.is_counted:
        return {rank: value + channel.lowest for rank, value in _values_at(channel.counts, ranks).items()}
    return values_in_order(channel.blocks, ranks)


def _values_at(counts: NDArray[np.int64], ranks: Sequence[int]) -> dict[int, float]:
    """Values, from 0, at the given places in the order of all that were counted."""
    below = np.cumsum(counts)
    return {rank: float(np.searchsorted(below, rank, side="right")) for rank in ranks}
