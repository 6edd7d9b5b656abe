"""Scores of class masks, by hand."""

import math

import numpy as np
import pytest

from unetbio.errors import ImageError
from unetbio.metrics.classes import compare_classes

NAMES = ("background", "nucleus", "cytoplasm")


def test_scores_by_hand() -> None:
    truth = np.array([[0, 0, 1, 1], [0, 0, 1, 2]])
    found = np.array([[0, 1, 1, 1], [0, 0, 2, 2]])
    scores = compare_classes(found, truth, boundaries=False).scores(NAMES)
    assert scores == pytest.approx(
        {
            "mean_IoU": (3 / 4 + 2 / 4 + 1 / 2) / 3,
            "mean_Dice": (4 / 6 + 2 / 3) / 2,
            "pixel_accuracy": 6 / 8,
            "IoU background": 3 / 4,
            "IoU nucleus": 2 / 4,
            "IoU cytoplasm": 1 / 2,
            "Dice background": 6 / 7,
            "Dice nucleus": 4 / 6,
            "Dice cytoplasm": 2 / 3,
        }
    )


def test_a_mean_over_no_class_but_the_background_has_no_value() -> None:
    scores = compare_classes(np.zeros((2, 2), int), np.zeros((2, 2), int)).scores(NAMES)
    assert scores["Dice background"] == 1.0
    assert math.isnan(scores["mean_Dice"])


def test_images_are_pooled_by_their_pixels_also_where_they_have_other_classes() -> None:
    one = compare_classes(np.array([[0, 0]]), np.array([[0, 1]]))
    two = compare_classes(np.array([[1, 2]]), np.array([[1, 2]]))
    scores = (one + two).scores(NAMES)
    assert scores["IoU background"] == 0.5
    assert scores["IoU nucleus"] == 0.5
    assert scores["IoU cytoplasm"] == 1.0
    assert scores["pixel_accuracy"] == 0.75
    assert (two + one).scores(NAMES) == scores


def test_a_class_that_nobody_has_does_not_count() -> None:
    scores = compare_classes(np.array([[0, 1]]), np.array([[0, 1]])).scores(NAMES)
    assert scores["mean_IoU"] == 1.0
    assert math.isnan(scores["IoU cytoplasm"])
    assert math.isnan(scores["boundary_F1 cytoplasm"])


def test_a_class_that_only_the_prediction_has_costs_the_class_it_was_taken_from() -> None:
    scores = compare_classes(np.array([[0, 0, 0, 2]]), np.array([[0, 0, 0, 0]])).scores(NAMES)
    assert scores["IoU cytoplasm"] == 0.0
    assert scores["mean_IoU"] == scores["IoU background"] == 0.75


def test_what_nobody_annotated_counts_nowhere() -> None:
    scores = compare_classes(np.array([[0, 1, 2]]), np.array([[0, 1, 255]]), ignore_label=255).scores(NAMES)
    assert scores["pixel_accuracy"] == scores["mean_IoU"] == scores["boundary_F1"] == 1.0
    assert math.isnan(scores["IoU cytoplasm"])


def test_boundaries_of_each_class_are_compared_within_the_tolerance() -> None:
    truth = np.zeros((12, 12), np.uint8)
    truth[:, 6:] = 1
    found = np.roll(truth, 1, axis=1)
    found[:, 0] = 0
    assert compare_classes(found, truth, tolerance=1).scores(NAMES)["boundary_F1"] == 1.0
    assert compare_classes(found, truth, tolerance=0).scores(NAMES)["boundary_F1"] == 0.0


def test_the_edge_of_an_annotation_is_no_boundary() -> None:
    truth = np.zeros((30, 40), np.uint8)
    truth[:, 20:] = 1
    found = np.roll(truth, 5, axis=1)
    found[:, :5] = 0
    # The boundary lies in the annotated band, and is predicted five pixels away.
    banded = np.where((np.arange(30) < 20)[:, np.newaxis], truth, 255)
    assert compare_classes(found, truth).scores(NAMES)["boundary_F1"] == 0.0
    assert compare_classes(found, banded, ignore_label=255).scores(NAMES)["boundary_F1"] == 0.0
    # Scribbles that do not touch show no boundary at all.
    scribbles = np.full_like(truth, 255)
    scribbles[10, 2:15], scribbles[10, 25:38] = 0, 1
    scores = compare_classes(found, scribbles, ignore_label=255).scores(NAMES)
    assert math.isnan(scores["boundary_F1"])
    assert scores["pixel_accuracy"] == 1.0


def test_three_dimensions() -> None:
    truth = np.random.default_rng(0).integers(0, 3, (4, 5, 6))
    scores = compare_classes(truth, truth).scores(NAMES)
    assert scores["mean_IoU"] == scores["boundary_F1"] == scores["pixel_accuracy"] == 1.0


def test_shapes_must_agree() -> None:
    with pytest.raises(ImageError, match=r"the prediction has shape \(1, 2\) and the truth \(2, 1\)"):
        compare_classes(np.zeros((1, 2), int), np.zeros((2, 1), int))
