"""Annotated images of the collections that the benchmarks score on."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unetbio.io import read_image, read_labels

__all__ = ["FLUORESCENCE", "Annotated", "annotated", "read_plane"]

FLUORESCENCE = ("dsb2018", "bbbc039", "kromp2020", "aitslab2022")
"""Collections of nuclei in fluorescence, each a folder with ``index.csv``, ``images`` and ``masks`` by part."""

SUFFIXES = (".tif", ".png")
SMALLEST_PIXELS = {"aitslab2022": 200}
"""Smaller objects are micronuclei and debris, by the page of the collection."""


class Annotated(NamedTuple):
    """Kind (collection, magnification, preparation), image and label image."""

    kind: str
    image: Path
    mask: Path

    def truth(self) -> NDArray[np.unsignedinteger]:
        """Label image of the nuclei."""
        labels = read_labels(self.mask)
        return np.where(self._counts(labels), labels, 0)

    def uncounted(self) -> NDArray[np.bool_]:
        """Pixels of objects that the collection does not count as nuclei."""
        labels = read_labels(self.mask)
        return (labels > 0) & ~self._counts(labels)

    def _counts(self, labels: NDArray[np.unsignedinteger]) -> NDArray[np.bool_]:
        least = SMALLEST_PIXELS.get(self.kind.split()[0], 0)
        return (np.bincount(labels.ravel()) >= least)[labels]


def annotated(data: Path, name: str, part: str = "val") -> Iterator[Annotated]:
    """Fluorescence images of a part of a collection."""
    folder = data / name / part if (data / name / part).is_dir() else data / name
    with open(data / name / "index.csv", newline="") as stream:
        for row in csv.DictReader(stream):
            if row["split"] == part and row.get("modality", "fluorescence") == "fluorescence":
                kind = " ".join(filter(None, (name, row.get("magnification"), row.get("preparation"))))
                yield Annotated(kind, *(_existing(folder / each / row["name"]) for each in ("images", "masks")))


def _existing(stem: Path) -> Path:
    return next(path for path in (stem.with_name(stem.name + suffix) for suffix in SUFFIXES) if path.exists())


def read_plane(path: Path) -> NDArray[np.generic]:
    """Grey values of the first channel."""
    array = read_image(path).read()
    return array if array.ndim == 2 else array[0]
