"""The loop of docs/annotations.md: correct masks, import them, train with them, segment again."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import roifile
import tifffile
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from unetbio.cli.main import main
from unetbio.io import read_labels

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "annotations.md").read_text(encoding="utf-8")
IMAGES, CORRECTED = 7, 5
SQUARE = [[70, 5], [78, 5], [78, 13], [70, 13]]


def commands(heading: str) -> list[list[str]]:
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return [shlex.split(line) for line in re.findall(r"^    unetbio (.*)$", section, flags=re.MULTILINE)]


def run(*line: str) -> Result:
    result = CliRunner().invoke(main, list(line))
    assert result.exit_code == 0, result.stderr
    return result


def correct(path: Path) -> None:
    """As a person in Fiji would: delete the first region, draw another, save under the same name."""
    regions = roifile.roiread(path)
    regions = regions[1:] if isinstance(regions, list) else []
    path.unlink()
    roifile.roiwrite(path, [*regions, roifile.ImagejRoi.frompoints(np.array(SQUARE), name="0005-0070")], mode="w")


@pytest.mark.usefixtures("quick_pictures", "quick_search")
def test_corrected_masks_teach_the_next_model(
    tmp_path: Path, discs: NDArray[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    for number in range(IMAGES):
        tifffile.imwrite(f"images/x{number}.tif", np.roll(discs, 2 * number, axis=1))
    segment, export, bring, train, again = commands("Correct some masks, and train with them")
    assert [line[0] for line in (segment, export, bring, train, again)] == [
        *("segment", "export", "import", "train", "segment")
    ]
    run(*segment, "--workers", "1", "--overlays", "none")
    run(*export)
    for number in range(IMAGES):
        path = Path(f"drawn/x{number}_RoiSet.zip")
        if number < CORRECTED:
            correct(path)
        else:
            path.unlink()
    before = {path.name: read_labels(path, allow_binary=True) for path in Path("results").glob("*_labels.ome.tif")}
    assert run(*bring).stdout.startswith(f"{CORRECTED} images, ")
    assert len(list(Path("corrected").glob("*_labels.ome.tif"))) == CORRECTED
    few = [word if word != "1000" else "1" for word in train]
    result = run(*few)
    assert "1 validation image" in result.stdout
    assert f"{CORRECTED - 1} images to train on" in result.stderr
    assert json.loads(run("models", ".", "--json").stdout)
    second = run(*again, "--workers", "1", "--overlays", "none")
    assert second.stderr.count("was edited by hand or has no provenance, and is kept") == CORRECTED
    for number in range(IMAGES):
        name = f"x{number}_labels.ome.tif"
        labels = read_labels(Path("results") / name, allow_binary=True)
        model = json.loads(Path(f"results/x{number}_labels.json").read_text())["model"]["name"]
        if number < CORRECTED:
            assert (labels[6:13, 70:78] > 0).all()
            assert not np.array_equal(labels, before[name])
        assert (model == "mine") is (number >= CORRECTED)
    summary = pl.read_csv("results/summary.csv").sort("path")
    assert summary["warnings"].fill_null("").str.contains("edited").to_list() == [True] * CORRECTED + [False] * 2


def test_formats_of_the_page_are_those_of_the_command() -> None:
    for word in (
        "RoiSet.zip",
        "GeoJSON",
        "COCO",
        "labelme",
        "VGG Image Annotator",
        "Labkit",
        "napari",
        "_cp_outlines.txt",
    ):
        assert word in PAGE
