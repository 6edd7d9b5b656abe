"""Training in folds from the command line: few images, each of which validates once."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from annotated_folder import TINY, run, train, write_annotated

from unetbio.models.model_file import ModelInfo, load_model, save_model
from unetbio.training.result import TrainingResult
from unetbio.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("quick_pictures", "quick_search")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_annotated(tmp_path)


def test_in_folds_each_image_validates_and_the_model_learns_from_all(data: Path) -> None:
    (data / "tiny.yaml").write_text(TINY + "folds: 3\n")
    result = train(data, data)
    assert result.exit_code == 0, result.output
    assert "3 images to train on; each validates in one of 3 folds" in result.stderr
    assert "fold 3 of 3: step 1" in result.stderr
    assert result.stdout.splitlines()[-1].endswith("on 3 images in 3 folds (a rough figure)")
    model = data / "out" / "m.safetensors"
    first, bytes_of_first = learned(model), model.read_bytes()
    assert fold_files(data) == [f".m.fold{number}.checkpoint.safetensors" for number in (1, 2, 3)]
    again = train(data, data)
    assert "the training is complete (all 4 steps)" in again.stderr
    assert model.read_bytes() == bytes_of_first
    assert "the training is complete" not in train(data, data, options=("--overwrite",)).stderr
    assert learned(model) == first
    assert "folds: 4 need as many annotated images, and there are 3" in (
        train(data, data, options=("--folds", "4", "--overwrite")).stderr
    )
    assert "going on from step 4" in train(data, data).stderr


def learned(model: Path) -> tuple[ModelInfo, dict[str, list[float]]]:
    """What a model file holds, without the time that the training took."""
    found = load_model(model)
    training = {name: value for name, value in found.info.training.items() if name != "seconds"}
    weights = {name: tensor.tolist() for name, tensor in found.network.state_dict().items()}
    return found.info.model_copy(update={"training": training}), weights


def fold_files(data: Path) -> list[str]:
    return sorted(path.name for path in (data / "out").iterdir() if "fold" in path.name)


def test_a_run_killed_in_its_folds_goes_on(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "tiny.yaml").write_text(TINY + "folds: 2\n")
    assert train(data, data).exit_code == 0
    model = data / "out" / "m.safetensors"
    whole = learned(model)
    original, seen = Trainer.run, []

    def killed_later(self: Trainer) -> TrainingResult:
        seen.append(self)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(Trainer, "run", killed_later)
    assert train(data, data, options=("--overwrite",)).exit_code != 0
    monkeypatch.setattr(Trainer, "run", original)
    assert fold_files(data) == [".m.fold1.checkpoint.safetensors"]
    result = train(data, data)
    assert result.exit_code == 0, result.output
    assert "fold 1 of 2: going on from step 2" in result.stderr
    assert learned(model) == whole


def test_a_run_killed_after_its_folds_ends_with_the_same_model(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where weights are left out at random."""
    (data / "tiny.yaml").write_text(TINY.replace("batch_norm: true", "batch_norm: true, dropout: 0.5") + "folds: 2\n")
    assert train(data, data).exit_code == 0
    model = data / "out" / "m.safetensors"
    whole = learned(model)
    save = Trainer._save

    def killed_later(self: Trainer) -> None:
        save(self)
        if self.checkpoint.name.startswith("m.") and self.step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("unetbio.training.trainer.CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(Trainer, "_save", killed_later)
    assert train(data, data, options=("--overwrite",)).exit_code != 0
    monkeypatch.setattr(Trainer, "_save", save)
    result = train(data, data)
    assert "going on from step 2" in result.stderr
    assert result.exit_code == 0, result.output
    assert learned(model) == whole


def test_a_checkpoint_of_other_settings_is_refused_before_the_folds(data: Path) -> None:
    assert train(data, data).exit_code == 0
    result = train(data, data, options=("--folds", "2"))
    assert result.exit_code == 2
    assert "folds 0, now 2" in result.stderr
    assert "fold 1" not in result.stderr
    assert train(data, data, options=("--folds", "2", "--replace")).exit_code == 0
    assert fold_files(data)
    assert train(data, data, options=("--overwrite",)).exit_code == 0
    assert fold_files(data) == []


def test_folds_that_nobody_asked_for_are_left_out_where_few_images_hold_cells(data: Path) -> None:
    for number in (1, 2):
        path = data / "masks" / f"zelle_ü{number}_labels.tif"
        tifffile.imwrite(path, np.zeros_like(tifffile.imread(path)))
    (data / "tiny.yaml").write_text(TINY.replace("validate_every: 2", ""))
    options = ("--minutes", "6", "--trust-masks")
    seen: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "run", lambda trainer: seen.append(trainer.config.folds) or 1 / 0)
        result = train(data, data, options=options)
    assert "too few files hold cells to divide them into folds: some are kept for validation" in result.stderr
    assert seen == [0]
    result = train(data, data, options=(*options, "--folds", "3", "--overwrite"))
    assert "no image to train on has a cell: give --folds 0" in result.stderr


def test_folds_are_chosen_for_other_images_than_those_of_the_checkpoint(data: Path) -> None:
    (data / "tiny.yaml").write_text(TINY.replace("validate_every: 2", ""))
    assert train(data, data).exit_code == 0
    seen: list[int] = []

    def folds(*options: str) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "run", lambda trainer: seen.append(trainer.config.folds) or 1 / 0)
            train(data, data, options=("--minutes", "6", *options))
        return seen[-1]

    assert folds() == 0
    for folder, name in (("images", "zelle_ü{}.tif"), ("masks", "zelle_ü{}_labels.tif")):
        array = tifffile.imread(data / folder / name.format(0))
        tifffile.imwrite(data / folder / name.format(3), array[::-1])
    assert folds("--replace") == 3


def test_the_order_of_a_table_does_not_matter_to_folds(data: Path) -> None:
    (data / "tiny.yaml").write_text(TINY + "folds: 2\n")
    rows = [f"images/zelle_ü{n}.tif,masks/zelle_ü{n}_labels.tif\n" for n in range(3)]
    table = data / "pairs.csv"
    table.write_text("image,mask\n" + "".join(rows), encoding="utf-8")
    assert train(data, table).exit_code == 0
    table.write_text("image,mask\n" + "".join(rows[::-1]), encoding="utf-8")
    assert "going on from step 4" in train(data, table).stderr


def test_equal_images_in_two_folds_are_named(data: Path) -> None:
    for folder, name in (("images", "zelle_ü{}.tif"), ("masks", "zelle_ü{}_labels.tif")):
        first = (data / folder / name.format(0)).read_bytes()
        for number in (1, 2):
            (data / folder / name.format(number)).write_bytes(first)
    assert "shares pixels with training images" in train(data, data, options=("--folds", "3")).stderr


def mirror(data: Path) -> None:
    """Make other images and masks of those that there are."""
    for path in [*(data / "images").iterdir(), *(data / "masks").iterdir()]:
        tifffile.imwrite(path, tifffile.imread(path)[::-1])


def test_folds_keep_the_model_to_start_from_where_they_are_no_better(data: Path) -> None:
    start = data / "out" / "m.safetensors"
    assert train(data, data, options=("--steps", "60")).exit_code == 0
    mirror(data)
    confidence = ((0.2, 0.1), (0.9, 0.7))
    trained = load_model(start)
    save_model(start, trained.info.model_copy(update={"confidence": confidence}), trained.network)
    (data / "tiny.yaml").write_text(TINY + "folds: 3\nlearning_rate: 1.0\n")
    result = run(
        data,
        "-o",
        data / "out" / "ruined.safetensors",
        "--config",
        data / "tiny.yaml",
        "--start",
        start,
        "--device",
        "cpu",
    )
    assert result.exit_code == 0, result.output
    assert "the model keeps the weights that it began with; train for longer" in result.stderr
    begun, kept = (load_model(data / "out" / name) for name in ("m.safetensors", "ruined.safetensors"))
    for name, tensor in begun.network.state_dict().items():
        assert torch.equal(tensor, kept.network.state_dict()[name]), name
    assert kept.info.training["validation_images"] == 3
    assert kept.info.confidence == confidence


@pytest.mark.parametrize(("folds", "known"), [(3, 3), (0, 2)])
def test_a_model_that_learned_from_the_images_is_no_judge_of_folds(data: Path, folds: int, known: int) -> None:
    """Without folds one of the images validated."""
    (data / "tiny.yaml").write_text(TINY + f"folds: {folds}\n")
    start = data / "out" / "m.safetensors"
    assert train(data, data, options=("--steps", "60")).exit_code == 0
    (data / "tiny.yaml").write_text(TINY + "folds: 3\nlearning_rate: 1.0\n")
    words = (data, "-o", data / "out" / "n.safetensors", "--config", data / "tiny.yaml", "--start", start)
    result = run(*words, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert f"m.safetensors has learned from {known} of the 3 images that validate: the scores are too good" in (
        result.stderr
    )
    assert "too good; leave folds out (--folds 0), and name others in the column split of a table" in result.stderr
    assert "; 1 warning: " in result.stdout.splitlines()[-1]
    # As earlier versions did, whose runs would be judged again: of a part of the images it may be the better one.
    assert ("keeps the weights" in result.stderr) == (known < 3)


def test_a_validation_image_that_the_model_to_start_from_knows_is_named(data: Path) -> None:
    (data / "tiny.yaml").write_text(TINY + "folds: 3\n")
    assert train(data, data).exit_code == 0
    start = (data / "out" / "m.safetensors").rename(data / "start.safetensors")
    (data / "tiny.yaml").write_text(TINY)
    result = train(data, data, options=("--start", start, "--overwrite"))
    assert result.exit_code == 0, result.output
    assert "start.safetensors has learned from 1 of the 1 images that validate: the scores are too good" in (
        result.stderr
    )
    # Split as the start itself was, the image that validates is new to it.
    assert train(data, data, options=("--overwrite",)).exit_code == 0
    start = (data / "out" / "m.safetensors").rename(data / "start.safetensors")
    result = train(data, data, options=("--start", start, "--overwrite"))
    assert result.exit_code == 0, result.output
    assert "has learned from" not in result.stderr


def test_the_training_images_of_a_table_are_known_again(data: Path) -> None:
    (data / "tiny.yaml").write_text(TINY)
    splits = ["training", "validation", "training"]
    table = data / "table.csv"

    def write(words: list[str]) -> None:
        rows = [f"images/zelle_ü{n}.tif,masks/zelle_ü{n}_labels.tif,{word}\n" for n, word in enumerate(words)]
        table.write_text("image,mask,split\n" + "".join(rows), encoding="utf-8")

    write(splits)
    assert train(data, table).exit_code == 0
    start = (data / "out" / "m.safetensors").rename(data / "start.safetensors")
    write([{"training": "validation", "validation": "training"}[word] for word in splits])
    result = train(data, table, options=("--start", start, "--overwrite"))
    assert result.exit_code == 0, result.output
    assert (
        "has learned from 2 of the 2 images that validate: the scores are too good; name others in the column"
        in result.stderr
    )


def test_folds_are_not_chosen_with_a_model_that_knows_the_images(data: Path) -> None:
    """It has learned from all but one of them: the split that left this one out stays."""
    (data / "tiny.yaml").write_text(TINY.replace("validate_every: 2", ""))
    assert train(data, data).exit_code == 0
    start = (data / "out" / "m.safetensors").rename(data / "start.safetensors")
    seen: list[int] = []

    def folds() -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "run", lambda trainer: seen.append(trainer.config.folds) or 1 / 0)
            train(data, data, options=("--minutes", "6", "--start", start, "--overwrite"))
        return seen[-1]

    assert folds() == 0
    mirror(data)
    assert folds() == 3
