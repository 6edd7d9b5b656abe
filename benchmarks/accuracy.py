"""Scores of a model on images that it was not trained on; the model's card lists other uses of these images.

    python benchmarks/accuracy.py DATA [--model nuclei] [--set dsb2018|bbbc039] [--json FILE]

DATA holds ``dsb2018`` and ``bbbc039``, each with an ``index.csv`` and a folder ``val``.
"""

import argparse
import csv
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import unetbio
from unetbio.io import read_labels
from unetbio.labels import touching_pairs
from unetbio.metrics.instances import evaluate, match

SUFFIXES = (".tif", ".png")


def validation_pairs(data: Path, name: str) -> Iterator[tuple[Path, Path]]:
    """Images and label images of the fluorescence part of a validation set."""
    with open(data / name / "index.csv", newline="") as stream:
        for row in csv.DictReader(stream):
            if row["split"] == "val" and row.get("modality", "fluorescence") == "fluorescence":
                yield tuple(_existing(data / name / "val" / kind / row["name"]) for kind in ("images", "masks"))


def _existing(stem: Path) -> Path:
    return next(path for path in (stem.with_name(stem.name + suffix) for suffix in SUFFIXES) if path.exists())


def score(data: Path, name: str, model: str) -> dict[str, float]:
    """Segment every image with the model as it is and pool the scores."""
    pairs = list(validation_pairs(data, name))
    predicted = [unetbio.segment(image, model=model, device="cpu")[0] for image, _ in pairs]
    truth = [read_labels(mask) for _, mask in pairs]
    names = [image.name for image, _ in pairs]
    return evaluate(predicted, truth, names=names).pooled | outline_bias(predicted, truth)


def outline_bias(predicted: Sequence[NDArray[Any]], truth: Sequence[NDArray[Any]]) -> dict[str, float]:
    """By how many pixels the diameter of a cell is too large, for true cells that stand alone and that touch others.

    Diameters are those of discs with as many pixels; cells match at IoU .5, and those at the border of the image are
    left out.
    """
    differences: dict[bool, list[float]] = {False: [], True: []}
    for labels, label_image in zip(predicted, truth, strict=True):
        diameters = [2 * np.sqrt(np.bincount(one.ravel()) / np.pi) for one in (labels, label_image)]
        touching = set(touching_pairs(label_image).ravel().tolist())
        at_border = set(np.unique(np.concatenate([label_image[[0, -1]].ravel(), label_image[:, [0, -1]].ravel()])))
        for ours, true in match(labels, label_image).pairs.tolist():
            if true not in at_border:
                differences[true in touching].append(float(diameters[0][ours] - diameters[1][true]))
    names = {False: "bias_isolated", True: "bias_touching"}
    return {names[kind]: float(np.mean(values)) if values else math.nan for kind, values in differences.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--set", dest="name", choices=("dsb2018", "bbbc039"), default="dsb2018")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    scores = score(arguments.data, arguments.name, arguments.model)
    for key, value in scores.items():
        print(f"{key:32} {value:.4f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(scores, indent=2))


if __name__ == "__main__":
    main()
