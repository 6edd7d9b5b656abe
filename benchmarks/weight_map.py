"""Time and memory of a border-weight map, against one distance transform of the same image in the same run.

    python benchmarks/weight_map.py [--size 2048] [--repeat 5] [--cells 0 1 2 2000 20000] [--json FILE]

Every number of cells is measured in a process of its own, after one call that compiles. Times are the least of the
repeats, taken in turns. Memory is what the process's peak grows by during the first call at full size, the input not
counted, in planes of float32 of the image's size. The bars: at most 2.0 transforms, at most 8 planes with the input.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unetbio.supervision.weight_maps import weight_map

COLUMNS = ("cells", "transform_s", "weight_map_s", "ratio", "planes")


def draw_discs(size: int, count: int) -> NDArray[np.int32]:
    """Discs of one radius at random places, about a third of the image where they are many; later ones cover others."""
    label_image = np.zeros((size, size), np.int32)
    radius = max(1, min(20, int(0.35 * size / max(count, 1) ** 0.5)))
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disc = y**2 + x**2 <= radius**2
    centres = np.random.default_rng(count).integers(radius, size - radius, (count, 2))
    for label, (row, column) in enumerate(centres, start=1):
        around = label_image[row - radius : row + radius + 1, column - radius : column + radius + 1]
        around[disc] = label
    return label_image


def measure(size: int, count: int, repeat: int) -> dict[str, float]:
    """One row of the table; meant for a process that has done nothing else."""
    weight_map(draw_discs(64, 4))
    label_image = draw_discs(size, count)
    before = peak_bytes()
    weight_map(label_image)
    grown = peak_bytes() - before
    transform, ours = [], []
    for _ in range(repeat):
        transform.append(seconds(lambda: ndimage.distance_transform_edt(label_image == 0)))
        ours.append(seconds(lambda: weight_map(label_image)))
    row = (count, min(transform), min(ours), min(ours) / min(transform), (grown + label_image.nbytes) / (4 * size**2))
    return dict(zip(COLUMNS, row, strict=True))


def peak_bytes() -> int:
    """Largest memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--cells", type=int, nargs="+", default=[0, 1, 2, 2000, 20000])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(measure(arguments.size, arguments.one, arguments.repeat)))
        return
    rows = []
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for count in arguments.cells:
        command = [sys.executable, __file__, "--size", arguments.size, "--repeat", arguments.repeat, "--one", count]
        done = subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout))
        print("| " + " | ".join(f"{rows[-1][column]:.4g}" for column in COLUMNS) + " |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
