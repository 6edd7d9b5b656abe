import errno
import json
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch

from unetbio import networks, tensor_file
from unetbio.errors import EnvironmentStoppedError, ModelError
from unetbio.models import model_file, model_path, shipped_models
from unetbio.models.model_file import ModelInfo

PARAMETERS = {"base_channels": 2, "depth": 1, "batch_norm": True}


@pytest.fixture
def info() -> ModelInfo:
    return ModelInfo(name="tiny", architecture="unet", parameters=PARAMETERS, channels=("DAPI",), licence="CC0-1.0")


@pytest.fixture
def path(tmp_path: Path, info: ModelInfo) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "tiny.safetensors"
    model_file.save_model(path, info, networks.build("unet", PARAMETERS))
    return path


def rewrite(path: Path, **changes: object) -> None:
    """Change entries of a model file's description."""
    tensors, metadata = tensor_file.load_tensors(path)
    content = json.loads(metadata["unetbio"]) | changes
    tensor_file.save_tensors(path, tensors, {"unetbio": json.dumps(content)})


def test_what_is_saved_is_loaded(path: Path, info: ModelInfo) -> None:
    loaded = model_file.load_model(path)
    assert loaded.info == info
    assert not loaded.network.training
    other = model_file.load_model(path)
    image = torch.randn(1, 1, 30, 30)
    assert torch.equal(loaded.network(image), other.network(image))
    assert loaded.sha256 == other.sha256
    assert model_file.read_info(path) == info


def test_two_saves_of_one_network_are_the_same_bytes(path: Path, info: ModelInfo, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    model_file.save_model(again, info, model_file.load_model(path).network)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", shipped_models())
def test_a_shipped_model_names_no_folder_of_the_machine_that_trained_it(name: str) -> None:
    warnings = model_file.read_info(model_path(name)).training.get("warnings", [])
    assert not [warning for warning in warnings if "/" in warning]


def test_missing_model_names_the_shipped_ones() -> None:
    with pytest.raises(ModelError, match=r"there is no model 'nucleii': give a \*.safetensors file or the name of a"):
        model_file.load_model("nucleii")


@pytest.mark.parametrize("content", [b"", b"not a model at all, but text", b"\x80\x02}q\x00."])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"weights.pth is not a model file .*models are \*.safetensors files"):
        model_file.load_model(path)


def test_a_cut_model_file_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ModelError, match="is not a model file"):
        model_file.load_model(path)


def test_absurd_parameters_are_refused_before_a_network_is_built(path: Path) -> None:
    tensors, metadata = tensor_file.load_tensors(path)
    for value, message in (
        ("1000000000", "base_channels is 1000000000; it must be"),
        ("[" * 10_000, "recursion depth"),
    ):
        text = metadata["unetbio"].replace('"base_channels":2', f'"base_channels":{value}')
        tensor_file.save_tensors(path, tensors, {"unetbio": text})
        with pytest.raises(ModelError, match=message):
            model_file.load_model(path)


def test_foreign_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(ModelError, match="not a unetbio model: its header has no 'unetbio' entry"):
        model_file.load_model(path)


def test_a_checkpoint_names_the_model_to_give(path: Path) -> None:
    checkpoint = path.with_name("tiny.checkpoint.safetensors")
    tensor_file.save_tensors(checkpoint, {}, {"progress": "{}"})
    start = f"{checkpoint} is the checkpoint of a training, not a model: "

    def message(given: Path) -> str:
        with pytest.raises(ModelError) as caught:
            model_file.load_model(given)
        return str(caught.value)

    assert message(checkpoint) == f"{start}give {path}"
    path.unlink()
    assert message(checkpoint) == f"{start}the command that wrote it goes on from it and makes {path}"
    assert message(checkpoint.rename(path)).endswith(": give the model file that unetbio train wrote beside it")


def test_what_is_no_matter_of_the_disk_is_no_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise safetensors.SafetensorError("Error while serializing: invalid header")

    monkeypatch.setattr(safetensors.torch, "save", refuse)
    with pytest.raises(safetensors.SafetensorError):
        tensor_file.save_tensors(tmp_path / "a.safetensors", {}, {})
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(EnvironmentStoppedError, match=r"a\.safetensors: No space left on device; free space or choose"):
        tensor_file.save_tensors(tmp_path / "a.safetensors", {}, {})
    assert not list(tmp_path.iterdir())


def test_a_description_that_cannot_be_used_names_the_entry(path: Path) -> None:
    rewrite(path, format_version=2)
    with pytest.raises(ModelError, match=r"format_version: .*newer unetbio"):
        model_file.load_model(path)


def test_an_unknown_architecture_is_refused(path: Path) -> None:
    rewrite(path, architecture="unet9000", version="9.0")
    with pytest.raises(ModelError, match=r"no network named 'unet9000'.*newer unetbio \(9.0\)"):
        model_file.load_model(path)


def test_weights_of_another_shape_are_refused(path: Path) -> None:
    rewrite(path, parameters={**PARAMETERS, "base_channels": 3})
    with pytest.raises(ModelError, match="weights do not fit its architecture unet"):
        model_file.load_model(path)


def test_names_that_do_not_fit_the_network_are_refused(path: Path) -> None:
    rewrite(path, channels=["red", "green"])
    with pytest.raises(ModelError, match="names 2 channels, its network has 1"):
        model_file.load_model(path)


def test_settings_that_cannot_be_are_refused_with_the_file_s_name(path: Path) -> None:
    rewrite(path, postprocessing={"reach": -1})
    with pytest.raises(ModelError, match=r"tiny.safetensors: its description cannot be used \(.*reach"):
        model_file.load_model(path)


def test_tensors_of_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read as a safetensors file"):
        tensor_file.load_tensors(tmp_path / "none.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(path: Path, value: float) -> None:
    tensors, metadata = tensor_file.load_tensors(path)
    next(iter(tensors.values())).view(-1)[0] = value
    tensor_file.save_tensors(path, tensors, metadata)
    with pytest.raises(ModelError, match="its weights are not finite") as refused:
        model_file.load_model(path)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cell_diameter_px", -1.0),
        ("cell_diameter_px", 1e-9),
        ("cell_diameter_px", 1e12),
        ("pixel_size_um", [0.0, 0.5]),
        ("pixel_size_um", [0.5]),
        ("window", [0, 64]),
        ("window", [1 << 40, 1 << 40]),
        ("name", ""),
        ("name", "x" * 2000),
        ("channels", ["c"] * 5000),
    ],
)
def test_a_description_beyond_its_limits_is_refused(path: Path, field: str, value: object) -> None:
    rewrite(path, **{field: value})
    with pytest.raises(ModelError, match=rf"its description cannot be used \({field}"):
        model_file.read_info(path)


@pytest.mark.parametrize(
    "text",
    [
        '{"cell_diameter_px": NaN}',
        '{"scores": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"name": ' + "9" * 5000 + "}",
        "[]",
    ],
)
def test_a_description_that_is_no_object_of_finite_numbers_is_refused(path: Path, text: str) -> None:
    tensors, _ = tensor_file.load_tensors(path)
    tensor_file.save_tensors(path, tensors, {"unetbio": text})
    with pytest.raises(ModelError, match="its description cannot be used"):
        model_file.read_info(path)


def test_a_network_that_is_larger_than_the_weights_is_not_built(path: Path) -> None:
    # 1024 x 2**4 feature maps at the deepest level: 20 GB of weights, compared with those in the file by their shapes.
    rewrite(path, parameters=PARAMETERS | {"base_channels": 1024, "depth": 4})
    with pytest.raises(
        ModelError, match=r"weights do not fit .* is \(2, 1, 3, 3\) in the file and \(1024, 1, 3, 3\) in"
    ):
        model_file.load_model(path)


def test_a_pipe_is_no_model(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(ModelError, match="there is no model"):
        model_file.read_info(tmp_path / "pipe.safetensors")
