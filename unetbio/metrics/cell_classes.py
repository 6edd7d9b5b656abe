"""Scores of predicted cells that have classes: those of each class, and how often the class of a found cell is right.

``AP@t NAME``, ``F1@t NAME``, ``PQ@t NAME``
    Scores of the cells of one class (`unetbio.metrics.instances`), as if there were no others: a cell that is found
    with a wrong class is missing in one class and too many in the other. PQ of each class and its mean are those of
    Graham et al. 2019 (HoVer-Net, arXiv 1812.06499) and PanNuke (arXiv 2003.10778).
``mean_AP NAME``
    Mean of ``AP@t NAME`` over the thresholds.
``class_mean_AP``, ``class_PQ@t``
    Means over the classes that occur in the truth.
``class_accuracy``
    Share of the cells matched at the first threshold, whatever their class, whose class is right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from unetbio.metrics.instances import THRESHOLDS, Comparison, compare, match, short

__all__ = ["ClassedCells", "ClassedComparison", "compare_classed"]

ClassedCells = tuple[NDArray[np.integer], Mapping[int, str]]
"""A label image, and the class of each of its cells by id; cells may have none."""

SHOWN = ("AP", "F1", "PQ")


@dataclass(frozen=True)
class ClassedComparison:
    """Counts of one image, or by addition of several.

    Parameters
    ----------
    cells : Comparison
        Of all cells, whatever their class.
    of_classes : mapping
        Of the cells of each class.
    matched, right : int
        Cells matched at the first threshold that have a class in both images, and those whose class is the same.
    """

    cells: Comparison
    of_classes: Mapping[str, Comparison]
    matched: int
    right: int

    def __add__(self, other: "ClassedComparison") -> "ClassedComparison":
        names = [*self.of_classes, *(name for name in other.of_classes if name not in self.of_classes)]
        parts = {name: [one.of_classes[name] for one in (self, other) if name in one.of_classes] for name in names}
        pooled = {name: of[0] + of[1] if len(of) > 1 else of[0] for name, of in parts.items()}
        return ClassedComparison(
            self.cells + other.cells, pooled, self.matched + other.matched, self.right + other.right
        )

    def scores(self) -> dict[str, float]:
        """All scores by name, those of all cells first; NaN for means and shares of nothing."""
        at = short(self.cells.thresholds[0])
        scores = {name: comparison.scores() for name, comparison in sorted(self.of_classes.items())}
        true = [scores[name] for name, comparison in sorted(self.of_classes.items()) if comparison.n_true]
        found = {
            f"{score} {name}": own[score]
            for name, own in scores.items()
            for score in ("n_true", "n_predicted", "mean_AP", *(f"{score}@{at}" for score in SHOWN))
        }
        return {
            **self.cells.scores(),
            "class_mean_AP": _mean([own["mean_AP"] for own in true]),
            f"class_PQ@{at}": _mean([own[f"PQ@{at}"] for own in true]),
            "class_accuracy": self.right / self.matched if self.matched else float("nan"),
            **found,
        }


def compare_classed(
    predicted: ClassedCells,
    truth: ClassedCells,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    tolerance: float = 2.0,
) -> ClassedComparison:
    """Compare the cells of one image, and their classes, with the truth.

    Parameters
    ----------
    predicted, truth : tuple of ndarray and mapping
        Label images of the same shape, with the class of each cell.
    thresholds, tolerance
        As in `unetbio.metrics.instances.compare`; errors too.
    """
    score = partial(compare, thresholds=thresholds, tolerance=tolerance)
    names = sorted({*predicted[1].values(), *truth[1].values()})
    of_classes = {name: score(_only(predicted, name), _only(truth, name)) for name in names}
    pairs = match(predicted[0], truth[0], min(thresholds)).pairs.tolist()
    classes = [(predicted[1].get(one), truth[1].get(other)) for one, other in pairs]
    known = [pair for pair in classes if None not in pair]
    return ClassedComparison(
        score(predicted[0], truth[0]), of_classes, len(known), sum(one == other for one, other in known)
    )


def _only(cells: ClassedCells, name: str) -> NDArray[np.integer]:
    """The label image with the cells of one class alone."""
    ids = [number for number, of in cells[1].items() if of == name]
    return np.where(np.isin(cells[0], ids), cells[0], 0)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
