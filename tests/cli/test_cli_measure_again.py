"""``unetbio measure``: what is measured again, and what stays."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tifffile
from click.testing import CliRunner
from measured_folder import cells, run_measure, segment
from numpy.typing import NDArray

from unetbio.cli.main import main
from unetbio.files import sha256_path
from unetbio.io import read_labels, write_labels
from unetbio.measurement.table_schema import is_reserved


def test_what_has_not_changed_is_not_measured_again(
    tmp_path: Path, discs: NDArray[Any], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whatever changes, the tables are those of measuring all again."""
    from unetbio.results.tables import collect_tables

    images = {f"{name}.tif": np.roll(discs, number, 1) for number, name in enumerate("abcd")}
    out = segment(tmp_path, tiny_model, images, "--pixel-size", "0.5")
    measured: list[str] = []

    def measuring(out: Path, entry: Any, *arguments: Any, **options: Any) -> Any:
        measured.append(entry.path)
        return measure_again(out, entry, *arguments, **options)

    measure_again = collect_tables.measure_again
    monkeypatch.setattr(collect_tables, "measure_again", measuring)

    def again(*options: str) -> list[str]:
        measured.clear()
        run_measure(out, *options)
        kept, was = (out / "cells.csv").read_text(), sorted(measured)
        run_measure(out, *options, "--overwrite")
        assert (out / "cells.csv").read_text() == kept
        return was

    everything = sorted(images)
    # The run that segmented has measured.
    assert again() == []
    # Columns from paths are no reason.
    assert again("--metadata-regex", "(?P<name>.)[.]tif") == []
    assert again("--expand", "1") == everything
    assert again("--expand", "1") == []
    assert again("--expand", "2") == everything
    assert again("--expand", "2", "--pixel-size", "0.25") == everything
    assert again() == everything
    labels = read_labels(out / "a_labels.ome.tif")
    labels[labels == 2] = 0
    write_labels(out / "a_labels.ome.tif", labels)
    tifffile.imwrite(tmp_path / "images" / "b.tif", images["b.tif"] + 1)
    (out / "c_objects.csv").write_text("label,class,score\n1,1,0.75\n2,1,0.5\n3,1,1.0\n")
    assert again() == ["a.tif", "b.tif", "c.tif"]
    # A mask that was edited is its editor's: it may be going on.
    assert again() == ["a.tif"]
    tifffile.imwrite(tmp_path / "images" / "d.tif", images["d.tif"] + 1)
    assert again() == ["a.tif", "d.tif"]


def test_the_folder_remembers_how_it_was_measured(tmp_path: Path, discs: NDArray[Any], tiny_model: Path) -> None:
    """Later images and edited masks are measured with the options of the folder, until `measure` gets others."""
    out = segment(tmp_path, tiny_model, {"a.tif": discs})
    run_measure(out, "--expand", "2", "--pixel-size", "0.5")
    before = cells(out)
    segment(tmp_path, tiny_model, {"b.tif": discs})
    table = cells(out)
    assert table.filter(path="a.tif").equals(before)
    assert table.filter(path="b.tif").drop("path").equals(before.drop("path"))
    assert [row["pixel_size_um"] for row in csv.DictReader((out / "summary.csv").read_text().splitlines())] == [
        "0.5",
        "0.5",
    ]
    text = (out / "cells.csv").read_text()
    run_measure(out, "--expand", "2", "--pixel-size", "0.5", "--overwrite")
    assert (out / "cells.csv").read_text() == text
    run_measure(out)
    segment(tmp_path, tiny_model, {"c.tif": discs})
    assert "ring_area_px" not in cells(out).columns
    assert cells(out)["area_um2"].null_count() == 9


def test_what_is_known_of_an_image_stays_where_its_mask_was_edited(
    tmp_path: Path, discs: NDArray[Any], tiny_model: Path
) -> None:
    """Without what was said of the generated cells: the first mask had none."""
    (tmp_path / "images").mkdir()
    for name, image in (("a", np.zeros_like(discs)), ("b", np.where(discs > 100, 255, 0).astype(np.uint8))):
        path = tmp_path / "images" / f"{name}.tif"
        tifffile.imwrite(path, np.stack([image] * 4), imagej=True, metadata={"axes": "TYX"})
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    out = segment(tmp_path, tiny_model, {}, "--partial")

    def rows() -> list[tuple[str, str]]:
        table = csv.DictReader((out / "summary.csv").read_text().splitlines())
        return [(row["zoom"], row["warnings"]) for row in table if row["t"] == "0"]

    of_images = ["missing_planes:2/4 cut_file constant", "missing_planes:2/4 cut_file saturated"]
    assert rows() == [("1.0", f"no_cells {of_images[0]}"), ("1.0", of_images[1])]
    for name in "ab":
        labels = read_labels(out / f"{name}_labels.ome.tif")
        write_labels(out / f"{name}_labels.ome.tif", 1 - np.minimum(labels, 1), axes="TYX")
    run_measure(out)
    assert rows() == [("1.0", f"{warnings} edited") for warnings in of_images]


def test_masks_that_are_gone_are_named(tmp_path: Path, discs: NDArray[Any], tiny_model: Path) -> None:
    out = segment(tmp_path, tiny_model, {f"{name}.tif": discs for name in "abcd"})
    (out / "a_labels.ome.tif").unlink()
    assert run_measure(out) == "unetbio: warning: 1 mask is gone: a_labels.ome.tif; segment makes it again\n"
    (out / "b_labels.ome.tif").unlink()
    assert "2 masks are gone, such as a_labels.ome.tif; segment makes them again" in run_measure(out)
    # An image that was removed with its mask is not reported.
    for name in "ab":
        (tmp_path / "images" / f"{name}.tif").unlink()
    assert run_measure(out) == ""


@pytest.mark.parametrize("options", [(), ("--expand", "1", "--pixel-size", "0.5")])
def test_grey_values_stay_known_while_the_images_are_away(
    tmp_path: Path, discs: NDArray[Any], tiny_model: Path, options: tuple[str, ...]
) -> None:
    out = segment(tmp_path, tiny_model, {"a.tif": discs, "b.tif": discs})
    if options:
        run_measure(out, *options)
    text = (out / "cells.csv").read_text()
    (tmp_path / "images").rename(tmp_path / "away")
    assert run_measure(out, *options) == (
        "unetbio: warning: 2 of 2 images are not there, such as a.tif: the rows of their masks, which have not "
        "changed, are kept\n"
    )
    assert (out / "cells.csv").read_text() == text
    # What has changed is measured as well as it can be.
    labels = read_labels(out / "a_labels.ome.tif")
    write_labels(out / "a_labels.ome.tif", np.where(labels == 1, 0, labels))
    assert "1 of 2 images are not there, such as b.tif" in run_measure(out, *options)
    table = cells(out)
    assert table.filter(path="a.tif")["intensity_mean_0"].null_count() == 2
    assert table.filter(path="b.tif")["intensity_mean_0"].null_count() == 0


@pytest.mark.parametrize("options", [(), ("--expand", "1", "--pixel-size", "0.5", "--features", "all")])
def test_grey_values_stay_known_in_a_later_version_while_the_images_are_away(
    tmp_path: Path, discs: NDArray[Any], tiny_model: Path, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = segment(tmp_path, tiny_model, {"a.tif": discs})
    run_measure(out, *options)
    text = (out / "cells.csv").read_text()
    (tmp_path / "images").rename(tmp_path / "away")
    monkeypatch.setattr("unetbio.results.tables.measured_from.installed_version", lambda name: "99.0")
    for _ in range(2):
        assert "the rows of their masks, which have not changed, are kept" in run_measure(out, *options)
        assert (out / "cells.csv").read_text() == text


def test_further_columns_are_asked_for_and_kept_until_others_are(
    tmp_path: Path, tiny_model: Path, discs: NDArray[Any]
) -> None:
    out = segment(tmp_path, tiny_model, {"a.tif": discs})
    basic = pl.read_parquet(out / "cells.parquet")

    def columns(*options: str) -> set[str]:
        result = CliRunner().invoke(main, ["measure", str(out), "--workers", "1", *options])
        assert result.exit_code == 0, result.stderr
        table = pl.read_parquet(out / "cells.parquet")
        assert table.select(basic.columns).equals(basic)
        return set(table.columns) - set(basic.columns)

    shape, texture = columns("--features", "shape"), columns("--features", "texture")
    assert {"axis_major_length_px", "feret_diameter_max_px", "form_factor"} <= shape
    assert {"intensity_std_0", "intensity_edge_mean_0", "texture_entropy_0"} <= texture
    assert columns("--features", "all") == shape | texture
    assert all(is_reserved(name) for name in shape | texture)
    # Images that are segmented later are measured in the same way.
    assert segment(tmp_path, tiny_model, {"b.tif": discs[::-1]}) == out
    table = pl.read_parquet(out / "cells.parquet")
    assert table["texture_entropy_0"].null_count() == 0
    assert len(table) == 6
    (tmp_path / "images" / "b.tif").unlink()
    (out / "b_labels.ome.tif").unlink()
    (out / "b_labels.json").unlink()
    assert columns() == set()


def test_an_image_that_has_changed_since_it_was_segmented_is_named(
    tmp_path: Path, discs: NDArray[Any], tiny_model: Path
) -> None:
    out = segment(tmp_path, tiny_model, {"a.tif": discs, "b.tif": discs})
    tifffile.imwrite(tmp_path / "images" / "b.tif", discs[::-1])
    (tmp_path / "images" / "a.tif").touch()
    said = "1 of 2 images have changed since they were segmented, such as b.tif: they were measured as they are now"
    assert said in run_measure(out)
    segment(tmp_path, tiny_model, {})
    assert run_measure(out, "--overwrite") == ""


def test_a_file_of_several_images_is_compared_once_where_its_time_has_changed(
    tmp_path: Path, discs: NDArray[Any], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    file = tmp_path / "images" / "a.ome.tif"
    with tifffile.TiffWriter(file, ome=True) as writer:
        for _ in range(3):
            writer.write(discs)
    out = segment(tmp_path, tiny_model, {})
    hashed: list[Path] = []

    def noted(path: Path) -> str:
        hashed.append(path.resolve())
        return sha256_path(path)

    monkeypatch.setattr("unetbio.provenance.sha256_path", noted)
    file.touch()
    assert run_measure(out) == ""
    assert (hashed, len(cells(out)["series"].unique())) == ([file], 3)
    # Nothing is measured, so nothing is compared.
    assert (run_measure(out), hashed) == ("", [file])
