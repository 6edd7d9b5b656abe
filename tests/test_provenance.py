"""What a mask can answer for itself."""

import json
import os
from pathlib import Path

import pytest

from unetbio.provenance import (
    FrameRecord,
    InputRecord,
    ModelRecord,
    OutputRecord,
    Provenance,
    fingerprint,
    read_provenance,
    versions,
    write_provenance,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.tif"
    path.write_bytes(b"0123456789")
    return path


def make_provenance(path: Path) -> Provenance:
    return Provenance(
        input=InputRecord(
            path="x.tif",
            absolute=str(path.resolve()),
            from_output=os.path.relpath(path, path.parent / "out"),
            fingerprint=fingerprint(path),
            axes="YX",
            shape=(5, 6),
            dtype="uint8",
            pixel_size_um={"Y": 0.5, "X": 0.5},
            pixel_size_trusted=True,
            channel_names=("",),
        ),
        model=ModelRecord(name="tiny", sha256="0" * 64, path="/nowhere/tiny.safetensors", architecture="unet"),
        output=OutputRecord(name="x_labels.ome.tif", label_hash="1" * 64, size=10, mtime_ns=5),
        settings={"channel": [], "threshold": 0.5},
        frames=(
            FrameRecord(t=0, n_cells=3, median_diameter_px=12.5, area_fraction=0.25, confidences=(0.987, 1.0, 0.5)),
            FrameRecord(t=1, n_cells=0, median_diameter_px=None, area_fraction=0.0, warnings=("no_cells",)),
        ),
        versions=versions(),
    )


def test_untouched_file_matches_without_being_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = fingerprint(file)
    monkeypatch.setattr("unetbio.provenance.sha256_path", lambda path: pytest.fail("the file was read"))
    assert taken.matches(file)


def test_copied_file_matches_by_its_bytes(file: Path, tmp_path: Path) -> None:
    taken = fingerprint(file)
    copy = tmp_path / "copy.tif"
    copy.write_bytes(file.read_bytes())
    assert taken.matches(copy)


def test_other_bytes_of_the_same_size_do_not_match(file: Path) -> None:
    taken = fingerprint(file)
    file.write_bytes(b"9876543210")
    os.utime(file, ns=(taken.mtime_ns, taken.mtime_ns))
    # Size and mtime are as they were; the time of the inode gives it away.
    assert not taken.matches(file)


def test_rehash_reads_even_where_all_times_agree(file: Path) -> None:
    taken = fingerprint(file)
    stat = file.stat()
    lying = taken.model_copy(update={"sha256": "f" * 64, "mtime_ns": stat.st_mtime_ns, "ctime_ns": stat.st_ctime_ns})
    assert lying.matches(file)
    assert not lying.matches(file, rehash=True)


@pytest.mark.parametrize("change", ["longer", "gone"])
def test_other_size_or_missing_file_does_not_match(file: Path, change: str) -> None:
    taken = fingerprint(file)
    if change == "gone":
        file.unlink()
    else:
        file.write_bytes(b"0123456789a")
    assert not taken.matches(file)


def test_round_trip(file: Path, tmp_path: Path) -> None:
    provenance = make_provenance(file)
    write_provenance(tmp_path / "x_labels.json", provenance)
    assert read_provenance(tmp_path / "x_labels.json") == provenance
    assert provenance.n_cells == 3


def test_what_a_newer_version_wrote_is_kept(file: Path, tmp_path: Path) -> None:
    content = make_provenance(file).model_dump(mode="json") | {"reviewed_by": "somebody"}
    path = tmp_path / "x_labels.json"
    path.write_text(json.dumps(content))
    read = read_provenance(path)
    assert read is not None
    write_provenance(path, read)
    assert json.loads(path.read_text())["reviewed_by"] == "somebody"


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[1]", b'{"input": 3}', b"\xff\xfe"])
def test_a_file_that_is_no_provenance_is_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x_labels.json"
    if content is not None:
        path.write_bytes(content)
    assert read_provenance(path) is None


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("input", "shape", [5]),
        ("input", "shape", [5, -6]),
        ("input", "axes", "QQ"),
        ("input", "pixel_size_um", {"X": 0.0}),
        ("output", "name", "../a/../../etc/passwd"),
        ("output", "name", "/etc/passwd"),
        ("settings", "channel_names", 5),
        ("frames", 0, {"n_cells": -5, "median_diameter_px": None, "area_fraction": 0.0}),
        ("frames", 0, {"t": 10**30, "n_cells": 5, "median_diameter_px": None, "area_fraction": 0.0}),
    ],
)
def test_a_provenance_with_impossible_values_is_none(
    file: Path, tmp_path: Path, section: str, key: str | int, value: object
) -> None:
    content = make_provenance(file).model_dump(mode="json")
    content[section][key] = value
    path = tmp_path / "x_labels.json"
    path.write_text(json.dumps(content))
    assert read_provenance(path) is None


def test_input_is_found_after_the_project_was_moved(file: Path, tmp_path: Path) -> None:
    record = make_provenance(file).input
    moved = tmp_path / "elsewhere"
    (moved / "out").mkdir(parents=True)
    file.rename(moved / "x.tif")
    assert record.find(moved / "out") == moved / "out" / ".." / "x.tif"
    # The results alone were moved, and the image went back to where it was.
    (moved / "x.tif").rename(file)
    assert record.find(moved / "out") == file.resolve()
    file.unlink()
    assert record.find(moved / "out") is None


def test_versions_name_what_can_change_a_pixel() -> None:
    found = versions()
    assert {"python", "unetbio", "torch", "numpy", "numba"} <= set(found)
    assert all(found.values())
