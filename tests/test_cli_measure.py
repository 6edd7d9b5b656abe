"""``unetbio measure``: tables of what lies in an output folder."""

import csv
from pathlib import Path
from typing import Any

import pytest
import tifffile
from click.testing import CliRunner
from numpy.typing import NDArray

from unetbio.cli.main import main


@pytest.fixture
def out(tmp_path: Path, discs: NDArray[Any], tiny_model: Path) -> Path:
    """Output of two jobs, one of which met a bad file."""
    images = tmp_path / "images"
    images.mkdir()
    tifffile.imwrite(images / "a.tif", discs)
    tifffile.imwrite(images / "b.tif", discs[::-1])
    (images / "bad.tif").write_bytes(b"")
    out = tmp_path / "out"
    for part in ("1/2", "2/2"):
        line = ["segment", str(images), "-o", str(out), "-m", str(tiny_model), "--workers", "1", "--part", part]
        assert CliRunner().invoke(main, [*line, "--failed-ok"]).exit_code == 0
    return out


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
