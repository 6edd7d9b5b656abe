"""``unetbio measure``: tables of what lies in an output folder."""

import csv
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from click.testing import CliRunner
from measured_folder import cells, run_measure, segment, segment_in_jobs
from numpy.typing import NDArray

from unetbio.cli.main import main
from unetbio.measurement.regions import measure
from unetbio.measurement.table_schema import is_reserved


@pytest.fixture
def out(tmp_path: Path, discs: NDArray[Any], tiny_model: Path) -> Path:
    return segment_in_jobs(tmp_path, discs, tiny_model)


def test_tables_of_all_jobs(out: Path) -> None:
    result = CliRunner().invoke(main, ["measure", str(out), "--workers", "1"])
    assert result.exit_code == 3, result.stderr
    assert result.stdout == f"3 images, 6 cells, 1 failed: {out / 'summary.csv'}\n"
    assert "bad.tif: the file is empty" in result.stderr
    with open(out / "cells.csv", newline="") as stream:
        assert [row["path"] for row in csv.DictReader(stream)] == ["a.tif"] * 3 + ["b.tif"] * 3


def test_failed_files_are_3_unless_they_are_ok(out: Path) -> None:
    assert CliRunner().invoke(main, ["measure", str(out), "--workers", "1", "--failed-ok"]).exit_code == 0
    (out / "a_labels.ome.tif").write_bytes(b"torn")
    result = CliRunner().invoke(main, ["measure", str(out), "--workers", "1"])
    assert result.exit_code == 3
    assert "2 failed" in result.stdout
    assert "a_labels.ome.tif: a text file" in result.stderr


def test_the_page_can_be_written_from_them(out: Path) -> None:
    CliRunner().invoke(main, ["measure", str(out), "--workers", "1"])
    result = CliRunner().invoke(main, ["report", str(out)])
    assert result.exit_code == 0, result.stderr
    assert "bad.tif" in (out / "index.html").read_text()


def test_nothing_to_measure_is_2(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["measure", str(tmp_path)])
    assert result.exit_code == 2
    assert "holds no results of unetbio segment" in result.stderr


@pytest.mark.parametrize("shape", [(4, 5), (2, 4, 5)])
def test_every_column_that_is_measured_is_reserved(shape: tuple[int, ...]) -> None:
    image = np.ones((1, *shape))
    columns = measure(np.ones(shape, int), image, probabilities=image[0], pixel_size_um={}, expand_um=1)
    assert all(is_reserved(name) for name in columns)
    assert not is_reserved("well")


def test_a_mask_that_was_saved_in_another_order_is_put_over_its_image(
    tmp_path: Path, discs: NDArray[Any], tiny_model: Path
) -> None:
    """As programs of other axes save volumes: the same cells lie in the same places."""
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    (tmp_path / "images").mkdir()
    nibabel.save(nibabel.Nifti1Image(np.stack([discs.T] * 3, axis=-1), affine), tmp_path / "images" / "v.nii.gz")
    out = segment(tmp_path, tiny_model, {}, "--z", "each", "--link", "0.5")
    before, path = cells(out), out / "v_labels.nii.gz"
    labels = nibabel.load(path)
    flipped = labels.as_reoriented(np.array([[0, -1], [1, 1], [2, 1]]))
    nibabel.save(flipped, tmp_path / "flipped.nii.gz")
    shutil.move(tmp_path / "flipped.nii.gz", path)
    run_measure(out)
    places = [name for name in before.columns if name.startswith(("centroid", "intensity", "mean"))]
    assert places
    after = cells(out).sort("centroid_x_px", "centroid_y_px")
    assert after.select(places).equals(before.sort("centroid_x_px", "centroid_y_px").select(places))
    moved = affine.copy()
    moved[0, 3] = 40
    nibabel.save(nibabel.Nifti1Image(np.asarray(labels.dataobj), moved), path)
    result = CliRunner().invoke(main, ["measure", str(out), "--workers", "1"])
    assert result.exit_code == 3
    assert "v_labels.nii.gz: its voxels are not those of the image: they begin at voxel 40, 0, 0" in result.stderr


def test_channels_of_one_name_keep_their_columns_where_another_is_missing(
    tmp_path: Path, discs: NDArray[Any], tiny_model: Path
) -> None:
    names = [f"Series00{series}_ch0{channel}.tif" for series, channel in ((1, 0), (1, 1), (1, 2), (2, 0), (2, 2))]
    chosen = ("--channel", "DAPI", "--channel-names", "DAPI,GFP,GFP")
    table = cells(segment(tmp_path, tiny_model, dict.fromkeys(names, discs), *chosen)).filter(path="Series002")
    assert "intensity_mean_GFP" not in table.columns
    assert table["intensity_mean_GFP_1"].is_null().all()
    assert table["intensity_mean_GFP_2"].null_count() == 0
