"""Names and colours of classes, and the masks that hold them."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from unetbio.classes import class_colours, default_class_names
from unetbio.errors import ImageError, UsageError
from unetbio.io import read_labels
from unetbio.settings.training import TrainingConfig, load_training_config
from unetbio.supervision.annotations import UNANNOTATED, name_classes, number_cells, number_classes
from unetbio.targets import of_training

CLASSES = TrainingConfig(target="classes")


def written(folder: Path, values: object, dtype: str = "uint8") -> Path:
    path = folder / "x_mask.tif"
    tifffile.imwrite(path, np.array([values] * 2, dtype))
    return path


def test_names_and_colours() -> None:
    assert default_class_names(3) == ("background", "class 1", "class 2")
    colours = class_colours(30)
    assert not colours[0].any()
    assert len({tuple(colour) for colour in colours.tolist()}) == 30


def test_class_numbers_are_taken_as_they_are(tmp_path: Path) -> None:
    mask = number_classes(read_labels(written(tmp_path, [0, 2, 1])), CLASSES)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, [[0, 2, 1]] * 2)


def test_values_are_mapped_and_what_nobody_annotated_is_marked(tmp_path: Path) -> None:
    config = TrainingConfig(target="classes", class_values=(0, 255), ignore_label=7)
    mask = number_classes(read_labels(written(tmp_path, [255, 0, 7])), config)
    np.testing.assert_array_equal(mask, [[1, 0, UNANNOTATED]] * 2)


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        ({}, [0, 255], r"^holds 255, which is none of the classes 0 to 254: say with class_values in the settings"),
        ({"class_names": ("a", "b")}, [0, 1, 2, 3], "holds 2, 3, which is none of the classes 0 to 1"),
        ({"class_values": (0, 255)}, range(12), r"holds 1, 2, 3, 4, 5, 6, 7, 8 \.\.\., .* none of the classes 0, 255"),
    ],
)
def test_values_that_are_no_class_are_named(tmp_path: Path, config: dict, values: list[int], message: str) -> None:
    mask = read_labels(written(tmp_path, values), allow_binary=True)
    with pytest.raises(ImageError, match=message) as caught:
        number_classes(mask, TrainingConfig(target="classes", **config))
    assert caught.value.reason == "unknown_class"


def test_a_binary_mask_becomes_cells_when_asked(tmp_path: Path) -> None:
    mask = read_labels(written(tmp_path, [255, 0, 255]), allow_binary=True)
    cells = number_cells(mask, TrainingConfig(split_components=True))
    np.testing.assert_array_equal(cells, [[1, 0, 2]] * 2)


@pytest.mark.parametrize(
    ("ignored", "values", "expected"),
    [
        (65535, [0, 7, 900, 65535], [0, 1, 2, 65535]),
        (2, [0, 7, 2, 900, 1000], [0, 1, 2, 3, 4]),
        (2, [0, 2, 7, 900, 1000], [0, 2, 1, 3, 4]),
        (None, [0, 7, 900, 65535], [0, 1, 2, 3]),
        (0, [0, 7, 900, 65535], [0, 1, 2, 3]),
    ],
)
def test_pixels_that_are_not_annotated_keep_their_number_where_gaps_are_closed(
    ignored: int | None, values: list[int], expected: list[int]
) -> None:
    mask = np.array([values] * 3, np.uint16)
    cells = number_cells(mask, TrainingConfig(ignore_label=ignored))
    np.testing.assert_array_equal(cells, [expected] * 3)


def test_classes_are_named_by_the_settings_or_counted_in_the_masks() -> None:
    mask = np.array([[0, 1, 2, UNANNOTATED]])
    assert name_classes(CLASSES, [mask[:, :2], mask]) == ("background", "class 1", "class 2")
    assert name_classes(TrainingConfig(target="classes", class_names=("a", "b", "c", "d")), [mask])[-1] == "d"
    assert len(name_classes(TrainingConfig(target="classes", class_values=(0, 5, 9, 10)), [mask])) == 4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, 2], "the masks hold the classes 0, 2, and not all numbers from 0 to 2: name all classes"),
        ([1, UNANNOTATED], "the masks hold class 1 alone: at least two classes are needed"),
        ([UNANNOTATED], "the masks hold no annotated pixel"),
    ],
)
def test_masks_that_do_not_tell_the_classes_are_refused(values: list[int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        name_classes(CLASSES, [np.array([values])])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_names": ["a", "b"]}, "class_names need target: classes"),
        ({"target": "classes", "split_components": True}, "split_components makes cells of masks"),
        ({"target": "classes", "class_names": ["a"]}, r"class_names \['a'\] must be 2 to 255 different ones"),
        ({"target": "classes", "class_values": [0, 3, 3]}, r"class_values \[0, 3, 3\] must be 2 to 255 different"),
        (
            {"target": "classes", "class_names": ["a", "b", "c"], "class_values": [0, 1]},
            "there are 3 class_names and 2 class_values",
        ),
        ({"target": "classes", "class_values": [0, 9], "ignore_label": 9}, "ignore_label 9 is one of class_values"),
    ],
)
def test_settings_of_classes_that_cannot_be_meant(settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        of_training(load_training_config(None, settings))
