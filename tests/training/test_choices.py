"""Settings that follow from the images where nothing is stated; stated ones stay."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import unetbio.models
from unetbio.preprocessing import normalization
from unetbio.settings.base import read_mapping
from unetbio.settings.training import Augmentation, TrainingConfig, load_training_config
from unetbio.training import schedule
from unetbio.training.choices import CHOSEN, choose, describe, take_over, with_target
from unetbio.training.data.dataset import Example
from unetbio.training.data.patch_shapes import patch_shape
from unetbio.training.trainer import Trainer

CONFIG = TrainingConfig()


def example(size: int, diameter: int, *, ndim: int = 2) -> Example:
    """Discs on a grid."""
    grid = np.stack(np.meshgrid(*[np.arange(size)] * ndim, indexing="ij"))
    cells = grid // (diameter + 4)
    offsets = grid % (diameter + 4) - diameter / 2
    inside = (offsets**2).sum(axis=0) <= (diameter / 2) ** 2
    numbers = np.ravel_multi_index(tuple(cells), (size,) * ndim) + 1
    labels = np.unique(np.where(inside, numbers, 0), return_inverse=True)[1].reshape(inside.shape).astype(np.uint16)
    image = (100 + 400 * inside + grid[-1] % 7).astype(np.uint16)[None]
    return Example("x.tif", image, normalization.measure(image, CONFIG.normalization), labels)


def chosen(
    examples: list[Example], stated: tuple[str, ...] = (), minutes: float | None = None, **settings: object
) -> TrainingConfig:
    config = TrainingConfig.model_validate(settings)
    return choose(config, {*stated, *settings}, examples, is_fine_tuning=False, minutes=minutes)


@pytest.mark.parametrize(
    ("size", "diameter", "depth", "output", "batch"),
    [
        (512, 15, 3, 164, 4),
        (512, 40, 3, 244, 2),
        (1000, 70, 4, 356, 2),
        (100, 15, 3, 102, 8),
    ],
)
def test_patches_hold_several_cells_and_no_more_than_an_image(
    size: int, diameter: int, depth: int, output: int, batch: int
) -> None:
    config = chosen([example(size, diameter)])
    assert (config.parameters["depth"], config.batch_size) == (depth, batch)
    from unetbio import networks

    geometry = networks.find("unet").geometry(config.parameters)
    shape = patch_shape(geometry, config.patch_size)
    assert shape[0] - 2 * geometry.context[0] == pytest.approx(output, abs=2**depth)


def test_steps_follow_from_the_number_of_pixels() -> None:
    one = example(512, 15)
    assert chosen([one]).steps == 1000
    assert chosen([one] * 20).steps == round(40 * 20 * 512**2 / (4 * 164**2))
    assert chosen([one] * 200).steps == 6000
    tuned = choose(CONFIG, (), [one] * 20, is_fine_tuning=True, minutes=None)
    assert tuned.steps == round(0.3 * 40 * 20 * 512**2 / (4 * 164**2))
    # Minutes are no steps; restarts lie below the steps.
    assert chosen([one] * 20, minutes=5.0).steps == CONFIG.steps
    assert chosen([one], restarts=(1500,)).steps == 1501


def test_what_is_stated_stays() -> None:
    stated = {"parameters": {"depth": 2}, "patch_size": 80, "batch_size": 1, "steps": 7, "validate_every": 3}
    config = chosen([example(1000, 70)], **stated)
    assert {name: getattr(config, name) for name in stated} == stated
    line = describe(config, (*stated, "target", "learning_rate"), None)
    assert line == "all settings are stated"


@pytest.mark.parametrize(("patch", "batch"), [(572, 2), (100, 8), ((252, 252), 4), (None, 4)])
def test_a_step_has_as_many_patches_of_a_stated_size_as_it_affords(patch: object, batch: int) -> None:
    assert chosen([example(512, 40)], patch_size=patch).batch_size == batch


def test_a_unet_learns_outlines_of_their_own_unless_something_says_what_it_learns() -> None:
    config = with_target(CONFIG, {"border_sigma": 9.0})
    assert (config.target, config.border_weight, config.border_sigma) == ("centres", 4.0, CONFIG.border_sigma)
    for stated in ("target", "recipe", "class_names", "class_weighting", "class_weight_cap"):
        assert with_target(CONFIG, {stated}) == CONFIG
    other = load_training_config(None, {"network": "fcn8s"})
    assert with_target(other, {"network"}) == other


def test_the_shipped_model_is_trained_as_its_file_says() -> None:
    path = Path(unetbio.models.__file__).parent / "nuclei.yaml"
    stated = read_mapping(path)
    config = load_training_config(path, stated)
    assert choose(config, stated, [example(1000, 70)], is_fine_tuning=False, minutes=262) == config


@pytest.mark.parametrize("settings", [{"network": "fcn8s"}, {"network": "mask_rcnn"}])
def test_networks_that_pad_keep_their_patches(settings: dict[str, object]) -> None:
    config = chosen([example(512, 40)], **settings)
    assert (config.patch_size, config.batch_size) == (None, CONFIG.batch_size)


def test_stacks_and_classes_keep_their_depth() -> None:
    assert chosen([example(64, 55, ndim=3)]).parameters == CONFIG.parameters
    classes = dataclasses.replace(example(512, 70), label_image=(example(512, 70).label_image > 0).astype(np.uint8))
    assert chosen([classes], target="classes").parameters == CONFIG.parameters


def test_the_choice_is_told() -> None:
    line = describe(chosen([example(512, 40)]), (), None)
    assert line == (
        "chosen, since nothing is stated: target instances, unet base_channels 16, depth 3, batch_norm True, dropout "
        "0.0, patches of 332 px, 2 a step, 1000 steps, twelve validations, learning rate 0.002"
    )
    assert "steps" not in describe(CONFIG, ("patch_size",), 5.0)
    assert "patches of the usual size" in describe(CONFIG, (), None)


def test_a_run_goes_on_with_the_choices_of_its_checkpoint() -> None:
    stated = {"steps": 40}
    config = TrainingConfig(steps=40, name="new")
    earlier = TrainingConfig(steps=40, patch_size=100, validate_every=7, name="old").model_dump(mode="json")
    taken = take_over(config, stated, json.loads(json.dumps(earlier)))
    assert taken is not None
    assert (taken.patch_size, taken.validate_every, taken.name) == (100, 7, "new")
    assert take_over(config, stated, None) is None
    # What follows from the model to start from was none in earlier versions.
    follows = config.model_copy(update={"augmentation": Augmentation(largest_diameter=60)})
    assert take_over(follows, stated, earlier) is None
    assert take_over(follows, stated, earlier, starts=True) == taken
    assert take_over(follows, {*stated, "augmentation.largest_diameter"}, earlier, starts=True) is None
    assert take_over(config, stated, {**earlier, "steps": 41}) is None
    assert take_over(config, {*stated, *CHOSEN}, earlier) is None
    assert take_over(config, stated, {**earlier, "unknown": 1}) is None
    assert take_over(config, stated, {**earlier, "parameters": {"unknown": 1}}) is None


def small_trainer(
    tmp_path: Path,
    minutes: float | None = None,
    report: Callable[[str], None] = lambda line: None,
    **settings: object,
) -> Trainer:
    config = TrainingConfig.model_validate(
        {"parameters": {"base_channels": 2, "depth": 1}, "patch_size": 24, "batch_size": 1, **settings}
    )
    one = example(40, 12)
    return Trainer(
        [one],
        [one],
        config,
        device=torch.device("cpu"),
        checkpoint=tmp_path / "c.safetensors",
        minutes=minutes,
        report=report,
    )


def test_validations_are_spread_over_the_steps(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, steps=24, validate_every=None)
    due = []
    for trainer.step in range(1, 25):
        due += [trainer.step] if trainer._is_validation_due(0.0) else []
    assert due == list(range(2, 25, 2))
    trainer.step = 12
    assert trainer._forecast(10.0) == "a step takes 10.00 s: 24 steps take 0:02:00 more, and the validations"


def test_the_forecast_is_given_after_twelve_steps(tmp_path: Path) -> None:
    lines: list[str] = []
    small_trainer(tmp_path, steps=13, validate_every=13, report=lines.append).run()
    assert [line.startswith("a step takes ") for line in lines] == [True, False, False]


def test_validations_by_time_leave_time_for_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = small_trainer(tmp_path, minutes=10.0, validate_every=None)
    trainer.validated_at, trainer.validation_seconds = 100.0, 4.0
    assert not trainer._is_validation_due(149.0)
    assert trainer._is_validation_due(150.0)
    trainer.validation_seconds = 20.0
    assert not trainer._is_validation_due(199.0)
    assert trainer._is_validation_due(200.0)
    trainer.history.seconds = 60.0
    assert trainer._forecast(0.5) == "a step takes 0.50 s: 10 minutes give about 1080 steps, less the validations"
    assert schedule.VALIDATIONS == 12
