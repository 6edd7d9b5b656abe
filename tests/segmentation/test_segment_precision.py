"""``--precision``: a model in integers beside it, bfloat16 that is said not to be exact, and what is refused."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray

import unetbio
from unetbio import networks
from unetbio.cli.main import main
from unetbio.errors import UsageError
from unetbio.files import sha256_file
from unetbio.model_export.quantization import quantize_model
from unetbio.models import integers_path, model_path, shipped_models
from unetbio.models.model_file import load_model, read_info, save_model
from unetbio.pipelines.settings import load_config
from unetbio.segmentation import Segmenter


@pytest.fixture
def folder(tmp_path: Path, discs: NDArray[np.uint8], tiny_model: Path) -> Path:
    """An image, a model, and the integers of the model beside it."""
    tifffile.imwrite(tmp_path / "a.tif", discs)
    shutil.copy(tiny_model, tmp_path / "mine.safetensors")
    quantize_model(tmp_path / "mine.safetensors", [tmp_path / "a.tif"], tmp_path / "mine.int8.safetensors")
    return tmp_path


def run(folder: Path, *options: object, model: object = "mine.safetensors", out: str = "out") -> Result:
    line = ["segment", folder / "a.tif", "-o", folder / out, "-m", folder / str(model), "--device", "cpu", *options]
    return CliRunner().invoke(main, [str(word) for word in line])


def recorded(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "out" / "a_labels.json").read_text(encoding="utf-8"))
    return record


def warnings(folder: Path) -> str:
    with open(folder / "out" / "summary.csv", newline="", encoding="utf-8") as file:
        return next(csv.DictReader(file))["warnings"]


def refused(result: Result, message: str) -> None:
    assert result.exit_code == 2, result.output
    assert [line for line in result.stderr.splitlines() if "error" in line] == [f"unetbio: error: {message}"]


def test_float32_is_the_default(folder: Path) -> None:
    assert run(folder).exit_code == 0
    record = recorded(folder)
    assert record["run"]["exact"] is True
    assert "precision" not in record["settings"] | record["run"]
    again = run(folder, "--precision", "float32")
    assert again.exit_code == 0
    assert recorded(folder) == record, "what is done is kept"
    assert "not exact" not in again.stdout


def test_the_integers_beside_a_model_are_taken(folder: Path) -> None:
    assert run(folder).exit_code == 0
    result = run(folder, "--precision", "int8")
    assert result.exit_code == 0, result.output
    assert "was made with model tiny (now mine.int8) and is made again" in result.stderr
    record = recorded(folder)
    assert record["model"]["sha256"] == sha256_file(folder / "mine.int8.safetensors")
    assert (record["run"]["precision"], record["run"]["exact"]) == ("int8", True)
    assert record["frames"][0]["n_cells"] == 3
    # A model in integers is int8 by itself: the same run.
    for options in ((), ("--precision", "int8")):
        assert run(folder, *options, model="mine.int8.safetensors").exit_code == 0
        assert recorded(folder) == record
    labels, info = unetbio.segment(folder / "a.tif", folder / "mine.safetensors", device="cpu", precision="int8")
    assert info["label_hash"] == record["output"]["label_hash"]
    assert labels.max() == 3


def test_integers_that_are_missing_or_of_another_model_are_named(folder: Path) -> None:
    mine, integers = folder / "mine.safetensors", folder / "mine.int8.safetensors"
    info = read_info(integers)
    remedy = f"unetbio models quantize {mine} IMAGES -o {integers}"
    shutil.copy(model_path("cells-phase"), mine)
    refused(
        run(folder, "--precision", "int8"),
        f"{integers} holds no integers of {mine}: make them again by {remedy} --overwrite",
    )
    integers.unlink()
    refused(
        run(folder, "--precision", "int8"),
        f"model {mine} has no integers beside it: make them by {remedy}",
    )
    shipped = (
        "make them by unetbio models quantize cells-phase IMAGES -o cells-phase.int8.safetensors, and segment with "
    )
    with pytest.raises(UsageError, match=f"{shipped}--model cells-phase.int8.safetensors$"):
        unetbio.segment(folder / "a.tif", "cells-phase", device="cpu", precision="int8")
    assert not (folder / "out").exists()
    # A loaded model is taken as it is.
    with pytest.raises(UsageError, match="model cells-phase is not in integers: give one that unetbio models quantize"):
        unetbio.segment(np.zeros((9, 9), np.uint8), load_model(mine), device="cpu", precision="int8")
    assert info.training["quantized"]["model"] == "tiny"


def test_a_model_that_integers_cannot_compute_is_said_to_have_none(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"^model nuclei-3d has no integers \(.* is for planes, .*\): leave out --"):
        unetbio.segment(folder / "a.tif", "nuclei-3d", device="cpu", precision="int8")
    info = read_info(folder / "mine.safetensors")
    for name, parameters, reason in (
        ("unet", {**info.parameters, "padding": "same"}, "arithmetic int8 is for planes, convolutions without padding"),
        ("fcn32s", {"width": 0.05}, "tiny is a fcn32s: integers are for models of the network unet"),
    ):
        complete = networks.find(name).complete(parameters)
        other = info.model_copy(update={"architecture": name, "parameters": complete})
        save_model(folder / "other.safetensors", other, networks.build(name, complete))
        result = run(folder, "--precision", "int8", model="other.safetensors")
        assert result.exit_code == 2, result.output
        assert reason in result.stderr
        assert "): leave out --precision int8" in result.stderr
        assert "quantize" not in result.stderr


@pytest.mark.parametrize(("first", "second"), [("mine", "mine.int8"), ("mine.int8", "mine")])
def test_models_that_are_averaged_run_where_all_can(
    folder: Path, monkeypatch: pytest.MonkeyPatch, first: str, second: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A100")
    models = [load_model(folder / f"{name}.safetensors") for name in (first, second)]
    assert str(Segmenter(models[0], "auto", backend="torch", ensemble=models[1:]).device) == "cpu"


def test_precisions_that_a_model_does_not_have_are_refused(folder: Path) -> None:
    for precision in ("float32", "bfloat16"):
        refused(
            run(folder, "--precision", precision, model="mine.int8.safetensors"),
            f"model mine.int8 is in integers: leave out --precision {precision}, or give the model it was made of",
        )
    with pytest.raises(UsageError, match="precision 'half' must be float32 or int8 or bfloat16"):
        unetbio.segment(np.zeros((9, 9), np.uint8), precision="half")  # type: ignore[arg-type]
    pytest.importorskip("onnxruntime")
    refused(
        run(folder, "--precision", "bfloat16", "--backend", "onnx"),
        "backend onnx does not compute in bfloat16: leave out --backend or --precision",
    )


def test_bfloat16_says_that_it_is_not_exact(folder: Path) -> None:
    assert run(folder).exit_code == 0
    result = run(folder, "--precision", "bfloat16")
    assert result.exit_code == 0, result.output
    assert "was made with precision float32 (now bfloat16) and is made again" in result.stderr
    assert result.stdout.splitlines()[-1].endswith(
        "; 1 image in bfloat16, which is not exact: tiles and processors may change masks"
    )
    assert "not_exact:bfloat16" in warnings(folder)
    record = recorded(folder)
    assert record["settings"]["precision"] == record["run"]["precision"] == "bfloat16"
    assert record["run"]["exact"] is False
    assert record["frames"][0]["n_cells"] == 3
    kept = run(folder, "--precision", "bfloat16", "--json")
    assert json.loads(kept.stdout)["not_exact"] == {"bfloat16": 1}
    assert recorded(folder) == record
    verified = CliRunner().invoke(main, ["verify", str(folder / "out"), "--rerun", "1", "--device", "cpu"])
    assert verified.exit_code == 0, verified.output
    assert run(folder, "--precision", "bfloat16", "--dry-run", out="dry").exit_code == 0


def test_an_average_of_models_is_in_one_precision(folder: Path) -> None:
    labels, info = unetbio.segment(
        folder / "a.tif", folder / "mine.safetensors", device="cpu", precision="bfloat16", augment=True
    )
    assert labels.max() == 3
    assert info["run"]["exact"] is False


def test_both_forms_of_a_model_are_listed_as_one(folder: Path) -> None:
    rows = json.loads(CliRunner().invoke(main, ["models", str(folder), "--json"]).stdout)
    assert [row["model"] for row in rows] == [str(folder / "mine.safetensors")]
    size = (folder / "mine.int8.safetensors").stat().st_size
    assert rows[0]["int8_bytes"] == size
    line = f"  also in 8-bit integers ({size / 1e6:.1f} MB): --precision int8"
    assert line in CliRunner().invoke(main, ["models", str(folder)]).stdout.splitlines()
    (folder / "mine.safetensors").unlink()
    alone = json.loads(CliRunner().invoke(main, ["models", str(folder), "--json"]).stdout)
    assert [row["model"] for row in alone] == [str(folder / "mine.int8.safetensors")]


def test_shipped_integers_are_those_of_the_model_beside_them() -> None:
    assert not any(name.endswith(".int8") for name in shipped_models())
    for name in shipped_models():
        path, integers = model_path(name), integers_path(model_path(name))
        if not integers.exists():
            continue
        info, made = read_info(path), read_info(integers)
        assert made.is_integer
        assert made.training["quantized"]["model_sha256"] == sha256_file(path)
        assert made.training["quantized"]["model"] == name
        assert (made.postprocessing, made.normalization) == (info.postprocessing, info.normalization)


def test_jobs_of_the_workflow_depend_on_the_file_of_the_precision(folder: Path) -> None:
    def config(**options: Any) -> Any:
        return load_config({"images": str(folder / "a.tif"), **options})

    mine = {"model": str(folder / "mine.safetensors")}
    assert config(**mine).uses()[0].file() == mine["model"]
    chosen = config(**mine, segment={"precision": "int8"})
    assert chosen.uses()[0].file() == str(folder / "mine.int8.safetensors")
    words = chosen.segment.arguments()
    assert words[words.index("--precision") + 1] == "int8"
    assert "--precision" not in config(**mine).segment.arguments()
    training = {"images": str(folder), "masks": str(folder)}
    with pytest.raises(UsageError, match="precision: int8 needs a model in integers"):
        config(network="unet", training=training, segment={"precision": "int8"})
    (folder / "mine.int8.safetensors").unlink()
    with pytest.raises(UsageError, match="has no integers beside it"):
        chosen.uses()[0].file()
