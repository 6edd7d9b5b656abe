"""Checks of masks on images of which a part is annotated."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from unetbio.errors import ImageError
from unetbio.preprocessing import normalization
from unetbio.settings.training import TrainingConfig
from unetbio.training.data.checks.alignment import find_displacement
from unetbio.training.data.checks.checks import check_examples
from unetbio.training.data.dataset import Example

CONFIG = TrainingConfig(ignore_label=255)
STEP = 26


def partly_annotated(seed: int, *, ndim: int = 2) -> Example:
    """A grid of bright cells, of which the four in a corner are dim, and alone annotated."""
    rng = np.random.default_rng(seed)
    size = 5 * STEP
    y, x = np.mgrid[:size, :size]
    inside = ((y % STEP - STEP / 2) / 6) ** 2 + ((x % STEP - STEP / 2) / 8) ** 2 <= 1
    is_near = (y < 2 * STEP) & (x < 2 * STEP)
    image = 200 + np.where(is_near, 80, 800) * inside + rng.normal(0, 5, inside.shape)
    label_image = np.where(inside, 1 + y // STEP * 2 + x // STEP, 0)
    label_image[~is_near] = 255
    if ndim == 3:
        image, label_image = np.stack([image] * 3), np.stack([np.full_like(label_image, 255), label_image, label_image])
    image = image.astype(np.uint16)[np.newaxis]
    scaling = normalization.measure(image, CONFIG.normalization)
    return Example(f"partly{seed}.tif", image, scaling, label_image.astype(np.uint16))


@pytest.mark.parametrize("ndim", [2, 3])
def test_cells_that_are_not_annotated_make_no_mask_a_displaced_one(ndim: int) -> None:
    """Moved by a step, the mask would lie on brighter cells."""
    examples = [partly_annotated(seed, ndim=ndim) for seed in range(3)]
    assert check_examples(examples[1:], examples[:1], CONFIG) == []


def test_a_displaced_mask_is_found_by_its_annotated_part() -> None:
    moved = []
    for seed in range(3):
        example = partly_annotated(seed)
        # The dim cells are as bright as the others, and all but a rim is annotated.
        inside = np.pad(example.label_image[: 2 * STEP, : 2 * STEP] > 0, ((0, 3 * STEP), (0, 3 * STEP)), mode="wrap")
        numbers = 1 + np.add.outer(np.arange(5 * STEP) // STEP * 5, np.arange(5 * STEP) // STEP)
        labels = np.where(inside, numbers, 0)
        image = (200 + 800 * labels.astype(bool)).astype(np.uint16)[np.newaxis]
        labels = np.roll(labels, (-6, 9), (0, 1))
        labels[:, :10] = 255
        scaling = normalization.measure(image, CONFIG.normalization)
        moved.append(dataclasses.replace(example, image=image, scaling=scaling, label_image=labels.astype(np.uint16)))
    with pytest.raises(ImageError) as caught:
        check_examples(moved[1:], moved[:1], CONFIG)
    assert caught.value.reason == "displaced"


def half_annotated(seed: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Image of cells at random places, and their mask, of which the left half is annotated."""
    rng = np.random.default_rng(seed)
    label_image = np.zeros((96, 128), np.uint16)
    for number in range(1, 25):
        y, x = rng.integers(0, 84), rng.integers(0, 116)
        label_image[y : y + 12, x : x + 12] = number
    image = 200 + 800 * (label_image > 0) + rng.normal(0, 5, label_image.shape)
    label_image[:, 64:] = 255
    return image.astype(np.uint16)[np.newaxis], label_image


def test_a_mask_that_was_mirrored_with_its_annotated_half_is_found() -> None:
    for seed in range(5):
        image, label_image = half_annotated(seed)
        mirrored = label_image[:, ::-1]
        given = np.where(mirrored == 255, 0, mirrored)
        assert find_displacement(image, given, mirrored == 255) == "mirrored left to right"


def test_a_moved_mask_of_cells_without_background_is_found() -> None:
    """What is near the cells is compared, although it is not annotated."""
    for seed in range(5):
        image, label_image = half_annotated(seed)
        cells = np.where(label_image == 255, 0, label_image)
        assert find_displacement(image, cells, cells == 0) is None
        moved = np.roll(cells, (7, 7), (0, 1))
        assert find_displacement(image, moved, moved == 0) is not None


def test_a_moved_mask_of_cells_with_rims_is_found() -> None:
    """Rims say nothing of what is there, but they are compared as if they were background."""
    for seed in range(5):
        image, label_image = half_annotated(seed)
        image[:, :, 64:] = 200
        cells = np.where(label_image == 255, 0, label_image)
        rims = ndimage.maximum_filter(cells > 0, 5) & ~ndimage.minimum_filter(cells > 0, 5)
        cells[rims] = 0
        assert find_displacement(image, cells, rims) is None
        assert find_displacement(image, *(np.roll(plane, (5, 5), (0, 1)) for plane in (cells, rims))) is not None
