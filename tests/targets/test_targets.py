"""The list of targets, and what holds for each of them."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from unetbio import networks, targets
from unetbio.errors import ModelError, UsageError
from unetbio.models.model_file import ModelInfo
from unetbio.settings.training import TrainingConfig
from unetbio.supervision.annotations import number_cell_classes
from unetbio.targets.base import Batch

OF_PIXELS = targets.names("logits")


def two_cells() -> np.ndarray:
    """Cells that touch, which are two classes as well."""
    label_image = np.zeros((40, 40), np.uint16)
    label_image[8:30, 6:20] = 1
    label_image[8:30, 20:35] = 2
    return label_image


def example_of(name: str) -> tuple[TrainingConfig, np.ndarray]:
    """Settings of a target, and an annotation as it is learned."""
    if not targets.find(name).has_cell_classes:
        return TrainingConfig(target=name), two_cells()
    config = TrainingConfig(target=name, class_names=("background", "round", "flat"))
    return config, number_cell_classes(two_cells(), {1: "round", 2: "flat"}, config)


def test_unknown_targets_are_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"there is no target 'cells'; there are: .*classes.*instances"):
        targets.of_training(TrainingConfig(target="cells"))
    info = ModelInfo(name="m", architecture="unet", parameters={}, channels=("0",), target="cells", version="9.9")
    with pytest.raises(ModelError, match=r"model m: there is no target 'cells'; .*is it from a newer unetbio \(9\.9\)"):
        targets.of_model(info)


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="'instances' of logits is registered already"):
        targets.register(replace(targets.find("instances"), summary="another"))


def test_networks_that_find_objects_have_targets_of_their_own() -> None:
    assert targets.names("objects") == ("cell_classes", "instances")
    assert targets.find("instances", "mask_rcnn") is not targets.find("instances", "unet")
    with pytest.raises(
        UsageError, match="cannot learn target: classes; choose another network, or target: cell_classes or instances"
    ):
        targets.find("classes", "mask_rcnn")


def test_targets_are_listed_without_what_only_training_needs() -> None:
    code = "import sys, unetbio.targets; assert not {'torch', 'monai', 'scipy', 'skimage'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", OF_PIXELS)
def test_each_target_encodes_classes_that_a_network_learns(name: str) -> None:
    config, label_image = example_of(name)
    learner = targets.of_training(config).learner(config, [label_image])
    count = len(learner.class_names)
    assert learner.count(label_image).shape == (count,)
    # Classes of cells are balanced among themselves.
    assert learner.count(label_image)[targets.find(name).has_cell_classes :].all()
    assert learner.places(label_image).shape[1] == 2
    classes, weight_map = learner.encode(label_image, (1.0,) * count, None)
    assert (classes.dtype, weight_map.dtype) == (np.int64, np.float32)
    assert classes.shape == weight_map.shape[-2:] == label_image.shape
    assert np.array_equal(np.unique(classes), np.arange(count))
    assert weight_map.min() > 0
    network = networks.build("unet", {"base_channels": 2, "depth": 1, "padding": "same", "num_classes": count})
    maps = (torch.from_numpy(array[np.newaxis]) for array in (classes, weight_map))
    loss = learner.loss(network, Batch(torch.rand(1, 1, 40, 40), *maps))
    loss.backward()
    assert loss > 0
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("name", OF_PIXELS)
def test_each_target_scores_perfect_probabilities_as_perfect(name: str) -> None:
    config, label_image = example_of(name)
    learner = targets.of_training(config).learner(config, [label_image])
    classes, _ = learner.encode(label_image, (1.0,) * len(learner.class_names), None)

    # A channel a class, and logits that are 20 where it is.
    layer = torch.nn.Conv2d(len(learner.class_names), len(learner.class_names), 1, bias=False)
    layer.weight.data = 20 * torch.eye(len(learner.class_names))[:, :, None, None]
    unet = networks.find("unet")
    layer.geometry = replace(unet.geometry(unet.complete({"padding": "same"})), context=(0, 0))
    image = np.stack([classes == number for number in range(len(learner.class_names))]).astype(np.float32)
    validation = learner.validate(
        layer, [image], [label_image], device=torch.device("cpu"), exact=False, window=(40, 40)
    )
    assert validation.scores[learner.deciding_score] > 0.9
