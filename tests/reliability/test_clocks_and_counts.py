"""Clocks that jump, locks of dead machines, and more objects than 16 bits count."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from tiny_model import field_of_squares

from unetbio.cli.main import main
from unetbio.io import read_labels
from unetbio.output_layout import LOCK
from unetbio.results.verification import verify_folder


def segment(images: Path, out: Path, model: Path, *more: str) -> None:
    line = ["segment", str(images), "-o", str(out), "-m", str(model), "--workers", "1", "--overlays", "none", *more]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("year", [1971, 2200])
def test_clocks_that_jump_change_nothing(tmp_path: Path, tiny_model: Path, year: int) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for name in "ab":
        tifffile.imwrite(images / f"{name}.tif", field_of_squares(ord(name)), metadata=None)
    segment(images, out, tiny_model)
    tables = {name: (out / name).read_bytes() for name in ("summary.csv", "cells.csv")}
    second = (year - 1970) * 31_556_952
    for path in [*images.rglob("*"), *out.rglob("*")]:
        os.utime(path, (second, second))
    segment(images, out, tiny_model)
    entries = [json.loads(line) for line in (out / "run.jsonl").read_bytes().splitlines()]
    assert [entry["status"] for entry in entries] == ["done"] * 2 + ["skipped"] * 2
    assert {name: (out / name).read_bytes() for name in tables} == tables
    assert verify_folder(out, 1)[1] == []


def test_the_lock_of_a_dead_machine_stops_nobody(tmp_path: Path, tiny_model: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", field_of_squares(0), metadata=None)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LOCK).write_text("4711 another-machine\n")
    segment(tmp_path / "a.tif", tmp_path / "out", tiny_model)


@pytest.mark.slow
def test_70_001_objects_have_the_right_numbers(tmp_path: Path, tiny_model: Path) -> None:
    count, period = 70_001, 7
    width = int(np.ceil(np.sqrt(count)))
    places = np.arange(count)
    rows, columns = places // width * period + 1, places % width * period + 1
    image = np.full((width * period + 2, width * period + 2), 10, np.uint8)
    for y in range(4):
        for x in range(4):
            image[rows + y, columns + x] = 200
    tifffile.imwrite(tmp_path / "many.tif", image, metadata=None)
    segment(tmp_path / "many.tif", tmp_path / "out", tiny_model)
    labels = read_labels(tmp_path / "out" / "many_labels.ome.tif")
    assert labels.dtype == np.uint32
    np.testing.assert_array_equal(labels[rows + 1, columns + 1], places + 1)
    assert labels.max() == count
    lines = (tmp_path / "out" / "cells.csv").read_bytes().splitlines()
    assert len(lines) == count + 1
