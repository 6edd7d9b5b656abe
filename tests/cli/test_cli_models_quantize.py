"""``unetbio models quantize``: a trained U-Net in 8-bit integers."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result

from unetbio import networks
from unetbio.cli.main import main
from unetbio.errors import ModelError, UsageError
from unetbio.inference.backends.base import make_backend
from unetbio.models.model_file import load_model, save_model
from unetbio.networks.unet.integers import IntegerUNet
from unetbio.settings.normalization import Normalization
from unetbio.tensor_file import load_tensors, save_tensors


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Discs on a dark ground; one file more that is no image of the model."""
    rows, columns = np.mgrid[:64, :80]
    (tmp_path / "images").mkdir()
    for number in range(2):
        discs = sum((rows - y) ** 2 + (columns - x) ** 2 <= 60 for y, x in ((15, 15 + number), (15, 50), (45, 30)))
        image = (np.asarray(discs) * 180 + 20 + (rows + columns) % 5).astype(np.uint8)
        tifffile.imwrite(tmp_path / "images" / f"{number}.tif", image)
    colours = (np.arange(40 * 40 * 3) % 251).astype(np.uint8).reshape(40, 40, 3)
    tifffile.imwrite(tmp_path / "images" / "colour.tif", colours, photometric="rgb")
    return tmp_path / "images"


def unetbio(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def quantized(tmp_path: Path, tiny_model: Path, images: Path) -> Path:
    path = tmp_path / "integers.safetensors"
    result = unetbio("models", "quantize", tiny_model, images, "-o", path)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{path}: integers from 2 images\n"
    assert "colour.tif is left out: 3 channels" in result.stderr
    return path


def test_a_model_of_integers_is_written(quantized: Path, tiny_model: Path) -> None:
    before, after = load_model(tiny_model), load_model(quantized)
    assert isinstance(after.network, IntegerUNet)
    assert quantized.stat().st_size < tiny_model.stat().st_size
    assert after.info.name == "integers"
    assert after.info.parameters["arithmetic"] == "int8"
    record = {"model": "tiny", "model_sha256": before.sha256, "images": 2}
    assert after.info.training["quantized"] == record
    assert after.info.scores == {}
    assert after.info.postprocessing == before.info.postprocessing
    listed = json.loads(unetbio("models", quantized.parent, "--json").stdout)
    assert [row["model"] for row in listed] == [str(quantized)]


def test_scores_of_a_calibration_are_not_those_of_the_integers(tmp_path: Path, tiny_model: Path, images: Path) -> None:
    model = load_model(tiny_model)
    record = {"images": 2, "scores_before": {"mean_AP": 0.4}, "scores": {"mean_AP": 0.7}}
    save_model(tmp_path / "c.safetensors", model.info.model_copy(update={"calibration": record}), model.network)
    integers = tmp_path / "i.safetensors"
    assert unetbio("models", "quantize", tmp_path / "c.safetensors", images, "-o", integers).exit_code == 0
    made = load_model(integers)
    assert made.info.calibration == {"images": 2}
    # Earlier versions left them.
    save_model(tmp_path / "old.safetensors", made.info.model_copy(update={"calibration": record}), made.network)
    line = ("models", "export", tmp_path / "old.safetensors", "--to", "publication", "-o", tmp_path / "out")
    exported = unetbio(*line, "--author", "A")
    assert exported.exit_code == 0, exported.output
    assert "The file holds no scores." in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    # Those of integers that were calibrated themselves are theirs.
    info = made.info.model_copy(update={"calibration": {**record, "integers": True}})
    save_model(tmp_path / "own.safetensors", info, made.network)
    line = ("models", "export", tmp_path / "own.safetensors", "--to", "publication", "-o", tmp_path / "own")
    assert unetbio(*line, "--author", "A").exit_code == 0
    assert "The file holds no scores." not in (tmp_path / "own" / "README.md").read_text(encoding="utf-8")


def test_masks_are_those_of_the_model_in_every_library_and_tile(
    quantized: Path, tiny_model: Path, images: Path, tmp_path: Path
) -> None:
    hashes = []
    for number, options in enumerate(([], ["--tile", "13"], ["--backend", "torch", "--tile", "30"])):
        out = tmp_path / f"out{number}"
        line = ("segment", images / "0.tif", "-m", quantized, "-o", out, "--overlays", "none", "--device", "cpu")
        result = unetbio(*line, *options)
        assert result.exit_code == 0, result.output
        record = json.loads((out / "0_labels.json").read_text(encoding="utf-8"))
        hashes.append(record["output"]["label_hash"])
        assert record["run"].get("backend", "torch") == ("torch" if options[:1] == ["--backend"] else "onnx")
    assert len(set(hashes)) == 1
    assert sum(frame["n_cells"] for frame in record["frames"]) == 3


def test_onnx_runtime_is_taken_where_it_is_installed(
    quantized: Path, images: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("onnxruntime")
    from unetbio.segmentation import Segmenter, segmenter

    model = load_model(quantized)
    assert Segmenter(model, "cpu").backend == "onnx"
    monkeypatch.setattr(segmenter, "find_spec", lambda name: None)
    assert Segmenter(model, "cpu").backend == "torch"
    assert 'in integers, which ONNX Runtime computes faster: pip install "unetbio[onnx]"' in caplog.text


def test_what_cannot_be_quantized_is_refused(quantized: Path, tiny_model: Path, images: Path, tmp_path: Path) -> None:
    def refused(model: Path, inputs: Path, output: Path) -> str:
        result = unetbio("models", "quantize", model, inputs, "-o", output)
        assert result.exit_code == 2, result.output
        assert result.stderr.splitlines()[-1].startswith("unetbio: error: ")
        return result.stderr

    new = tmp_path / "new.safetensors"
    assert "is in integers already" in refused(quantized, images, new)
    assert "exists already: choose another name, or --overwrite it" in refused(tiny_model, images, quantized)
    assert "a model file's name ends in .safetensors" in refused(tiny_model, images, tmp_path / "new.pt")
    assert "no image can be used to find the scales" in refused(tiny_model, images / "colour.tif", new)
    flat = images / "flat.tif"
    tifffile.imwrite(flat, np.full((40, 40), 7, np.uint8))
    assert "its grey values span 0 after normalization" in refused(tiny_model, flat, new)
    raw = load_model(tiny_model)
    as_they_are = raw.info.model_copy(update={"normalization": Normalization(kind="none")})
    save_model(tmp_path / "raw.safetensors", as_they_are, raw.network)
    message = refused(tmp_path / "raw.safetensors", images / "0.tif", new)
    assert "after normalization, and integers hold up to 32" in message
    line = ("models", "quantize", tmp_path / "raw.safetensors", images, "-o", tmp_path / "raw.safetensors")
    assert "is the model itself" in unetbio(*line, "--overwrite").stderr

    info = load_model(tiny_model).info
    parameters = networks.find("fcn32s").complete({"in_channels": 1, "num_classes": 2, "width": 0.05})
    other = info.model_copy(update={"architecture": "fcn32s", "parameters": parameters})
    save_model(tmp_path / "fcn.safetensors", other, networks.build("fcn32s", parameters))
    fcn = tmp_path / "fcn.safetensors"
    assert "is a fcn32s: integers are for models of the network unet" in refused(fcn, images, new)

    padded = networks.find("unet").complete({**info.parameters, "padding": "same"})
    save_model(
        tmp_path / "padded.safetensors",
        info.model_copy(update={"parameters": padded}),
        networks.build("unet", padded),
    )
    assert "arithmetic int8 is for planes, convolutions without padding" in refused(
        tmp_path / "padded.safetensors", images, new
    )
    assert not new.exists()


def test_a_model_of_integers_is_neither_trained_nor_exported(quantized: Path, images: Path, tmp_path: Path) -> None:
    for number in range(2):
        image = tifffile.imread(images / f"{number}.tif")
        (tmp_path / "masks").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "masks" / f"{number}.tif", (image > 100).astype(np.uint8))
    (images / "colour.tif").unlink()
    trained = unetbio(
        *("train", images, tmp_path / "masks", "--split-components", "--start", quantized, "--channel-names", "nuclei"),
        *("-o", tmp_path / "new.safetensors", "--steps", "2"),
    )
    assert trained.exit_code == 2
    assert "a network in integers cannot be trained: train one with arithmetic: float" in trained.stderr
    for kind, more in (("onnx", []), ("bioimageio", ["--author", "A. Person"])):
        exported = unetbio("models", "export", quantized, "--to", kind, "-o", tmp_path / f"x.{kind}", *more)
        assert exported.exit_code == 2
        assert "is in integers, which other programs would round otherwise" in exported.stderr


def test_corrections_of_its_masks_train_the_model_that_it_was_made_of(
    quantized: Path, images: Path, tmp_path: Path
) -> None:
    from unetbio.viewer.folder import list_images, training_command, write_corrections

    out = tmp_path / "out"
    assert unetbio("segment", images / "0.tif", "-m", quantized, "-o", out, "--overlays", "none").exit_code == 0
    listed = list_images(out)
    write_corrections(out, listed)
    # The file of that model may be anywhere.
    assert " --start MODEL " in training_command(out, listed)


def test_damaged_integers_are_refused(quantized: Path, tmp_path: Path) -> None:
    tensors, metadata = load_tensors(quantized)
    damaged = tmp_path / "damaged.safetensors"
    for name, tensor, message in (
        ("bottleneck.0.weight", tensors["bottleneck.0.weight"].float(), "is torch.float32 in the file and torch.int8"),
        ("bottleneck.0.bias", tensors["bottleneck.0.bias"] + 2**25, "its integers are out of range"),
        ("bottleneck.0.weight", tensors["bottleneck.0.weight"] * 0 + 127, "its integers are out of range"),
        ("head.scale", -tensors["head.scale"], "its integers are out of range"),
    ):
        save_tensors(damaged, {**tensors, name: tensor}, metadata)
        with pytest.raises(ModelError, match=message):
            load_model(damaged)


def test_sections_and_channels_of_its_images_can_be_chosen(tiny_model: Path, images: Path, tmp_path: Path) -> None:
    stack = np.stack([tifffile.imread(images / f"{number}.tif") for number in range(2)])
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, stack, metadata={"axes": "ZYX"})
    line = ("models", "quantize", tiny_model, "-o", tmp_path / "new.safetensors")
    result = unetbio(*line, path, "--z", "each")
    assert result.exit_code == 0, result.output
    result = unetbio(*line, images, "--channel", "0", "--channel", "0", "--overwrite")
    assert result.exit_code == 2
    assert "2 channels are chosen, and the model takes 1" in result.stderr


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_integers_run_on_the_processor(quantized: Path, device: str) -> None:
    with pytest.raises(UsageError, match=f"models in integers run on the CPU and not on '{device}'"):
        make_backend(load_model(quantized).network, "torch", device)


def test_openvino_is_refused(quantized: Path) -> None:
    pytest.importorskip("openvino")
    with pytest.raises(UsageError, match="backend openvino does not compute models in integers: leave out --backend"):
        make_backend(load_model(quantized).network, "openvino")
