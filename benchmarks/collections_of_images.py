"""Annotated images of the collections that the benchmarks score on."""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unetbio.io import read_image, read_labels

__all__ = ["COLLECTIONS", "FLUORESCENCE", "Annotated", "annotated", "parser_of_collections", "read_plane"]

FLUORESCENCE = ("dsb2018", "bbbc039", "kromp2020", "aitslab2022")
"""Collections of nuclei in fluorescence, each a folder with ``index.csv``, ``images`` and ``masks`` by part."""

COLLECTIONS = {
    "fluorescence": FLUORESCENCE,
    "histology": ("dsb2018", "tnbc_he"),
    "phase contrast": ("t98g_phase",),
    "stacks": ("bbbc050_3d", "nuclei_3d"),
}
"""Collections by the kind of their images; `dsb2018` holds several kinds."""

MODALITIES = {"H&E": "histology", "fluorescence 3-D, spinning disk, live": "stacks"}
"""Kinds of images that an ``index.csv`` calls otherwise."""

WITHOUT_INDEX = {"nuclei_3d": {"val": ("nuclei_1170",), "train": ("nuclei_1135", "nuclei_1137", "nuclei_1139")}}
"""Parts of collections without ``index.csv``."""

COLUMNS_OF_KINDS = ("magnification", "guessed_magnification", "preparation")
"""Columns of ``index.csv`` that tell images of a collection apart."""

SUFFIXES = (".tif", ".png")
SMALLEST_PIXELS = {"aitslab2022": 200}
"""Smaller objects are micronuclei and debris, by the page of the collection."""


class Annotated(NamedTuple):
    """Kind (collection, magnification, preparation), image, label image, and axes where the files name none."""

    kind: str
    image: Path
    mask: Path
    axes: str | None = None

    def truth(self) -> NDArray[np.unsignedinteger]:
        """Label image of the nuclei."""
        labels = read_labels(self.mask, axes=self.axes)
        return np.where(self._counts(labels), labels, 0)

    def uncounted(self) -> NDArray[np.bool_]:
        """Pixels of objects that the collection does not count as nuclei."""
        labels = read_labels(self.mask, axes=self.axes)
        return (labels > 0) & ~self._counts(labels)

    def _counts(self, labels: NDArray[np.unsignedinteger]) -> NDArray[np.bool_]:
        least = SMALLEST_PIXELS.get(self.kind.split()[0], 0)
        return (np.bincount(labels.ravel()) >= least)[labels]


def annotated(data: Path, name: str, part: str = "val", of: str = "fluorescence") -> Iterator[Annotated]:
    """Images of a part of a collection, of one kind."""
    folder = data / name / part if (data / name / part).is_dir() else data / name
    for row in _index(data / name):
        if row["split"] == part and _modality(row, of) == of:
            kind = " ".join(filter(None, (name, *map(row.get, COLUMNS_OF_KINDS))))
            image, mask = (_existing(folder / each / row["name"]) for each in ("images", "masks"))
            yield Annotated(kind, image, mask, "ZYX" if of == "stacks" else None)


def parser_of_collections(description: str | None) -> argparse.ArgumentParser:
    """Arguments that choose a model, a kind of images, and collections of it."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--of", choices=list(COLLECTIONS), default="fluorescence", help="kind of images")
    parser.add_argument("--set", dest="names", nargs="+", help="collections; all of that kind unless given")
    return parser


def _index(folder: Path) -> list[dict[str, str]]:
    if folder.name in WITHOUT_INDEX:
        return [{"name": name, "split": part} for part, names in WITHOUT_INDEX[folder.name].items() for name in names]
    with open(folder / "index.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def _modality(row: dict[str, str], default: str) -> str:
    stated = row.get("modality", default)
    return MODALITIES.get(stated, stated)


def _existing(stem: Path) -> Path:
    return next(path for path in (stem.with_name(stem.name + suffix) for suffix in SUFFIXES) if path.exists())


def read_plane(path: Path) -> NDArray[np.generic]:
    """Grey values of the first channel."""
    array = read_image(path).read()
    return array if array.ndim == 2 else array[0]
