"""`unetbio segment` where images or results were moved, renamed or copied, or lie in each other."""

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tifffile
from click.testing import CliRunner
from numpy.typing import NDArray
from segmented_folder import Invoke

from unetbio.cli.main import main
from unetbio.errors import EnvironmentStoppedError
from unetbio.io import read_labels, write_labels
from unetbio.provenance import Provenance, read_provenance
from unetbio.results import recorded_input

Array = NDArray[Any]


def run(*line: object, code: int = 0) -> str:
    """Run a command; returns what it says on stdout."""
    result = CliRunner().invoke(main, [str(word) for word in line])
    assert result.exit_code == code, result.output
    return result.stdout


def measured(out: Path) -> pl.DataFrame:
    """The table of cells after measuring all again."""
    run("measure", out, "--workers", "1", "--overwrite")
    return pl.read_parquet(out / "cells.parquet")


def statuses(out: Path) -> dict[str, str]:
    with open(out / "summary.csv", newline="", encoding="utf-8") as stream:
        return {row["path"]: row["status"] for row in csv.DictReader(stream)}


def provenance_of(out: Path, name: str) -> Provenance:
    provenance = read_provenance(out / f"{name}_labels.json")
    assert provenance is not None
    return provenance


@pytest.mark.parametrize("first", ["gone", "other images", "deleted later"])
def test_images_that_were_moved_are_found_where_they_were_given(
    segment: Invoke, images: Path, tmp_path: Path, first: str
) -> None:
    """Also where other images of their names and size lie in the first place now, or the same for a while."""
    out, archive = tmp_path / "out", tmp_path / "archive"
    assert segment().exit_code == 0
    labels = read_labels(out / "a_labels.ome.tif")
    write_labels(out / "a_labels.ome.tif", np.where(labels == 1, 0, labels))
    before = measured(out)
    shutil.copytree(images, archive)
    made = {name: provenance_of(out, name) for name in "ab"}
    if first == "gone":
        shutil.rmtree(images)
    elif first == "other images":
        for path in images.iterdir():
            tifffile.imwrite(path, np.full((64, 80), 99, np.uint8))
    assert segment(inputs=(str(archive),)).exit_code == 0
    if first == "deleted later":
        shutil.rmtree(images)
    assert pl.read_parquet(out / "cells.parquet").equals(before)
    assert measured(out).equals(before)
    for name, provenance in made.items():
        moved = provenance_of(out, name)
        found = moved.input.find(out)
        assert found is not None
        assert found.resolve() == archive / f"{name}.tif"
        assert (moved.output, moved.settings, moved.frames) == (
            provenance.output,
            provenance.settings,
            provenance.frames,
        )
    (edited,) = run("verify", out, "--workers", "1", "--rerun", "2", code=3).splitlines()[:-1]
    assert edited.startswith("a_labels.ome.tif: labels: the label image was changed")


def test_a_provenance_that_was_changed_is_not_written_anew_where_its_image_was_moved(
    segment: Invoke, images: Path, tmp_path: Path
) -> None:
    path = tmp_path / "out" / "a_labels.json"
    assert segment().exit_code == 0
    path.write_text(path.read_text().replace('"path": "a.tif"', '"path": "c.tif"'))
    images.rename(tmp_path / "moved")
    assert segment(inputs=(str(tmp_path / "moved"),)).exit_code == 0
    said = run("verify", tmp_path / "out", "--workers", "1", code=3)
    assert "a_labels.ome.tif: provenance: the provenance was changed after it was written" in said
    assert "b_labels.ome.tif" not in said


def test_images_that_were_moved_are_segmented_where_provenances_cannot_be_written(
    segment: Invoke, images: Path, discs: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a folder of the results is read-only, and other images lie beside those that moved."""
    assert segment().exit_code == 0
    images.rename(tmp_path / "moved")
    tifffile.imwrite(tmp_path / "moved" / "c.tif", discs)

    def refuse(path: Path, provenance: Provenance) -> None:
        raise EnvironmentStoppedError(f"cannot write {path}: Permission denied")

    monkeypatch.setattr(recorded_input, "write_provenance", refuse)
    result = segment(inputs=(str(tmp_path / "moved"),))
    assert result.exit_code == 0
    assert result.stderr.count(f"provenances in {tmp_path / 'out'} cannot be written") == 1
    assert statuses(tmp_path / "out") == dict.fromkeys(("a.tif", "b.tif", "c.tif"), "done")
    assert provenance_of(tmp_path / "out", "a").input.absolute == str(images / "a.tif")


def test_results_that_were_renamed_with_their_image_stay(segment: Invoke, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert segment().exit_code == 0
    (images / "a.tif").rename(images / "new.tif")
    for ending in ("ome.tif", "json"):
        (out / f"a_labels.{ending}").rename(out / f"new_labels.{ending}")
    # The others are looked at as well.
    said = run("verify", out, "--workers", "1", code=3).splitlines()
    gone = f"the input is gone: {images / 'a.tif'} (if it was moved, give its place to segment)"
    assert said[0] == f"new_labels.ome.tif: input: {gone}"
    assert said[1].startswith("2 masks verified, 1 mismatch")
    modified = (out / "new_labels.ome.tif").stat().st_mtime_ns
    assert segment().exit_code == 0
    assert (out / "new_labels.ome.tif").stat().st_mtime_ns == modified
    assert "2 segmented again, 0 mismatches" in run("verify", out, "--workers", "1", "--rerun", "2")
    assert measured(out)["intensity_mean_0"].null_count() == 0
    # Without the journal its provenance alone tells of it.
    (out / "run.jsonl").unlink()
    assert set(measured(out)["path"]) == {"b.tif", "new.tif"}


def test_a_result_that_was_put_aside_under_another_name_is_no_result(
    segment: Invoke, images: Path, discs: Array, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert segment().exit_code == 0
    for ending in ("ome.tif", "json"):
        shutil.copy2(out / f"a_labels.{ending}", out / f"a_first_labels.{ending}")
    shutil.copy2(out / "b_labels.json", out / "Copy of b_labels.json")
    assert run("verify", out, "--workers", "1").startswith("3 masks verified, 0 mismatches")
    (out / "a_first_labels.ome.tif").rename(tmp_path / "aside.ome.tif")
    (out / "a_labels.ome.tif").rename(tmp_path / "lost.ome.tif")
    (out / "a_labels.json").rename(tmp_path / "lost.json")
    lost = run("verify", out, "--workers", "1", code=3)
    assert "a_first_labels.ome.tif: labels: the label image is missing" in lost
    for ending in ("ome.tif", "json"):
        (tmp_path / f"lost.{ending}").rename(out / f"a_labels.{ending}")
    (tmp_path / "aside.ome.tif").rename(out / "a_first_labels.ome.tif")
    (images / "b.tif").write_bytes(b"")
    assert segment().exit_code == 3
    run("measure", out, "--workers", "1", code=3)
    assert statuses(out) == {"a.tif": "done", "b.tif": "failed"}


def test_output_folders_below_another_keep_their_tables(
    segment: Invoke, images: Path, discs: Array, tmp_path: Path, tiny_model: Path
) -> None:
    """As of two models, one of which is used alone later."""
    out, other = tmp_path / "out", tmp_path / "other"
    other.mkdir()
    tifffile.imwrite(other / "c.tif", discs)
    for folder, below in ((images, "tiny"), (other, "plates/2")):
        run("segment", folder, "-o", out / below, "-m", tiny_model, "--workers", "1")
    # Where nothing was segmented into the folder itself, all below it count.
    run("measure", out, "--workers", "1")
    assert set(statuses(out)) == {"a.tif", "b.tif", "c.tif"}
    result = segment()
    assert (result.exit_code, "twice in the tables" in result.stderr) == (0, False)
    assert set(pl.read_parquet(out / "cells.parquet")["path"]) == {"a.tif", "b.tif"}
    assert len(measured(out)) == len(pl.read_parquet(out / "tiny" / "cells.parquet"))
    assert set(statuses(out / "plates" / "2")) == {"c.tif"}
    # Their masks are verified all the same.
    assert run("verify", out, "--workers", "1").startswith("5 masks verified, 0 mismatches")


def test_output_folders_that_are_added_beside_those_with_columns_of_paths_count(
    discs: Array, tmp_path: Path, tiny_model: Path
) -> None:
    """`measure` notes the columns in a journal of the folder, into which nothing was segmented."""
    out = tmp_path / "out"
    for name in "abc":
        tifffile.imwrite(tmp_path / f"{name}.tif", discs)
        run("segment", tmp_path / f"{name}.tif", "-o", out / name, "-m", tiny_model, "--workers", "1")
        run("measure", out, "--workers", "1", *(("--metadata-regex", "(?P<letter>[a-z])[.]tif") if name == "a" else ()))
    assert (out / "run.jsonl").exists()
    assert set(statuses(out)) == {"a.tif", "b.tif", "c.tif"}
