"""Whether the grey values of an image are like those of the images that a model was trained on.

Normalization by percentiles hides the brightness of an image, so the place of the median between dark and bright is
compared. Without it, what the network gets for bright pixels has to be within a factor of two of what it got in the
training: of a model that normalizes by percentiles about 1.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unetbio.io.grey_pictures import COLOURS
from unetbio.preprocessing.grey_values import GreyLevels, Range
from unetbio.settings.normalization import Normalization

__all__ = ["REASONS", "Difference", "compare", "has_bright_ground", "place_of_median"]

GREY_FACTOR = 2.0
"""Allowed factor between grey values, without percentiles."""

LEVEL_SLACK = 0.15
"""Allowed distance from the range of the training images, for medians between dark (0) and bright (1)."""

BRIGHT_GROUND = 0.7
"""Medians above this lie on a bright ground; that of noise is about .5."""

BY_PERCENTILES = (1.0, 1.0)
"""What percentiles make of bright pixels."""

SPARSE_CONTRAST = 4.0
"""In an image of a few bright things the brightest pixel is so many times as far from the median as the percentile."""

REASONS = {
    "dark": "dark almost everywhere",
    "dark_on_bright": "dark things on a bright ground",
    "haze": "noise or haze, cells that fill it, or dark things on a bright ground",
    "dim": "dimmer than the training images, and the model takes grey values as they are",
    "bright": "brighter than the training images, and the model takes grey values as they are",
    "made_dim": "made dimmer than the training images by --normalize",
    "made_bright": "made brighter than the training images by --normalize",
}
"""Reasons, as they follow ``unlike_training:`` in ``summary.csv``, in words."""


@dataclass(frozen=True)
class Difference:
    """How an image differs from the training images.

    Parameters
    ----------
    reason : str
        A key of `REASONS`.
    value : float
        Place of its median, or grey value of its bright pixels: the one of which the training would make what
        ``--normalize`` makes of them, and 1 is what percentiles make bright.
    usual : tuple of float
        Range of the training images.
    """

    reason: str
    value: float
    usual: Range


def has_bright_ground(levels: Sequence[GreyLevels], channel_names: Sequence[str]) -> bool:
    """Whether a colour picture shows dark things on a bright ground, such as stained tissue.

    Its brightest pixels are glass, which may be saturated; in fluorescence they are cells.
    """
    return tuple(channel_names) == COLOURS and all(each.median > each.highest / 2 for each in levels)


def place_of_median(levels: GreyLevels, high: float | None = None) -> float | None:
    """Where the median lies between dark (0) and bright (1); None where both are equal.

    ``high`` is what counts as bright, `_bright` unless given.
    """
    if high is None:
        high = _bright(levels)
    return (levels.median - levels.low) / (high - levels.low) if high > levels.low else None


def compare(
    levels: GreyLevels,
    ranges: Mapping[str, Range],
    chosen: Normalization,
    automatic: Normalization,
    high: float | None = None,
) -> Difference | None:
    """Compare a channel with the training images.

    Parameters
    ----------
    levels : GreyLevels
        Of the channel.
    ranges : dict
        Of the training images (`GreyFingerprint.channels`).
    chosen : Normalization
        What scales the grey values.
    automatic : Normalization
        What scales them without a choice, as in training.
    high : float, optional
        What counts as bright: the upper percentile, unless it is known to lie in noise, or in something that outshines
        the cells.

    Returns
    -------
    Difference, optional
        None for a usual image, for one of a single grey value, and where percentiles fall on a single one.
    """
    if levels.is_constant or not math.isfinite(levels.median):
        return None
    if chosen.kind == "percentile":
        place = place_of_median(levels, high)
        return None if place is None else _compare_place(place, ranges["level"])
    return _compare_brightness(levels, ranges, chosen, automatic, high)


def _bright(levels: GreyLevels) -> float:
    """The percentile; in an image of a few bright things, where it lies in the noise, the brightest pixel."""
    is_sparse = levels.highest - levels.median > SPARSE_CONTRAST * (levels.high - levels.median)
    return levels.highest if is_sparse else levels.high


def _compare_place(place: float, usual: Range) -> Difference | None:
    low, high = usual
    if low - LEVEL_SLACK <= place <= high + LEVEL_SLACK:
        return None
    reason = "dark" if place < low else "dark_on_bright" if place > BRIGHT_GROUND else "haze"
    return Difference(reason, place, usual)


def _compare_brightness(
    levels: GreyLevels,
    ranges: Mapping[str, Range],
    chosen: Normalization,
    automatic: Normalization,
    high: float | None,
) -> Difference | None:
    """Compare what the network gets for bright pixels with what it got in the training."""
    usual = BY_PERCENTILES if automatic.kind == "percentile" else ranges["high"]
    # Limits that change nothing are no reason, however they are written.
    is_same = automatic.kind != "percentile" and chosen.limits == automatic.limits
    made = "" if is_same else "made_"
    bright, brightest, ground = (
        _as_trained(value, chosen, automatic)
        for value in (levels.high if high is None else high, _bright(levels), levels.median)
    )
    if high is None and automatic.kind == "percentile":
        # The percentile may lie in something that outshines the cells; limits that fit the cells leave the ground dark.
        is_bright = ground > ranges["level"][1] + LEVEL_SLACK
    else:
        is_bright = bright > usual[1] * GREY_FACTOR
    if is_bright:
        return Difference(f"{made}bright", bright, usual)
    return Difference(f"{made}dim", brightest, usual) if brightest < usual[0] / GREY_FACTOR else None


def _as_trained(value: float, chosen: Normalization, automatic: Normalization) -> float:
    """The grey value of which the limits of the training make what ``chosen`` makes of this one.

    Of a model that normalizes by percentiles these limits are 0 and 1, and the values scaled ones.
    """
    (zero, one), (trained_zero, trained_one) = chosen.limits, automatic.limits
    return trained_zero + (value - zero) / (one - zero) * (trained_one - trained_zero)
