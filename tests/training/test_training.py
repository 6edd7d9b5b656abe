"""Training on small real-enough images: discs that touch, on a noisy background."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from disc_images import CONFIG, CPU, discs, halves, trainer

from unetbio import networks
from unetbio.errors import UnetbioError
from unetbio.models.model_file import ModelInfo, load_model, save_model
from unetbio.supervision.thresholds import DECIDING_SCORE
from unetbio.targets.cells import median_diameter
from unetbio.tensor_file import load_tensors
from unetbio.training.data.dataset import Example, as_learned
from unetbio.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("quick_search")


def test_a_network_learns_and_the_best_one_is_kept(tmp_path: Path) -> None:
    lines: list[str] = []
    result = trainer(tmp_path / "c.safetensors", report=lines.append).run()
    assert result.history.validation_steps == [30, 60]
    scores = [scores[DECIDING_SCORE] for scores in result.history.validation_scores]
    assert result.info.scores["validation"][DECIDING_SCORE] > 0.5
    assert max(scores) > 0.5
    assert result.history.losses[-1] < result.history.losses[0] / 2
    assert "left; validation mean_AP" in lines[-2]
    assert lines[-1].startswith("few cells validate, so thresholds are searched on 4 training images too")
    assert result.info.cell_diameter_px == pytest.approx(27, abs=2)
    assert result.info.training["cells"] == 16
    assert result.info.window == (40, 40)
    assert result.info.parameters["in_channels"] == 1
    path = tmp_path / "model.safetensors"
    save_model(path, result.info, result.network)
    assert load_model(path).info == result.info
    again = trainer(tmp_path / "c.safetensors").run()
    assert again.info == result.info
    assert not again.network.training


def test_a_network_that_pads_answers_for_the_whole_patch(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"network": "pspnet", "parameters": {"width": 0.06, "backbone": "resnet18"}})
    assert trainer(tmp_path / "c.safetensors", config).window == (80, 80)


def test_an_interrupted_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"steps": 20, "validate_every": 10})
    whole = trainer(tmp_path / "whole.safetensors", config).run()

    class StopHereError(Exception):
        pass

    torn = tmp_path / "torn.safetensors"
    first = trainer(torn, config)
    original = first._save

    def save_and_stop() -> None:
        original()
        raise StopHereError

    first._save = save_and_stop  # type: ignore[method-assign]
    with pytest.raises(StopHereError):
        first.run()
    lines: list[str] = []
    resumed = trainer(torn, config, report=lines.append).run()
    assert lines[0].startswith("going on from step 10")
    assert resumed.history.validation_scores == whole.history.validation_scores
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name


def test_the_running_mean_of_the_weights_is_validated_kept_and_goes_on(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"ema": 0.9, "steps": 8, "validate_every": 8})
    examples = [discs(0), discs(1)], [discs(9)]
    whole = Trainer(*examples, config, device=CPU, checkpoint=tmp_path / "w.safetensors").run()
    last = Trainer(*examples, config.model_copy(update={"ema": 0}), device=CPU, checkpoint=tmp_path / "l").run()
    assert not torch.equal(whole.network.state_dict()["head.weight"], last.network.state_dict()["head.weight"])

    class Interrupted(Trainer):
        def _train_step(self, patches: object) -> torch.Tensor:
            if self.step == 5:
                self._save()
                raise KeyboardInterrupt
            return super()._train_step(patches)  # type: ignore[arg-type]

    options = {"device": CPU, "checkpoint": tmp_path / "i.safetensors"}
    with pytest.raises(KeyboardInterrupt):
        Interrupted(*examples, config, **options).run()
    again = Trainer(*examples, config, **options).run()
    assert again.new_steps == 3
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name])


def test_early_stopping_waits_for_its_patience(tmp_path: Path) -> None:
    # With a learning rate of nearly nothing, and no statistics of batches, no validation is better than the first.
    constant = {"learning_rate": 1e-30, "parameters": {"base_channels": 4, "depth": 2}}
    config = CONFIG.model_copy(update={**constant, "patience": 2, "validate_every": 2})
    result = trainer(tmp_path / "c.safetensors", config).run()
    assert result.history.validation_steps == [2, 4, 6]


def test_minutes_end_a_run_and_leave_a_model(tmp_path: Path) -> None:
    result = trainer(tmp_path / "c.safetensors", minutes=0.005).run()
    assert result.history.validation_steps
    assert result.history.seconds >= 0.3


def test_a_loss_that_is_no_number_stops_the_run_with_advice(tmp_path: Path) -> None:
    config = CONFIG.model_copy(
        update={
            "optimizer": "sgd",
            "learning_rate": 1e30,
            "schedule": "constant",
            "parameters": {"base_channels": 2, "depth": 1},
        }
    )
    path = tmp_path / "c.safetensors"
    with pytest.raises(UnetbioError, match=r"(the loss is (nan|inf)|weights are no longer finite) at step .*lower lea"):
        trainer(path, config).run()
    if path.exists():
        tensors, _ = load_tensors(path)
        assert all(tensor.isfinite().all() for name, tensor in tensors.items() if name.startswith("network."))


def test_three_dimensions_train_as_well(tmp_path: Path) -> None:
    config = CONFIG.model_copy(
        update={
            "parameters": {"base_channels": 2, "depth": 1, "batch_norm": True, "doubling": "before_pooling"},
            "patch_size": 30,
            "steps": 4,
            "validate_every": 4,
        }
    )
    result = Trainer(
        [discs(0, ndim=3)], [discs(1, ndim=3)], config, device=CPU, checkpoint=tmp_path / "c.safetensors"
    ).run()
    assert result.info.parameters["ndim"] == 3
    assert result.info.parameters["kernel_sizes"] is None


@pytest.mark.parametrize("complete", [dict, networks.find("unet").complete], ids=["stated", "of a comparison"])
def test_a_stack_with_long_voxels_gets_flat_kernels_first(
    tmp_path: Path, complete: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    update = {"patch_size": (20, 76, 76), "parameters": complete(CONFIG.parameters)}
    config = CONFIG.model_copy(update=update)
    stack = dataclasses.replace(discs(0, ndim=3), pixel_size_um=(4.0, 1.0, 1.0))
    run = Trainer([stack], [stack], config, device=CPU, checkpoint=tmp_path / "c.safetensors")
    assert run.parameters["kernel_sizes"] == ((1, 3, 3), (1, 3, 3), (3, 3, 3))
    assert run.parameters["poolings"] == ((1, 2, 2), (1, 2, 2))


@pytest.mark.parametrize("loss", ["cross_entropy", "cross_entropy_dice"])
def test_classes_are_learned(tmp_path: Path, loss: str) -> None:
    config = CONFIG.model_copy(
        update={
            "target": "classes",
            "class_names": ("ground", "bright", "dark"),
            "loss": loss,
            "steps": 30,
            "validate_every": 15,
        }
    )
    result = Trainer(
        [halves(seed) for seed in range(4)], [halves(9)], config, device=CPU, checkpoint=tmp_path / "c.safetensors"
    ).run()
    info = result.info
    assert (info.target, info.class_names) == ("classes", ("ground", "bright", "dark"))
    assert info.parameters["num_classes"] == 3
    assert info.cell_diameter_px is None
    scores = info.scores["validation"]
    each = {f"{name} {place}" for name in ("IoU", "Dice") for place in info.class_names}
    assert set(scores) == {"mean_IoU", "mean_Dice", "pixel_accuracy", *each}
    assert scores["mean_IoU"] == max(each["mean_IoU"] for each in result.history.validation_scores) > 0.7
    path = tmp_path / "model.safetensors"
    save_model(path, info, result.network)
    assert load_model(path).info == info


def test_an_interrupted_run_on_classes_goes_on(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"target": "classes", "steps": 4, "validate_every": 2})
    path = tmp_path / "c.safetensors"
    runs = [Trainer([halves(0)], [halves(1)], config, device=CPU, checkpoint=path).run() for _ in range(2)]
    assert runs[0].info == runs[1].info


def test_classes_are_learned_in_stacks(tmp_path: Path) -> None:
    config = CONFIG.model_copy(
        update={
            "target": "classes",
            "parameters": {"base_channels": 2, "depth": 1, "batch_norm": True},
            "patch_size": 30,
            "steps": 4,
            "validate_every": 4,
        }
    )
    result = Trainer(
        [halves(0, ndim=3)], [halves(1, ndim=3)], config, device=CPU, checkpoint=tmp_path / "c.safetensors"
    ).run()
    assert result.info.class_names == ("background", "class 1", "class 2")
    assert "IoU class 2" in result.info.scores["validation"]


def test_what_nobody_annotated_does_not_count_in_the_validation(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"ignore_label": 99, "steps": 30})
    half = discs(9)
    label_image = half.label_image.copy()
    label_image[32:] = 99
    half = dataclasses.replace(half, label_image=label_image)
    result = Trainer(
        [discs(seed) for seed in range(4)], [half], config, device=CPU, checkpoint=tmp_path / "c.safetensors"
    ).run()
    assert result.info.scores["validation"]["AP@.5"] == 1.0


def test_a_validation_sees_large_cells_reduced_as_training_does() -> None:
    example = discs(0)
    augmentation = CONFIG.augmentation.model_copy(update={"largest_diameter": 10.0})
    seen = as_learned(example, augmentation)
    assert len(np.unique(seen.label_image)) == len(np.unique(example.label_image))
    before, after = (median_diameter([one.label_image], CONFIG) for one in (example, seen))
    assert after == pytest.approx(10, abs=0.5)
    assert seen.annotated_diameter_px == 10
    assert seen.image.shape[1:] == seen.label_image.shape
    assert as_learned(example, augmentation.model_copy(update={"largest_diameter": before})) is example
    assert as_learned(example, CONFIG.augmentation) is example


def test_a_model_of_reduced_images_knows_the_sizes_that_it_saw(tmp_path: Path) -> None:
    augmentation = CONFIG.augmentation.model_copy(update={"largest_diameter": 10.0})
    config = CONFIG.model_copy(update={"augmentation": augmentation})
    sized = [dataclasses.replace(discs(seed), pixel_size_um=(0.5, 0.5)) for seed in range(2)]

    def info(training: list[Example]) -> ModelInfo:
        return Trainer(training, [], config, device=CPU, checkpoint=tmp_path / "c.safetensors").info

    assert info(sized).cell_diameter_px == pytest.approx(10, abs=0.5)
    diameters = [one.annotated_diameter_px for one in sized]
    # Of images that are not reduced alike, the middle.
    assert info(sized).pixel_size_um == pytest.approx((0.05 * float(np.mean(diameters)),) * 2)
    diameter = diameters[0]
    assert info(sized[:1]).pixel_size_um == pytest.approx((0.05 * diameter,) * 2)
    told = [dataclasses.replace(sized[0], diameter_px=2 * diameter)]
    assert info(told).cell_diameter_px == pytest.approx(20)
