"""``unetbio segment`` where nothing tells the scale, and for images that the model does not know."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from scipy import ndimage

from unetbio.cli.main import main
from unetbio.io import read_labels
from unetbio.models.model_file import load_model, save_model
from unetbio.provenance import read_provenance
from unetbio.settings.normalization import Normalization

Array = NDArray[Any]
Invoke = Callable[..., Result]

FINGERPRINT = {
    "dtypes": ["uint8"],
    "channels": [{"low": [5, 15], "median": [5, 15], "high": [150, 250], "level": [0.0, 0.1]}],
}


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scales by percentiles, knows its training images, and has no pixel size."""
    known = load_model(tiny_model)
    update = {"normalization": Normalization(), "training": {"grey_values": FINGERPRINT}, "pixel_size_um": None}
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    save_model(path, known.info.model_copy(update=update), known.network)
    return path


@pytest.fixture
def images(tmp_path: Path, discs: Array) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", discs)
    tifffile.imwrite(folder / "large.tif", discs.repeat(4, axis=0).repeat(4, axis=1))
    return folder


@pytest.fixture
def segment(images: Path, tmp_path: Path, model: Path) -> Invoke:
    def invoke(*arguments: str, out: str = "out", model: Path = model) -> Result:
        line = ["segment", str(images), "-o", str(tmp_path / out), "-m", str(model), "--workers", "1", *arguments]
        return CliRunner().invoke(main, line)

    return invoke


def summary(out: Path) -> dict[str, dict[str, str]]:
    with open(out / "summary.csv", newline="") as stream:
        return {row["path"]: row for row in csv.DictReader(stream)}


def settings_of(out: Path, name: str) -> dict[str, Any]:
    provenance = read_provenance(out / f"{name}_labels.json")
    assert provenance is not None
    return provenance.settings


def test_each_image_has_the_scale_that_is_found(segment: Invoke, tmp_path: Path) -> None:
    result = segment("--save-probabilities")
    assert result.exit_code == 0, result.stderr
    rows = summary(tmp_path / "out")
    assert {name: (row["n_cells"], row["zoom"], row["warnings"]) for name, row in rows.items()} == {
        "a.tif": ("3", "1.0", ""),
        "large.tif": ("3", "0.25", ""),
    }
    provenance = read_provenance(tmp_path / "out" / "large_labels.json")
    assert provenance is not None
    assert provenance.settings["diameter_px"] == "auto"
    assert provenance.run["zoom"] == [0.25, 0.25]
    assert [look["zoom"] for look in provenance.run["scale"]["tried"]] == [1.0, 0.5, 0.25]
    assert tifffile.imread(tmp_path / "out" / "large_probabilities.ome.tif").shape[-2:] == (64, 80)
    verified = CliRunner().invoke(main, ["verify", str(tmp_path / "out"), "--rerun", "2"])
    assert verified.exit_code == 0, verified.output


@pytest.mark.parametrize(
    "options",
    [("--min-area", "1000"), ("--max-area", "2500"), ("--threshold", "0.6", "--exclude-border")],
    ids=" ".join,
)
def test_cells_to_keep_do_not_decide_the_scale_of_a_rerun(
    segment: Invoke, images: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    # Discs of 2100 pixels, which are 132 at the scale of the model; blurred, so that another scale gives other masks.
    rows, columns = np.mgrid[:256, :320]
    discs = [(rows - y) ** 2 + (columns - x) ** 2 <= 26**2 for y, x in ((60, 60), (60, 220), (180, 120))]
    drawn = ndimage.gaussian_filter(np.where(np.any(discs, axis=0), 200.0, 10.0), 2)
    tifffile.imwrite(images / "round.tif", drawn.astype(np.uint8))
    assert segment(*options).exit_code == 0
    assert summary(tmp_path / "out")["round.tif"]["zoom"] == "0.25"
    verified = CliRunner().invoke(main, ["verify", str(tmp_path / "out"), "--rerun", "3"])
    assert verified.exit_code == 0, verified.output


def test_rows_of_a_table_say_whether_the_scale_is_searched(images: Path, tmp_path: Path, model: Path) -> None:
    rows = ("image,diameter_px", "large.tif,model", "a.tif,NA", "other.tif,auto", "half.tif,26")
    for name, step in (("other", 4), ("half", 2)):
        tifffile.imwrite(images / f"{name}.tif", tifffile.imread(images / "large.tif")[:: 4 // step, :: 4 // step])
    (images / "t.csv").write_text("\n".join(rows) + "\n")
    out = tmp_path / "out"
    line = ["segment", "--table", images / "t.csv", "-o", out, "-m", model, "--workers", 1]
    result = CliRunner().invoke(main, [str(word) for word in line])
    assert result.exit_code == 0, result.stderr
    zooms = {name: row["zoom"] for name, row in summary(out).items()}
    assert zooms == {"large.tif": "1.0", "a.tif": "1.0", "other.tif": "0.25", "half.tif": "0.4615"}


def test_the_scale_does_not_depend_on_workers_or_parts(segment: Invoke, tmp_path: Path) -> None:
    segment()
    segment("--workers", "2", "--tile", "24", out="tiled")
    for part in ("1/2", "2/2"):
        segment("--part", part, out="parts")
    for name in ("a", "large"):
        expected = read_labels(tmp_path / "out" / f"{name}_labels.ome.tif")
        for out in ("tiled", "parts"):
            np.testing.assert_array_equal(read_labels(tmp_path / out / f"{name}_labels.ome.tif"), expected)


def test_a_time_lapse_has_one_scale(segment: Invoke, images: Path, tmp_path: Path, discs: Array) -> None:
    large = discs.repeat(4, axis=0).repeat(4, axis=1)
    small = np.pad(discs, ((0, 192), (0, 240)), constant_values=10)
    tifffile.imwrite(images / "times.tif", np.stack([large, small, small]), metadata={"axes": "TYX"}, imagej=True)
    result = segment()
    assert result.exit_code == 0, result.stderr
    with open(tmp_path / "out" / "summary.csv", newline="") as stream:
        assert [row["zoom"] for row in csv.DictReader(stream) if row["path"] == "times.tif"] == ["0.25"] * 3


def test_a_folder_goes_on_as_it_was_begun(segment: Invoke, images: Path, tmp_path: Path, discs: Array) -> None:
    out = tmp_path / "out"
    # As version 0.1.0 recorded it, which knew no other scale
    assert segment("--diameter", "model").exit_code == 0
    assert settings_of(out, "large")["diameter_px"] is None
    tifffile.imwrite(images / "new.tif", discs)
    result = segment()
    assert f"{out} was begun at the model's own scale and goes on so; --diameter auto finds the scale" in result.stderr
    assert [settings_of(out, name)["diameter_px"] for name in ("a", "large", "new")] == [None] * 3
    assert len((out / "run.jsonl").read_text().splitlines()) == 5
    result = segment("--diameter", "auto")
    assert "a_labels.ome.tif was made with diameter_px model (now auto) and is made again" in result.stderr
    assert [settings_of(out, name)["diameter_px"] for name in ("a", "large", "new")] == ["auto"] * 3
    assert "begun" not in segment().stderr


def test_results_of_another_model_say_nothing_of_the_scale(segment: Invoke, tmp_path: Path, tiny_model: Path) -> None:
    assert segment("--diameter", "model", model=tiny_model).exit_code == 0
    assert segment().exit_code == 0
    assert settings_of(tmp_path / "out", "large")["diameter_px"] == "auto"


def test_a_table_gives_the_scale_of_each_image(images: Path, tmp_path: Path, model: Path) -> None:
    table = images / "list.csv"
    table.write_text("image,diameter_px\na.tif,model\nlarge.tif,auto\n")
    line = ["segment", "--table", str(table), "-o", str(tmp_path / "out"), "-m", str(model), "--diameter", "24"]
    assert CliRunner().invoke(main, line).exit_code == 0
    assert {name: row["zoom"] for name, row in summary(tmp_path / "out").items()} == {
        "a.tif": "1.0",
        "large.tif": "0.25",
    }


@pytest.mark.parametrize("given", ["0", "-3", "nan", "wide"])
def test_diameters_that_are_none(segment: Invoke, given: str) -> None:
    result = segment("--diameter", given)
    assert result.exit_code == 2
    assert given in result.stderr


def test_images_unlike_the_training_are_named_and_counted(
    segment: Invoke, images: Path, tmp_path: Path, discs: Array
) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b", "large"):
        tifffile.imwrite(images / f"{name}.tif", (discs + rng.integers(0, 5, discs.shape)).astype(np.uint8))
    assert segment().stdout.endswith("0 failed: " + str(tmp_path / "out" / "summary.csv") + "\n")
    tifffile.imwrite(images / "b.tif", (250 - discs + rng.integers(0, 5, discs.shape)).astype(np.uint8))
    result = segment()
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].endswith(
        "summary.csv; 1 of 3 images is unlike the training: dark things on a bright ground"
    )
    assert "unlike_training:dark_on_bright" in summary(tmp_path / "out")["b.tif"]["warnings"].split()
    page = (tmp_path / "out" / "index.html").read_text()
    assert "the image is unlike those the model was trained on: dark things on a bright ground" in page
    assert json.loads(segment("--json").stdout)["unlike_training"] == {"dark_on_bright": 1}


def test_percentiles_written_as_grey_values_are_named(segment: Invoke, images: Path, tmp_path: Path) -> None:
    tifffile.imwrite(images / "a.tif", (200 + np.random.default_rng(0).integers(0, 50, (64, 80))).astype(np.uint16))
    result = segment("--normalize", "1,99.8")
    assert (
        "all pixels are brighter than 99.8, which --normalize makes 1: percentiles are written p1,p99.8"
        in result.stderr
    )
    assert "above_limits:99.8" in summary(tmp_path / "out")["a.tif"]["warnings"]
