"""What the peers share: their command line, and how they read images; needs numpy and tifffile alone."""

import argparse
import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tifffile import imread, imwrite

__all__ = ["normalized", "read_pairs", "run_peer", "segment_folder", "write_mask"]

Command = Callable[[argparse.Namespace], None]


def run_peer(description: str | None, train: Command, segment: Command) -> None:
    """Run ``train TABLE ROOT MODEL --seconds S`` or ``segment MODEL IMAGES OUT``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train")
    for name in ("table", "root", "model"):
        training.add_argument(name, type=Path)
    training.add_argument("--seconds", type=float, required=True, help="processor time")
    training.set_defaults(run=train)
    segmenting = commands.add_parser("segment")
    for name in ("model", "images", "out"):
        segmenting.add_argument(name, type=Path)
    segmenting.set_defaults(run=segment)
    arguments = parser.parse_args()
    arguments.run(arguments)


def read_pairs(table: Path, root: Path, split: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images in normalised grey values, each with its label image, of one part of a training table."""
    with table.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == split]
    return [(normalized(imread(root / row["image"])), imread(root / row["mask"]).astype(np.int32)) for row in rows]


def normalized(image: np.ndarray) -> np.ndarray:
    """Percentiles 1 and 99.8 become 0 and 1, as in unetbio's training."""
    low, high = np.percentile(image, (1, 99.8))
    return ((image - low) / max(float(high - low), 1e-6)).astype(np.float32)


def segment_folder(folder: Path, out: Path) -> Iterator[tuple[np.ndarray, Path]]:
    """Raw images of a folder and the paths of their masks."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        yield imread(path), out / f"{path.stem}_labels.tif"


def write_mask(path: Path, label_image: np.ndarray) -> None:
    """Write a label image, compressed as unetbio's masks are."""
    imwrite(path, label_image.astype(np.uint16), compression="zlib")
