"""``unetbio relate``: parents of nuclei, and the cytoplasm of cells."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tifffile
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from unetbio.cli.main import main
from unetbio.io import read_labels, write_labels
from unetbio.measurement.relations import find_parents, subtract

Array = NDArray[Any]


def run(*line: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in line])


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=60)
def test_parents_hold_most_of_the_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    children, parents = rng.integers(0, 5, (6, 7)), rng.integers(0, 4, (6, 7)) * 10
    found = find_parents(children, parents)
    assert found.labels.tolist() == np.unique(children[children > 0]).tolist()
    for label, parent, share in zip(*found, strict=True):
        inside = parents[children == label]
        counts = {value: int((inside == value).sum()) for value in np.unique(inside).tolist() if value}
        best = max(counts.values(), default=0)
        assert parent == min((value for value, count in counts.items() if count == best), default=0)
        assert share == pytest.approx(best / len(inside))
    rest = subtract(parents, children)
    np.testing.assert_array_equal(rest, np.where(children > 0, 0, parents))


@pytest.fixture
def folders(tmp_path: Path, tiny_model: Path, discs: Array) -> tuple[Path, Path]:
    """Two runs over x.tif and y.tif; the cells of x are drawn: two, of which one has two nuclei."""
    images = tmp_path / "images"
    images.mkdir()
    for name in ("x", "y"):
        tifffile.imwrite(images / f"{name}.tif", discs)
    out = []
    for name in ("nuclei", "cells"):
        result = run("segment", images, "-o", tmp_path / name, "-m", tiny_model, "--workers", "1", "--overlays", "none")
        assert result.exit_code == 0, result.stderr
        out.append(tmp_path / name)
    drawn = np.zeros((64, 80), np.uint16)
    drawn[5:30, 5:65] = 7
    drawn[55:60, 70:78] = 9
    write_labels(out[1] / "x_labels.ome.tif", drawn)
    return out[0], out[1]


def test_nuclei_find_their_cells_and_the_cytoplasm_is_measured(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    nuclei, cells = folders
    result = run("relate", nuclei, cells, "-o", tmp_path / "related")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"6 nuclei, 2 images, 5 cells, 0 failed: {tmp_path / 'related' / 'parents.csv'}\n"
    assert "1 nucleus is without a cell" in result.stderr
    parents = pl.read_csv(tmp_path / "related" / "parents.csv").filter(path="x.tif")
    assert parents["parent"].to_list() == [7, 7, None]
    assert parents["overlap"].to_list() == [1, 1, 0]
    table = pl.read_csv(tmp_path / "related" / "cytoplasm.csv")
    first, second = table.filter(path="x.tif").to_dicts()
    labels = read_labels(nuclei / "x_labels.ome.tif")
    inside = int((labels[5:30, 5:65] > 0).sum())
    assert (first["label"], first["nuclei"], first["cytoplasm_area_px"]) == (7, 2, 25 * 60 - inside)
    assert (second["label"], second["nuclei"], second["cytoplasm_area_px"]) == (9, 0, 40)
    assert second["cytoplasm_intensity_mean_0"] == 10
    # The cells of y are the nuclei themselves: nothing is left of them.
    assert table.filter(path="y.tif")["cytoplasm_area_px"].null_count() == 3
    cytoplasm = read_labels(tmp_path / "related" / "x_cytoplasm.ome.tif")
    assert set(np.unique(cytoplasm).tolist()) == {0, 7, 9}
    assert not (cytoplasm[labels > 0]).any()


def test_a_channel_that_is_missing_has_no_columns(tmp_path: Path, tiny_model: Path, discs: Array) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("Series001_ch00", "Series001_ch01", "Series002_ch00"):
        tifffile.imwrite(images / f"{name}.tif", discs)
    for name in ("nuclei", "cells"):
        line = ["segment", images, "-o", tmp_path / name, "-m", tiny_model, "--channel", "ch00", "--workers", "1"]
        assert run(*line).exit_code == 0
    # A larger cell, so that something of it is left.
    grown = read_labels(tmp_path / "nuclei" / "Series002_labels.ome.tif")
    write_labels(tmp_path / "cells" / "Series002_labels.ome.tif", np.maximum(grown, np.roll(grown, 2, axis=0)))
    result = run("relate", tmp_path / "nuclei", tmp_path / "cells", "-o", tmp_path / "related")
    assert result.exit_code == 0, result.stderr
    table = pl.read_csv(tmp_path / "related" / "cytoplasm.csv").filter(path="Series002")
    assert table["cytoplasm_intensity_mean_ch00"].null_count() == 0
    assert table["cytoplasm_intensity_mean_ch01"].is_null().all()


def test_what_cannot_be_related_is_said(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    nuclei, cells = folders
    write_labels(cells / "x_labels.ome.tif", np.ones((9, 9), np.uint16))
    (cells / "y_labels.ome.tif").unlink()
    (cells / "y_labels.json").unlink()
    result = run("relate", nuclei, cells, "-o", tmp_path / "related")
    assert result.exit_code == 3
    assert "x.tif: nuclei of (64, 80) and cells of (9, 9): segment both alike [size_differs]" in result.stderr
    assert "images left out, since one folder alone has them: 1" in result.stderr
    assert run("relate", nuclei, cells, "-o", tmp_path / "related", "--failed-ok").exit_code == 0
    result = run("relate", nuclei, tmp_path / "images", "-o", tmp_path / "related")
    assert result.exit_code == 2
    assert "holds no label images of unetbio segment" in result.stderr


def test_tables_and_masks_go_with_those_of_the_runs(tmp_path: Path, tiny_model: Path, discs: Array) -> None:
    """Paths that look like formulas are written alike, and the cytoplasm of a region knows its place."""
    (tmp_path / "images" / "+dox").mkdir(parents=True)
    tifffile.imwrite(tmp_path / "images" / "+dox" / "x.tif", np.pad(discs, 8))
    for name in ("nuclei", "cells"):
        line = ["segment", tmp_path / "images", "-o", tmp_path / name, "-m", tiny_model, "--workers", "1"]
        assert run(*line, "--region", "6,8,80,70").exit_code == 0
    (mask,) = (tmp_path / "cells").rglob("x_*_labels.ome.tif")
    assert run("relate", tmp_path / "nuclei", tmp_path / "cells", "-o", tmp_path / "related").exit_code == 0
    expected = set(pl.read_csv(tmp_path / "cells" / "cells.csv")["path"])
    assert expected == {"'+dox/x.tif#xywh=6,8,80,70"}
    for name in ("parents.csv", "cytoplasm.csv"):
        assert set(pl.read_csv(tmp_path / "related" / name)["path"]) == expected
    (cytoplasm,) = (tmp_path / "related").rglob("*_cytoplasm.ome.tif")
    assert place_of(cytoplasm) == place_of(mask) != []


def place_of(path: Path) -> list[str]:
    with tifffile.TiffFile(path) as tif:
        return sorted(set(re.findall(r'Position[XY]="[^"]*"', tif.ome_metadata or "")))


def renamed(model: Path, name: str, file: str = "", **changes: object) -> Path:
    """The model under another name, in a file of that name or of another."""
    from unetbio.models.model_file import load_model, save_model

    loaded = load_model(model)
    path = model.with_name(f"{file or name}.safetensors")
    save_model(path, loaded.info.model_copy(update={"name": name, **changes}), loaded.network)
    return path


@pytest.mark.parametrize("in_table", [False, True])
def test_options_that_do_not_fit_the_second_model_are_refused_before_the_first_runs(
    tmp_path: Path, tiny_model: Path, discs: Array, in_table: bool
) -> None:
    tifffile.imwrite(tmp_path / "x.tif", discs)
    (tmp_path / "t.csv").write_text("image,diameter_px\nx.tif,12\n")
    source = ["--table", tmp_path / "t.csv"] if in_table else [tmp_path / "x.tif", "--diameter", "12"]
    other = renamed(tiny_model, "sizeless", cell_diameter_px=None)
    result = run("segment", *source, "-o", tmp_path / "out", "-m", tiny_model, "-m", other, "--workers", "1")
    assert result.exit_code == 2
    assert "model sizeless does not say how large its cells are: leave out --diameter" in result.stderr
    assert not (tmp_path / "out").exists()


def test_two_models_make_two_results_and_relate_them(tmp_path: Path, tiny_model: Path, discs: Array) -> None:
    images = tmp_path / "images"
    images.mkdir()
    tifffile.imwrite(
        images / "x.tif", np.stack([discs, np.roll(discs, 30, axis=1)]), metadata={"axes": "CYX"}, imagej=True
    )
    cells = renamed(tiny_model, "wide")
    line = ["segment", images, "-o", tmp_path / "out", "-m", tiny_model, "-m", cells, "--workers", "1"]
    result = run(*line, "--channel", "0", "--channel", "1")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-1].startswith("3 of tiny, ")
    first = read_labels(tmp_path / "out" / "tiny" / "x_labels.ome.tif")
    second = read_labels(tmp_path / "out" / "wide" / "x_labels.ome.tif")
    np.testing.assert_array_equal(second > 0, np.roll(first > 0, 30, axis=1))
    parents = pl.read_csv(tmp_path / "out" / "related" / "parents.csv")
    assert len(parents) == 3
    said = run(*line, "--channel", "0", "--channel", "1", "--json").stdout.splitlines()
    *models, relation = map(json.loads, said)
    assert [values["images"] for values in models] == [1, 1]
    related = {"images": 1, "nuclei": 3, "orphans": parents["parent"].null_count(), "cells": int(second.max())}
    assert relation == {**related, "failed": 0, "output": str(tmp_path / "out" / "related")}
    one = run(*line, "--channel", "0")
    assert one.exit_code == 0, one.stderr
    assert pl.read_csv(tmp_path / "out" / "related" / "parents.csv")["parent"].to_list() == [1, 2, 3]
    result = run(*line, "--channel", "0", "--channel", "1", "--channel", "0")
    assert result.exit_code == 2
    assert "3 times --channel, and the models take 1 and 1: give those of each model in turn" in result.stderr


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("tiny", "results of one name, or called related"),
        ("related", "results of one name, or called related"),
        ("..", "results of a name that no folder can have"),
        ("a/b", "results of a name that no folder can have"),
    ],
)
def test_models_that_cannot_have_a_folder_of_their_name_each_are_refused(
    tmp_path: Path, tiny_model: Path, discs: Array, name: str, what: str
) -> None:
    """The name stands in the file, and may be anything."""
    tifffile.imwrite(tmp_path / "x.tif", discs)
    other = renamed(tiny_model, name, "other")
    result = run("segment", tmp_path / "x.tif", "-o", tmp_path / "out", "-m", tiny_model, "-m", other, "--workers", "1")
    assert result.exit_code == 2
    assert f"--model tiny and {name}: {what}; renaming a file" in result.stderr
    assert "segment with each by itself into a folder of its own" in result.stderr
    assert not (tmp_path / "out").exists()


def test_models_whose_names_differ_by_capitals_have_a_folder_each(
    tmp_path: Path, tiny_model: Path, discs: Array
) -> None:
    """Not on each file system, so nothing is written here."""
    tifffile.imwrite(tmp_path / "x.tif", discs)
    models = ("-m", tiny_model, "-m", renamed(tiny_model, "Tiny", "other"))
    result = run("segment", tmp_path / "x.tif", "-o", tmp_path / "out", *models, "--workers", "1", "--dry-run")
    assert result.exit_code == 0, result.stderr


def test_results_of_two_models_are_verified_each_in_its_folder(tmp_path: Path, tiny_model: Path, discs: Array) -> None:
    out = tmp_path / "out"
    tifffile.imwrite(tmp_path / "x.tif", discs)
    line = ["segment", tmp_path / "x.tif", "-o", out, "-m", tiny_model, "-m", renamed(tiny_model, "wide")]
    assert run(*line, "--workers", "1").exit_code == 0
    result = run("verify", out)
    assert (result.exit_code, result.stdout) == (0, f"2 masks verified, 0 mismatches: {out}\n")
    with open(out / "wide" / "cells.csv", "a") as table:
        table.write("\n")
    result = run("verify", out)
    assert result.exit_code == 3
    assert result.stdout.startswith("wide/cells.csv: table: changed after it was written")


def test_images_that_fail_with_one_model_are_not_related(tmp_path: Path, tiny_model: Path, discs: Array) -> None:
    """Files failed, which is no mistake of the command line."""
    tifffile.imwrite(tmp_path / "x.tif", discs)
    line = ("segment", tmp_path / "x.tif", "-o", tmp_path / "out", "-m", tiny_model, "-m", renamed(tiny_model, "cells"))
    line = (*line, "--channel", "0", "--channel", "5", "--workers", "1", "--overlays", "none")
    failed = run(*line)
    assert failed.exit_code == 3, failed.stderr
    assert f"nothing to relate: {tmp_path / 'out' / 'cells'} holds no label images" in failed.stderr
    assert run(*line, "--failed-ok").exit_code == 0


def parents_of(nuclei: Path) -> list[tuple[int | None, float | None]]:
    table = pl.read_csv(nuclei / "cells.csv")
    if "parent" not in table.columns:
        return []
    return [(row["parent"], row["parent_overlap"]) for row in table.filter(path="x.tif").to_dicts()]


def test_parents_are_columns_of_the_nuclei(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    """They stay when the folder is measured again, and leave when the masks change."""
    nuclei, cells = folders
    assert parents_of(nuclei) == []
    assert run("relate", nuclei, cells, "-o", tmp_path / "related").exit_code == 0
    expected = [(7, 1.0), (7, 1.0), (None, 0.0)]
    assert parents_of(nuclei) == expected
    for options in ((), ("--overwrite",), ("--features", "shape")):
        assert run("measure", nuclei, *options).exit_code == 0
        assert parents_of(nuclei) == expected
    assert run("export", nuclei, "--to", "geojson").exit_code == 0
    shapes = json.loads((nuclei / "x_cells.geojson").read_text())["features"]
    assert [shape["properties"]["measurements"].get("parent") for shape in shapes] == [7, 7, None]
    labels = read_labels(nuclei / "x_labels.ome.tif")
    write_labels(nuclei / "x_labels.ome.tif", np.where(labels == 1, 0, labels))
    assert run("measure", nuclei).exit_code == 0
    assert parents_of(nuclei) == [(None, None), (None, None)]
    assert run("relate", nuclei, cells, "-o", tmp_path / "related").exit_code == 0
    assert parents_of(nuclei) == expected[1:]


def test_a_column_of_the_user_with_the_name_stays(tmp_path: Path, tiny_model: Path, discs: Array) -> None:
    tifffile.imwrite(tmp_path / "x.tif", discs)
    (tmp_path / "t.csv").write_text("image,parent\nx.tif,line 3\n")
    for name in ("a", "b"):
        line = "segment", "--table", tmp_path / "t.csv", "-o", tmp_path / name, "-m", tiny_model, "--workers", "1"
        assert run(*line).exit_code == 0
    assert pl.read_csv(tmp_path / "a" / "cells.csv")["parent"].to_list() == ["line 3"] * 3
    assert run("relate", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "related").exit_code == 0
    table = pl.read_csv(tmp_path / "a" / "cells.csv")
    assert table["parent"].to_list() == [1, 2, 3]
    assert table["table_parent"].to_list() == ["line 3"] * 3


@pytest.mark.parametrize(("axes", "option", "name"), [("ZYX", "--z", "section"), ("TYX", "--t", "time")])
def test_masks_of_other_planes_are_not_related(
    tmp_path: Path, tiny_model: Path, discs: Array, axes: str, option: str, name: str
) -> None:
    (tmp_path / "images").mkdir()
    planes = np.stack([discs, discs[::-1], discs])
    tifffile.imwrite(tmp_path / "images" / "x.tif", planes, imagej=True, metadata={"axes": axes})
    for folder, plane in (("nuclei", "1"), ("cells", "2")):
        line = ["segment", tmp_path / "images", "-o", tmp_path / folder, "-m", tiny_model, "--workers", "1"]
        assert run(*line, option, plane).exit_code == 0
    line = ["relate", tmp_path / "nuclei", tmp_path / "cells", "-o", tmp_path / "related"]
    result = run(*line)
    assert result.exit_code == 3
    message = f"x.tif: nuclei of {name} 1 lie over cells of {name} 2: segment both alike [planes_differ]"
    assert message in result.stderr
    # Without provenance, it is unknown which plane a mask shows.
    (tmp_path / "nuclei" / "x_labels.json").unlink()
    assert run(*line).exit_code == 0
