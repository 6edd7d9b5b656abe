"""``unetbio measure``: micrometres, and rings around the cells."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tifffile
from click.testing import CliRunner
from measured_folder import cells, run_measure, segment, segment_in_jobs
from numpy.typing import NDArray

from unetbio.cli.main import main
from unetbio.io import read_labels
from unetbio.io.write import write_image
from unetbio.measurement.cytoplasm_rings import ring_labels


@pytest.fixture
def out(tmp_path: Path, discs: NDArray[Any], tiny_model: Path) -> Path:
    return segment_in_jobs(tmp_path, discs, tiny_model)


def test_rings_are_columns_in_micrometres(tmp_path: Path, discs: NDArray[Any], tiny_model: Path) -> None:
    out = segment(tmp_path, tiny_model, {"a.tif": discs}, "--pixel-size", "0.5")
    assert run_measure(out, "--expand", "1.5") == ""
    table = cells(out)
    labels = read_labels(out / "a_labels.ome.tif")
    rings = ring_labels(labels, 1.5, (0.5, 0.5))
    ids = table["label"].to_list()
    assert table["ring_area_px"].to_list() == [(rings == cell).sum() for cell in ids]
    assert table["ring_intensity_mean_0"].to_list() == [discs[rings == cell].mean() for cell in ids]
    # What is nearer than 1.5 um: a disc of diameter 13 grows by three pixels.
    assert table["ring_area_px"][0] > 2 * np.pi * 6 * 3 - 20
    assert table["area_um2"].to_list() == [area / 4 for area in table["area_px"]]


def test_rings_without_a_pixel_size_are_empty_and_a_line_says_so(
    tmp_path: Path, discs: NDArray[Any], tiny_model: Path
) -> None:
    out = segment(tmp_path, tiny_model, {"a.tif": discs})
    assert run_measure(out, "--expand", "1.5") == (
        "unetbio: warning: no pixel size that can be trusted in 1 of 1 images, such as a.tif: their ring columns are "
        "empty; measure again with --pixel-size UM, such as 0.5\n"
    )
    assert cells(out).select("ring_area_px", "ring_intensity_mean_0").null_count().row(0) == (3, 3)


def test_a_pixel_size_that_is_told_fills_them(tmp_path: Path, discs: NDArray[Any], tiny_model: Path) -> None:
    out = segment(tmp_path, tiny_model, {"a.tif": discs})
    masks = (out / "a_labels.ome.tif").stat().st_mtime_ns
    assert run_measure(out, "--expand", "1.5", "--pixel-size", "0.5") == ""
    rings = ring_labels(read_labels(out / "a_labels.ome.tif"), 1.5, (0.5, 0.5))
    table = cells(out)
    assert table["ring_area_px"].to_list() == [(rings == cell).sum() for cell in table["label"]]
    assert table["area_um2"].to_list() == [area / 4 for area in table["area_px"]]
    assert "0.5" in (out / "summary.csv").read_text().splitlines()[1]
    assert (out / "a_labels.ome.tif").stat().st_mtime_ns == masks
    # A mask that no run has made, and whose image is known from the journal alone.
    (out / "a_labels.json").unlink()
    run_measure(out, "--expand", "1.5", "--pixel-size", "0.5")
    assert cells(out)["ring_area_px"].to_list() == table["ring_area_px"].to_list()


def test_a_pixel_size_is_that_of_the_full_resolution(tmp_path: Path, discs: NDArray[Any], tiny_model: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    with tifffile.TiffWriter(images / "x.tif") as writer:
        writer.write(np.kron(discs, np.ones((2, 2), discs.dtype)), subifds=1, tile=(64, 64), photometric="minisblack")
        writer.write(discs, subfiletype=1, tile=(64, 64), photometric="minisblack")
    options = ["--level", "1", "--diameter", "model", "--workers", "1", "--overlays", "none"]
    line = ["segment", str(images), "-o", str(out), "-m", str(tiny_model), *options]
    assert CliRunner().invoke(main, [*line, "--pixel-size", "0.5"]).exit_code == 0
    expected = cells(out)
    assert expected["area_um2"].to_list() == expected["area_px"].to_list()
    run_measure(out, "--pixel-size", "0.5")
    assert cells(out)["area_um2"].to_list() == expected["area_um2"].to_list()
    assert pl.read_csv(out / "summary.csv")["pixel_size_um"].to_list() == [1.0]


def test_stacks_need_the_distance_of_sections(tmp_path: Path, discs: NDArray[Any], tiny_model: Path) -> None:
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images" / "s.tif", np.stack([discs] * 3), axes="ZYX", pixel_size_um={"Y": 0.5, "X": 0.5})
    out = segment(tmp_path, tiny_model, {}, "--z", "each", "--link", "0.5")
    assert run_measure(out, "--expand", "1.5") == (
        "unetbio: warning: no pixel size along all of Z, Y and X that can be trusted in 1 of 1 images, such as s.tif: "
        "their ring columns are empty; measure again with --pixel-size Z,UM, such as 2,0.5\n"
    )
    assert run_measure(out, "--expand", "1.5", "--pixel-size", "2,0.5") == ""
    rings = ring_labels(read_labels(out / "s_labels.ome.tif"), 1.5, (2.0, 0.5, 0.5))
    expected = cells(out)
    assert expected["ring_volume_px"].to_list() == [(rings == cell).sum() for cell in expected["label"]]
    assert expected["volume_um3"].to_list() == [volume / 2 for volume in expected["volume_px"]]
    # Told to segment, it stays.
    out = segment(tmp_path, tiny_model, {}, "--z", "each", "--link", "0.5", "--pixel-size", "2,0.5")
    assert run_measure(out, "--expand", "1.5") == ""
    assert cells(out).equals(expected)


def test_a_size_in_the_plane_leaves_a_distance_that_cannot_be_trusted_unknown(
    tmp_path: Path, discs: NDArray[Any], tiny_model: Path
) -> None:
    """A volume of 1 angstrom along each axis, which programs write where they know no size."""
    mrcfile = pytest.importorskip("mrcfile")
    (tmp_path / "images").mkdir()
    with mrcfile.new(tmp_path / "images" / "s.mrc") as mrc:
        mrc.set_data(np.stack([discs] * 3).astype(np.int16))
        mrc.voxel_size = 1
    out = segment(tmp_path, tiny_model, {}, "--z", "each", "--link", "0.5")
    run_measure(out, "--pixel-size", "0.5")
    assert cells(out)["volume_um3"].null_count() == 3
    run_measure(out, "--pixel-size", "2,0.5")
    assert cells(out)["volume_um3"].to_list() == [volume / 2 for volume in cells(out)["volume_px"]]


@pytest.mark.parametrize("command", ["measure", "segment"])
@pytest.mark.parametrize("size", ["0", "1,2,3", "nan", "wide", "0.5,"])
def test_pixel_sizes_that_cannot_be_are_2(out: Path, tiny_model: Path, command: str, size: str) -> None:
    start = ["measure", str(out)]
    if command == "segment":
        start = ["segment", str(out.parent / "images"), "-o", str(out), "-m", str(tiny_model)]
    result = CliRunner().invoke(main, [*start, "--pixel-size", size])
    assert result.exit_code == 2
    assert f"'{size}' is no number above 0, such as 0.5; of stacks Z,YX, such as 2,0.5" in result.stderr


@pytest.mark.parametrize("width", ["0", "-1", "nan", "wide"])
def test_widths_that_cannot_be_are_2(out: Path, width: str) -> None:
    result = CliRunner().invoke(main, ["measure", str(out), "--expand", width])
    assert result.exit_code == 2
    assert "--expand" in result.stderr


def test_without_the_image_sizes_stay_known(tmp_path: Path, discs: NDArray[Any], tiny_model: Path) -> None:
    out = segment(tmp_path, tiny_model, {"a.tif": discs}, "--pixel-size", "0.5")
    before = cells(out)
    shutil.rmtree(tmp_path / "images")
    assert "measured without grey values" in run_measure(out, "--expand", "1")
    table = cells(out)
    assert table["area_um2"].to_list() == before["area_um2"].to_list()
    assert table["ring_area_px"].min() > 0
    assert not [name for name in table.columns if "intensity" in name]
