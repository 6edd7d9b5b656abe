"""The command that trains, on images of touching discs."""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import tifffile
from annotated_folder import TINY, run, train, write_annotated

import unetbio.models
from unetbio.models.model_file import ModelInfo, load_model, read_info
from unetbio.tensor_file import load_tensors, save_tensors

pytestmark = pytest.mark.usefixtures("quick_pictures", "quick_search")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_annotated(tmp_path)


def test_a_folder_with_images_and_masks_becomes_a_model(data: Path) -> None:
    result = train(data, data)
    assert result.exit_code == 0, result.output
    assert "m.safetensors: mean_AP" in result.stdout
    assert "2 images to train on, 1 to validate on" in result.stderr
    model = load_model(data / "out" / "m.safetensors")
    assert model.info.training["steps"] == 4
    assert model.info.version == version("unetbio")
    beside = {path.name for path in (data / "out").iterdir()}
    assert beside == {"m.safetensors", "m.checkpoint.safetensors", "m.png", "m.log", ".m.lock"}


def test_another_network_has_the_parameters_of_its_paper_unless_told(data: Path) -> None:
    (data / "tiny.yaml").write_text("patch_size: 40\nbatch_size: 1\nsteps: 1\nvalidate_every: 1")
    result = train(data, data, options=("--network", "full_resolution_fcn"))
    assert result.exit_code == 0, result.output
    info = load_model(data / "out" / "m.safetensors").info
    assert info.architecture == "full_resolution_fcn"
    assert info.parameters["width"] == 1.0
    (data / "tiny.yaml").write_text("patch_size: 40\nparameters: {skop: 1}")
    result = train(data, data, options=("--network", "full_resolution_fcn", "--overwrite"))
    assert "full_resolution_fcn has no parameter skop; it has " in result.stderr


def test_a_model_is_fine_tuned(data: Path) -> None:
    """With a vanishing learning rate it stays what it was; of other images it is refused."""
    assert train(data, data).exit_code == 0
    first = data / "out" / "m.safetensors"
    (data / "slow.yaml").write_text(
        "patch_size: 40\nbatch_size: 2\nsteps: 2\nvalidate_every: 2\nlearning_rate: 1.0e-12\n"
    )
    options = ("-o", data / "second.safetensors", "--config", data / "slow.yaml", "--device", "cpu")
    result = run(data, *options, "--start", first)
    assert result.exit_code == 0, result.output
    before, after = load_model(first), load_model(data / "second.safetensors")
    assert after.info.parameters == before.info.parameters
    assert after.info.normalization == before.info.normalization
    for name, weight in before.network.named_parameters():
        np.testing.assert_allclose(after.network.get_parameter(name).detach(), weight.detach(), atol=1e-6)

    other = run(data, *options, "--start", first, "--network", "fcn8s", "--overwrite")
    assert other.exit_code == 2
    assert "m.safetensors is a unet, --network asks for fcn8s" in other.stderr
    for path in (data / "images").iterdir():
        image = tifffile.imread(path)
        tifffile.imwrite(path, np.stack([image, image]), imagej=True, metadata={"axes": "CYX"})
    colours = run(data, *options, "--start", first, "--overwrite")
    assert colours.exit_code == 2
    assert "does not fit the images and masks (in_channels 1, needed 2): start from another model" in colours.stderr


def test_a_unet_learns_centres_unless_told(data: Path) -> None:
    assert train(data, data).exit_code == 0
    assert read_info(data / "out" / "m.safetensors").target == "centres"
    # A run that began before this choice goes on as it began.
    assert train(data, data, options=("--target", "instances", "--overwrite")).exit_code == 0
    result = train(data, data)
    assert "going on from step 4" in result.stderr
    assert read_info(data / "out" / "m.safetensors").target == "instances"


def test_a_model_is_called_like_its_file_unless_the_settings_name_it(data: Path) -> None:
    model, checkpoint = data / "out" / "m.safetensors", data / "out" / "m.checkpoint.safetensors"
    train(data, data)
    assert read_info(model).name == "m"
    # A run goes on whatever its model is called: once all were called "model" that had no name.
    tensors, metadata = load_tensors(checkpoint)
    progress = json.loads(metadata["progress"])
    progress["run"]["config"]["name"] = "model"
    save_tensors(checkpoint, tensors, {"progress": json.dumps(progress)})
    (data / "tiny.yaml").write_text(TINY + "name: mine")
    assert "going on from step 4" in train(data, data).stderr
    assert read_info(model).name == "mine"


def test_an_unknown_network_is_refused_before_images_are_looked_for(data: Path) -> None:
    result = train(data, data / "tiny.yaml", options=("--network", "unett"))
    assert result.exit_code == 2
    assert "there is no network named 'unett'; there are: deconvnet, " in result.stderr


def test_a_model_name_of_another_kind_is_refused(data: Path) -> None:
    result = run(data, "-o", data / "m.pth")
    assert "m.pth: a model file's name ends in .safetensors" in result.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("stepz: 3", "unknown key stepz: did you mean steps?"),
        ("steps: many", "steps: Input should be a valid integer"),
        ("augmentation: {scale: 0.5}", "augmentation.scale: Input should be greater than or equal to 1"),
        ("batch_size: 1000000000", "batch_size must be at most 4 096"),
        ("patch_size: [64, 1000000000]", "patch_size must be at most 65 536"),
        ("steps: 5\nrestarts: [7]", "restarts [7] must rise and lie between 0 and steps (5)"),
        ("- a\n- b", "holds list, settings are a mapping of names to values"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_settings_that_cannot_be_used_name_the_key(data: Path, settings: str, message: str) -> None:
    (data / "tiny.yaml").write_text(settings)
    assert message in train(data, data).stderr


def test_quiet_spares_the_log(data: Path) -> None:
    result = train(data, data, options=("--quiet",))
    assert (result.exit_code, result.stderr) == (0, "")
    log = (data / "out" / "m.log").read_text(encoding="utf-8").splitlines()
    assert log[0].startswith("training on cpu")
    assert "2 images to train on, 1 to validate on" in log
    assert log[-2].startswith("step 4/4")


MODELS = Path(unetbio.models.__file__).parent

SHIPPED = sorted(path.stem for path in MODELS.glob("*.safetensors") if not path.name.endswith(".int8.safetensors"))


def in_the_kind_of(info: ModelInfo, ndim: int, data: Path) -> None:
    """Make the images (and masks) of ``data`` stacks or pictures in colour, where the model takes those."""
    for path in (data / "images").iterdir():
        if len(info.channels) == 3:
            grey = (tifffile.imread(path) // 4).astype(np.uint8)
            tifffile.imwrite(path, np.stack([grey, grey // 2, grey // 3], axis=-1), photometric="rgb")
    for path in [*(data / "images").iterdir(), *(data / "masks").iterdir()]:
        if ndim == 3:
            tifffile.imwrite(path, np.stack([tifffile.imread(path)] * 12), imagej=True, metadata={"axes": "ZYX"})


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_model_is_fine_tuned(data: Path, name: str) -> None:
    """Its file may be older than parameters of its network: these have their defaults."""
    info = read_info(name)
    ndim = info.parameters.get("ndim", 2)
    in_the_kind_of(info, ndim, data)
    settings = f"patch_size: {124 if ndim == 2 else 44}\nbatch_size: 1\nsteps: 1\nvalidate_every: 1\n"
    (data / "few.yaml").write_text(settings)
    result = run(data, "-o", data / "m.safetensors", "--config", data / "few.yaml", "--device", "cpu", "--start", name)
    assert result.exit_code == 0, result.output
    assert read_info(data / "m.safetensors").architecture == info.architecture
