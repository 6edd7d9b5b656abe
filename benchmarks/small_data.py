"""A model from few images, in ten minutes: from the shipped one, from nothing, and its thresholds alone.

    python benchmarks/small_data.py DATA -o runs/small_data [--sizes 20 10 5] [--draws 0 1 2] [--minutes 10]

DATA holds `bbbc039/`. Each draw takes so many images of its training part; `unetbio train` keeps some of them for
validation, as it does for everybody. Scores are measured on the validation part, with nothing told. What is there
already in the output folder is not trained again; with all sizes and draws there are eighteen trainings.
"""

import argparse
import csv
import statistics
from collections.abc import Sequence
from pathlib import Path

import accuracy
import common
import numpy as np
from collections_of_images import Annotated, annotated

import unetbio
from unetbio.training.calibration import calibrate

SET = "bbbc039"
WAYS = ("from nuclei", "from nothing", "thresholds alone")


def make(way: str, table: Path, model: Path, minutes: float, seed: int) -> None:
    """Make a model of the images of a table."""
    if way == "thresholds alone":
        calibrate("nuclei", [table], model)
    else:
        unetbio.train(table, model, minutes=minutes, seed=seed, start="nuclei" if way == "from nuclei" else None)


def write_table(path: Path, images: Sequence[Annotated]) -> Path:
    """A table of images and masks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("image", "mask"), *((one.image, one.mask) for one in images)])
    return path


def score(data: Path, out: Path, way: str, size: int, draw: int, minutes: float) -> float:
    """Mean AP of a model on the validation part."""
    model = out / f"{size} {way} {draw}".replace(" ", "_") / "model.safetensors"
    if not model.exists():
        images = list(annotated(data.resolve(), SET, "train"))
        chosen = np.random.default_rng(draw).choice(len(images), size, replace=False)
        table = write_table(model.with_name("images.csv"), [images[number] for number in sorted(chosen)])
        make(way, table, model, minutes, draw)
    return accuracy.score(data, SET, str(model))["mean_AP"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 10, 5])
    parser.add_argument("--draws", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--minutes", type=float, default=10.0)
    given = parser.parse_args()
    rows = []
    for size in given.sizes:
        for way in given.ways:
            scores = [score(given.data, given.output, way, size, draw, given.minutes) for draw in given.draws]
            rows.append([size, way, *(f"{value:.3f}" for value in scores), f"{statistics.mean(scores):.3f}"])
    common.print_table(["images", "", *(f"draw {draw}" for draw in given.draws), "mean"], rows)


if __name__ == "__main__":
    main()
