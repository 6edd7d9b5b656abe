import numpy as np
import pytest

from unetbio.measurement.frame_summary import calibrated, describe_labels
from unetbio.supervision.confidence import MIN_CELLS, fit_confidence


def cells(seed: int, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Mean probabilities, and whether the cells are right: the more often the higher, as the square."""
    rng = np.random.default_rng(seed)
    means = rng.uniform(0.4, 1.0, count)
    return means, rng.random(count) < means**2


def test_of_cells_with_a_confidence_so_many_are_right() -> None:
    knots = fit_confidence(*cells(0))
    means, right = cells(1)
    confidences = calibrated(means, knots)
    bins = np.digitize(confidences, np.linspace(0, 1, 11))
    gaps = [abs(np.mean(right[bins == one]) - np.mean(confidences[bins == one])) for one in np.unique(bins)]
    assert np.average(gaps, weights=np.unique(bins, return_counts=True)[1]) < 0.04


def test_the_calibration_rises_and_promises_no_certainty() -> None:
    means, right = cells(2)
    knots = fit_confidence(means, right | (means > 0.9))
    xs, ys = np.array(knots).T
    assert (np.diff(xs) > 0).all()
    assert (np.diff(ys) >= 0).all()
    assert 0.9 < ys[-1] < 1


def test_few_cells_give_no_calibration() -> None:
    means, right = cells(3, MIN_CELLS - 1)
    assert fit_confidence(means, right) == ()
    np.testing.assert_array_equal(calibrated(means, ()), means)


def test_equal_probabilities_give_one_share() -> None:
    knots = fit_confidence(np.full(200, 0.9), np.arange(200) % 4 > 0)
    assert len(knots) == 1
    assert calibrated(np.array([0.2, 0.95]), knots) == pytest.approx([knots[0][1]] * 2)


def test_the_record_of_a_frame_holds_calibrated_confidences() -> None:
    labels = np.array([[1, 1, 0, 2, 2]], np.uint16)
    probability = np.array([[255, 255, 0, 102, 102]], np.uint8)
    assert describe_labels(labels, None, probability).confidences == (1.0, 0.4)
    assert describe_labels(labels, None, probability, ((0.4, 0.1), (0.9, 0.8))).confidences == (0.8, 0.1)
