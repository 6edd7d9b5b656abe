"""``unetbio segment --dry-run``: what a probe says of the whole."""

import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

from unetbio.batch import timing_probe
from unetbio.cli.main import main
from unetbio.machine import process_seconds

Segment = Callable[..., Any]

IMPORTED = time.monotonic()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Twelve images of three sizes, with discs on a lattice."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(12):
        tifffile.imwrite(folder / f"{number:02d}.tif", lattice(100 + 60 * (number % 3), number))
    return folder


def lattice(size: int, seed: int) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    discs = (rows % 32 - 16) ** 2 + (columns % 32 - 16) ** 2 <= 40
    noise = np.random.default_rng(seed).integers(0, 20, (size, size))
    return (noise + 170 * discs).astype(np.uint8)


@pytest.fixture
def segment(images: Path, tmp_path: Path, tiny_model: Path) -> Segment:
    def invoke(*arguments: str, source: Path = images) -> dict[str, Any]:
        line = ["segment", str(source), "-o", str(tmp_path / "out"), "-m", str(tiny_model), "--workers", "1", "--json"]
        result = CliRunner().invoke(main, [*line, *arguments])
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    return invoke


def written(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "options",
    [(), ("--overlays", "3"), ("--save-probabilities", "--overlays", "none"), ("--format", "ome-zarr")],
    ids=" ".join,
)
def test_the_disk_is_predicted(segment: Segment, tmp_path: Path, options: tuple[str, ...]) -> None:
    predicted = segment("--dry-run", *options)
    assert predicted["probed"] == 12
    segment(*options)
    assert 1 / 1.5 < predicted["disk"] / written(tmp_path / "out") < 1.5


def test_few_of_many_tell_what_all_write(segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing_probe, "PROBE_SECONDS", 1e-9)
    monkeypatch.setattr(timing_probe, "SMALLEST_PIECE", 96)
    predicted = segment("--dry-run")
    assert predicted["probed"] == 4
    segment()
    assert 1 / 1.5 < predicted["disk"] / written(tmp_path / "out") < 1.5


IMAGES = [
    pytest.param("YX", (500, 500), (), id="a large image"),
    pytest.param("TYX", (9, 200, 200), (), id="a time-lapse"),
    pytest.param("TYX", (9, 200, 200), ("--t", "4"), id="one time"),
    pytest.param("ZYX", (9, 200, 200), ("--z", "max"), id="a projection"),
    pytest.param("ZYX", (9, 200, 200), ("--z", "3"), id="a section"),
    pytest.param("ZYX", (9, 200, 200), ("--z", "each"), id="each section"),
    pytest.param("CYX", (2, 300, 300), ("--channel", "GFP"), id="a channel"),
]
OF_PLANES = IMAGES[1:]


@pytest.mark.parametrize(("axes", "shape", "options"), IMAGES)
def test_pieces_stand_for_an_image(
    segment: Segment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    axes: str,
    shape: tuple[int, ...],
    options: tuple[str, ...],
) -> None:
    path = tmp_path / "one.ome.tif"
    names = {"Channel": {"Name": ["DAPI", "GFP"]}} if "C" in axes else {}
    tifffile.imwrite(path, np.stack(planes(shape)).reshape(shape), metadata={"axes": axes, **names}, ome=True)
    check_pieces(segment, tmp_path, monkeypatch, path, *options)


@pytest.mark.parametrize(("axes", "shape", "options"), OF_PLANES)
def test_pieces_stand_for_files_that_are_one_image(
    segment: Segment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    axes: str,
    shape: tuple[int, ...],
    options: tuple[str, ...],
) -> None:
    folder = tmp_path / "joined"
    folder.mkdir()
    group, names = {"C": ("channel", ["DAPI", "GFP"])}.get(axes[0], (axes[0].lower(), range(shape[0])))
    for name, plane in zip(names, planes(shape), strict=True):
        tifffile.imwrite(folder / f"one_{name}.tif", plane)
    joined = ("--group", rf"(?P<name>one)_(?P<{group}>\w+)")
    check_pieces(segment, tmp_path, monkeypatch, folder, *joined, *options)


def test_pieces_stand_for_a_grey_picture(segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "grey.tif"
    tifffile.imwrite(path, np.dstack([lattice(300, 0)] * 3), photometric="rgb")
    check_pieces(segment, tmp_path, monkeypatch, path, "--channel-names", "a,b,c")


def planes(shape: tuple[int, ...]) -> list[np.ndarray]:
    return [lattice(shape[-1], number) for number in range(int(np.prod(shape[:-2])))]


def check_pieces(segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Path, *options: str) -> None:
    monkeypatch.setattr(timing_probe, "PROBE_SECONDS", 1e-9)
    monkeypatch.setattr(timing_probe, "SMALLEST_PIECE", 128)
    predicted = segment("--dry-run", *options, source=path)
    assert predicted["probed"] == 2
    segment(*options, source=path)
    assert 0.5 < predicted["disk"] / written(tmp_path / "out") < 2


def test_nothing_is_left_behind(segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    predicted = segment("--dry-run")
    assert list((tmp_path / "temporary").iterdir()) == []
    assert not (tmp_path / "out").exists()
    assert predicted["seconds"] > 0
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert 0.9 * held < predicted["memory"] < held + (100 << 20)


def test_what_is_done_takes_nothing(segment: Segment) -> None:
    segment()
    predicted = segment("--dry-run")
    assert (predicted["todo"], predicted["kept"], predicted["probed"], predicted["disk"]) == (0, 12, 0, 0)


def test_what_would_be_replaced_is_counted(segment: Segment, images: Path, tmp_path: Path, tiny_model: Path) -> None:
    segment("--limit", "5")
    predicted = segment("--dry-run", "--threshold", "0.7")
    assert (predicted["todo"], predicted["replaced"], predicted["kept"]) == (12, 5, 0)
    line = ["segment", str(images), "-o", str(tmp_path / "out"), "-m", str(tiny_model), "--threshold", "0.7"]
    said = CliRunner().invoke(main, [*line, "--dry-run"]).stdout
    assert "12 images: 12 to do (5 of them made with other settings), 0 done already" in said


def test_images_that_fail_are_no_reason_to_fail(segment: Segment, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    for number in range(2):
        path = folder / f"{number}.tif"
        tifffile.imwrite(path, lattice(100, number), compression="zlib")
        with tifffile.TiffFile(path) as tif:
            offset, count = tif.pages[0].dataoffsets[0], tif.pages[0].databytecounts[0]
        content = bytearray(path.read_bytes())
        content[offset : offset + count] = bytes(count)
        path.write_bytes(content)
    predicted = segment("--dry-run", source=folder)
    assert (predicted["todo"], predicted["probed"], predicted["disk"]) == (2, 0, 0)


def test_limits_that_leave_no_cell_at_a_known_scale_are_told(images: Path, tmp_path: Path) -> None:
    options = ["-m", "nuclei", "--diameter", "model", "--max-area", "1", "--dry-run"]
    result = CliRunner().invoke(main, ["segment", str(images), "-o", str(tmp_path / "out"), *options])
    assert "images: 0 to do" in result.stdout
    assert "--max-area 1 is 1 pixels at the scale of the model, which drops cells smaller than 32" in result.stderr


def test_more_images_take_longer_and_more_memory_on_their_way(
    segment: Segment, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing_probe, "PROBE_SECONDS", 1e-9)
    few = segment("--dry-run", "--limit", "4")
    for number in range(20):
        tifffile.imwrite(images / f"large{number}.tif", lattice(700, number))
    many = segment("--dry-run")
    assert many["seconds"] > few["seconds"]
    # Eighteen frames that wait, each of its grey values and as many numbers of four bytes.
    assert many["memory"] - few["memory"] > 15 * 700 * 700 * 5


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not say when a process began")
def test_a_process_knows_its_age() -> None:
    before, started = process_seconds(), time.monotonic()
    time.sleep(0.2)
    grown, passed = process_seconds() - before, time.monotonic() - started
    # The system counts in hundredths of a second.
    assert grown == pytest.approx(passed, abs=0.1 + 0.1 * passed)
    assert before > started - IMPORTED
