"""Scores of a model on images that it was not trained on, by kind of image and by size of nucleus.

    python benchmarks/accuracy.py DATA [--model nuclei] [--of fluorescence] [--set dsb2018 ...] [--json FILE]

DATA holds the collections. Images are those of the kind ``--of`` in the validation parts; neither pixel size nor
diameter is given. The first table has a row for each collection, magnification and preparation, the second the share
of true cells that are found at IoU .5, by their diameter. ``--json`` writes the scores by collection.
"""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import common
import numpy as np
from collections_of_images import COLLECTIONS, Annotated, annotated, parser_of_collections
from numpy.typing import NDArray

import unetbio
from unetbio.labels import touching_pairs
from unetbio.metrics.instances import evaluate, match

COLUMNS = ("AP@.5", "AP@.7", "AP@.75", "AP@.9", "mean_AP", "F1@.5", "merges_per_100", "splits_per_100")
BIASES = ("bias_isolated", "bias_touching")
SIZES = (0, 8, 12, 20, 40, 80, math.inf)
"""Edges of the classes of diameters, in pixels."""

Labels = NDArray[Any]


class Result(NamedTuple):
    """Predicted and true label image of one image."""

    name: str
    predicted: Labels
    truth: Labels


def segment(one: Annotated, model: str) -> Result:
    """Segment an image with nothing told; predicted cells on objects that do not count are left out."""
    predicted = unetbio.segment(one.image, model=model, device="cpu", axes=one.axes)[0]
    uncounted = one.uncounted()
    on_uncounted = np.bincount(predicted.ravel(), uncounted.ravel()) > np.bincount(predicted.ravel()) / 2
    return Result(one.image.name, np.where(on_uncounted[predicted], 0, predicted), one.truth())


def score(data: Path, name: str, model: str) -> dict[str, float]:
    """Pooled scores of the validation part of a collection."""
    return scores([segment(one, model) for one in annotated(data, name)])


def scores(results: Sequence[Result]) -> dict[str, float]:
    """Pooled scores, and the bias of the outlines."""
    names, predicted, truth = zip(*results, strict=True)
    return evaluate(predicted, truth, names=names).pooled | outline_bias(predicted, truth)


def outline_bias(predicted: Sequence[Labels], truth: Sequence[Labels]) -> dict[str, float]:
    """By how many pixels the diameter of a cell is too large, for true cells that stand alone and that touch others.

    Diameters are those of discs (balls) with as many pixels; cells match at IoU .5, and those at the border of the
    image are left out.
    """
    differences: dict[bool, list[float]] = {False: [], True: []}
    for labels, label_image in zip(predicted, truth, strict=True):
        ours, theirs = diameters(labels), diameters(label_image)
        touching = set(touching_pairs(label_image).ravel().tolist())
        at_border = set(
            np.unique(np.concatenate([label_image.take([0, -1], axis).ravel() for axis in range(label_image.ndim)]))
        )
        for one, true in match(labels, label_image).pairs.tolist():
            if true not in at_border:
                differences[true in touching].append(float(ours[one] - theirs[true]))
    return {
        name: float(np.mean(values)) if values else math.nan
        for name, values in zip(BIASES, differences.values(), strict=True)
    }


def diameters(labels: Labels) -> NDArray[np.float64]:
    """Diameter of a disc (a ball) of as many pixels, by id."""
    sizes = np.bincount(labels.ravel())
    return 2 * np.sqrt(sizes / np.pi) if labels.ndim == 2 else np.cbrt(6 * sizes / np.pi)


def found_by_size(results: Sequence[Result]) -> list[tuple[int, int]]:
    """True cells and found ones in each class of diameters."""
    true, found = np.zeros(len(SIZES) - 1, int), np.zeros(len(SIZES) - 1, int)
    for _, predicted, truth in results:
        sizes = np.digitize(diameters(truth), SIZES[1:-1])
        true += np.bincount(sizes[np.unique(truth[truth > 0])], minlength=len(true))
        found += np.bincount(sizes[[pair[1] for pair in match(predicted, truth).pairs.tolist()]], minlength=len(true))
    return list(zip(true.tolist(), found.tolist(), strict=True))


def main() -> None:
    parser = parser_of_collections(__doc__)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    by_set: dict[str, list[Result]] = defaultdict(list)
    kinds: dict[str, list[Result]] = defaultdict(list)
    for name in arguments.names or COLLECTIONS[arguments.of]:
        for one in annotated(arguments.data, name, of=arguments.of):
            by_set[name].append(segment(one, arguments.model))
            kinds[one.kind].append(by_set[name][-1])
    rows = [row(kind, results) for kind, results in kinds.items()]
    common.print_table(["images of", "images", "cells", *COLUMNS, *BIASES], rows)
    print()
    sizes = found_by_size([result for results in by_set.values() for result in results])
    columns = [f"{low:g} to {high:g} px" for low, high in pairwise(SIZES)]
    common.print_table(["", *columns], [["cells", *(true for true, _ in sizes)], ["found", *map(_share, sizes)]])
    if arguments.json:
        arguments.json.write_text(json.dumps({name: scores(results) for name, results in by_set.items()}, indent=2))


def row(kind: str, results: Sequence[Result]) -> list[object]:
    """A row of the first table."""
    found = scores(results)
    cells = sum(len(np.unique(result.truth[result.truth > 0])) for result in results)
    values = [f"{found[column]:.3f}" for column in COLUMNS[:6]] + [f"{found[column]:.2f}" for column in COLUMNS[6:]]
    return [kind, len(results), cells, *values, *(f"{found[bias]:+.2f}" for bias in BIASES)]


def _share(counts: tuple[int, int]) -> str:
    true, found = counts
    return f"{found / true:.3f}" if true else ""


if __name__ == "__main__":
    main()
