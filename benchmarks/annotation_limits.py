"""How much of what a model misses follows from how images were annotated.

    python benchmarks/annotation_limits.py DATA [--model nuclei] [--set dsb2018]

Prints AP of the validation part as it is, without the image that holds most cells, and with the outlines of each image
shifted by the whole number of pixels that fits its annotation best; then the cells that are missed, by size and place.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import common
import numpy as np
from accuracy import Labels, Result, diameters, segment
from collections_of_images import annotated
from skimage.segmentation import expand_labels

from unetbio.metrics.instances import evaluate, match
from unetbio.supervision.depths import depths_in_cells

SHIFTS = (-2, -1, 0, 1, 2, 3)
"""Pixels by which outlines move outwards."""

SMALL = 8.0
"""Diameter in pixels below which a cell is a speck."""

COLUMNS = ("AP@.5", "AP@.7", "AP@.9", "mean_AP")


def shifted(labels: Labels, by: int) -> Labels:
    """Cells that grew by so many pixels where there is room, or shrank."""
    if by >= 0:
        return expand_labels(labels, by) if by else labels
    return np.where(depths_in_cells(labels).depths > -by, labels, 0)


def best_shift(result: Result) -> int:
    """The shift with the highest mean AP; of equals the smallest."""

    def score(by: int) -> tuple[float, int]:
        return pooled([result._replace(predicted=shifted(result.predicted, by))])["mean_AP"], -abs(by)

    return max(SHIFTS, key=score)


def pooled(results: Sequence[Result]) -> dict[str, float]:
    """Scores over all images."""
    names, predicted, truth = zip(*results, strict=True)
    return evaluate(predicted, truth, names=names).pooled


def count(labels: Labels) -> int:
    """Number of cells."""
    return len(np.unique(labels[labels > 0]))


def missed(results: Sequence[Result]) -> list[list[object]]:
    """Rows of a table: cells at the border of the image and inside, small and large, and those that are missed."""
    every: Counter[tuple[str, str]] = Counter()
    lost: Counter[tuple[str, str]] = Counter()
    empty: Counter[tuple[str, str]] = Counter()
    for _, predicted, truth in results:
        border = set(np.unique(np.concatenate([truth.take([0, -1], axis).ravel() for axis in (0, 1)])).tolist())
        found = set(match(predicted, truth).pairs[:, 1].tolist())
        widths = diameters(truth)
        for cell in set(np.unique(truth).tolist()) - {0}:
            place = "border" if cell in border else "inside"
            kind = place, f"below {SMALL:g} px" if widths[cell] < SMALL else "larger"
            every[kind] += 1
            lost[kind] += cell not in found
            empty[kind] += cell not in found and np.count_nonzero(predicted[truth == cell]) * 2 < (truth == cell).sum()
    return [[*kind, every[kind], lost[kind], empty[kind]] for kind in sorted(every)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--set", dest="name", default="dsb2018")
    given = parser.parse_args()
    results = [segment(one, given.model) for one in annotated(given.data.resolve(), given.name)]
    fullest = max(results, key=lambda result: count(result.truth))
    others = [result for result in results if result is not fullest]
    shifts = {result.name: best_shift(result) for result in results}
    fitted = [result._replace(predicted=shifted(result.predicted, shifts[result.name])) for result in results]
    rows = [
        ("as it is", results),
        (f"without {fullest.name} ({count(fullest.truth)} cells)", others),
        ("outlines shifted to fit each annotation", fitted),
    ]
    common.print_table(
        ["", *COLUMNS],
        [[name, *(f"{value:.3f}" for value in (pooled(of)[column] for column in COLUMNS))] for name, of in rows],
    )
    print(f"\nimages by shift in pixels: {dict(sorted(Counter(shifts.values()).items()))}\n")
    print(f"cells without {fullest.name}:")
    common.print_table(["place", "diameter", "cells", "missed", "missed, mostly background there"], missed(others))


if __name__ == "__main__":
    main()
