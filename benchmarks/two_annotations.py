"""How far two annotations of the same images agree: the limit of any score on them.

    python benchmarks/two_annotations.py DATA

Seventeen images of `bbbc039` are in `dsb2018` too, in 8 bits, with masks that others edited. Images are matched by
their grey values (correlation above .98). The masks of `dsb2018` are scored as if a program had made them, with those
of `bbbc039` as the truth.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from common import print_table
from numpy.typing import NDArray

from unetbio.io import read_image, read_labels
from unetbio.metrics.instances import evaluate

ALIKE = 0.98
SPECK_PX = 8
SCORES = ("AP@.5", "AP@.7", "AP@.75", "AP@.9", "mean_AP", "F1@.5")

Labels = NDArray[np.unsignedinteger]


def standardised(path: Path) -> NDArray[np.float64]:
    """Grey values of the first channel, with mean 0 and standard deviation 1."""
    pixels = read_image(path).read().astype(np.float64)
    plane = pixels.reshape(-1, *pixels.shape[-2:])[0]
    return (plane - plane.mean()) / plane.std()


def twins(data: Path) -> Iterator[tuple[str, Labels, Labels]]:
    """Name, mask of `dsb2018` and mask of `bbbc039` of each image that both have."""
    others = {path: standardised(path) for path in sorted((data / "bbbc039").glob("*/images/*"))}
    with (data / "dsb2018" / "index.csv").open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["also_in_bbbc039"]]
    for row in rows:
        folder = data / "dsb2018" / row["split"]
        pixels = standardised(next((folder / "images").glob(f"{row['name']}.*")))
        of_size = {path: other for path, other in others.items() if other.shape == pixels.shape}
        likeness = {path: float((pixels * other).mean()) for path, other in of_size.items()}
        path = max(likeness, key=lambda each: likeness[each])
        if likeness[path] > ALIKE:
            masks = (folder / "masks", row["name"]), (path.parent.parent / "masks", path.stem)
            yield row["name"], *(read_labels(next(place.glob(f"{name}.*"))) for place, name in masks)


def specks(label_images: tuple[Labels, ...]) -> int:
    """Cells narrower than `SPECK_PX`."""
    areas = [np.bincount(labels.ravel())[1:] for labels in label_images]
    return sum(int(np.count_nonzero((each > 0) & (each < np.pi * (SPECK_PX / 2) ** 2))) for each in areas)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with dsb2018/ and bbbc039/")
    names, of_dsb, of_bbbc = zip(*twins(parser.parse_args().data), strict=True)
    pooled = evaluate(of_dsb, of_bbbc, names=names).pooled
    print_table(["images", *SCORES], [[len(names), *(f"{pooled[name]:.3f}" for name in SCORES)]])
    print(f"narrower than {SPECK_PX} px: {specks(of_dsb)} in dsb2018, {specks(of_bbbc)} in bbbc039")


if __name__ == "__main__":
    main()
