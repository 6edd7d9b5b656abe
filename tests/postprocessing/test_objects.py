"""Objects and their table, drawn by hand."""

import re

import numpy as np
import pytest

from unetbio.errors import UsageError
from unetbio.postprocessing.objects import ObjectSettings, ObjectTable, bounding_boxes, resize_objects, select_objects

LABELS = np.array(
    [
        [1, 1, 0, 0, 0, 0],
        [0, 0, 0, 2, 2, 0],
        [0, 3, 0, 2, 2, 0],
        [0, 0, 0, 0, 0, 0],
    ],
    np.uint16,
)


def table() -> ObjectTable:
    scores = {"score": np.array([0.9, 0.8, 0.7]), "class": np.array([1, 2, 1])}
    return {"label": np.arange(1, 4), **scores, **bounding_boxes(LABELS)}


def columns(found: ObjectTable) -> dict[str, list[float]]:
    return {name: column.tolist() for name, column in found.items()}


def test_without_limits_everything_stays() -> None:
    label_image, found = select_objects(LABELS, table(), ObjectSettings())
    np.testing.assert_array_equal(label_image, LABELS)
    assert columns(found) == columns(table())


@pytest.mark.parametrize(
    ("limits", "scores"),
    [
        ({"min_area": 2}, [0.9, 0.8]),
        ({"max_area": 2}, [0.9, 0.7]),
        ({"min_area": 2, "max_area": 2}, [0.9]),
        ({"exclude_border": True}, [0.8, 0.7]),
        ({"min_area": 9}, []),
    ],
)
def test_objects_are_dropped_and_the_others_get_ids_without_gaps(limits: dict[str, float], scores: list[float]) -> None:
    label_image, found = select_objects(LABELS, table(), ObjectSettings(**limits))  # type: ignore[arg-type]
    assert found["score"].tolist() == scores
    assert found["label"].tolist() == list(range(1, len(scores) + 1))
    assert np.unique(label_image[label_image > 0]).tolist() == found["label"].tolist()
    for row, score in enumerate(scores):
        rows, cols = (slice(int(found[f"bbox_{a}_start"][row]), int(found[f"bbox_{a}_stop"][row])) for a in "yx")
        old = {0.9: 1, 0.8: 2, 0.7: 3}[score]
        np.testing.assert_array_equal(label_image[rows, cols] == row + 1, LABELS[rows, cols] == old)


def test_objects_of_an_area_have_half_of_their_pixels_in_it() -> None:
    within = np.zeros(LABELS.shape, bool)
    within[:, 3] = within[0, 0] = True
    label_image, found = select_objects(LABELS, table(), ObjectSettings(), within)
    assert found["score"].tolist() == [0.9, 0.8]
    np.testing.assert_array_equal(label_image, np.where(LABELS == 3, 0, LABELS))
    within[1, 3] = False
    assert select_objects(LABELS, table(), ObjectSettings(), within)[1]["score"].tolist() == [0.9]


def test_boxes_are_in_pixels_of_the_new_size_and_what_has_no_pixel_left_is_no_object() -> None:
    label_image, found = resize_objects(LABELS, table(), (8, 12))
    np.testing.assert_array_equal(label_image, LABELS.repeat(2, axis=0).repeat(2, axis=1))
    assert found["bbox_y_stop"].tolist() == [2, 6, 6]
    assert found["bbox_x_start"].tolist() == [0, 6, 2]
    smaller, found = resize_objects(LABELS, table(), (2, 3))
    assert smaller.shape == (2, 3)
    assert len(found["score"]) == len(np.unique(smaller)) - 1 < 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"score_threshold": 1.0}, "score_threshold 1: must lie between 0 and 1; choose another one"),
        ({"mask_threshold": 0.0}, "mask_threshold 0: must lie between 0 and 1"),
        ({"min_area": -1}, "min_area -1: must not be negative; use 0 for no limit"),
        ({"min_area": 5, "max_area": 2}, "max_area 2 is below min_area 5: no object could remain; change one"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        ObjectSettings(**values)  # type: ignore[arg-type]
