"""Awkward names, kinds of files and contents among good images: each file must give what the manifest says."""

import csv
import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import hostile_files
import mutants
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from hostile_models import write_hostile_models

from unetbio.cli.main import main
from unetbio.files import utf8_text
from unetbio.io import read_labels
from unetbio.labels import label_hash

IMAGE = np.full((48, 56), 10, np.uint8)
IMAGE[10:20, 10:22] = IMAGE[30:41, 20:31] = 200


def command(*line: object, code: int | None = None) -> str:
    result = CliRunner().invoke(main, [os.fspath(part) if isinstance(part, Path) else str(part) for part in line])
    assert "Traceback" not in result.output
    assert code is None or result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, Any]:
    """A run over all awkward files but the mutants, and three good ones."""
    root = tmp_path_factory.mktemp("awkward")
    manifest = hostile_files.make(root / "images", IMAGE, 0)
    for name in "ab":
        tifffile.imwrite(root / "images" / f"{name}.tif", IMAGE, metadata=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        # As commands do: what breaks a decoder breaks its process alone.
        patch.setattr("unetbio.io.decoding.PLATFORMS", ("linux",))
        output = command("segment", "images", "-o", "out", "-m", tiny_model, "--workers", 2, code=3)
    entries = [json.loads(line) for line in (root / "out" / "run.jsonl").read_bytes().splitlines()]
    return {"root": root, "manifest": manifest, "output": output, "entries": {e["path"]: e for e in entries}}


def test_each_file_gives_what_the_manifest_says(folder: dict[str, Any]) -> None:
    images, wrong = folder["root"] / "images", []
    for line in folder["manifest"]:
        entry = folder["entries"].get(utf8_text(line.path.relative_to(images).as_posix()))
        if line.outcome == hostile_files.UNSEEN:
            wrong += [(line, "taken")] if entry else []
        elif entry is None:
            wrong.append((line, "no row"))
        elif entry["status"] == "failed":
            if line.outcome == hostile_files.GOOD or entry["reason"] in ("", "internal") or not entry["message"]:
                wrong.append((line, entry["reason"] + ": " + entry["message"]))
        elif line.outcome == hostile_files.REFUSED:
            wrong.append((line, "done"))
    assert wrong == []


def test_good_images_have_the_same_masks(folder: dict[str, Any]) -> None:
    clean = label_hash(read_labels(folder["root"] / "out" / "a_labels.ome.tif"))
    for line in folder["manifest"]:
        if line.outcome == hostile_files.GOOD:
            entry = folder["entries"][line.path.relative_to(folder["root"] / "images").as_posix()]
            assert label_hash(read_labels(folder["root"] / "out" / entry["output"])) == clean


def test_nothing_was_executed(folder: dict[str, Any]) -> None:
    assert not [path for path in folder["root"].rglob("hacked*") if path.is_file()]


def test_no_control_character_reaches_the_terminal(folder: dict[str, Any]) -> None:
    assert [c for c in folder["output"] if not c.isprintable() and c != "\n"] == []


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.scripts += tag == "script"


def test_tables_and_page_are_valid(folder: dict[str, Any], tmp_path: Path) -> None:
    out = folder["root"] / "out"
    for name in ("summary.csv", "cells.csv"):
        with open(out / name, encoding="utf-8", newline="") as stream:
            header, *rows = csv.reader(stream)
        assert {len(row) for row in rows} == {len(header)}
        paths = [row[header.index("path")] for row in rows]
        assert not [path for path in paths if path.startswith(tuple("=+-@"))]
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    _Page().feed(page)
    for line in (["measure", out], ["report", out], ["export", out, "--to", "geojson"], ["inspect", folder["root"]]):
        command(*line)
    command("verify", out)
    command("check", folder["root"] / "images", "-o", tmp_path / "checked", "--workers", 2, code=3)
    for path in out.rglob("*.geojson"):
        json.loads(path.read_bytes())


@pytest.mark.parametrize(("kind", "count"), [("images", 250), ("models", 60)])
def test_mutants_are_read_or_refused(tmp_path: Path, kind: str, count: int) -> None:
    rows = list(mutants.run(kind, tmp_path / kind, 7, 0, count))
    assert len(rows) == count
    assert [row for row in rows if mutants.is_bad(row[2], 0.0)] == []


def test_hostile_models_are_refused(tmp_path: Path, tiny_model: Path) -> None:
    """That they start no program and ask for no network is traced by test_no_network.py."""
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, metadata=None)
    models = write_hostile_models(tmp_path / "models", tiny_model)
    assert len(models) >= 30
    before = sorted(tmp_path.rglob("*"))
    for model in models:
        command("segment", tmp_path / "a.tif", "-o", tmp_path / "out", "-m", model, code=2)
    assert sorted(tmp_path.rglob("*")) == before


def can_unshare() -> bool:
    try:
        return subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not can_unshare(), reason="no network namespaces here")
def test_no_network_is_needed(tmp_path: Path, tiny_model: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, metadata=None)
    line = [sys.executable, "-m", "unetbio", "segment", tmp_path / "a.tif", "-o", tmp_path / "out", "-m", tiny_model]
    subprocess.run(["unshare", "-rn", *map(str, line), "--workers", "1", "-q"], check=True, timeout=200)
    assert (tmp_path / "out" / "a_labels.ome.tif").is_file()
