"""``unetbio verify`` finds one flipped byte, wherever it is."""

import random
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

from unetbio.cli.main import main
from unetbio.output_layout import LOCK
from unetbio.results.verification import verify_folder

PLACES = 24
"""Bytes that are flipped in each file."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A finished output folder, with its images and its model."""
    root = tmp_path_factory.mktemp("flipped")
    (root / "images").mkdir()
    (root / "m.safetensors").write_bytes(tiny_model.read_bytes())
    image = np.full((48, 56), 10, np.uint8)
    image[10:20, 10:22] = image[30:41, 20:31] = 200
    for name in "ab":
        tifffile.imwrite(root / "images" / f"{name}.tif", image)
        image = image[::-1]
    line = [
        "segment",
        str(root / "images"),
        "-o",
        str(root / "out"),
        "-m",
        str(root / "m.safetensors"),
        "--workers",
        "1",
    ]
    assert CliRunner().invoke(main, [*line, "--overlays", "none"]).exit_code == 0
    assert verify_folder(root / "out", 1) == (2, [])
    return root


def files(folder: Path) -> list[Path]:
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path for path in found if path.name not in ("index.html", LOCK)]


def test_every_kind_of_file_is_there(folder: Path) -> None:
    names = {path.name for path in files(folder)}
    assert {"a.tif", "m.safetensors", "a_labels.ome.tif", "a_labels.json", "run.jsonl"} <= names
    assert {"cells.csv", "cells.parquet", "summary.csv", ".tables.sha256"} <= names


def test_a_flipped_byte_is_found_in_every_file(folder: Path) -> None:
    rng = random.Random(1)
    missed = []
    for path in files(folder):
        content = path.read_bytes()
        for place in [0, len(content) - 2, *(rng.randrange(len(content)) for _ in range(PLACES))]:
            changed = bytearray(content)
            changed[place] ^= rng.choice([1, 4, 32, 128, 255])
            path.write_bytes(changed)
            if not verify_folder(folder / "out", 1)[1]:
                missed.append((path.name, place))
        path.write_bytes(content)
    assert missed == []
    assert verify_folder(folder / "out", 1)[1] == []
