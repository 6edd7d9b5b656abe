"""Time of the steps after the network for a 512 x 512 image: cells, ids, hash, measurements, scores.

    python benchmarks/post_processing.py DATA [--json FILE]

DATA holds ``bbbc039`` and ``dsb2018``, each with ``val/masks``. True label images replace the network's output: their
foreground is the first plane, their eroded cells are the second. Fields are cut or tiled to 512 x 512.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unetbio import labels
from unetbio.io import read_labels
from unetbio.measurement import regions
from unetbio.metrics.instances import average_precision, compare
from unetbio.postprocessing import instances
from unetbio.postprocessing.instances import PostProcessing

SIZE = 512
EROSION_PX = 2
LARGE_ARRAY_BYTES = 30_000_000
SETTINGS = PostProcessing()


def fields(data: Path, limit: int) -> Iterator[NDArray[np.integer]]:
    """Label images of real fields, 512 x 512, those with the most cells first."""
    found = []
    for name in ("bbbc039", "dsb2018"):
        for path in sorted((data / name / "val" / "masks").iterdir()):
            label_image = read_labels(path, allow_binary=True)
            repeats = [-(-SIZE // size) for size in label_image.shape]
            tiled = np.tile(label_image, repeats)[:SIZE, :SIZE]
            found.append(labels.split_components(tiled != 0) if max(repeats) > 1 else labels.relabel_raster(tiled))
    yield from sorted(found, key=lambda label_image: -int(label_image.max()))[:limit]


def planes_of(label_image: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Foreground and seeds: each cell without its rim."""
    rims = ndimage.grey_erosion(label_image, 2 * EROSION_PX + 1) != ndimage.grey_dilation(
        label_image, 2 * EROSION_PX + 1
    )
    return np.stack([label_image > 0, (label_image > 0) & ~rims])


def milliseconds(function: Callable[[], Any], repeats: int) -> float:
    """Least time of one call, since other work on the machine only adds to it."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


def measure_all(data: Path, limit: int, repeats: int) -> dict[str, Any]:
    """Milliseconds of each step, the median over the images."""
    rows: dict[str, list[float]] = {}
    counts = []
    for truth in fields(data, limit):
        planes = planes_of(truth)
        cells = instances.label(planes, SETTINGS)
        image = truth[np.newaxis].astype(np.uint16)
        counts.append(int(cells.max()))
        steps: dict[str, Callable[[], Any]] = {
            "instances.label": lambda planes=planes: instances.label(planes, SETTINGS),
            "labels.relabel_raster": lambda cells=cells: labels.relabel_raster(cells),
            "labels.label_hash": lambda cells=cells: labels.label_hash(cells),
            "measurements.measure": lambda cells=cells, image=image: regions.measure(cells, image),
            "metrics.average_precision": lambda cells=cells, truth=truth: average_precision([cells], [truth]),
            "metrics.compare": lambda cells=cells, truth=truth: compare(cells, truth),
        }
        for name, step in steps.items():
            rows.setdefault(name, []).append(milliseconds(step, repeats))
    milliseconds_by_step = {name: round(float(np.median(values)), 2) for name, values in rows.items()}
    return {"images": len(counts), "median_cells": float(np.median(counts)), "milliseconds": milliseconds_by_step}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=20, help="fields with the most cells")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    # glibc gives memory back to the system at every call until it has once freed a large array. In a run the network's
    # arrays come first; without this, page faults would be most of what is measured.
    np.ones(LARGE_ARRAY_BYTES, dtype=np.uint8)
    result = measure_all(arguments.data, arguments.images, arguments.repeats)
    print(f"{result['images']} fields of {SIZE} x {SIZE}, median {result['median_cells']:.0f} cells")
    for name, value in result["milliseconds"].items():
        print(f"{name:28} {value:7.2f} ms")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
