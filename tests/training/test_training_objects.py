"""Training of networks that find objects."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from disc_images import CONFIG, CPU, discs, trainer

from unetbio.errors import UsageError
from unetbio.models.model_file import load_model, save_model
from unetbio.postprocessing.objects import ObjectSettings
from unetbio.supervision.thresholds import DECIDING_SCORE
from unetbio.targets import of_training
from unetbio.targets.base import Validation
from unetbio.targets.objects import SCORE_THRESHOLDS, ObjectLearner
from unetbio.training.data.dataset import PatchSampler
from unetbio.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("quick_search")


OBJECTS = CONFIG.model_copy(
    update={
        "network": "mask_rcnn",
        "parameters": {"width": 1 / 32, "backbone": "resnet18"},
        "patch_size": 64,
        "steps": 4,
        "validate_every": 2,
    }
)


def test_a_network_that_finds_objects_is_trained_and_its_threshold_is_kept(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "c.safetensors", OBJECTS).run()
    assert whole.info.target == "instances"
    assert whole.info.objects is not None
    assert whole.info.objects.score_threshold in SCORE_THRESHOLDS
    assert whole.info.cell_diameter_px == pytest.approx(27, abs=2)
    assert set(whole.info.scores["validation"]) == {DECIDING_SCORE, "mean_AP", "AP@.5", "AP@.75"}
    path = tmp_path / "model.safetensors"
    save_model(path, whole.info, whole.network)
    assert load_model(path).info.objects == whole.info.objects
    # What was finished is read back, the threshold too.
    assert trainer(tmp_path / "c.safetensors", OBJECTS).run().info == whole.info


def test_a_network_that_finds_objects_starts_from_another(tmp_path: Path) -> None:
    first = trainer(tmp_path / "first.safetensors", OBJECTS).run()
    save_model(tmp_path / "m.safetensors", first.info, first.network)
    second = trainer(tmp_path / "second.safetensors", OBJECTS.model_copy(update={"learning_rate": 1e-12}))
    second.start_from(load_model(tmp_path / "m.safetensors"))
    result = second.run()
    assert result.history.validation_steps[0] == 0
    assert result.info.objects == first.info.objects


class Remembered(torch.nn.Module):
    """Returns one object for each quarter of any image; their scores are given."""

    def __init__(self, scores: tuple[float, ...]) -> None:
        super().__init__()
        from unetbio.geometry import Geometry

        self.geometry, self.in_channels, self.scores = Geometry((0, 0), (32, 32), (32, 32), "same"), 1, scores
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def find_objects(self, image: torch.Tensor) -> object:
        from unetbio.networks.detection import Objects

        corners = [[0, 0], [0, 32], [32, 0], [32, 32]][: len(self.scores)]
        boxes = torch.tensor([[y, x, y + 32, x + 32] for y, x in corners], dtype=torch.float32)
        count = len(self.scores)
        return Objects(
            boxes, torch.tensor(self.scores), torch.ones(count, dtype=torch.int64), torch.ones(count, 28, 28)
        )


def test_the_score_threshold_is_the_one_that_finds_the_true_objects() -> None:
    truth = np.zeros((64, 64), np.uint16)
    truth[:32, :32], truth[:32, 32:], truth[32:, :32] = 1, 2, 3
    learner = ObjectLearner(OBJECTS)

    def validate(network: Remembered, label_image: np.ndarray, learner: ObjectLearner = learner) -> Validation:
        images = [np.zeros((1, 64, 64), np.float32)]
        return learner.validate(network, images, [label_image], device=CPU, exact=False, window=(64, 64))

    found = validate(Remembered((0.95, 0.85, 0.75, 0.65)), truth)
    assert found.objects == ObjectSettings(score_threshold=0.7)
    assert found.scores["mean_AP"] == 1.0
    assert Validation.from_json(json.loads(json.dumps(found.as_json()))) == found
    # Ties take the usual threshold; unannotated pixels do not count.
    truth[32:, 32:] = 9
    ignoring = ObjectLearner(OBJECTS.model_copy(update={"ignore_label": 9}))
    found = validate(Remembered((0.95, 0.85, 0.75, 0.65)), truth, ignoring)
    assert (found.objects, found.scores["mean_AP"]) == (ObjectSettings(score_threshold=0.5), 1.0)


def test_objects_keep_their_numbers_apart_and_a_mirror_image_is_an_object_of_its_own() -> None:
    label_image = np.zeros((8, 20), np.int32)
    label_image[2:6, 0:4], label_image[2:6, 4:7] = 5, 3
    mirrored = np.concatenate([label_image[:, :0:-1], label_image], axis=1)
    mirrored[:, -2:] = 9
    learner = ObjectLearner(OBJECTS.model_copy(update={"ignore_label": 9}))
    target, weight_map = learner.encode(mirrored, (1.0, 1.0), None)
    assert target.shape == weight_map.shape == mirrored.shape
    numbers = [np.unique(target[mirrored == value]).tolist() for value in (5, 3)]
    # 5 reaches the border, so that it and its mirror image hang together; 3 is there twice.
    assert [len(found) for found in numbers] == [1, 2]
    assert len({*numbers[0], *numbers[1]}) == 3
    assert not target[mirrored == 0].any()
    assert not target[:, -2:].any()
    assert weight_map[0].tolist() == [1.0] * 37 + [0.0] * 2
    sampler = PatchSampler([discs(0)], OBJECTS, learner, (64, 64), (0, 0))
    patch = sampler.patch(0)
    assert patch.target.shape == patch.weight_map.shape == (64, 64)
    assert patch.target.max() >= 1
    assert sampler.class_weights == (1.0, 1.0)


def test_a_network_that_finds_objects_learns_cells_in_planes_alone(tmp_path: Path) -> None:
    config = OBJECTS.model_copy(update={"target": "classes"})
    with pytest.raises(UsageError, match="mask_rcnn finds objects and cannot learn target: classes; choose another"):
        of_training(config)
    with pytest.raises(UsageError, match="mask_rcnn: ndim is 3; it must be one of 2"):
        Trainer([discs(0, ndim=3)], [discs(1, ndim=3)], OBJECTS, device=CPU, checkpoint=tmp_path / "c.safetensors")
