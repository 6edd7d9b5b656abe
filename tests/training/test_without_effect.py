"""Settings that change nothing in a training, by target, network, schedule, augmentation and images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unetbio.settings.training import Augmentation, TrainingConfig
from unetbio.training.data.augmentation import change_intensity
from unetbio.training.data.pairs import AnnotatedFiles, AnnotatedPair
from unetbio.training.without_effect import GROUP, INTENSITY, find_without_effect

PAIR = AnnotatedPair(Path("a.tif"), Path("m.tif"))
NO_INTENSITY = {name: 1 if name == "gamma" else 0 for name in INTENSITY}
CLASSES: dict[str, Any] = {"target": "classes", "class_names": ["background", "cell"]}
WEIGHTED: dict[str, Any] = {"class_weighting": "balanced", "class_weight_cap": 3.0}
BORDER = ("border_weight", "border_sigma")


def found(minutes: float | None = None, files: AnnotatedFiles | None = None, **settings: Any) -> set[str]:
    return set(find_without_effect(settings, TrainingConfig(**settings), files or AnnotatedFiles([PAIR]), minutes))


@pytest.mark.parametrize(
    ("settings", "unused"),
    [
        ({}, set()),
        ({"border_weight": 4.0, "border_sigma": 3.0}, set()),
        ({"border_weight": 0.0, "border_sigma": 3.0}, {"border_sigma"}),
        ({**CLASSES, "border_weight": 4.0, "border_sigma": 3.0}, {"border_weight", "border_sigma"}),
        ({"network": "mask_rcnn", "border_weight": 4.0, "loss": "dice"}, {"border_weight", "loss"}),
        ({"class_weighting": "none", "class_weight_cap": 3.0}, {"class_weight_cap"}),
        ({"class_weighting": "balanced", "class_weight_cap": 3.0}, set()),
        ({"small_cell_weight": 3.0}, {"small_cell_weight"}),
        ({"target": "centres", "small_cell_weight": 3.0}, set()),
        ({"target": "centres", "class_weighting": "none"}, {"class_weighting"}),
        ({**WEIGHTED, "loss": "dice", "border_weight": 4.0, "border_sigma": 3.0}, {*WEIGHTED, *BORDER}),
        ({**WEIGHTED, "loss": "cross_entropy_dice", "border_weight": 4.0, "border_sigma": 3.0}, set()),
        ({"target": "centres", "loss": "dice", "small_cell_weight": 3.0}, {"small_cell_weight"}),
        ({"network": "mask_rcnn", "loss": "dice", "class_weighting": "none"}, {"loss", "class_weighting"}),
        ({"optimizer": "adamw", "momentum": 0.9}, {"momentum"}),
        ({"optimizer": "sgd", "momentum": 0.9}, set()),
        ({"schedule": "one_cycle", "poly_power": 0.5, "restarts": [100]}, {"poly_power"}),
        ({"schedule": "constant", "restarts": [100]}, {"restarts"}),
        ({"schedule": "poly", "poly_power": 0.5}, set()),
        ({"augmentation": {"elastic_sigma": 0, "elastic_grid": 4}}, {"augmentation.elastic_grid"}),
        ({"augmentation": {"probability": 0, "blur": 2.0}}, {"augmentation.blur"}),
        ({"augmentation": {"probability": 0, "colour": 0.15}}, {"augmentation.colour"}),
        ({"augmentation": {**NO_INTENSITY, "probability": 0.5}}, {"augmentation.probability"}),
        ({"augmentation": {**NO_INTENSITY, "probability": 0.5, "colour": 0.15}}, set()),
        ({"augmentation": {"largest_diameter": 60}}, set()),
        ({**CLASSES, "augmentation": {"largest_diameter": 60}}, {"augmentation.largest_diameter"}),
        ({"sampling": "groups"}, {"sampling"}),
        ({"validation_fraction": 0.2}, set()),
    ],
)
def test_settings_without_a_meaning_are_found(settings: dict[str, Any], unused: set[str]) -> None:
    assert found(**settings) == unused


@pytest.mark.parametrize(
    ("network", "parameters", "unused"),
    [
        ("deeplab_v3", {"output_stride": 8}, set()),
        ("deeplab_v3", {"dilated": False, "output_stride": 8}, {"output_stride"}),
        ("deeplab_v3plus", {"dilated": False, "output_stride": 8}, {"output_stride"}),
        ("deeplab_v2", {"backbone": "vgg16", "batch_norm": True, "dropout": 0.1}, set()),
        ("deeplab_v2", {"batch_norm": True, "dropout": 0.1}, {"batch_norm", "dropout"}),
        ("unet", {"depth": 1, "upsampling": "nearest", "skip": "sum"}, set()),
        ("unet", {"depth": 0, "upsampling": "nearest", "skip": "sum"}, {"upsampling", "skip"}),
    ],
)
def test_parameters_that_another_one_switches_off_are_found(
    network: str, parameters: dict[str, Any], unused: set[str]
) -> None:
    assert found(network=network, parameters=parameters) == {f"parameters.{name}" for name in unused}


def test_what_images_and_minutes_decide() -> None:
    named = AnnotatedFiles([PAIR._replace(group="A")], [PAIR])
    assert found(files=named) == {GROUP}
    assert found(files=named, sampling="groups") == set()
    assert found(files=named, sampling="groups", validation_fraction=0.2) == {"validation_fraction"}
    assert found(minutes=5.0, steps=900) == {"steps"}
    assert found(minutes=5.0, steps=900, restarts=[100]) == set()


def test_all_settings_that_change_grey_values_are_known() -> None:
    image = np.random.default_rng(1).random((2, 16, 16), dtype=np.float32)
    plain = Augmentation.model_validate({**NO_INTENSITY, "probability": 1.0})

    def changed(**settings: float) -> np.ndarray:
        return change_intensity(np.random.default_rng(0), image, plain.model_copy(update=settings))

    unchanged = changed()
    found = {name for name in Augmentation.model_fields if not np.array_equal(changed(**{name: 0.5}), unchanged)}
    assert found - {"probability"} == set(INTENSITY)
