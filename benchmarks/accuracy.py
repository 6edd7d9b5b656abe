"""Scores of a model on images that it was not trained on; the model's card lists other uses of these images.

    python benchmarks/accuracy.py DATA [--model nuclei] [--set dsb2018|bbbc039] [--json FILE]

DATA holds ``dsb2018`` and ``bbbc039``, each with an ``index.csv`` and a folder ``val``.
"""

import argparse
import csv
import json
from collections.abc import Iterator
from pathlib import Path

import unetbio
from unetbio.io import read_labels
from unetbio.metrics.instances import evaluate

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
    return evaluate(predicted, truth, names=names).pooled


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
