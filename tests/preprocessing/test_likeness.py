"""Grey values of an image against those of the training images."""

import math

import numpy as np
import pytest

from unetbio.preprocessing.grey_values import GreyLevels, levels_of_channels
from unetbio.preprocessing.likeness import REASONS, compare, place_of_median

RANGES = {"level": (0.0, 0.1), "high": (100.0, 400.0)}


def levels(low: float, median: float, high: float, highest: float | None = None) -> GreyLevels:
    return GreyLevels(low, low, median, high, high if highest is None else highest, 0, 1000)


def test_the_place_of_the_median() -> None:
    assert place_of_median(levels(0, 25, 100)) == 0.25
    assert place_of_median(levels(0, 25, 100), high=50.0) == 0.5
    assert place_of_median(levels(7, 7, 7)) is None
    # Both percentiles lie in the noise, and a few pixels are far above it.
    assert place_of_median(levels(90, 100, 110, highest=1090)) == 0.01


@pytest.mark.parametrize(
    ("place", "reason"), [(0.05, None), (0.24, None), (0.26, "haze"), (0.69, "haze"), (0.8, "dark_on_bright")]
)
def test_images_by_percentiles(place: float, reason: str | None) -> None:
    difference = compare(levels(0, 100 * place, 100), place, RANGES)
    assert (difference and difference.reason) == reason
    assert difference is None or (difference.value, difference.usual) == (place, (0.0, 0.1))


def test_an_image_that_is_darker_almost_everywhere() -> None:
    difference = compare(levels(0, 1, 100), 0.01, {"level": (0.4, 0.5), "high": (100.0, 400.0)})
    assert difference is not None
    assert difference.reason == "dark"


@pytest.mark.parametrize(("high", "reason"), [(51, None), (799, None), (49, "dim"), (801, "bright")])
def test_images_by_their_grey_values(high: float, reason: str | None) -> None:
    difference = compare(levels(0, 1, high), None, RANGES)
    assert (difference and difference.reason) == reason


def test_constant_images_and_those_that_are_not_finite_say_nothing() -> None:
    assert compare(levels(3, 3, 3), 0.9, RANGES) is None
    assert compare(levels_of_channels(np.full((1, 4, 4), math.nan))[0], 0.9, RANGES) is None


def test_reasons_are_words_for_a_column() -> None:
    assert all(reason.isidentifier() for reason in REASONS)
