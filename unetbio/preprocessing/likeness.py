"""Whether the grey values of an image are like those of the images that a model was trained on.

Normalization by percentiles hides the brightness of an image, so the place of the median between dark and bright is
compared. Without it, bright pixels have to be within a factor of two of those in training.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unetbio.io.grey_pictures import COLOURS
from unetbio.preprocessing.grey_values import GreyLevels, Range

__all__ = ["REASONS", "Difference", "compare", "has_bright_ground", "place_of_median"]

GREY_FACTOR = 2.0
"""Allowed factor between grey values, without percentiles."""

LEVEL_SLACK = 0.15
"""Allowed distance from the range of the training images, for medians between dark (0) and bright (1)."""

BRIGHT_GROUND = 0.7
"""Medians above this lie on a bright ground; that of noise is about .5."""

SPARSE_CONTRAST = 4.0
"""In an image of a few bright things the brightest pixel is so many times as far from the median as the percentile."""

REASONS = {
    "dark": "dark almost everywhere",
    "dark_on_bright": "dark things on a bright ground",
    "haze": "noise or haze, cells that fill it, or dark things on a bright ground",
    "dim": "dimmer than the training images, and the model takes grey values as they are",
    "bright": "brighter than the training images, and the model takes grey values as they are",
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
        Place of its median, or grey value of its bright pixels.
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

    ``high`` is what counts as bright. Without it that is the percentile; in an image with a few bright things, whose
    percentile lies in the noise, it is the brightest pixel.
    """
    if high is None:
        is_sparse = levels.highest - levels.median > SPARSE_CONTRAST * (levels.high - levels.median)
        high = levels.highest if is_sparse else levels.high
    return (levels.median - levels.low) / (high - levels.low) if high > levels.low else None


def compare(levels: GreyLevels, place: float | None, ranges: Mapping[str, Range]) -> Difference | None:
    """Compare a channel with the training images.

    Parameters
    ----------
    levels : GreyLevels
        Of the channel.
    place : float, optional
        Of its median (`place_of_median`) where percentiles scale the grey values; None where they do not.
    ranges : dict
        Of the training images (`GreyFingerprint.channels`).

    Returns
    -------
    Difference, optional
        None for a usual image, and for one of a single grey value.
    """
    if levels.is_constant or not math.isfinite(levels.median):
        return None
    if place is None:
        low, high = ranges["high"]
        if low / GREY_FACTOR <= levels.high <= high * GREY_FACTOR:
            return None
        return Difference("dim" if levels.high < low else "bright", levels.high, (low, high))
    low, high = ranges["level"]
    if low - LEVEL_SLACK <= place <= high + LEVEL_SLACK:
        return None
    reason = "dark" if place < low else "dark_on_bright" if place > BRIGHT_GROUND else "haze"
    return Difference(reason, place, (low, high))
