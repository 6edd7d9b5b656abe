"""Effect of one image on the pixel IoU of a comparison: pooled over all images, and over all but that one.

    python benchmarks/without_image.py COMPARISON benchmarks/comparison.csv DATA a102535b0e88

COMPARISON is the output folder of ``unetbio compare`` on the table, whose paths start at DATA. "its share" is the part
of all wrong pixels that lies in the image.
"""

import argparse
import csv
import sys
from pathlib import Path

import common
import numpy as np
from numpy.typing import NDArray

from unetbio.io import read_labels, stem


def test_masks(table: Path, root: Path) -> dict[str, NDArray[np.bool_]]:
    """Foreground of the test images of a table, by the stem of the image."""
    with open(table, newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == "test"]
    return {stem(row["image"]): read_labels(root / row["mask"]) > 0 for row in rows}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("root", type=Path)
    parser.add_argument("image")
    arguments = parser.parse_args()
    truth = test_masks(arguments.table, arguments.root)
    rows = []
    for folder in sorted(path.parent for path in arguments.comparison.glob("*/predictions")):
        shared, either = (dict.fromkeys(truth, 0) for _ in range(2))
        for name, mask in truth.items():
            found = read_labels(folder / "predictions" / f"{name}_labels.ome.tif") > 0
            shared[name], either[name] = int((found & mask).sum()), int((found | mask).sum())
        intersection, union = sum(shared.values()), sum(either.values())
        its_wrong = either[arguments.image] - shared[arguments.image]
        without = (intersection - shared[arguments.image]) / (union - either[arguments.image])
        share = its_wrong / (union - intersection)
        rows.append([folder.name, f"{intersection / union:.3f}", f"{without:.3f}", f"{share:.2f}"])
    common.print_table(["network", "pixel IoU", f"without {arguments.image}", "its share"], rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
