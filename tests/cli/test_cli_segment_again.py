"""`unetbio segment` over a folder of results: images that failed, have gone, or were segmented differently."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from segmented_folder import Invoke

from unetbio.cli.main import main
from unetbio.io import write_labels
from unetbio.io.discover import part_of

Array = NDArray[Any]


def failed_rows(out: Path) -> list[str]:
    with open(out / "summary.csv", newline="") as stream:
        return [row["path"] for row in csv.DictReader(stream) if row["status"] == "failed"]


@pytest.mark.parametrize("options", [("--failed-only",), ()], ids=["failed only", "all"])
def test_a_failed_file_that_has_gone_is_no_failure(
    segment: Invoke, images: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    (images / "bad.tif").write_bytes(b"")
    (images / "worse.tif").write_bytes(b"")
    assert segment().exit_code == 3
    (images / "bad.tif").unlink()
    # Looking changes nothing, and what is there still fails.
    assert segment(*options, "--dry-run").exit_code == 3
    assert failed_rows(out) == ["bad.tif", "worse.tif"]
    result = segment(*options)
    assert result.exit_code == 3
    assert "1 image leaves the tables: bad.tif" in result.stderr
    assert failed_rows(out) == ["worse.tif"]
    (images / "worse.tif").unlink()
    result = segment(*options)
    assert (result.exit_code, "worse.tif" in result.stderr) == (0, True)
    assert failed_rows(out) == []
    assert "worse.tif" not in (out / "index.html").read_text()
    assert CliRunner().invoke(main, ["measure", str(out), "--workers", "1"]).exit_code == 0
    assert "the tables" not in segment(*options).stderr


def test_images_that_were_deleted_leave_the_tables_of_the_same_run(
    segment: Invoke, images: Path, tmp_path: Path
) -> None:
    """Their masks stay, and count again when the image is back."""
    out = tmp_path / "out"
    content = tifffile.imread(next(images.rglob("*.tif")))
    tifffile.imwrite(images / "more.tif", content)
    before = segment()
    assert before.exit_code == 0, before.output

    def paths(table: str) -> set[str]:
        with open(out / table, newline="") as stream:
            return {row["path"] for row in csv.DictReader(stream)}

    both = paths("summary.csv"), paths("cells.csv")
    (images / "more.tif").unlink()
    result = segment()
    assert "1 image leaves the tables: more.tif" in result.stderr
    assert paths("summary.csv") == both[0] - {"more.tif"}
    assert paths("cells.csv") == both[1] - {"more.tif"}
    assert result.stdout.startswith(f"{len(both[0]) - 1} image")
    assert (out / "more_labels.ome.tif").exists()
    assert CliRunner().invoke(main, ["measure", str(out), "--workers", "1"]).exit_code == 0
    assert "more.tif" not in paths("summary.csv")
    tifffile.imwrite(images / "more.tif", content)
    assert "the tables" not in segment().stderr
    assert (paths("summary.csv"), paths("cells.csv")) == both


def test_the_page_tells_of_masks_that_were_made_differently(
    segment: Invoke, images: Path, discs: Array, tmp_path: Path
) -> None:
    tifffile.imwrite(images / "c.tif", discs[:, ::-1])
    assert segment().exit_code == 0
    page = tmp_path / "out" / "index.html"
    assert "made differently" not in page.read_text()
    assert segment("--threshold", "0.7", "--limit", "1").exit_code == 0
    said = "made differently from most of this folder: postprocessing.mask_threshold 0.7, others 0.5: 1 image "
    assert said in " ".join(page.read_text().split())
    # Recorded only where it is given.
    assert segment("--augment", "--limit", "1").exit_code == 0
    said = "made differently from most of this folder: augment true, others none: 1 image "
    assert said in " ".join(page.read_text().split())
    found = CliRunner().invoke(main, ["verify", str(tmp_path / "out")])
    assert found.stdout.splitlines()[:-1] == [
        "a_labels.ome.tif: settings: made differently from most of this folder: augment true, others none"
    ]
    # The mask of an image that was removed stays, but is no result any more.
    (images / "a.tif").unlink()
    assert segment().exit_code == 0
    assert "made differently" not in page.read_text()


def write_positions(path: Path, planes: list[Array]) -> bytes:
    """A file of several images; its bytes."""
    with tifffile.TiffWriter(path, ome=True) as writer:
        for plane in planes:
            writer.write(plane, metadata={"axes": "YX"}, compression="zlib")
    return path.read_bytes()


def test_a_file_of_several_images_that_was_mended_is_no_failure(
    segment: Invoke, images: Path, discs: Array, tmp_path: Path
) -> None:
    out, path = tmp_path / "out", images / "x.ome.tif"
    whole = write_positions(path, [discs, discs[::-1]])
    path.write_bytes(whole[: len(whole) * 4 // 10])
    assert segment().exit_code == 3
    assert failed_rows(out) == ["x.ome.tif"]
    assert segment().exit_code == 3
    path.write_bytes(whole)
    result = segment()
    assert (result.exit_code, failed_rows(out)) == (0, [])
    assert "1 image leaves the tables: x.ome.tif, as one image" in result.stderr
    assert "the tables" not in segment().stderr
    # The other way round: damaged in the middle, one of its images fails, and one image takes its place.
    damaged = bytearray(whole)
    with tifffile.TiffFile(path) as tif:
        damaged[tif.series[1].pages[0].dataoffsets[0]] ^= 255
    path.write_bytes(damaged)
    assert (segment().exit_code, failed_rows(out)) == (3, ["x.ome.tif"])
    tifffile.imwrite(path, discs, ome=True)
    assert (segment().exit_code, failed_rows(out)) == (0, [])


def table_column(out: Path, table: str, column: str) -> list[str]:
    with open(out / table, newline="", encoding="utf-8") as stream:
        return sorted({row[column] for row in csv.DictReader(stream)})


def test_an_image_that_its_provenance_alone_knows_leaves_the_tables_once_it_is_gone(
    segment: Invoke, images: Path, discs: Array, tmp_path: Path
) -> None:
    """As after a kill between mask and journal, or where the journal was deleted; images of other folders stay."""
    out, other = tmp_path / "out", tmp_path / "other"
    other.mkdir()
    tifffile.imwrite(other / "c.tif", discs)
    for inputs in (None, (str(other),)):
        assert segment(inputs=inputs).exit_code == 0
    (out / "run.jsonl").unlink()
    (images / "b.tif").rename(images / "renamed.tif")
    (other / "c.tif").unlink()
    result = segment()
    assert result.exit_code == 0
    assert "1 image leaves the tables: b.tif" in result.stderr
    assert table_column(out, "summary.csv", "path") == ["a.tif", "c.tif", "renamed.tif"]
    assert table_column(out, "cells.csv", "path") == ["a.tif", "c.tif", "renamed.tif"]
    assert (out / "b_labels.ome.tif").exists()
    assert "the tables" not in segment().stderr


def test_finished_images_of_a_file_stay_while_it_holds_fewer(
    segment: Invoke, images: Path, discs: Array, tmp_path: Path
) -> None:
    """A copy may have been cut for a moment."""
    out, path = tmp_path / "out", images / "x.ome.tif"
    write_positions(path, [discs, discs[::-1], discs[:, ::-1]])
    assert segment().exit_code == 0
    write_positions(path, [discs, discs[::-1]])
    assert "the tables" not in segment().stderr
    assert table_column(out, "summary.csv", "series") == ["", "0", "1", "2"]


@pytest.mark.parametrize("part", [(), ("--part", "1/1")], ids=["whole", "job"])
def test_a_region_beyond_the_image_is_no_failure_once_another_is_given(
    segment: Invoke, images: Path, tmp_path: Path, part: tuple[str, ...]
) -> None:
    out, one = tmp_path / "out", (str(images / "a.tif"),)
    measure = ["measure", str(out), "--workers", "1"]
    assert segment("--region", "60,0,40,60", *part, inputs=one).exit_code == 3
    assert segment("--region", "60,0,40,60", *part, inputs=one).exit_code == 3
    result = segment("--region", "40,0,40,60", *part, inputs=one)
    assert (result.exit_code, "1 image leaves the tables: a.tif#xywh=60,0,40,60\n" in result.stderr) == (0, True)
    assert CliRunner().invoke(main, measure).exit_code == 0
    assert table_column(out, "summary.csv", "path") == ["a.tif#xywh=40,0,40,60"]


def test_an_image_that_its_provenance_alone_knows_leaves_the_tables_in_each_job(
    segment: Invoke, images: Path, discs: Array, tmp_path: Path
) -> None:
    """The job that made it may have had no other image, so that none runs as this job now."""
    out, own = tmp_path / "out", part_of("a.tif", 2)
    other = next(name for n in range(99) if part_of(name := f"{n}.tif", 2) != own)
    (images / "b.tif").rename(images / other)
    for part in (1, 2):
        assert segment("--part", f"{part}/2").exit_code == 0
    (out / f"run.{3 - own}-of-2.jsonl").unlink()
    (images / other).unlink()
    assert f"1 image leaves the tables: {other}" in segment("--part", f"{own}/2").stderr
    assert CliRunner().invoke(main, ["measure", str(out), "--workers", "1"]).exit_code == 0
    assert table_column(out, "summary.csv", "path") == ["a.tif"]


def test_a_failure_that_was_mended_in_another_format_is_no_failure(
    segment: Invoke, images: Path, discs: Array, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (images / "bad.tif").write_bytes(b"")
    assert segment("--format", "ome-zarr").exit_code == 3
    tifffile.imwrite(images / "bad.tif", discs)
    assert segment().exit_code == 0
    measure = ["measure", str(out), "--workers", "1"]
    assert CliRunner().invoke(main, measure).exit_code == 0
    assert failed_rows(out) == []
    # And the failure counts where it is the last.
    (images / "bad.tif").write_bytes(b"")
    assert segment("--format", "ome-zarr").exit_code == 3
    assert CliRunner().invoke(main, measure).exit_code == 3
    with open(out / "summary.csv", newline="") as stream:
        assert [row["status"] for row in csv.DictReader(stream) if row["path"] == "bad.tif"] == ["failed"]


def test_images_that_failed_in_another_format_are_tried_again(
    segment: Invoke, images: Path, discs: Array, tmp_path: Path
) -> None:
    (images / "bad.tif").write_bytes(b"")
    assert segment("--no-tables", "--format", "ome-zarr").exit_code == 3
    tifffile.imwrite(images / "bad.tif", discs)
    assert segment("--failed-only").stdout.startswith("1 image,")
    assert (tmp_path / "out" / "bad_labels.ome.tif").is_file()


def test_probabilities_of_a_time_lapse_are_not_written_over_those_of_an_image(
    segment: Invoke, images: Path, discs: Array
) -> None:
    tifffile.imwrite(images / "x.tif", np.stack([discs] * 2), imagej=True, metadata={"axes": "TYX"})
    tifffile.imwrite(images / "x_t000.tif", discs)
    result = segment("--save-probabilities", "--group", "none")
    assert result.exit_code == 2
    assert "would both be written to x_t000_probabilities.ome.tif: rename one" in result.stderr
    assert segment("--group", "none").exit_code == 0


def test_each_job_forgets_its_own(segment: Invoke, images: Path, tmp_path: Path) -> None:
    for number in range(4):
        (images / f"bad{number}.tif").write_bytes(b"")
    parts = ("1/2", "2/2")
    for part in parts:
        assert segment("--part", part, "--failed-ok").exit_code == 0
    for number in range(4):
        (images / f"bad{number}.tif").unlink()
    for part in parts:
        assert segment("--part", part).exit_code == 0
    assert CliRunner().invoke(main, ["measure", str(tmp_path / "out"), "--workers", "1"]).exit_code == 0
    assert failed_rows(tmp_path / "out") == []


def test_failures_of_another_source_stay(segment: Invoke, images: Path, tmp_path: Path, discs: Array) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "bad.tif").write_bytes(b"")
    tifffile.imwrite(other / "c.tif", discs)
    assert segment(inputs=(str(other),)).exit_code == 3
    (other / "bad.tif").unlink()
    segment()
    assert failed_rows(tmp_path / "out") == ["bad.tif"]
    assert segment(inputs=(str(other),)).exit_code == 0
    assert failed_rows(tmp_path / "out") == []


def test_a_row_of_a_table_without_its_file_stays_a_failure(tmp_path: Path, tiny_model: Path, images: Path) -> None:
    table, out = tmp_path / "table.csv", tmp_path / "out"
    line = ["segment", "--table", str(table), "-o", str(out), "-m", str(tiny_model), "--workers", "1"]
    table.write_text("image\nimages/a.tif\nimages/none.tif\n")
    for _ in range(2):
        assert CliRunner().invoke(main, line).exit_code == 3
        assert failed_rows(out) == ["images/none.tif"]
    table.write_text("image\nimages/a.tif\n")
    assert CliRunner().invoke(main, line).exit_code == 0
    assert failed_rows(out) == []


def test_a_failure_that_the_table_lists_no_longer_is_forgotten(tmp_path: Path, tiny_model: Path, images: Path) -> None:
    """Where failures alone are asked for: another table says nothing of them. Finished images stay."""
    table, out = tmp_path / "table.csv", tmp_path / "out"

    def segment(names: list[str], *options: str) -> Result:
        table.write_text("\n".join(["image", *names]))
        line = ["segment", "--table", str(table), "-o", str(out), "-m", str(tiny_model), "--workers", "1", *options]
        return CliRunner().invoke(main, line)

    for name in ("bad", "worse"):
        (images / f"{name}.tif").write_bytes(b"")
    names = [f"images/{name}.tif" for name in ("a", "b", "bad", "worse")]
    assert segment(names).exit_code == 3
    result = segment(names[:2])
    assert "tables" not in result.stderr
    assert failed_rows(out) == names[2:]
    result = segment(names[:2], "--failed-only")
    assert result.exit_code == 0
    assert "2 images leave the tables, such as images/bad.tif, no longer in the table" in result.stderr
    assert failed_rows(out) == []
    # An edited mask that cannot be measured.
    write_labels(out / "images" / "b_labels.ome.tif", np.ones((4, 5), np.uint16))
    measure = ["measure", str(out), "--workers", "1"]
    assert CliRunner().invoke(main, measure).exit_code == 3
    assert segment(names[:1], "--failed-only").exit_code == 0
    assert CliRunner().invoke(main, measure).exit_code == 0
    assert table_column(out, "summary.csv", "path") == names[:1]


def test_a_finished_image_that_the_table_lists_no_longer_stays(tmp_path: Path, tiny_model: Path, images: Path) -> None:
    table, out = tmp_path / "table.csv", tmp_path / "out"
    for name in ("a", "b"):
        table.write_text(f"image\nimages/{name}.tif\n")
        line = ["segment", "--table", str(table), "-o", str(out), "-m", str(tiny_model), "--workers", "1"]
        assert CliRunner().invoke(main, line).exit_code == 0
    assert table_column(out, "summary.csv", "path") == ["images/a.tif", "images/b.tif"]


@pytest.mark.parametrize("saved_as", ["utf-8-sig", "cp1252", "utf-16", "without columns"])
def test_a_summary_that_a_spreadsheet_saved_again_prevents_no_run(
    segment: Invoke, images: Path, discs: Array, tmp_path: Path, saved_as: str
) -> None:
    summary = tmp_path / "out" / "summary.csv"
    tifffile.imwrite(images / "µ.tif", discs)
    (images / "bad.tif").write_bytes(b"")
    assert segment().exit_code == 3
    text = summary.read_text(encoding="utf-8")
    if saved_as == "without columns":
        summary.write_text(text.replace(",", ";"), encoding="utf-8")
        report = CliRunner().invoke(main, ["report", str(summary.parent)])
        assert (report.exit_code, "no column 'path'): write it again with unetbio measure" in report.stderr) == (
            2,
            True,
        )
    else:
        summary.write_text(text, encoding=saved_as)
    if saved_as == "utf-8-sig":
        for command, code in (("report", 0), ("summarize", 3)):
            assert CliRunner().invoke(main, [command, str(summary.parent)]).exit_code == code
    assert segment("--failed-only").exit_code == 3
    tifffile.imwrite(images / "bad.tif", discs)
    assert segment("--failed-only").exit_code == 0
    assert table_column(summary.parent, "summary.csv", "status") == ["done"]


@pytest.mark.parametrize("name", ["summary.csv", "cells.csv", "index.html"])
def test_tables_that_no_run_wrote_are_not_replaced(segment: Invoke, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    # Of another program.
    (out / "a_labels.json").write_text("{}")
    for options in ((), ("--overwrite",), ("--failed-only",), ("--part", "1/2")):
        result = segment(*options)
        assert result.exit_code == 2
        assert f"{out} holds {name}, which no run of unetbio wrote there and this one would replace" in result.stderr
    assert {path.name for path in out.iterdir()} == {name, "a_labels.json"}
    assert segment("--no-tables").exit_code == 0
    assert (out / name).read_text() == "mine"


def test_probabilities_that_no_run_wrote_are_not_replaced(segment: Invoke, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a_probabilities.ome.tif").write_text("mine")
    assert "holds a_probabilities.ome.tif, which no run" in segment("--save-probabilities").stderr
    assert segment().exit_code == 0
    assert (out / "a_probabilities.ome.tif").read_text() == "mine"


@pytest.mark.parametrize("left", [".run.lock", "run.jsonl", ".tables.sha256", "a_labels.json"])
def test_tables_of_a_run_are_replaced_whatever_is_left_of_it(segment: Invoke, tmp_path: Path, left: str) -> None:
    out = tmp_path / "out"
    assert segment().exit_code == 0
    for path in out.iterdir():
        if path.is_file() and path.name not in (left, "summary.csv"):
            path.unlink()
    assert segment().exit_code == 0
