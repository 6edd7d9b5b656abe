"""Weights of classes by how often they occur."""

import doctest
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetbio.errors import UsageError
from unetbio.supervision import class_weights as module
from unetbio.supervision.class_weights import class_weights, median_frequency_weights


@pytest.mark.parametrize(
    ("counts", "cap", "expected"),
    [
        ([500, 500], 2.0, (1, 1)),
        ([800, 200], 3.0, (0.625, 2.5)),
        ([900, 100], 3.0, (0.7 / 0.9, 3)),
        ([900, 100], 1.0, (1, 1)),
        ([960, 30, 10], 3.0, (0.88 / 0.96, 3, 3)),
        # 25 % weighs 4/3 at first; after the rarest is cut to the cap, the two others share what is left.
        ([700, 250, 50], 2.0, (0.45 / 0.7, 0.45 / 0.25, 2)),
        ([100, 0], 2.0, (1, 2)),  # a class that never occurs would weigh infinitely much
    ],
)
def test_class_weights(counts: list[int], cap: float, expected: tuple[float, ...]) -> None:
    assert class_weights(counts, cap=cap) == pytest.approx(expected)


@settings(deadline=None)
@given(counts=st.lists(st.integers(0, 10**12), min_size=1, max_size=6).filter(any), cap=st.floats(1, 20))
def test_the_mean_class_weight_over_pixels_is_one_and_none_is_above_the_cap(counts: list[int], cap: float) -> None:
    weights = class_weights(counts, cap=cap)
    assert np.dot(weights, counts) / sum(counts) == pytest.approx(1)
    assert all(0 < weight <= cap for weight in weights)
    pairs = sorted(zip(counts, weights, strict=True))
    assert all(rare >= common - 1e-9 for (_, rare), (_, common) in itertools.pairwise(pairs))


def test_median_frequency_counts_only_the_images_in_which_a_class_occurs() -> None:
    # Class 1 fills 40 of the 100 pixels of the one image that has it, class 2 5 of 50; class 0 has 60 + 45 of 150.
    weights = median_frequency_weights([[60, 40, 0, 0], [45, 0, 5, 0]])
    assert weights == pytest.approx((0.4 / 0.7, 1.0, 0.4 / 0.1, 1.0))


@pytest.mark.parametrize("counts", [[], [0, 0], [-1, 2]])
def test_counts_that_cannot_be_weighed(counts: list[int]) -> None:
    with pytest.raises(UsageError, match="class weights need pixel counts of 0 or more, not all 0"):
        class_weights(counts)


@pytest.mark.parametrize("cap", [0.9, math.nan, math.inf])
def test_a_cap_that_cannot_be_used(cap: float) -> None:
    with pytest.raises(UsageError, match="needs to be 1 or more"):
        class_weights([1, 1], cap=cap)


def test_median_frequency_needs_pixels() -> None:
    with pytest.raises(UsageError, match=r"class weights need pixel counts of 0 or more, not all 0, got \[\[0"):
        median_frequency_weights([[0, 0]])


def test_examples_in_the_documentation() -> None:
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed
