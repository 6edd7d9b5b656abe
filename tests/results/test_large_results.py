"""Results larger than memory: verified, measured and exported in parts, with the files of those in memory."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from unetbio.cli.main import main
from unetbio.export import cells
from unetbio.io import read_labels, write_labels
from unetbio.postprocessing import bands
from unetbio.results import reuse
from unetbio.results.tables import measure_cells

Array = NDArray[Any]


def unetbio(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(params=["ome-tiff", "ome-zarr"])
def results(request: pytest.FixtureRequest, tmp_path: Path, discs: Array, tiny_model: Path) -> Path:
    """Results of a mosaic whose cells lie across the bands of seven rows."""
    if request.param == "ome-zarr":
        pytest.importorskip("zarr")
    tifffile.imwrite(tmp_path / "a.tif", np.tile(discs, (3, 1)))
    line = ("segment", tmp_path / "a.tif", "-o", tmp_path / "out", "-m", tiny_model, "--diameter", "model")
    result = unetbio(*line, "--overlays", "none", "--device", "cpu", "--format", request.param)
    assert result.exit_code == 0, result.output
    return tmp_path / "out"


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every label image is large, and may not be read as a whole."""
    monkeypatch.setattr(reuse, "LARGE_PIXELS", 1)
    for module in (reuse, cells, measure_cells):
        monkeypatch.setattr(module, "read_label_file", _refuse)
    for module in (bands, measure_cells):
        monkeypatch.setattr(module, "BAND_PIXELS", 7 * 80)


def _refuse(path: Path, provenance: object) -> Array:
    raise AssertionError(f"{path} is read as a whole")


def test_masks_are_verified_in_parts(results: Path, large: None) -> None:
    assert unetbio("verify", results).exit_code == 0


def assert_exports_alike(results: Path, tmp_path: Path, request: pytest.FixtureRequest, target: str) -> None:
    """Assert that an export in parts writes the files of one in memory."""
    assert unetbio("export", results, "--to", target, "-o", tmp_path / "whole").exit_code == 0
    request.getfixturevalue("large")
    result = unetbio("export", results, "--to", target, "-o", tmp_path / "parts")
    assert result.exit_code == 0, result.output
    whole, parts = (
        {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()}
        for name in ("whole", "parts")
    )
    assert parts == whole
    assert parts


def edit(results: Path) -> None:
    """Change a mask as people do: an id beyond the others, and cells that are joined although they lie apart."""
    mask = next(path for path in results.glob("a_labels.*") if path.suffix != ".json")
    labels = read_labels(mask)
    labels[labels == 1] = 900
    labels[labels == 8] = 2
    shutil.rmtree(mask) if mask.is_dir() else mask.unlink()
    write_labels(mask, labels)


@pytest.mark.parametrize("is_edited", [False, True])
@pytest.mark.parametrize("options", [(), ("--expand", "3", "--pixel-size", "0.5"), ("--features", "all")])
def test_cells_are_measured_in_parts(
    results: Path, tmp_path: Path, request: pytest.FixtureRequest, is_edited: bool, options: tuple[str, ...]
) -> None:
    if is_edited:
        edit(results)
    shutil.copytree(results, tmp_path / "whole", copy_function=shutil.copy2)
    assert unetbio("measure", tmp_path / "whole", "--overwrite", *options).exit_code == 0
    request.getfixturevalue("large")
    result = unetbio("measure", results, "--overwrite", *options)
    assert result.exit_code == 0, result.output
    for name in ("cells.csv", "summary.csv"):
        assert (results / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert len((results / "cells.csv").read_bytes().splitlines()) == (9 if is_edited else 10)


@pytest.mark.parametrize("is_edited", [False, True])
@pytest.mark.parametrize("target", ["geojson", "coco", "imagej"])
def test_outlines_are_exported_in_parts(
    results: Path, tmp_path: Path, request: pytest.FixtureRequest, is_edited: bool, target: str
) -> None:
    if is_edited:
        edit(results)
    assert_exports_alike(results, tmp_path, request, target)


@pytest.mark.parametrize(
    ("axes", "options"),
    [("TYX", ()), ("ZYX", ("--z", "each")), ("ZYX", ("--z", "each", "--link", "0.25"))],
    ids=["times", "sections", "linked sections"],
)
@pytest.mark.parametrize("target", ["geojson", "coco", "imagej"])
def test_outlines_of_planes_are_exported_in_parts(
    tmp_path: Path,
    discs: Array,
    tiny_model: Path,
    request: pytest.FixtureRequest,
    axes: str,
    options: tuple[str, ...],
    target: str,
) -> None:
    planes = np.stack([discs, np.roll(discs, 2, axis=1), discs])
    tifffile.imwrite(tmp_path / "a.tif", planes, imagej=True, metadata={"axes": axes})
    results = tmp_path / "out"
    line = ("segment", tmp_path / "a.tif", "-o", results, "-m", tiny_model, "--diameter", "model", *options)
    assert unetbio(*line, "--overlays", "none", "--device", "cpu").exit_code == 0
    assert_exports_alike(results, tmp_path, request, target)


def _as_colours(mask: Path, labels: Array) -> None:
    tifffile.imwrite(mask, np.stack([labels * 20, labels * 7, labels * 3], -1).astype(np.uint8), photometric="rgb")


def _with_another_image(mask: Path, labels: Array) -> None:
    with tifffile.TiffWriter(mask, ome=True) as writer:
        for pixels in (labels, labels[:50, :50]):
            writer.write(pixels, metadata={"axes": "YX"})


def _without_sign(mask: Path, labels: Array) -> None:
    tifffile.imwrite(mask, np.where(labels == 0, 65535, labels).astype(np.uint16))


@pytest.mark.parametrize("results", ["ome-tiff"], indirect=True)
@pytest.mark.parametrize(
    ("save", "reason"),
    [
        (_as_colours, "wrong_channels"),
        (_with_another_image, "several_images"),
        (_without_sign, "negative_labels"),
    ],
)
def test_large_masks_that_are_no_label_images_are_refused_as_small_ones(
    results: Path, monkeypatch: pytest.MonkeyPatch, save: Callable[[Path, Array], None], reason: str
) -> None:
    mask = results / "a_labels.ome.tif"
    save(mask, read_labels(mask))
    before = mask.read_bytes()
    monkeypatch.setattr(reuse, "LARGE_PIXELS", 1)
    for command in ("measure", "export"):
        options = ("--overwrite",) if command == "measure" else ("--to", "geojson")
        result = unetbio(command, results, *options)
        assert result.exit_code == 3, result.output
        assert f"[{reason}]" in result.stderr
    assert mask.read_bytes() == before


def test_edited_masks_are_verified_in_parts(results: Path, request: pytest.FixtureRequest) -> None:
    edit(results)
    request.getfixturevalue("large")
    result = unetbio("verify", results)
    assert result.exit_code == 3
    assert "label_hash differs" in result.stdout
