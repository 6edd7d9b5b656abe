"""Training on small real-enough images: discs that touch, on a noisy background."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.measure import label as measure_label
from skimage.measure import regionprops

from unetbio.errors import ModelError, UnetbioError, UsageError
from unetbio.geometry import unet_geometry
from unetbio.models.model_file import load_model, save_model
from unetbio.postprocessing.objects import ObjectSettings
from unetbio.preprocessing import normalization
from unetbio.settings.training import TrainingConfig
from unetbio.supervision.annotations import UNANNOTATED
from unetbio.supervision.thresholds import DECIDING_SCORE
from unetbio.targets import of_training
from unetbio.targets.base import Validation
from unetbio.targets.classes import ClassLearner
from unetbio.targets.instances import InstanceLearner
from unetbio.targets.objects import SCORE_THRESHOLDS, ObjectLearner
from unetbio.tensor_file import load_tensors, save_tensors
from unetbio.training.data import dataset
from unetbio.training.data.dataset import Example, PatchSampler, as_learned
from unetbio.training.trainer import Trainer

CONFIG = TrainingConfig(
    parameters={"base_channels": 4, "depth": 2, "batch_norm": True, "dropout": 0.0},
    patch_size=76,
    batch_size=2,
    steps=60,
    validate_every=30,
    learning_rate=0.01,
)
CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("quick_search")


def discs(seed: int, ndim: int = 2) -> Example:
    """Four discs (or balls) in the quarters of a noisy image; neighbours nearly touch."""
    rng = np.random.default_rng(seed)
    size = 64 if ndim == 2 else 48
    grid = np.stack(np.meshgrid(*[np.arange(size)] * ndim, indexing="ij"))
    label_image = np.zeros((size,) * ndim, np.uint16)
    for label in range(1, 5):
        centre = [size // 2] * (ndim - 2) + [size // 4 + size // 2 * bit for bit in divmod(label - 1, 2)]
        distance = np.sqrt(sum((axis - middle) ** 2 for axis, middle in zip(grid, centre, strict=True)))
        label_image[distance < size / 4 - 1 - rng.uniform(0, 3)] = label
    image = (100 + 400 * (label_image > 0) + rng.normal(0, 20, label_image.shape)).astype(np.uint16)[None]
    return Example(f"disc{seed}", image, normalization.measure(image, CONFIG.normalization), label_image)


def trainer(checkpoint: Path, config: TrainingConfig = CONFIG, **options: object) -> Trainer:
    return Trainer([discs(seed) for seed in range(4)], [discs(9)], config, device=CPU, checkpoint=checkpoint, **options)


def test_a_network_learns_and_the_best_one_is_kept(tmp_path: Path) -> None:
    lines: list[str] = []
    result = trainer(tmp_path / "c.safetensors", report=lines.append).run()
    assert result.history.validation_steps == [30, 60]
    scores = [scores[DECIDING_SCORE] for scores in result.history.validation_scores]
    assert result.info.scores["validation"][DECIDING_SCORE] == max(scores) > 0.5
    assert result.history.losses[-1] < result.history.losses[0] / 2
    assert "left; validation mean_AP" in lines[-1]
    assert result.info.cell_diameter_px == pytest.approx(27, abs=2)
    assert result.info.training["cells"] == 16
    assert result.info.window == (40, 40)
    assert result.info.parameters["in_channels"] == 1
    path = tmp_path / "model.safetensors"
    save_model(path, result.info, result.network)
    assert load_model(path).info == result.info


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


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    config = CONFIG.model_copy(update={"steps": 2, "validate_every": 2})
    trainer(path, config).run()
    other = TrainingConfig.model_validate({**config.model_dump(), "steps": 4, "parameters": {"base_channels": 3}})
    with pytest.raises(ModelError) as caught:
        trainer(path, other).run()
    message = str(caught.value)
    assert message.startswith(f"{path} belongs to a run with other settings or other images (")
    assert "steps 2, now 4" in message
    assert "parameters.base_channels" in message
    # Said once: the network's parameters follow from the settings.
    assert message.count("base_channels") == 1
    assert message.endswith(
        "use the same ones to go on from step 2; or start anew with --replace, which sets it aside, or --overwrite, "
        "which removes it"
    )


def test_a_checkpoint_of_other_settings_can_be_set_aside(tmp_path: Path) -> None:
    path, aside = tmp_path / "m.checkpoint.safetensors", tmp_path / "m.old.checkpoint.safetensors"
    config = CONFIG.model_copy(update={"steps": 2, "validate_every": 2})
    trainer(path, config).run()
    first = path.read_bytes()
    lines: list[str] = []
    other = CONFIG.model_copy(update={"steps": 4, "validate_every": 2})
    result = trainer(path, other, replace=True, report=lines.append).run()
    assert result.info.training["steps"] == 4
    assert lines[0] == (
        f"starting anew: {path} belongs to a run with other settings or other images (steps 2, now 4), "
        "and is m.old.checkpoint.safetensors now"
    )
    assert aside.read_bytes() == first
    # Of its own run it is gone on from.
    lines.clear()
    trainer(path, other, replace=True, report=lines.append).run()
    assert lines[0].startswith("going on from step 4")


def test_what_was_set_aside_is_never_lost_and_gone_on_from(tmp_path: Path) -> None:
    """Settings are edited, and edited back: each run goes on from its own checkpoint, whoever was there between."""
    path, aside = tmp_path / "m.checkpoint.safetensors", tmp_path / "m.old.checkpoint.safetensors"
    first, second, third = (CONFIG.model_copy(update={"steps": steps, "validate_every": steps}) for steps in (1, 2, 3))
    lines: list[str] = []

    def run(config: TrainingConfig) -> bytes:
        trainer(path, config, replace=True, report=lines.append).run()
        return path.read_bytes()

    one = run(first)
    two = run(second)
    lines.clear()
    assert run(first) == one
    assert lines[0] == (
        f"going on from step 1 ({aside}, set aside before); {path} belongs to a run with other settings or other "
        "images (steps 2, now 1; validate_every 2, now 1), and is m.old.checkpoint.safetensors now"
    )
    assert aside.read_bytes() == two
    # What is there already keeps its name; what is no checkpoint is passed over.
    aside.with_name("m.old2.checkpoint.safetensors").write_bytes(b"none")
    run(third)
    assert aside.read_bytes() == two
    assert aside.with_name("m.old2.checkpoint.safetensors").read_bytes() == b"none"
    assert aside.with_name("m.old3.checkpoint.safetensors").read_bytes() == one
    # A run that succeeded may have removed its checkpoint.
    path.unlink()
    assert run(first) == one
    assert {file.name for file in tmp_path.iterdir()} == {path.name, aside.name, "m.old2.checkpoint.safetensors"}


def test_a_checkpoint_of_other_images_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    config = CONFIG.model_copy(update={"steps": 2, "validate_every": 2})
    trainer(path, config).run()
    other = Trainer([discs(7), discs(8)], [discs(9)], config, device=CPU, checkpoint=path)
    with pytest.raises(ModelError, match=r"\(other training images\): use the same ones"):
        other.run()


def test_a_model_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    config = CONFIG.model_copy(update={"steps": 2, "validate_every": 2})
    result = trainer(path, config).run()
    save_model(path, result.info, result.network)
    with pytest.raises(ModelError, match="is not a checkpoint of a training run"):
        trainer(path, config).run()


def _without(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda progress: json.dumps({key: value for key, value in progress.items() if key != name})


@pytest.mark.parametrize(
    "change",
    [
        lambda progress: "{",
        lambda progress: "[" * 100_000,
        lambda progress: "[]",
        _without("step"),
        _without("history"),
        lambda progress: json.dumps({**progress, "history": {"unknown": 1}}),
        lambda progress: json.dumps({**progress, "best": 1}),
        lambda progress: json.dumps({**progress, "optimizer": {"x": {}}}),
    ],
)
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], str]) -> None:
    path = tmp_path / "c.safetensors"
    config = CONFIG.model_copy(update={"steps": 1, "validate_every": 1})
    trainer(path, config).run()
    tensors, metadata = load_tensors(path)
    save_tensors(path, tensors, {"progress": change(json.loads(metadata["progress"]))})
    with pytest.raises(ModelError, match=r"c\.safetensors is damaged \(.*\): move it away and start again"):
        trainer(path, config).run()


def test_a_checkpoint_holds_tensors_and_json_alone(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    trainer(path, CONFIG.model_copy(update={"steps": 2, "validate_every": 2})).run()
    tensors, metadata = load_tensors(path)
    assert json.loads(metadata["progress"])["step"] == 2
    assert any(name.startswith("optimizer.") for name in tensors)


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


def test_a_stack_with_long_voxels_gets_flat_kernels_first(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"patch_size": (20, 76, 76)})
    stack = dataclasses.replace(discs(0, ndim=3), pixel_size_um=(4.0, 1.0, 1.0))
    run = Trainer([stack], [stack], config, device=CPU, checkpoint=tmp_path / "c.safetensors")
    assert run.parameters["kernel_sizes"] == ((1, 3, 3), (1, 3, 3), (3, 3, 3))
    assert run.parameters["poolings"] == ((1, 2, 2), (1, 2, 2))


def halves(seed: int, ndim: int = 2) -> Example:
    """The discs, of which those on the right are dark and another class; a few pixels are not annotated."""
    example = discs(seed, ndim)
    classes = (example.label_image > 0).astype(np.uint8)
    right = np.broadcast_to(np.arange(classes.shape[-1]) >= classes.shape[-1] // 2, classes.shape)
    classes[right & (classes > 0)] = 2
    image = np.where(classes == 2, 250, example.image[0])[None].astype(np.uint16)
    classes[..., :2, :5] = UNANNOTATED
    return dataclasses.replace(
        example, image=image, label_image=classes, scaling=normalization.measure(image, CONFIG.normalization)
    )


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


def test_a_checkpoint_of_an_older_version_goes_on(tmp_path: Path) -> None:
    # It lacks settings that have come since; they have their defaults.
    path = tmp_path / "c.safetensors"
    config = CONFIG.model_copy(update={"steps": 2, "validate_every": 2})
    trainer(path, config).run()
    tensors, metadata = load_tensors(path)
    progress = json.loads(metadata["progress"])
    del progress["run"]["config"]["loss"]
    del progress["run"]["parameters"]["upsampling"]
    save_tensors(path, tensors, {"progress": json.dumps(progress)})
    lines: list[str] = []
    trainer(path, config, report=lines.append).run()
    assert lines[0].startswith("going on from step 2")


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


def test_a_validation_sees_large_cells_reduced_as_training_does() -> None:
    example = discs(0)
    augmentation = CONFIG.augmentation.model_copy(update={"largest_diameter": 10.0})
    seen = as_learned(example, augmentation)
    assert len(np.unique(seen.label_image)) == len(np.unique(example.label_image))
    before, after = (np.median(np.bincount(one.label_image.ravel())[1:]) for one in (example, seen))
    assert 2 * np.sqrt(after / np.pi) == pytest.approx(10, abs=0.5)
    assert seen.image.shape[1:] == seen.label_image.shape
    assert as_learned(example, augmentation.model_copy(update={"largest_diameter": before})) is example
    assert as_learned(example, CONFIG.augmentation) is example


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
    """Finds what it is told to, whatever it sees: an object a quarter of the image, of falling score."""

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
