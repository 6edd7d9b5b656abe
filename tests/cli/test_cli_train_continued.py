"""Trainings that go on, are replaced, or end before their time."""

import json
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tifffile
from annotated_folder import TINY, run, train, write_annotated
from click.testing import CliRunner
from PIL import Image

from unetbio.cli.main import main
from unetbio.files import lock
from unetbio.models.model_file import load_model, read_info, save_model
from unetbio.tensor_file import load_metadata
from unetbio.training import loss_curve

pytestmark = pytest.mark.usefixtures("quick_pictures", "quick_search")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_annotated(tmp_path)


def test_the_same_command_again_goes_on_and_ends_with_the_same_model(data: Path) -> None:
    train(data, data)
    first = (data / "out" / "m.safetensors").read_bytes()
    result = train(data, data)
    assert "going on from step 4" in result.stderr
    assert (data / "out" / "m.safetensors").read_bytes() == first


def test_a_complete_training_says_so_and_how_to_go_on(data: Path) -> None:
    model = data / "out" / "m.safetensors"
    assert "training is complete" not in train(data, data).stderr
    result = train(data, data)
    assert result.exit_code == 0
    spent = json.loads(load_metadata(data / "out" / "m.checkpoint.safetensors")["progress"])["history"]["seconds"] / 60
    assert f"the training is complete (all 4 steps): it goes on with --minutes above the {spent:.1f} " in result.stderr
    assert f"another model starts from this one with --start {model}" in result.stderr
    # It is true.
    more = ("--minutes", spent + 0.01)
    assert "training is complete" not in train(data, data, options=more).stderr
    assert read_info(model).training["steps"] > 4
    assert " minutes): it goes on with --minutes above the " in train(data, data, options=more).stderr


def test_a_training_without_a_better_score_is_complete(data: Path) -> None:
    (data / "tiny.yaml").write_text(TINY.replace("steps: 4", "steps: 40") + "learning_rate: 1.0e-12\npatience: 1\n")
    assert "training is complete" not in train(data, data).stderr
    message = train(data, data).stderr
    assert "the training is complete: no better score in 1 validations (patience); another model starts from" in message


def test_a_model_without_its_checkpoint_is_not_overwritten_unasked(data: Path) -> None:
    train(data, data)
    (data / "out" / "m.checkpoint.safetensors").unlink()
    result = train(data, data)
    assert result.exit_code == 2
    assert "exists already: choose another name, or --overwrite it" in result.stderr
    assert train(data, data, options=("--overwrite",)).exit_code == 0


def test_a_picture_of_somebody_else_is_not_replaced_unasked(data: Path) -> None:
    (data / "out").mkdir()
    (data / "out" / "m.png").write_bytes(b"mine")
    result = train(data, data)
    assert result.exit_code == 2
    assert "m.png exists already, and the loss curve of the model would replace it: choose another" in result.stderr
    assert (data / "out" / "m.png").read_bytes() == b"mine"
    assert train(data, data, options=("--overwrite",)).exit_code == 0
    # A run that goes on replaces its own, and so does one whose model was removed.
    assert train(data, data).exit_code == 0
    for path in (data / "out").glob("*.safetensors"):
        path.unlink()
    assert train(data, data).exit_code == 0


def test_an_image_to_learn_from_is_never_replaced(data: Path) -> None:
    image = data / "images" / "zelle_ü0.png"
    Image.fromarray(tifffile.imread(image.with_suffix(".tif"))).save(image)
    image.with_suffix(".tif").unlink()
    words = ("-o", image.with_suffix(".safetensors"), "--config", data / "tiny.yaml", "--device", "cpu")
    result = run(data, *words, "--overwrite")
    assert result.exit_code == 2
    assert "zelle_ü0.png is an image to learn from, and the loss curve would replace it: choose another -o" in (
        result.stderr
    )


def test_two_trainings_cannot_write_one_model(data: Path) -> None:
    with lock(data / "out" / ".m.lock"):
        result = train(data, data)
    assert result.exit_code == 4
    assert f"{data / 'out' / 'm.safetensors'} is in use by another unetbio run (lock file .m.lock)" in result.stderr
    assert not (data / "out" / "m.log").exists()


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], None]]:
    """Files can grow to so many bytes and no further."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_full_disk_is_4_and_leaves_no_piece_of_a_file(data: Path, small_disk: Callable[[int], None]) -> None:
    out = data / "out"
    small_disk(5_000)
    result = train(data, data)
    assert result.exit_code == 4
    assert f"error: cannot write {out / 'm.checkpoint.safetensors'}: File too large; choose another" in result.stderr
    assert names_in(out) == ["m.log"]


def test_what_was_finished_before_the_disk_was_full_stays(data: Path, small_disk: Callable[[int], None]) -> None:
    out = data / "out"
    train(data, data)
    finished = {name: (out / name).read_bytes() for name in names_in(out) if name != "m.log"}
    small_disk(5_000)
    assert train(data, data).exit_code == 4
    assert names_in(out) == sorted([*finished, "m.log"])
    assert {name: (out / name).read_bytes() for name in finished} == finished


def test_a_loss_curve_that_finds_no_room_is_4_and_the_model_stays(
    data: Path, small_disk: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = loss_curve.draw_loss_curve

    def draw_on_a_full_disk(*arguments: object) -> None:
        small_disk(1_000)
        draw(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loss_curve, "draw_loss_curve", draw_on_a_full_disk)
    result = train(data, data)
    assert result.exit_code == 4
    assert "m.png: File too large" in result.stderr
    assert names_in(data / "out") == ["m.checkpoint.safetensors", "m.log", "m.safetensors"]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("tiny.yaml/m.safetensors", "m.safetensors: File exists; choose another output folder"),
        ("x" * 300 + ".safetensors", "x.safetensors: File name too long; choose another output folder"),
    ],
)
def test_a_folder_that_cannot_be_written_to_is_4(data: Path, output: str, message: str) -> None:
    result = run(data, "-o", data / output, "--config", data / "tiny.yaml", "--device", "cpu")
    assert result.exit_code == 4
    assert message in result.stderr


def test_a_log_that_cannot_be_written_is_4(data: Path) -> None:
    (data / "out" / "m.log").mkdir(parents=True)
    result = train(data, data)
    assert result.exit_code == 4
    assert "m.log: Is a directory; choose another output folder" in result.stderr


def test_a_checkpoint_that_cannot_be_removed_is_4(data: Path) -> None:
    (data / "out" / "m.checkpoint.safetensors").mkdir(parents=True)
    result = train(data, data, options=("--overwrite",))
    assert result.exit_code == 4
    assert "m.checkpoint.safetensors: Is a directory; choose another output folder" in result.stderr


def break_image(data: Path) -> None:
    (data / "images" / "zelle_ü1.tif").write_bytes(b"no image")


def break_patch_size(data: Path) -> None:
    (data / "tiny.yaml").write_text(TINY.replace("patch_size: 40", "patch_size: [40, 40, 40]"))


@pytest.mark.parametrize("spoil", [break_image, break_patch_size])
def test_a_training_that_cannot_start_leaves_nothing(data: Path, spoil: Callable[[Path], None]) -> None:
    spoil(data)
    assert train(data, data).exit_code in (2, 3)
    assert not (data / "out").exists()


def test_an_unknown_device_leaves_nothing(data: Path) -> None:
    assert train(data, data, options=("--device", "abacus")).exit_code == 2
    assert not (data / "out").exists()


def test_overwrite_keeps_the_checkpoint_of_a_run_that_cannot_start(data: Path) -> None:
    train(data, data)
    break_image(data)
    train(data, data, options=("--overwrite",))
    assert (data / "out" / "m.checkpoint.safetensors").exists()


def test_a_killed_run_with_other_settings_says_what_differs_and_can_be_replaced(data: Path) -> None:
    train(data, data)
    # As a kill leaves it: a checkpoint without a model.
    (data / "out" / "m.safetensors").unlink()
    result = train(data, data, options=("--steps", "6", "--seed", "3"))
    assert result.exit_code == 2
    assert "(steps 4, now 6; seed 0, now 3): use the same ones to go on from step 4; or start anew" in result.stderr
    result = train(data, data, options=("--steps", "6", "--seed", "3", "--replace"))
    assert result.exit_code == 0, result.stderr
    assert "starting anew: " in result.stderr
    assert load_model(data / "out" / "m.safetensors").info.training["steps"] == 6
    assert (data / "out" / "m.old.checkpoint.safetensors").exists()


def test_other_images_are_chosen_for_anew(data: Path) -> None:
    (data / "tiny.yaml").write_text(TINY.replace("patch_size: 40", ""))
    model = data / "out" / "m.safetensors"
    assert "chosen, since nothing is stated: " in train(data, data).stderr
    before = read_info(model).training["config"]["patch_size"]
    assert "chosen, since" not in train(data, data).stderr
    for path in [*(data / "images").iterdir(), *(data / "masks").iterdir()]:
        tifffile.imwrite(path, tifffile.imread(path).repeat(2, axis=0).repeat(2, axis=1))
    refused = train(data, data)
    assert refused.exit_code == 2
    assert "other training images" in refused.stderr
    result = train(data, data, options=("--replace",))
    assert result.exit_code == 0, result.output
    assert "chosen, since nothing is stated: " in result.stderr
    assert read_info(model).training["config"]["patch_size"] > before


def test_a_finished_model_is_set_aside_with_its_checkpoint(data: Path) -> None:
    """And comes back with it."""
    model, aside = data / "out" / "m.safetensors", data / "out" / "m.old.safetensors"
    train(data, data)
    first = model.read_bytes()
    assert train(data, data, options=("--steps", "2", "--replace")).exit_code == 0
    second = model.read_bytes()
    assert aside.read_bytes() == first
    assert load_model(model).info.training["steps"] == 2
    assert train(data, data, options=("--replace",)).exit_code == 0
    assert (model.read_bytes(), aside.read_bytes()) == (first, second)
    # Starting anew is starting anew.
    result = train(data, data, options=("--steps", "2", "--replace", "--overwrite"))
    assert "going on" not in result.stderr
    assert aside.read_bytes() == second
    # A model without its checkpoint does not say all settings of its training.
    (data / "out" / "m.checkpoint.safetensors").unlink()
    assert "m.safetensors exists already" in train(data, data, options=("--replace",)).stderr


def calibrate(data: Path) -> bytes:
    """Calibrate the model in its place."""
    model = data / "out" / "m.safetensors"
    words = ("calibrate", model, data, "-o", model, "--overwrite", "--device", "cpu")
    assert CliRunner().invoke(main, [str(word) for word in words]).exit_code == 0
    assert read_info(model).calibration
    return model.read_bytes()


@pytest.mark.parametrize("patience", ["", "learning_rate: 1.0e-12\npatience: 1\n"])
def test_a_calibrated_model_stays_when_its_training_has_nothing_to_do(data: Path, patience: str) -> None:
    (data / "tiny.yaml").write_text(TINY.replace("steps: 4", f"steps: {40 if patience else 4}") + patience)
    train(data, data)
    model, calibrated = data / "out" / "m.safetensors", calibrate(data)
    result = train(data, data)
    assert result.exit_code == 0, result.output
    assert "m.safetensors was calibrated since: it stays as it is (--overwrite trains it anew)" in result.stderr
    assert "the training is complete" in result.stderr
    assert model.read_bytes() == calibrated
    assert train(data, data, options=("--overwrite",)).exit_code == 0
    assert not read_info(model).calibration


def test_a_quantized_model_stays_when_its_training_has_nothing_to_do(data: Path) -> None:
    train(data, data)
    model = data / "out" / "m.safetensors"
    floats = shutil.copy(model, data / "floats.safetensors")
    words = ("models", "quantize", floats, data / "images", "-o", model, "--overwrite")
    quantized = CliRunner().invoke(main, [str(word) for word in words])
    assert quantized.exit_code == 0, quantized.output
    integers = model.read_bytes()
    result = train(data, data)
    assert result.exit_code == 0, result.output
    assert "m.safetensors was quantized since: it stays as it is (--overwrite trains it anew)" in result.stderr
    assert model.read_bytes() == integers


@pytest.mark.parametrize("is_calibrated", [False, True])
def test_a_complete_training_keeps_its_model_on_a_machine_that_computes_in_another_type(
    data: Path, monkeypatch: pytest.MonkeyPatch, is_calibrated: bool
) -> None:
    monkeypatch.setattr("unetbio.training.trainer.computes_in_bfloat16", lambda *_: False)
    train(data, data)
    model = data / "out" / "m.safetensors"
    before = calibrate(data) if is_calibrated else model.read_bytes()
    monkeypatch.setattr("unetbio.training.trainer.computes_in_bfloat16", lambda *_: True)
    result = train(data, data)
    assert "the training is complete" in result.stderr
    assert model.read_bytes() == before
    assert read_info(model).training["precision"] == "float32"


def test_a_training_that_goes_on_replaces_a_calibrated_model_and_says_so(data: Path) -> None:
    train(data, data)
    calibrate(data)
    result = train(data, data, options=("--minutes", "0.2"))
    assert result.exit_code == 0, result.output
    assert "m.safetensors was calibrated: this training replaces it" in result.stderr
    assert read_info(data / "out" / "m.safetensors").training["steps"] > 4


def test_a_calibrated_model_is_set_aside_with_its_checkpoint(data: Path) -> None:
    train(data, data)
    calibrated = calibrate(data)
    assert train(data, data, options=("--steps", "2", "--replace")).exit_code == 0
    assert (data / "out" / "m.old.safetensors").read_bytes() == calibrated
    assert train(data, data, options=("--replace",)).exit_code == 0
    assert (data / "out" / "m.safetensors").read_bytes() == calibrated


def test_a_model_that_is_no_longer_its_own_is_written_again(data: Path) -> None:
    """As after an interrupted --overwrite, or a full disk: the checkpoint is newer than the file."""
    train(data, data)
    model = data / "out" / "m.safetensors"
    info = read_info(model)
    other = {"training": {**info.training, "images_sha256": "0"}, "calibration": {"model": "m"}}
    save_model(model, info.model_copy(update=other), load_model(model).network)
    assert train(data, data).exit_code == 0
    assert read_info(model) == info
    model.write_bytes(b"damaged")
    assert train(data, data).exit_code == 0
    assert read_info(model) == info
