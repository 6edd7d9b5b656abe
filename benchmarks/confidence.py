"""How often cells of a confidence are right: reliability diagram and expected calibration error.

    python benchmarks/confidence.py DATA [--model nuclei] [--of fluorescence] [--set dsb2018 ...] [--picture FILE]

DATA holds the collections. Images are those of the kind ``--of`` in the validation parts; neither pixel size nor
diameter is given. A predicted cell is right where it matches a true one at an IoU of .5. Cells are put into ten bins of
equal width along their confidence; the expected calibration error is the mean distance between confidence and share of
right cells, weighted by cells (Guo et al. 2017, arXiv 1706.04599, equation 3).
"""

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import common
import numpy as np
from collections_of_images import COLLECTIONS, Annotated, annotated, parser_of_collections
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

import unetbio
from unetbio.metrics.instances import match

BINS = 10
FEW = 20
"""Cells of a bin, below which it is not drawn."""

Pairs = NDArray[np.float64]
"""Confidence, and whether the cell is right, ``(cells, 2)``."""


class Bin(NamedTuple):
    """Cells whose confidences are alike."""

    low: float
    high: float
    cells: int
    confidence: float
    right: float


def judge(one: Annotated, model: str) -> Pairs:
    """Confidence of each predicted cell of an image, and whether it is right; none on objects that do not count."""
    predicted, record = unetbio.segment(one.image, model=model, device="cpu", axes=one.axes)
    confidences = np.array(record["frames"][0]["confidences"])
    right = np.zeros(len(confidences))
    right[match(predicted, one.truth()).pairs[:, 0] - 1] = 1
    uncounted = np.bincount(predicted.ravel(), one.uncounted().ravel(), minlength=len(right) + 1)
    counts = uncounted <= np.bincount(predicted.ravel(), minlength=len(right) + 1) / 2
    return np.column_stack([confidences, right])[counts[1:]]


def binned(pairs: Pairs) -> list[Bin]:
    """The bins that hold cells."""
    numbers = np.minimum((pairs[:, 0] * BINS).astype(int), BINS - 1)
    return [
        Bin(number / BINS, (number + 1) / BINS, len(inside), *inside.mean(0).tolist())
        for number in range(BINS)
        if len(inside := pairs[numbers == number])
    ]


def expected_calibration_error(bins: list[Bin]) -> float:
    """Mean distance between confidence and share of right cells, weighted by cells."""
    return sum(one.cells * abs(one.confidence - one.right) for one in bins) / sum(one.cells for one in bins)


def draw(by_set: dict[str, list[Bin]], path: Path) -> None:
    """Reliability diagram, without bins of few cells; the areas of the points are the numbers of cells."""
    figure = Figure(figsize=(4.5, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="confidence", ylabel="share of right cells", xlim=(0, 1), ylim=(0, 1))
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1)
    for name, all_bins in by_set.items():
        bins = [one for one in all_bins if one.cells >= FEW]
        confidence, right, cells = (
            np.array([getattr(one, key) for one in bins]) for key in ("confidence", "right", "cells")
        )
        (line,) = axes.plot(confidence, right, linewidth=1)
        label = f"{name}: error {expected_calibration_error(all_bins):.3f}"
        axes.scatter(confidence, right, 4 + 200 * cells / cells.sum(), color=line.get_color(), label=label)
    axes.legend(loc="upper left")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = parser_of_collections(__doc__)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    judged: dict[str, list[Pairs]] = defaultdict(list)
    for name in arguments.names or COLLECTIONS[arguments.of]:
        judged[name].extend(judge(one, arguments.model) for one in annotated(arguments.data, name, of=arguments.of))
    by_set = {name: binned(np.concatenate(pairs)) for name, pairs in judged.items()}
    for name, bins in by_set.items():
        rows = [[f"{b.low:.1f} to {b.high:.1f}", b.cells, f"{b.confidence:.3f}", f"{b.right:.3f}"] for b in bins]
        common.print_table([name, "cells", "confidence", "right"], rows)
        print(f"expected calibration error {expected_calibration_error(bins):.3f}\n")
    if arguments.picture:
        draw(by_set, arguments.picture)


if __name__ == "__main__":
    main()
