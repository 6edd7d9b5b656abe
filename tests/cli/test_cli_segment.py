"""``unetbio segment``: options, what is said where, exit codes, kills."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from unetbio.cli.main import main
from unetbio.cli.options import format_count
from unetbio.io import read_labels
from unetbio.labels import label_hash
from unetbio.provenance import read_provenance
from unetbio.segmentation import Segmenter

Array = NDArray[Any]
Invoke = Callable[..., Result]


@pytest.fixture
def images(tmp_path: Path, discs: Array) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", discs)
    tifffile.imwrite(folder / "b.tif", discs[::-1])
    return folder


@pytest.fixture
def segment(images: Path, tmp_path: Path, tiny_model: Path) -> Invoke:
    def invoke(*arguments: str, inputs: tuple[str, ...] | None = None, workers: str = "1") -> Result:
        given = (str(images),) if inputs is None else inputs
        line = ["segment", *given, "-o", str(tmp_path / "out"), "-m", str(tiny_model), "--workers", workers, *arguments]
        return CliRunner().invoke(main, line)

    return invoke


def settings_of(out: Path, name: str = "a") -> dict[str, Any]:
    provenance = read_provenance(out / f"{name}_labels.json")
    assert provenance is not None
    return provenance.settings


def test_a_run_ends_with_one_line(segment: Invoke, tmp_path: Path) -> None:
    result = segment()
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"2 images, 6 cells, 0 failed: {tmp_path / 'out' / 'summary.csv'}\n"
    assert result.stderr.splitlines()[0].startswith("unetbio: tiny in float32 on ")
    assert (tmp_path / "out" / "index.html").is_file()
    assert (tmp_path / "out" / "overlays" / "a.labels.jpg").is_file()


def test_thousands_stand_apart() -> None:
    assert format_count(41212, "cell") == "41 212 cells"
    assert format_count(1, "image") == "1 image"


def test_failures_are_a_line_each_and_3(segment: Invoke, images: Path) -> None:
    (images / "bad.tif").write_bytes(b"")
    result = segment()
    assert result.exit_code == 3
    assert result.stdout.startswith("3 images, 6 cells, 1 failed: ")
    lines = [line for line in result.stderr.splitlines() if "error" in line]
    assert lines == [
        f"unetbio: error: {images / 'bad.tif'}: the file is empty (0 bytes): copy or write it again [unreadable]"
    ]
    assert segment("--failed-ok").exit_code == 0


def test_a_constant_image_is_done_and_named(segment: Invoke, images: Path, tmp_path: Path) -> None:
    tifffile.imwrite(images / "c.tif", np.full((20, 30), 7, np.uint8))
    result = segment()
    assert result.exit_code == 0
    assert f"warning: {images / 'c.tif'}: one grey value everywhere: no cells [constant]" in result.stderr
    with open(tmp_path / "out" / "summary.csv", newline="") as stream:
        row = list(csv.DictReader(stream))[-1]
    assert (row["n_cells"], row["status"], row["warnings"]) == ("0", "done", "no_cells constant")


def test_an_edited_mask_is_named(segment: Invoke, tmp_path: Path) -> None:
    segment()
    path = tmp_path / "out" / "a_labels.ome.tif"
    tifffile.imwrite(path, np.zeros((64, 80), np.uint16))
    kept = "was edited by hand or has no provenance, and is kept (--overwrite-edited replaces it)"
    assert f"a_labels.ome.tif {kept}" in segment().stderr
    assert segment("--overwrite-edited").stdout.startswith("2 images, 6 cells")


def test_a_mask_without_provenance_is_named(segment: Invoke, tmp_path: Path) -> None:
    segment()
    (tmp_path / "out" / "b_labels.json").unlink()
    assert "b_labels.ome.tif was edited by hand or has no provenance, and is kept" in segment().stderr
    assert "the mask was edited by hand or has no provenance" in (tmp_path / "out" / "index.html").read_text()


def test_an_output_folder_among_the_images_is_passed_over_quietly(segment: Invoke, images: Path) -> None:
    out = ["-o", str(images / "out"), "--save-probabilities"]
    first = segment(*out)
    for again in (segment(*out), segment("-o", str(images / "other"))):
        assert again.stdout.startswith("2 images, 6 cells, 0 failed"), again.stderr
        assert again.stderr.splitlines() == first.stderr.splitlines()


def test_an_image_called_like_a_result_is_segmented_as_a_file(segment: Invoke, images: Path, tmp_path: Path) -> None:
    (images / "a.tif").rename(images / "a_labels.tif")
    result = segment()
    assert result.stdout.startswith("1 image, 3 cells")
    assert f"1 file left out, such as {images / 'a_labels.tif'}: names ending in _labels, " in result.stderr
    both = (str(images), str(images / "a_labels.tif"))
    for _ in range(2):
        result = segment(inputs=both)
        assert result.stdout.startswith("2 images, 6 cells, 0 failed")
        assert "left out" not in result.stderr
    assert (tmp_path / "out" / "a_labels_labels.ome.tif").is_file()
    verified = CliRunner().invoke(main, ["verify", str(tmp_path / "out")])
    assert verified.stdout.startswith("2 masks verified, 0 mismatches"), verified.stdout


@pytest.mark.parametrize(
    ("channel", "channels", "message"),
    [
        ("DAPI", 1, "no channel 'DAPI'; this image has 0: (no name): give --channel 0, or leave it out"),
        ("C", 1, "leave it out; files with a channel each are joined with --group '(?P<name>.+)_(?P<channel>"),
        ("2", 2, "no channel '2'; this image has 0: (no name), 1: (no name): give one by its number"),
    ],
)
def test_a_channel_that_is_not_there(
    segment: Invoke, tmp_path: Path, discs: Array, channel: str, channels: int, message: str
) -> None:
    path = tmp_path / "c.ome.tif"
    tifffile.imwrite(path, np.stack([discs] * channels), metadata={"axes": "CYX"})
    result = segment("--channel", channel, inputs=(str(path),))
    assert result.exit_code == 3
    assert message in result.stderr


def test_quiet_says_only_what_is_wrong(segment: Invoke, images: Path) -> None:
    (images / "bad.tif").write_bytes(b"")
    assert len(segment("-q").stderr.splitlines()) == 1


def test_json(segment: Invoke, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    expected = {"images": 2, "cells": 6, "failed": 0, "output": out, "table": f"{out}/summary.csv"}
    assert json.loads(segment("--json").stdout) == expected


def test_every_option_that_changes_pixels_is_recorded(
    segment: Invoke, tmp_path: Path, images: Path, discs: Array
) -> None:
    stack = np.stack([np.stack([discs, discs])] * 3)
    tifffile.imwrite(images / "a.tif", stack, imagej=True, metadata={"axes": "TZYX"})
    (images / "b.tif").unlink()
    options = "--channel 0 --series 0 --t 1 --z max --axes tzyx --pixel-size 0.6 --diameter 13 --normalize p2,p99"
    options += " --threshold 0.55 --min-area 7 --max-area 9000 --exclude-border --crf largefov"
    result = segment(*options.split())
    assert result.exit_code == 0, result.stderr
    settings = settings_of(tmp_path / "out", "a_s00")
    post = settings.pop("postprocessing")
    assert settings == {
        "channel": ["0"],
        "series": 0,
        "t": 1,
        "z": "max",
        "axes": "TZYX",
        "pixel_size_um": 0.6,
        "diameter_px": 13.0,
        "normalization": {"kind": "percentile", "low": 2.0, "high": 99.0},
        "min_area": 7.0,
        "max_area": 9000.0,
        "crf": "largefov",
        "exact_tiles": True,
        "window": None,
    }
    assert (post["mask_threshold"], post["exclude_border"]) == (0.55, True)


def test_a_table_travels_into_the_tables(segment: Invoke, images: Path, tmp_path: Path) -> None:
    table = images / "plate.csv"
    table.write_text("image,well,path,table_path,status\na.tif,A1,p,q,first\nb.tif,B2,p,q,second\n")
    result = segment("--table", str(table), inputs=())
    assert result.exit_code == 0, result.stderr
    for name in ("summary.csv", "cells.csv"):
        with open(tmp_path / "out" / name, newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert rows[0]["well"] == "A1"
        # Names that the tables have themselves, and one that would be in the way of another.
        assert rows[0]["table_status"] == "first"
        assert (rows[0]["table_table_path"], rows[0]["table_path"]) == ("p", "q")


def test_limit_and_overlays(segment: Invoke, tmp_path: Path) -> None:
    assert segment("--limit", "1", "--overlays", "none").stdout.startswith("1 image, 3 cells")
    assert not (tmp_path / "out" / "overlays").exists()
    segment("--overlays", "all")
    assert len(list((tmp_path / "out" / "overlays").iterdir())) == 2


def test_a_part_writes_its_journal_and_no_tables(segment: Invoke, tmp_path: Path) -> None:
    results = [segment("--part", f"{index}/2") for index in (1, 2)]
    assert [result.exit_code for result in results] == [0, 0]
    assert results[0].stdout.endswith(f"0 failed: {tmp_path / 'out' / 'run.1-of-2.jsonl'}\n")
    assert not (tmp_path / "out" / "summary.csv").exists()
    assert len(list((tmp_path / "out").glob("*_labels.ome.tif"))) == 2


def test_dry_run_for_programs(segment: Invoke, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (images / "bad.tif").write_bytes(b"")
    opening = Segmenter.open

    def fail(self: Segmenter, source: Any, settings: Any) -> Any:
        # Pieces of large images are opened by their path.
        if Path(getattr(source, "source", source)).name == "b.tif":
            raise KeyError("surprise")
        return opening(self, source, settings)

    monkeypatch.setattr(Segmenter, "open", fail)
    result = segment("--dry-run", "--json")
    assert result.exit_code == 3
    values = json.loads(result.stdout)
    assert (values["images"], values["todo"], values["failed"], values["tiles"]) == (3, 1, 2, 1)
    assert "b.tif: internal error (KeyError: 'surprise')" in result.stderr
    assert segment("--dry-run", "--failed-ok").exit_code == 0
    assert not (tmp_path / "out").exists()


def test_dry_run_says_and_does_nothing(segment: Invoke, images: Path, tmp_path: Path) -> None:
    (images / "bad.tif").write_bytes(b"")
    result = segment("--dry-run")
    assert result.exit_code == 3
    assert not (tmp_path / "out").exists()
    lines = result.stdout.splitlines()
    assert lines[0] == "files   3 images: 2 to do, 0 done already, 1 cannot be read"
    assert lines[1] == "tiles   2 in 2 frames, 0.0 megapixels"
    assert [line.split()[0] for line in lines] == ["files", "tiles", "memory", "disk", "time"]
    (images / "bad.tif").unlink()
    segment()
    assert segment("--dry-run").stdout.startswith("files   2 images: 0 to do, 2 done already, 0 cannot be read")


@pytest.mark.parametrize(
    ("arguments", "inputs", "message"),
    [
        ((), (), "give either INPUT or --table: neither is given"),
        (("--table", "t.csv"), None, "give either INPUT or --table: both are given"),
        ((), ("nowhere",), "nowhere does not exist"),
        (("--z", "top"), None, "Invalid value for '--z': top is neither a number from 0 nor max nor each"),
        (
            ("--overlays", "some"),
            None,
            "Invalid value for '--overlays': some is neither a number from 0 nor all nor none",
        ),
        (("--part", "3/2"), None, "--part 3/2 is not K/N"),
        (("--normalize", "a,b"), None, "--normalize 'a,b'"),
        (("--device", "abacus"), None, "there is no device 'abacus'"),
        (("--threshold", "2"), None, "'--threshold': 2.0 is not in the range 0<x<1"),
        (("-m", "no-such-model"), None, "there is no model 'no-such-model'"),
        (
            ("--crf", "sharp"),
            None,
            "there is no preset sharp of the CRF; there are: largefov, deeplab_v2_vgg, deeplab_v2_r",
        ),
        (("--crf-settings", "w1=2"), None, "crf_settings w1=2 change a preset: give --crf too, such as largefov"),
        (("--crf", "largefov", "--crf-settings", "w3=2"), None, "crf_settings w3=2: names with values are needed"),
        (("--diameter", "0"), None, "'--diameter': 0.0 is not in the range x>0"),
        ((), ("",), "an input is empty: give files"),
        (("-o", ""), None, "it is empty: give a name, or . for the working directory"),
        # Numbers that would take the machine.
        (("--workers", "1000000"), None, "1000000 is not in the range 1<=x<=1024"),
        (("--scheduler", "local:1000000"), None, "local:N for N workers here (at most 1024)"),
        (("--memory", "9" * 400), None, "is no size of memory"),
        (("--crf", "largefov", "--crf-settings", "iterations=9999999999"), None, "a whole number from 1 to 1000"),
        (("--group", "(" * 5000), None, "is no regular expression: maximum recursion depth"),
        (("--metadata-regex", "(?P<n>a{99999999999})"), None, "is no regular expression: the repetition number"),
        (("-o", "x" * 300), None, "File name too long; give a shorter name"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_2(
    segment: Invoke, arguments: tuple[str, ...], inputs: tuple[str, ...] | None, message: str
) -> None:
    result = segment("-q", *arguments, inputs=inputs)
    assert result.exit_code == (4 if "too long" in message else 2)
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_an_output_folder_that_cannot_be_written_is_4(segment: Invoke, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / ".run.lock").mkdir()
    result = segment("-q")
    assert result.exit_code == 4
    assert len(result.stderr.splitlines()) == 1


def test_nifti_in_nifti_out(segment: Invoke, images: Path, tmp_path: Path, discs: Array) -> None:
    import nibabel

    affine = np.diag([0.5, 0.5, 3.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(np.stack([discs.T, discs.T], -1), affine), images / "v.nii.gz")
    result = segment("--z", "0")
    assert result.exit_code == 0, result.stderr
    written = nibabel.load(tmp_path / "out" / "v_labels.nii.gz")
    np.testing.assert_allclose(written.affine, affine)
    assert np.asarray(written.dataobj).max() == 3


def collect(out: Path) -> tuple[dict[str, str], str, str]:
    """All that has to be the same however often a run was killed."""
    hashes = {path.name: label_hash(read_labels(path)) for path in sorted(out.rglob("*_labels.ome.tif"))}
    return hashes, (out / "summary.csv").read_text(), (out / "cells.csv").read_text()


def make_many(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir()
    for index in range(count):
        image = np.kron(rng.uniform(0, 1, (12, 12)) > 0.7, np.ones((16, 16))) * 180 + rng.uniform(0, 40, (192, 192))
        tifffile.imwrite(folder / f"{index:02d}.tif", image.astype(np.uint8))


@pytest.mark.slow
def test_stopped_and_killed_at_random_it_goes_on_and_ends_as_if_nothing_had_happened(
    tmp_path: Path, tiny_model: Path
) -> None:
    make_many(tmp_path / "many", 24)
    arguments = ["segment", str(tmp_path / "many"), "-m", str(tiny_model), "--workers", "1", "--overlays", "4"]
    command = [sys.executable, "-m", "unetbio", *arguments, "-o", str(tmp_path / "out")]
    journal = tmp_path / "out" / "run.jsonl"

    def lines() -> int:
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    stops = ((2, signal.SIGTERM, {143}), (6, signal.SIGINT, {130}), (6, signal.SIGKILL, {-signal.SIGKILL, 0}))
    for more, number, codes in stops:
        wanted = lines() + more
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and lines() < wanted:
            time.sleep(0.002)
        process.send_signal(number)
        start = time.monotonic()
        assert "Traceback" not in process.communicate()[1]
        assert process.returncode in codes
        assert time.monotonic() - start < 10
        if number != signal.SIGKILL:
            assert not list((tmp_path / "out").rglob(".unetbio-*"))
    subprocess.run(command, check=True, capture_output=True)
    assert CliRunner().invoke(main, [*arguments, "-o", str(tmp_path / "whole")]).exit_code == 0
    assert collect(tmp_path / "out") == collect(tmp_path / "whole")
    assert not list((tmp_path / "out").rglob(".unetbio-*"))


# Runs a batch in child processes that kill themselves at the n-th change to the file system, for many n.
# What is slow to start is done once: no thread is alive when the children are made. Of polars, whose threads would be,
# only the import.
KILL_EVERYWHERE = """
import os, signal, sys
from pathlib import Path
import numpy as np, polars, torch
import unetbio
import unetbio.batch.run, unetbio.cli.main, unetbio.measurement.regions, unetbio.report.page

arguments, step = sys.argv[1:-1], int(sys.argv[-1])
torch.set_num_threads(1)

def segment(out, *more):
    try:
        unetbio.cli.main.main([*arguments, "-o", str(out), *more], prog_name="unetbio")
    except SystemExit as end:
        return end.code

def run(out, moments, *more):
    pid = os.fork()
    if pid == 0:
        left = [moments]
        def counted(function):
            def call(*args, **kwargs):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*args, **kwargs)
            return call
        for name in ("replace", "unlink", "fsync", "mkdir"):
            setattr(os, name, counted(getattr(os, name)))
        sys.stdout = sys.stderr = open(os.devnull, "w")
        os._exit(segment(out, *more))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

unetbio.segment(next(Path(arguments[1]).iterdir()), arguments[3])
unetbio.measurement.regions.measure(np.eye(9, dtype=np.uint16), np.ones((1, 9, 9), np.uint8))
print("warm")
kills = 0
for moment in range(1, 10000, step):
    out = f"out{moment}"
    # A kill during the first run, and another while a run with other settings replaces its results.
    first = run(out, moment)
    second = run(out, moment, "--threshold", "0.9")
    kills += (first == -9) + (second == -9)
    code = run(out, -1)
    assert code == 0, (moment, code)
    if first == second == 0:
        break
print(kills)
"""


@pytest.mark.slow
def test_killed_at_any_change_to_the_files_it_ends_as_if_nothing_had_happened(tmp_path: Path, tiny_model: Path) -> None:
    make_many(tmp_path / "many", 2)
    arguments = ["segment", str(tmp_path / "many"), "-m", str(tiny_model), "--workers", "1", "--overlays", "1"]
    command = [sys.executable, "-c", KILL_EVERYWHERE, *arguments, "5"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) >= 8
    results = [collect(out) for out in sorted(tmp_path.glob("out*"))]
    assert all(result == results[0] for result in results)
    assert "edited" not in results[0][1]
    assert not list(tmp_path.rglob(".unetbio-*"))


def test_a_run_over_what_failed_removes_what_a_killed_one_left(segment: Invoke, tmp_path: Path) -> None:
    assert segment().exit_code == 0
    left = tmp_path / "out" / ".unetbio-torn.ome.tif"
    left.write_bytes(b"II*")
    assert segment("--failed-only", "--dry-run").exit_code == 0
    assert left.exists()
    result = segment("--failed-only")
    assert (result.exit_code, result.stdout) == (0, f"no image failed: {tmp_path / 'out'}\n")
    assert not left.exists()


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
    assert "1 file is gone and leaves the tables: bad.tif" in result.stderr
    assert failed_rows(out) == ["worse.tif"]
    (images / "worse.tif").unlink()
    result = segment(*options)
    assert (result.exit_code, "worse.tif" in result.stderr) == (0, True)
    assert failed_rows(out) == []
    assert "worse.tif" not in (out / "index.html").read_text()
    assert CliRunner().invoke(main, ["measure", str(out), "--workers", "1"]).exit_code == 0
    assert "gone" not in segment(*options).stderr


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
    assert "1 file is gone and leaves the tables: more.tif" in result.stderr
    assert paths("summary.csv") == both[0] - {"more.tif"}
    assert paths("cells.csv") == both[1] - {"more.tif"}
    assert result.stdout.startswith(f"{len(both[0]) - 1} image")
    assert (out / "more_labels.ome.tif").exists()
    assert CliRunner().invoke(main, ["measure", str(out), "--workers", "1"]).exit_code == 0
    assert "more.tif" not in paths("summary.csv")
    tifffile.imwrite(images / "more.tif", content)
    assert "gone" not in segment().stderr
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


def test_exact_tiles_do_not_wait_for_monai(images: Path, tmp_path: Path, tiny_model: Path) -> None:
    program = (
        "import sys\nfrom unetbio.cli.main import main\n"
        "try: main(sys.argv[1:], prog_name='unetbio')\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'monai'} & set(sys.modules)))"
    )
    arguments = ["segment", str(images / "a.tif"), "-o", str(tmp_path / "out"), "--model", str(tiny_model)]
    arguments += ["--workers", "1", "--overlays", "none"]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['torch']"


def test_links_in_a_circle_are_failed_images(segment: Invoke, images: Path, tmp_path: Path) -> None:
    (images / "c.tif").symlink_to("d.tif")
    (images / "d.tif").symlink_to("c.tif")
    (images / "e.tif").symlink_to("e.tif")
    result = segment()
    assert result.exit_code == 3, result.output
    with open(tmp_path / "out" / "summary.csv", encoding="utf-8", newline="") as stream:
        rows = {Path(row["path"]).name: row["status"] for row in csv.DictReader(stream)}
    assert rows == {"a.tif": "done", "b.tif": "done", "c.tif": "failed", "d.tif": "failed", "e.tif": "failed"}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("command", ["segment", "check"])
def test_a_chunk_that_would_block_is_unreadable(
    discs: Array, tmp_path: Path, tiny_model: Path, kind: str, command: str
) -> None:
    image = tmp_path / "images" / "x.zarr"
    zarr.save_array(image, discs, zarr_format=2)
    chunk = next(path for path in sorted(image.rglob("0.0")))
    chunk.unlink()
    if kind == "pipe":
        os.mkfifo(chunk)
    else:
        chunk.symlink_to("/dev/zero")
    options = ["-o", str(tmp_path / "out")] if command == "segment" else []
    line = [command, str(image.parent), *options, "-m", str(tiny_model), "--workers", "1"]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 3, result.stderr
    assert "0.0 is a pipe, a device or a link to a folder elsewhere" in result.output


def test_channels_are_named_where_files_have_no_names(tmp_path: Path, tiny_model: Path, discs: Array) -> None:
    """The names choose the channel, and stand in the tables, also when they are measured again."""
    (tmp_path / "images").mkdir()
    stack = np.stack([np.full_like(discs, 7), discs])
    tifffile.imwrite(tmp_path / "images" / "x.tif", stack, photometric="minisblack", metadata={"axes": "CYX"})
    out = tmp_path / "out"
    line = ["segment", str(tmp_path / "images"), "-o", str(out), "-m", str(tiny_model), "--workers", "1"]
    named = [*line, "--channel-names", "actin,DAPI", "--channel", "DAPI"]
    result = CliRunner().invoke(main, named)
    assert result.exit_code == 0, result.stderr
    assert settings_of(out, "x")["channel_names"] == ["actin", "DAPI"]
    for again in ([], ["measure", str(out), "--overwrite"]):
        assert not again or CliRunner().invoke(main, again).exit_code == 0
        with open(out / "cells.csv", newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert [row["intensity_mean_actin"] for row in rows] == ["7.0"] * 3
        assert all(float(row["intensity_mean_DAPI"]) > 100 for row in rows)
    assert CliRunner().invoke(main, ["verify", str(out), "--rerun", "1"]).exit_code == 0
    refused = CliRunner().invoke(main, [*line, "--channel-names", "actin", "--channel", "0", "-o", str(tmp_path / "b")])
    assert refused.exit_code == 3
    assert "1 channel name (actin), and the image has 0: (no name), 1: (no name): name each" in refused.stderr
