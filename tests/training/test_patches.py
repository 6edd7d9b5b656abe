"""Patches, their supervision, and the split into training and validation."""

import dataclasses
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from disc_images import CONFIG, discs
from skimage.measure import label as measure_label
from skimage.measure import regionprops

from unetbio import targets
from unetbio.errors import UnetbioError
from unetbio.geometry import unet_geometry
from unetbio.settings.training import TrainingConfig
from unetbio.supervision.annotations import UNANNOTATED
from unetbio.targets.classes import ClassLearner
from unetbio.targets.instances import InstanceLearner
from unetbio.training.data import dataset
from unetbio.training.data.dataset import PatchSampler
from unetbio.training.data.examples import load_examples
from unetbio.training.data.pairs import AnnotatedPair

pytestmark = pytest.mark.usefixtures("quick_search")


def test_a_pixel_weighs_what_its_class_weighs_and_rare_classes_are_seen_as_often() -> None:
    classes = np.zeros((60, 50), np.uint8)
    classes[:, 30:] = 1
    classes[:2, :2] = 2
    classes[50:] = UNANNOTATED
    learner = ClassLearner(
        CONFIG.model_copy(update={"target": "classes", "class_names": ("ground", "large", "small")}), [classes]
    )
    assert learner.count(classes).tolist() == [1496, 1000, 4]
    target, weight_map = learner.encode(classes, (0.5, 1.0, 2.0), None)
    np.testing.assert_array_equal(target[:50], classes[:50])
    assert not target[50:].any()
    np.testing.assert_array_equal(weight_map[:50], np.array([0.5, 1.0, 2.0])[classes[:50]])
    assert not weight_map[50:].any()
    places = learner.places(classes).astype(int)
    assert np.bincount(classes[tuple(places.T)], minlength=3).tolist() == [0, 63, 4]


@pytest.mark.parametrize(
    ("weighting", "expected"),
    # Two images of 100 pixels; class 1 has 50 pixels of the one image, class 2 has 10 of the other.
    # The cap of "balanced" holds class 2 at 2; the others share what it leaves, weight times frequency being equal.
    [
        ("median_frequency", (0.5 / 0.7, 1.0, 0.5 / 0.1)),
        ("balanced", (0.45 / 0.7, 0.45 / 0.25, 2.0)),
        ("none", (1.0, 1.0, 1.0)),
    ],
)
def test_classes_are_weighted_as_the_settings_say(weighting: str, expected: tuple[float, ...]) -> None:
    examples = []
    for number, pixels in ((1, 50), (2, 10)):
        classes = np.zeros((10, 10), np.uint8)
        classes.flat[:pixels] = number
        examples.append(dataclasses.replace(discs(0), label_image=classes))
    config = TrainingConfig(target="classes", class_weighting=weighting)
    sampler = PatchSampler(
        examples, config, ClassLearner(config, [one.label_image for one in examples]), (40, 40), (10, 10)
    )
    assert sampler.class_weights == pytest.approx(expected)


def test_patches_follow_from_seed_and_index() -> None:
    examples = [discs(seed) for seed in range(3)]
    geometry = unet_geometry([(3, 3)] * 3, [(2, 2)] * 2)
    first, again = (
        PatchSampler(examples, CONFIG, InstanceLearner(CONFIG), (76, 76), geometry.context) for _ in range(2)
    )
    again.patch(3)  # the order in which patches are drawn must not matter
    for index in (0, 3):
        assert np.array_equal(first.patch(index).image, again.patch(index).image)
        assert np.array_equal(first.patch(index).weight_map, again.patch(index).weight_map)
    assert not np.array_equal(first.patch(0).image, first.patch(1).image)
    patch = first.patch(0)
    assert patch.image.shape == (1, 76, 76)
    assert patch.target.shape == patch.weight_map.shape == (36, 36)


@pytest.mark.parametrize(("size", "lost"), [(76, 20), (140, 44), (508, 190), (252, 44), (64, 0)])
def test_patches_on_a_cell_hold_it_where_they_are_supervised(size: int, lost: int) -> None:
    labels = np.zeros((600, 600), np.uint16)
    labels[299:302, 299:302] = 1
    still = {"aligned_fraction": 1.0, "rotate": False}
    config = TrainingConfig.model_validate(
        {
            **CONFIG.model_dump(),
            "foreground_fraction": 1.0,
            "augmentation": {**CONFIG.augmentation.model_dump(), **still},
        }
    )
    image = labels[None].astype(np.float32)
    example = dataclasses.replace(discs(0), image=image, label_image=labels, annotated_diameter_px=None)
    sampler = PatchSampler([example], config, InstanceLearner(config), (size, size), (lost, lost))
    assert all(sampler.patch(index).target.any() for index in range(30))


def test_groups_are_drawn_by_the_root_of_their_images_and_images_alike() -> None:
    crowded, lonely = discs(0), discs(1)
    single = np.where(lonely.label_image == 1, 1, 0).astype(np.uint16)
    examples = [
        *(dataclasses.replace(crowded, name=f"{n}", group="common") for n in range(9)),
        dataclasses.replace(lonely, label_image=single, group="rare"),
    ]
    config = CONFIG.model_copy(update={"sampling": "groups"})
    sampler = PatchSampler(examples, config, InstanceLearner(config), (76, 76), (20, 20))
    drawn = np.array([sampler._place(np.random.default_rng((0, index)))[0] for index in range(4000)])
    # Roots of 9 and 1: three quarters and a quarter, although the rare image holds one cell of 37.
    assert np.mean(drawn == 9) == pytest.approx(0.25, abs=0.03)
    assert np.bincount(drawn[drawn < 9]) / len(drawn) == pytest.approx(1 / 12, abs=0.02)


def test_large_cells_are_reduced_to_the_largest_diameter() -> None:
    example = discs(0)
    augmentation = CONFIG.augmentation.model_copy(update={"largest_diameter": 10.0, "elastic_sigma": 0.0})
    config = CONFIG.model_copy(update={"augmentation": augmentation})
    sampler = PatchSampler([example], config, InstanceLearner(config), (76, 76), (0, 0))
    usual = PatchSampler([example], CONFIG, InstanceLearner(CONFIG), (76, 76), (0, 0))

    def median_diameter(sampler: PatchSampler, index: int) -> float:
        areas = [region.area for region in regionprops(measure_label(sampler.patch(index).target))]
        return 2 * float(np.sqrt(np.median(areas) / np.pi))

    # The border of a patch cuts cells, so single patches differ.
    assert np.median([median_diameter(sampler, index) for index in range(20)]) < 11
    assert np.median([median_diameter(usual, index) for index in range(20)]) > 15


@pytest.mark.parametrize(
    ("settings", "ndim", "zoom"),
    [
        # Cells of 20 pixels, of which the largest are reduced to 10; the part without annotation is wider than a cell.
        ({}, 2, 0.5),
        ({"ignore_label": 9}, 2, 0.5),
        ({"target": "classes", "class_values": (0, 1, 2)}, 2, math.inf),
        # A segmentation does not find the scale of stacks.
        ({}, 3, math.inf),
    ],
)
def test_cells_of_planes_alone_are_reduced_in_training_and_in_validation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, settings: dict[str, Any], ndim: int, zoom: float
) -> None:
    caplog.set_level(logging.INFO)
    grid = np.stack(np.meshgrid(*[np.arange(24)] * ndim, indexing="ij"))
    cell = ((grid - 11.5) ** 2).sum(axis=0) <= 10**2
    labels = np.concatenate([cell * 1, cell * 2], axis=-1).astype(np.uint8)
    if "ignore_label" in settings:
        labels = np.concatenate([labels, *[np.full_like(labels, 9)] * 3], axis=-1)
    for name, array in (("image.tif", labels.astype(np.uint16) * 100 + 7), ("mask.tif", labels)):
        tifffile.imwrite(tmp_path / name, array, metadata={"axes": "ZYX"[-ndim:]}, imagej=True)
    config = TrainingConfig(**settings, augmentation={"largest_diameter": 10})
    (example,) = load_examples([AnnotatedPair(tmp_path / "image.tif", tmp_path / "mask.tif")], config)
    learner = targets.of_training(config).learner(config, [example.label_image])
    sampler = PatchSampler([example], config, learner, (20,) * ndim, (0,) * ndim)
    assert ("largest_diameter changes nothing here: images are stacks" in caplog.text) == (ndim == 3)
    assert sampler.zooms == [pytest.approx(zoom, abs=0.01)]
    seen = dataset.as_learned(example, config.augmentation)
    assert seen.label_image.shape[-1] == pytest.approx(min(1, zoom) * labels.shape[-1], abs=1)


def test_supervision_knows_neighbours_beyond_the_part_that_is_learned() -> None:
    # Two cells with three background columns between them; the right one lies in the context alone.
    label_image = np.zeros((40, 40), np.uint8)
    label_image[10:30, 12:29] = 1
    label_image[10:30, 32:40] = 2
    sampler = PatchSampler([discs(0)], CONFIG, InstanceLearner(CONFIG), (40, 40), (10, 10))
    target, weight_map = sampler.supervision(label_image)
    assert target.shape == (20, 20)
    assert set(np.unique(target)) == {0, 1}
    assert weight_map[10, 19] > 5  # column 29: distances 1 and 3 pixels


def test_pixels_nobody_annotated_weigh_nothing() -> None:
    label_image = np.zeros((40, 40), np.int32)
    label_image[:, :15] = 255
    label_image[15:25, 20:30] = 1
    config = CONFIG.model_copy(update={"ignore_label": 255})
    target, weight_map = PatchSampler([discs(0)], config, InstanceLearner(config), (40, 40), (10, 10)).supervision(
        label_image
    )
    assert not weight_map[:, :5].any()
    assert not target[:, :5].any()
    assert weight_map[:, 5:].all()


def test_split_is_by_name_and_never_empty() -> None:
    examples = [discs(seed) for seed in range(10)]
    training_part, validation_part = dataset.split_examples(examples, 0.2)
    assert (len(training_part), len(validation_part)) == (8, 2)
    names = {example.name for example in dataset.split_examples(examples[::-1], 0.2)[1]}
    assert names == {example.name for example in validation_part}
    assert [len(part) for part in dataset.split_examples(examples[:2], 0.9)] == [1, 1]
    with pytest.raises(UnetbioError, match="at least two are needed"):
        dataset.split_examples(examples[:1], 0.1)


def test_split_of_equal_names_does_not_follow_the_order_of_input() -> None:
    names = [f"/data/p{plate}/{well}.tif" for plate in range(3) for well in "abc"]
    examples = [dataclasses.replace(discs(0), name=name) for name in names]
    parted = {example.name for example in dataset.split_examples(examples, 0.5)[1]}
    for turned in (examples[::-1], examples[4:] + examples[:4]):
        assert {example.name for example in dataset.split_examples(turned, 0.5)[1]} == parted
    moved = [dataclasses.replace(one, name=one.name.replace("/data", "elsewhere/data")) for one in examples[::-1]]
    validation = {example.name for example in dataset.split_examples(moved, 0.5)[1]}
    assert validation == {name.replace("/data", "elsewhere/data") for name in parted}


def test_files_are_drawn_whole() -> None:
    """Frames that are read in turns belong to their files."""
    frames = [dataclasses.replace(discs(seed), name=f"{seed % 5}.tif") for seed in range(15)]
    files = dataset.draw_files(frames, 3)
    assert len({tuple(file[0].name for file in dataset.draw_files(frames, seed)) for seed in range(9)}) > 1
    assert sorted(file[0].name for file in files) == [f"{number}.tif" for number in range(5)]
    for file in files:
        first = int(file[0].name[0])
        assert [id(frame) for frame in file] == [id(frame) for frame in frames[first::5]]


def test_frames_of_one_file_alone_are_drawn_as_neighbours() -> None:
    frames = [dataclasses.replace(discs(seed), name="lapse.tif") for seed in range(6)]
    firsts = set()
    for seed in range(9):
        drawn = [[id(one) for one in frames].index(id(frame)) for (frame,) in dataset.draw_files(frames, seed)]
        assert drawn == [(drawn[0] + step) % 6 for step in range(6)]
        firsts.add(drawn[0])
    assert len(firsts) > 1


def test_files_of_one_image_are_drawn_as_they_always_were() -> None:
    """So that a curve of an earlier version goes on."""
    examples = [discs(seed) for seed in range(10)]
    drawn = [example.name for (example,) in dataset.draw_files(examples, 3)]
    assert drawn == [examples[number].name for number in np.random.default_rng(3).permutation(10)]
