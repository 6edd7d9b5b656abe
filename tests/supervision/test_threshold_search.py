import numpy as np
import pytest

from unetbio.postprocessing.instances import PostProcessing
from unetbio.supervision.thresholds import USUAL_SHARE, search_thresholds
from unetbio.targets import centres
from unetbio.targets.instances import CLASSES


def two_cells() -> tuple[np.ndarray, np.ndarray]:
    """Two cells whose probabilities dip to .6 between them, and a halo of .45 around them."""
    label_image = np.zeros((40, 60), np.uint16)
    label_image[10:30, 10:29] = 1
    label_image[10:30, 31:50] = 2
    probabilities = np.full(label_image.shape, 0.02, np.float32)
    probabilities[7:33, 7:53] = 0.45
    probabilities[10:30, 10:50] = 0.6
    probabilities[label_image > 0] = 0.95
    return probabilities, label_image


def with_background(probability: np.ndarray) -> np.ndarray:
    return np.stack([1 - probability, probability])


def test_thresholds_part_what_touches_and_leave_the_halo_out() -> None:
    probabilities, label_image = two_cells()
    found = search_thresholds([with_background(probabilities)], [label_image], CLASSES.label)
    assert found.scores["AP@.5"] == 1.0
    assert found.postprocessing.mask_threshold > 0.45
    assert max(found.postprocessing.seed_thresholds) > 0.6


def test_specks_are_dropped() -> None:
    probabilities, label_image = two_cells()
    probabilities[2:5, 2:5] = 0.97  # 9 pixels beside cells of 380
    found = search_thresholds([with_background(probabilities)], [label_image], CLASSES.label)
    assert max(found.postprocessing.min_area, found.postprocessing.min_seed_area) > 9
    assert found.scores["AP@.5"] == 1.0


def test_what_is_nowhere_certain_is_dropped_where_that_is_better() -> None:
    # A blurred patch as large as a cell, whose probability is that of a cell's rim.
    probabilities, label_image = two_cells()
    probabilities = np.pad(probabilities, ((0, 0), (0, 40)), constant_values=0.02)
    probabilities[10:30, 70:90] = 0.85
    padded = np.pad(label_image, ((0, 0), (0, 40)))
    blurred = search_thresholds([with_background(probabilities)], [padded], CLASSES.label)
    assert blurred.postprocessing.min_certain > 0
    assert blurred.scores["AP@.5"] == 1.0
    assert (
        search_thresholds([with_background(two_cells()[0])], [label_image], CLASSES.label).postprocessing.min_certain
        == USUAL_SHARE
    )


@pytest.mark.parametrize(("probability", "score"), [(0.0, 1.0), (0.95, 0.0)])
def test_without_a_cell_the_defaults_stay(probability: float, score: float) -> None:
    # All settings score alike: none of them is better than what is known beforehand.
    plane = with_background(np.full((20, 20), probability, np.float32))
    found = search_thresholds([plane, plane], [np.zeros((20, 20), np.uint16)] * 2, CLASSES.label)
    assert found.postprocessing == PostProcessing()
    assert found.scores["mean_AP"] == score


def test_centre_thresholds_are_tried_where_there_are_centres() -> None:
    # The insides of two cells run together, and one threshold of the centre parts them.
    label_image = two_cells()[1]
    label_image[10:30, 29] = 1
    label_image[10:30, 30] = 2
    probabilities = np.zeros((4, *label_image.shape), np.float32)
    probabilities[0] = label_image == 0
    probabilities[2] = label_image > 0
    for columns in (slice(15, 24), slice(36, 45)):
        probabilities[2:, 15:25, columns] = np.array([0.4, 0.6])[:, None, None]
    found = search_thresholds([probabilities], [label_image], centres.CLASSES.label, has_centres=True)
    assert found.scores["AP@.5"] == 1.0
    assert found.postprocessing.centre_thresholds
    without = search_thresholds([probabilities], [label_image], centres.CLASSES.label)
    assert without.scores["AP@.5"] < 1.0
    assert not without.postprocessing.centre_thresholds
