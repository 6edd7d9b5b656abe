"""Grey values of an image against those of the training images."""

import math

import numpy as np
import pytest

from unetbio.preprocessing.grey_values import GreyLevels, levels_of_channels
from unetbio.preprocessing.likeness import REASONS, compare, place_of_median
from unetbio.settings.normalization import Normalization

RANGES = {"level": (0.0, 0.1), "high": (100.0, 400.0)}
PERCENTILES, RANGE = Normalization(), Normalization("range", 100.0, 1100.0)


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
    difference = compare(levels(0, 100 * place, 100), RANGES, PERCENTILES, PERCENTILES)
    assert (difference and difference.reason) == reason
    assert difference is None or (difference.value, difference.usual) == (pytest.approx(place), (0.0, 0.1))


def test_an_image_that_is_darker_almost_everywhere() -> None:
    ranges = {"level": (0.4, 0.5), "high": (100.0, 400.0)}
    difference = compare(levels(0, 1, 100), ranges, PERCENTILES, PERCENTILES)
    assert difference is not None
    assert difference.reason == "dark"


@pytest.mark.parametrize(("high", "reason"), [(51, None), (799, None), (49, "dim"), (801, "bright")])
def test_images_by_their_grey_values(high: float, reason: str | None) -> None:
    difference = compare(levels(0, 1, high), RANGES, RANGE, RANGE)
    assert (difference and difference.reason) == reason


@pytest.mark.parametrize(("high", "reason"), [(601, None), (2099, None), (599, "made_dim"), (2101, "made_bright")])
def test_limits_in_place_of_percentiles(high: float, reason: str | None) -> None:
    """They make .5 and 2 of these grey values, and percentiles would make 1."""
    difference = compare(levels(0, 1, high), RANGES, RANGE, PERCENTILES, high)
    assert (difference and difference.reason) == reason
    assert difference is None or difference.value == pytest.approx((high - 100) / 1000)


@pytest.mark.parametrize(("median", "reason"), [(349, None), (351, "made_bright")])
def test_limits_below_what_may_outshine_the_cells(median: float, reason: str | None) -> None:
    """They make .25 of the ground, .15 more than percentiles at most made of it in the training."""
    difference = compare(levels(0, median, 30000), RANGES, RANGE, PERCENTILES)
    assert (difference and difference.reason) == reason


@pytest.mark.parametrize(("high", "reason"), [(801, None), (12799, None), (799, "made_dim"), (12801, "made_bright")])
def test_limits_in_place_of_others(high: float, reason: str | None) -> None:
    """Those of the model are a sixteenth."""
    own, given = Normalization("range", 0.0, 4095.0), Normalization("range", 0.0, 65520.0)
    difference = compare(levels(0, 1, high), RANGES, given, own)
    assert (difference and difference.reason) == reason
    assert difference is None or difference.value == pytest.approx(high / 16)


@pytest.mark.parametrize("automatic", [PERCENTILES, RANGE])
def test_a_few_bright_things_are_bright(automatic: Normalization) -> None:
    """The percentile lies in the noise, or on an even ground."""
    for ground in (levels(90, 100, 110, highest=1000), levels(0, 0, 0, highest=1000)):
        assert compare(ground, {"level": (0.0, 0.1), "high": (900.0, 1000.0)}, RANGE, automatic) is None
        assert compare(ground, RANGES, PERCENTILES, automatic) is None


def test_values_as_they_are_are_no_choice_where_the_model_takes_them_so() -> None:
    """The model's own have the percentiles of the default beside their kind."""
    difference = compare(levels(0, 1, 49), RANGES, Normalization("none", 0.0, 1.0), Normalization("none"))
    assert difference is not None
    assert difference.reason == "dim"


def test_constant_images_and_those_that_are_not_finite_say_nothing() -> None:
    for chosen in (PERCENTILES, RANGE):
        assert compare(levels(3, 3, 3), RANGES, chosen, PERCENTILES) is None
        not_finite = levels_of_channels(np.full((1, 4, 4), math.nan))[0]
        assert compare(not_finite, RANGES, chosen, PERCENTILES) is None


def test_dark_things_on_an_even_ground_have_no_place_between_percentiles() -> None:
    assert compare(GreyLevels(0, 200, 200, 200, 200, 900, 1000), RANGES, PERCENTILES, PERCENTILES) is None


def test_reasons_are_words_for_a_column() -> None:
    assert all(reason.isidentifier() for reason in REASONS)
