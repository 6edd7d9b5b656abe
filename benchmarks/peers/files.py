"""Training images and images to segment, as every peer reads them; needs numpy, scikit-image and tifffile alone."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from skimage.io import imread

__all__ = ["normalized", "read_pairs", "segment_folder", "write_mask"]


def read_pairs(table: Path, root: Path, split: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Images in normalised grey values and label images of one part of a training table."""
    with table.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == split]
    images = [normalized(imread(root / row["image"])) for row in rows]
    return images, [imread(root / row["mask"]).astype(np.int32) for row in rows]


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
    tifffile.imwrite(path, label_image.astype(np.uint16), compression="zlib")
