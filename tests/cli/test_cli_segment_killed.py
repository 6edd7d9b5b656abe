"""`unetbio segment` that is stopped or killed, and goes on."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from numpy.typing import NDArray
from segmented_folder import Invoke

from unetbio.cli.main import main
from unetbio.io import read_labels
from unetbio.labels import label_hash

Array = NDArray[Any]


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
    said = segment("--failed-only", "--json").stdout
    assert json.loads(said) == {"images": 0, "failed": 0, "output": str(tmp_path / "out")}
    assert not left.exists()
