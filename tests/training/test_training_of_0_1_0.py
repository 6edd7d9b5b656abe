"""Models, checkpoints and settings that version 0.1.0 wrote are used as if this version had written them.

`tests/samples_0_1_0/training` holds three images with masks, two trained models with the label hashes that 0.1.0 gave,
the checkpoint of a finished training, and that of one which was killed after ten of its forty steps.
"""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import unetbio
from unetbio.cli.main import main
from unetbio.models.model_file import read_info

pytestmark = pytest.mark.usefixtures("quick_pictures")

SAMPLES = Path(__file__).resolve().parents[1] / "samples_0_1_0" / "training"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = shutil.copytree(SAMPLES, tmp_path / "training")
    monkeypatch.chdir(copy)
    return copy


def train(*options: str) -> Result:
    return CliRunner().invoke(main, ["train", "images", "masks", "--device", "cpu", *options])


@pytest.mark.parametrize("model", ["sample.safetensors", "classes.safetensors"])
def test_models_give_the_label_images_that_they_gave(folder: Path, model: str) -> None:
    expected = json.loads((folder / "label_hashes.json").read_text())
    stem = model.removesuffix(".safetensors")
    for image in sorted((folder / "images").iterdir()):
        _, info = unetbio.segment(image, model=model, device="cpu")
        assert info["label_hash"] == expected[f"{stem}/{image.name}"]


def test_a_killed_training_goes_on_from_its_checkpoint(folder: Path) -> None:
    result = train("--config", "killed.yaml", "-o", "killed.safetensors")
    assert result.exit_code == 0, result.stderr
    assert "step 40/40" in result.stderr
    assert "step 10/40" not in result.stderr
    assert read_info(folder / "killed.safetensors").target == "instances"


def test_a_finished_training_is_not_trained_again(folder: Path) -> None:
    result = train("--config", "train.yaml", "-o", "sample.safetensors")
    assert result.exit_code == 0, result.stderr
    assert "the training is complete (all 6 steps)" in result.stderr
    assert "loss" not in result.stderr
    scores = {"AP@.5-.75": 1 / 24, "mean_AP": 0.025, "AP@.5": 0.25, "AP@.75": 0.0}
    assert read_info(folder / "sample.safetensors").scores["validation"] == pytest.approx(scores, abs=1e-3)


def test_a_model_is_fine_tuned(folder: Path) -> None:
    result = train("--start", "sample.safetensors", "--steps", "2", "-o", "tuned.safetensors")
    assert result.exit_code == 0, result.stderr
    assert read_info(folder / "tuned.safetensors").parameters["base_channels"] == 2


def test_settings_of_classes_are_read(folder: Path) -> None:
    result = train("--config", "classes.yaml", "--steps", "1", "-o", "again.safetensors")
    assert result.exit_code == 0, result.stderr
    assert read_info(folder / "again.safetensors").class_names == ("background", "small", "large")
