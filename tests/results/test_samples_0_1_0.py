"""Output folders that version 0.1.0 wrote are used as if this version had written them.

`tests/samples_0_1_0/results` holds images (a time-lapse, a file of two images, one that is no image), a table of them,
two models, their output folders `cells` and `classes` (one mask of `cells` was edited), a check cache, and
`mtimes.json` with the times of all files.
"""

import csv
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from unetbio.cli.main import main

SAMPLES = Path(__file__).resolve().parents[1] / "samples_0_1_0" / "results"
WRITTEN_AT = "/tmp/study"
REGEX = "(?P<well>[A-H][0-9]+)"

Invoke = Callable[..., Result]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy in which every file has the time that it had when it was written."""
    folder = shutil.copytree(SAMPLES, tmp_path / "study")
    for name, mtime_ns in json.loads((folder / "mtimes.json").read_text()).items():
        os.utime(folder / name, ns=(mtime_ns, mtime_ns))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def invoke(study: Path) -> Invoke:
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


def last_lines(journal: Path) -> dict[str, tuple[str, str]]:
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    return {line["output"]: (line["status"], line["reason"]) for line in lines}


def masks(out: Path) -> dict[str, bytes]:
    return {
        path.as_posix(): path.read_bytes() for ending in ("labels", "classes") for path in out.rglob(f"*_{ending}.*")
    }


def test_a_run_resumes_and_makes_nothing_again(study: Path, invoke: Invoke) -> None:
    before, table = masks(study / "cells"), pl.read_csv(study / "cells" / "cells.csv")
    arguments = ["--table", "images.csv", "-m", "tiny.safetensors", "-o", "cells", "--metadata-regex", REGEX]
    result = invoke("segment", *arguments, "--save-probabilities")
    assert result.exit_code == 3
    assert "5 images, 14 cells, 1 failed" in result.output
    folder = "images/plate1"
    assert last_lines(study / "cells" / "run.jsonl") == {
        f"{folder}/A01_labels.ome.tif": ("skipped", "unchanged"),
        f"{folder}/A02_labels.ome.tif": ("skipped", "edited"),
        f"{folder}/A03_labels.ome.tif": ("skipped", "unchanged"),
        f"{folder}/A04_s01_labels.ome.tif": ("skipped", "unchanged"),
        f"{folder}/B01_labels.ome.tif": ("failed", "unreadable"),
    }
    assert masks(study / "cells") == before
    # What 0.1.0 left out: the name of the position that the series of a row chose.
    again = pl.read_csv(study / "cells" / "cells.csv")
    assert again.drop("position").equals(table)
    named = again.filter(pl.col("position") != "").select("path", "position").unique().rows()
    assert named == [("images/plate1/A04.ome.tif", "Image1")]


def test_class_masks_resume(study: Path, invoke: Invoke) -> None:
    before = masks(study / "classes")
    images = [f"images/plate1/{name}.tif" for name in ("A01", "A02")]
    result = invoke("segment", *images, "-m", "tissue.safetensors", "-o", "classes", "--part", "1/1")
    assert result.exit_code == 0
    assert set(last_lines(study / "classes" / "run.1-of-1.jsonl").values()) == {("skipped", "unchanged")}
    assert masks(study / "classes") == before


def test_verify_finds_the_edited_mask_alone(invoke: Invoke) -> None:
    result = invoke("verify", "cells")
    assert result.exit_code == 3
    assert "4 masks verified, 1 mismatch" in result.output
    assert "images/plate1/A02_labels.ome.tif: labels" in result.output
    assert invoke("verify", "classes").exit_code == 0


@pytest.mark.parametrize("option", ["--failed-ok", "--overwrite"])
def test_measuring_gives_the_same_tables(option: str, study: Path, invoke: Invoke) -> None:
    out = study / "cells"
    before = {name: (out / name).read_text() for name in ("summary.csv", "cells.csv")}
    rows = pl.read_parquet(out / "cells.parquet", glob=False)
    assert invoke("measure", "cells", "--expand", 1, option).exit_code in (0, 3)
    assert {name: (out / name).read_text() for name in before} == before
    assert pl.read_parquet(out / "cells.parquet", glob=False).equals(rows)


def test_the_page_shows_every_picture(study: Path, invoke: Invoke) -> None:
    (study / "cells" / "index.html").unlink()
    assert invoke("report", "cells").exit_code == 0
    page = (study / "cells" / "index.html").read_text()
    assert all(f"overlays/images/plate1/{name}.labels.jpg" in page for name in ("A01", "A02", "A03", "A04_s01"))
    assert "a text file, not an image" in page


@pytest.mark.parametrize("target", ["geojson", "imagej", "coco"])
def test_cells_are_exported(target: str, invoke: Invoke) -> None:
    result = invoke("export", "cells", "--to", target, "-o", "elsewhere", "--failed-ok")
    assert result.exit_code == 0
    assert "14 outlines" in result.output


def test_summaries_are_read(study: Path, invoke: Invoke) -> None:
    assert invoke("summarize", "cells", "-o", "all.csv").exit_code in (0, 3)
    with (study / "all.csv").open(newline="") as stream:
        assert Counter(row["status"] for row in csv.DictReader(stream)) == {"done": 5, "failed": 1}


def test_a_check_cache_is_used(study: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = study / "check.cache.jsonl"
    lines = cache.read_text().replace(WRITTEN_AT, str(study)).splitlines()
    written = [json.loads(line) for line in lines if line]
    for line in written:
        # The time of the last change of an inode cannot be set.
        line["files"] = {path: [*sizes[:2], Path(path).stat().st_ctime_ns] for path, sizes in line["files"].items()}
    text = "".join(f"{json.dumps(line)}\n" for line in written)
    cache.write_text(text)
    result = invoke("check", "images", "--model", "tiny.safetensors", "--cache", cache, "-o", "again")
    assert result.exit_code == 3
    assert cache.read_text().startswith(text)
    before = (study / "checked" / "check.csv").read_text().replace(WRITTEN_AT, str(study))
    # Later versions have more columns, and find other images odd since they look at every image of a file.
    now = _rows_of_images((study / "again" / "check.csv").read_text())
    kept = ("path", "axes", "shape", "dtype", "low", "median", "high", "pixel_hash")
    assert [[row[name] for name in kept] for row in now] == [
        [row[name] for name in kept] for row in _rows_of_images(before)
    ]


def _rows_of_images(table: str) -> list[dict[str, str]]:
    """The message about a file that is none names all formats, which may become more."""
    rows = csv.DictReader(table.splitlines())
    return [row for row in rows if row["code"] != "unreadable" and not row["path"].endswith("A04.ome.tif")]
