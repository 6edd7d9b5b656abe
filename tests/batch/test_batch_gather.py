"""Parts of a batch put together, and folders measured again."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tifffile
from batch_runner import Runner, edit, full_disk, left_cells, measured_again

from unetbio.batch.plan import read_table
from unetbio.batch.run import BatchOptions, run_batch
from unetbio.errors import EnvironmentStoppedError, UsageError
from unetbio.io import read_image, read_labels, write_labels
from unetbio.report.page import write_page
from unetbio.results.journal import Part
from unetbio.results.tables.collect_tables import Summary, measure, tidy
from unetbio.segmentation import Segmenter
from unetbio.settings.segmentation import Settings


def test_parts_together_are_the_whole(run: Runner, images: Path, tmp_path: Path, segmenter: Segmenter) -> None:
    run()
    parts = Runner(images, tmp_path / "parts", segmenter)
    for index in (1, 2, 3):
        summary = parts(part=Part(index, 3))
        assert summary.table is None
        assert (parts.out / f"run.{index}-of-3.jsonl").is_file()
    assert not (parts.out / "summary.csv").exists()
    assert parts.hashes() == run.hashes()
    whole = measure(parts.out)
    assert whole == Summary(4, 9, 1, parts.out / "summary.csv")
    for name in ("summary.csv", "cells.csv"):
        assert (parts.out / name).read_text() == (run.out / name).read_text()


def test_what_parts_measured_is_not_measured_again(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = measured_again(monkeypatch)
    for index in (1, 2):
        run(part=Part(index, 2))
    # Nothing was made this time, and what was left before stays.
    before = left_cells(run.out)
    run(part=Part(1, 2))
    assert left_cells(run.out) == before
    assert measure(run.out).cells == 9
    assert measured == []
    assert left_cells(run.out) == []
    text = (run.out / "cells.csv").read_text()
    measure(run.out, overwrite=True)
    assert len(measured) == 3
    assert (run.out / "cells.csv").read_text() == text


def test_what_changed_after_a_part_measured_it_is_measured_again(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = measured_again(monkeypatch)
    run(part=Part(1, 1))
    edit(run.out / "a_labels.ome.tif")
    tifffile.imwrite(run.images / "b.tif", read_image(run.images / "b.tif").read() + 1)
    measure(run.out)
    assert sorted(measured) == ["a.tif", "b.tif"]


def test_a_part_measures_what_is_newer_than_the_table(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both hold rows of the image, and those of the part are of the label image that is there."""
    run(part=Part(1, 1))
    measure(run.out)
    measured = measured_again(monkeypatch)
    tifffile.imwrite(run.images / "a.tif", read_image(run.images / "a.tif").read() + 1)
    run(part=Part(1, 1))
    before = pl.read_parquet(run.out / "cells.parquet").filter(path="a.tif")["intensity_mean_0"]
    measure(run.out)
    assert measured == []
    after = pl.read_parquet(run.out / "cells.parquet").filter(path="a.tif")["intensity_mean_0"]
    assert after.to_list() == pytest.approx((before + 1).to_list())


@pytest.mark.parametrize("options", [{"expand": 1.0, "pixel_size": 0.5}, {"pixel_size": 0.25}])
def test_parts_measure_as_the_table_was_made(
    run: Runner, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    run(part=Part(1, 1))
    measured = measured_again(monkeypatch)
    measure(run.out, **options)
    assert len(measured) == 3
    tifffile.imwrite(run.images / "c.tif", read_image(run.images / "a.tif").read())
    run(part=Part(1, 1))
    measured.clear()
    measure(run.out, **options)
    assert measured == []
    text = (run.out / "cells.csv").read_text()
    measure(run.out, **options, overwrite=True)
    assert (run.out / "cells.csv").read_text() == text


@pytest.mark.parametrize("damage", [b"", b"PAR1", None])
def test_damaged_rows_of_a_part_are_measured_again(
    run: Runner, monkeypatch: pytest.MonkeyPatch, damage: bytes | None
) -> None:
    """Nothing is said by such a file, or its rows cannot be read; either way they are only a copy."""
    measured = measured_again(monkeypatch)
    run(part=Part(1, 1))
    left = run.out / left_cells(run.out)[0]
    content = left.read_bytes()
    left.write_bytes(bytes(100) + content[100:] if damage is None else damage)
    assert measure(run.out).cells == 9
    assert len(measured) == 3


def test_measure_sees_edits(run: Runner) -> None:
    run()
    edit(run.out / "a_labels.ome.tif")
    assert measure(run.out).cells == 8
    assert run.summary()[0]["warnings"] == "edited"


def test_measure_without_the_images_leaves_out_grey_values(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    run()
    shutil.rmtree(run.images)
    with caplog.at_level("WARNING", logger="unetbio"):
        assert measure(run.out, overwrite=True).cells == 9
    assert "intensity_mean_0" not in pl.read_parquet(run.out / "cells.parquet").columns
    assert [(row["path"], row["status"]) for row in run.summary() if row["status"] == "failed"] == [
        ("bad.tif", "failed")
    ]


def test_a_file_that_was_never_there_stays_in_the_tables(run: Runner, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text(f"image\n{run.images / 'a.tif'}\n{run.images / 'gone.tif'}\n")
    items = read_table(table, Settings())
    run_batch(items, run.out, run.segmenter, BatchOptions(part=Part(1, 1)), lambda outcome: None)
    assert measure(run.out).failed == 1
    assert {row["path"]: row["status"] for row in run.summary()} == {"a.tif": "done", "gone.tif": "failed"}


@pytest.mark.parametrize(("make", "message"), [(False, "is not a folder"), (True, "holds no results")])
def test_measure_needs_results(tmp_path: Path, make: bool, message: str) -> None:
    if make:
        (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match=message):
        measure(tmp_path / "out")


def test_a_mask_of_other_frames_than_its_image_fails_alone(tmp_path: Path, segmenter: Segmenter, discs: Any) -> None:
    (tmp_path / "images").mkdir()
    tifffile.imwrite(
        tmp_path / "images" / "movie.tif", np.stack([discs] * 3), photometric="minisblack", metadata={"axes": "TYX"}
    )
    tifffile.imwrite(tmp_path / "images" / "b.tif", discs)
    run = Runner(tmp_path / "images", tmp_path / "out", segmenter)
    run()
    write_labels(run.out / "movie_labels.ome.tif", read_labels(run.out / "movie_labels.ome.tif")[:2], axes="TYX")
    shutil.rmtree(run.images)
    summary = measure(run.out)
    assert (summary.cells, summary.failed) == (3, 1)
    assert {row["path"]: row["reason"] for row in run.summary()}["movie.tif"] == "shape_mismatch"


def test_leftovers_of_another_command_below_stay(tmp_path: Path) -> None:
    """A comparison in a folder of the results may be running."""
    for name in ("", "sub", "comparison"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / ".unetbio-x").touch()
    (tmp_path / "comparison" / ".run.lock").touch()
    tidy(tmp_path)
    assert [path.parent.name for path in tmp_path.rglob(".unetbio-x")] == ["comparison"]


def test_rows_of_another_pixel_size_are_not_kept_after_a_kill(run: Runner) -> None:
    """The label images are the same, and a run that was killed wrote some anew, but no table."""
    run()
    sized = Settings(pixel_size_um=0.5)
    # As a kill leaves it: label images, and no rows of theirs.
    run(settings=sized, part=Part(1, 1))
    for path in run.out.glob(".cells.*"):
        path.unlink()
    run(settings=sized)
    table = pl.read_parquet(run.out / "cells.parquet")
    assert table["area_um2"].null_count() == 0
    text = (run.out / "cells.csv").read_text()
    measure(run.out, overwrite=True)
    assert (run.out / "cells.csv").read_text() == text


def test_a_folder_with_brackets_has_rows_of_its_own(images: Path, tmp_path: Path, segmenter: Segmenter) -> None:
    """Polars takes such names for patterns, and ``out1`` would match."""
    other = Runner(images, tmp_path / "out1", segmenter)
    other()
    tifffile.imwrite(images / "c.tif", read_image(images / "a.tif").read())
    run = Runner(images, tmp_path / "out[1]", segmenter)
    run()
    text = (run.out / "cells.csv").read_text()
    measure(run.out)
    assert (run.out / "cells.csv").read_text() == text
    write_page(run.out)
    assert "Cell area" in (run.out / "index.html").read_text()


def test_a_full_disk_costs_a_part_its_rows_alone(
    run: Runner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as context, caplog.at_level("WARNING", logger="unetbio"):
        full_disk(context)
        run(part=Part(1, 1))
    assert "the cells of this job will have to be measured again: cannot write" in caplog.text
    assert measure(run.out).cells == 9


def test_a_full_disk_stops_who_writes_the_table(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    run(part=Part(1, 1))
    full_disk(monkeypatch)
    with pytest.raises(EnvironmentStoppedError, match=r"cells\.parquet: No space left .*; free space or choose"):
        measure(run.out)


def test_an_image_that_was_given_in_two_ways_is_named(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run()
    assert caplog.text == ""
    monkeypatch.chdir(tmp_path)
    run.images = Path("images/a.tif")
    run()
    said = (
        "a.tif and images/a.tif are one image, and its cells are twice in the tables: remove the mask of one, "
        f"{run.out / 'a_labels.ome.tif'} or {run.out / 'images/a_labels.ome.tif'}"
    )
    assert [record.message for record in caplog.records] == [said]
    caplog.clear()
    measure(run.out)
    assert [record.message for record in caplog.records] == [said]
    # As the message says; the mask that is removed is no loss.
    caplog.clear()
    (run.out / "images/a_labels.ome.tif").unlink()
    measure(run.out)
    assert caplog.text == ""
    assert [row["path"] for row in run.summary()] == ["a.tif", "b.tif", "bad.tif", "sub/a.tif"]
