"""Time, disk and memory that ``unetbio segment --dry-run`` predicts, against those of the run.

    python benchmarks/dry_run.py DATA

Each case is a folder of real images: ``DATA/dsb2018/val`` (grey images of many sizes), ``DATA/bbbc039/val`` (all of one
size), large mosaics of the latter, and one large mosaic alone. For each, the command is run with ``--dry-run --json``
and then without, both as processes of their own: time is that of the whole process, memory its largest resident set,
disk the bytes in the output folder. Bar: every ratio between 2/3 and 3/2. Other work on the machine disturbs both; a
change of its load between the two disturbs the ratio.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from common import print_table

from unetbio.io import read_image

BAR = 1.5
QUANTITIES = {"seconds": 1.0, "disk": 1e6, "memory": 1e6}


@dataclass(frozen=True)
class Taken:
    """Use of a process: seconds, bytes written, bytes held; and its output."""

    seconds: float
    disk: int
    memory: int
    said: str


def run(folder: Path, out: Path, *options: str) -> Taken:
    """One call of the command, measured from outside."""
    line = [sys.executable, "-m", "unetbio", "segment", str(folder), "-o", str(out), "-q"]
    started = time.perf_counter()
    with subprocess.Popen([*line, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"{' '.join(line)} ended with {process.returncode}")
    disk = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) if out.exists() else 0
    return Taken(seconds, disk, usage.ru_maxrss * 1024, said)


def every(paths: list[Path], count: int) -> list[Path]:
    """As many of the files, spread evenly."""
    return [paths[index * len(paths) // count] for index in range(min(count, len(paths)))]


def copy_images(source: Path, folder: Path, count: int) -> None:
    """Grey images of a folder."""
    grey = [path for path in sorted(source.iterdir()) if read_image(path).size("C") == 1]
    for path in every(grey, count):
        shutil.copy(path, folder / path.name)


def write_mosaics(source: Path, folder: Path, count: int, size: int) -> None:
    """Large images, laid out of small real ones in random order."""
    paths = sorted(source.iterdir())
    rng = np.random.default_rng(0)
    for number in range(count):
        image = np.zeros((size, size), np.uint16)
        for y in range(0, size, 520):
            for x in range(0, size, 696):
                piece = read_image(paths[rng.integers(len(paths))]).read()[: size - y, : size - x]
                image[y : y + piece.shape[0], x : x + piece.shape[1]] = piece
        tifffile.imwrite(folder / f"mosaic_{number}.tif", image, tile=(256, 256), compression="zlib")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=40, help="images of the first two cases")
    parser.add_argument("--size", type=int, default=2600, help="pixels along each side of a mosaic")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--case", action="append", help="these cases alone")
    arguments = parser.parse_args()
    options = ["--workers", str(arguments.workers), "--model", arguments.model]
    nuclei, fields = (arguments.data / name / "val" / "images" for name in ("dsb2018", "bbbc039"))
    cases: dict[str, Callable[[Path], None]] = {
        "dsb2018": lambda folder: copy_images(nuclei, folder, arguments.images),
        "bbbc039": lambda folder: copy_images(fields, folder, arguments.images),
        "mosaics": lambda folder: write_mosaics(fields, folder, 4, arguments.size),
        "one mosaic": lambda folder: write_mosaics(fields, folder, 1, 2 * arguments.size),
    }
    rows = []
    for name in arguments.case or cases:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "images"
            folder.mkdir()
            cases[name](folder)
            dry = run(folder, Path(temporary) / "out", *options, "--dry-run", "--json")
            predicted = json.loads(dry.said)
            truth = run(folder, Path(temporary) / "out", *options)
        for quantity, unit in QUANTITIES.items():
            expected, found = predicted[quantity] / unit, getattr(truth, quantity) / unit
            rows.append(
                [name, predicted["todo"], quantity, f"{expected:.1f}", f"{found:.1f}", f"{expected / found:.2f}"]
            )
        rows.append([name, predicted["todo"], "seconds of the dry run", "", f"{dry.seconds:.1f}", ""])
        print(f"{name}: {predicted['probed']} probed; {truth.said.strip().rpartition(':')[0]}", flush=True)
    print_table(["case", "images", "what (s, MB, MB)", "predicted", "taken", "ratio"], rows)
    ratios = [float(row[-1]) for row in rows if row[-1]]
    within = sum(1 / BAR <= ratio <= BAR for ratio in ratios)
    print(f"{within} of {len(ratios)} within a factor of {BAR}")


if __name__ == "__main__":
    main()
