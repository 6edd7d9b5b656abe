"""Scores of predicted classes, by pixel and along boundaries.

`compare_classes` counts what can be added over images; `ClassComparison.scores` turns counts into scores, for one image
or many alike. With ``n[t, p]`` the pixels of true class t that were predicted as p:

``IoU c``
    ``n[c, c] / (sum_p n[c, p] + sum_t n[t, c] - n[c, c])``, intersection over union; NaN for a class that neither image
    has.
``mean_IoU``
    Mean of ``IoU c`` over the classes that the truth has. Pixels wrongly given to a class that it does not have lower
    the score of the class that they were taken from.
``Dice c``
    ``2 n[c, c] / (sum_p n[c, p] + sum_t n[t, c])`` (the F1 of pixels; Dice 1945, doi:10.2307/1932409).
``mean_Dice``
    Mean of ``Dice c`` over the classes that the truth has, without the background, which is the first; NaN where the
    truth is all background.
``pixel_accuracy``
    Share of pixels whose class is right.
``boundary_F1 c``
    As ``boundary_F1`` in `unetbio.metrics.instances`, of the mask of a class (Csurka et al. 2013, BMVC, a class at a
    time), at pixels whose neighbours are annotated too; NaN where neither image has such a boundary.
    ``boundary_F1`` is the mean over the classes that the truth has.

Unannotated pixels are not counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.metrics import instances
from unetbio.metrics.instances import BOUNDARY_TOLERANCE, Comparison

__all__ = ["ClassComparison", "compare_classes"]

ClassMask = NDArray[np.integer]


@dataclass(frozen=True)
class ClassComparison:
    """Counts of one image, or by addition of several; classes that only some of them have are counted, too.

    Parameters
    ----------
    confusion : ndarray of int64
        ``(K, K)``: pixels by true and by predicted class.
    boundaries : tuple of Comparison
        Of the mask of each class; empty when boundaries were not looked at.
    """

    confusion: NDArray[np.int64]
    boundaries: tuple[Comparison, ...] = ()

    def __add__(self, other: "ClassComparison") -> "ClassComparison":
        count = max(len(self.confusion), len(other.confusion))
        confusion = sum(np.pad(part.confusion, (0, count - len(part.confusion))) for part in (self, other))
        pairs = zip_longest(self.boundaries, other.boundaries)
        boundaries = tuple(one + two if one and two else one or two for one, two in pairs)
        return ClassComparison(np.asarray(confusion), boundaries)

    def scores(self, class_names: Sequence[str]) -> dict[str, float]:
        """All scores by name.

        Parameters
        ----------
        class_names : sequence of str
            At least as many as there are classes; further ones are classes that occur nowhere.
        """
        count = len(class_names)
        confusion = np.pad(self.confusion, (0, count - len(self.confusion)))
        true, right = confusion.sum(axis=1), np.diag(confusion)
        union = true + confusion.sum(axis=0) - right
        iou = np.where(union > 0, right / np.maximum(union, 1), np.nan)
        dice = 2 * iou / (1 + iou)
        scores = {
            "mean_IoU": _mean(iou[true > 0]),
            "mean_Dice": _mean(dice[1:][true[1:] > 0]),
            "pixel_accuracy": float(right.sum() / max(1, confusion.sum())),
            **{f"IoU {name}": float(value) for name, value in zip(class_names, iou, strict=True)},
            **{f"Dice {name}": float(value) for name, value in zip(class_names, dice, strict=True)},
        }
        if self.boundaries:
            found = [_boundary_f1(comparison) for comparison in self.boundaries]
            f1 = np.where(union > 0, [*found, *[np.nan] * (count - len(found))], np.nan)
            scores["boundary_F1"] = _mean(f1[(true > 0) & ~np.isnan(f1)])
            scores |= {f"boundary_F1 {name}": float(value) for name, value in zip(class_names, f1, strict=True)}
        return scores


def compare_classes(
    predicted: ClassMask,
    truth: ClassMask,
    *,
    ignore_label: int | None = None,
    boundaries: bool = True,
    tolerance: float = BOUNDARY_TOLERANCE,
) -> ClassComparison:
    """Compare the classes of one image with the truth.

    Parameters
    ----------
    predicted, truth : ndarray of int
        Class masks of the same shape, ``(Y, X)`` or ``(Z, Y, X)``, classes from 0.
    ignore_label : int, optional
        Value of unannotated pixels in the truth.
    boundaries : bool
        Compare boundaries as well, which takes most of the time.
    tolerance : float
        How far boundary pixels may lie apart, in pixels.

    Raises
    ------
    ImageError
        ``wrong_shape`` when the shapes differ.
    """
    if predicted.shape != truth.shape:
        raise ImageError(
            "wrong_shape",
            f"the prediction has shape {predicted.shape} and the truth {truth.shape}: both need the size of the same "
            "image",
        )
    counted = np.ones(truth.shape, np.bool_) if ignore_label is None else truth != ignore_label
    found, true = predicted[counted].astype(np.int64), truth[counted].astype(np.int64)
    count = 1 + int(max(found.max(initial=0), true.max(initial=0)))
    confusion = np.bincount(true * count + found, minlength=count**2).reshape(count, count)
    compared: tuple[Comparison, ...] = ()
    if boundaries:
        compared = tuple(
            instances.compare(
                (predicted == number).astype(np.uint8),
                (truth == number).astype(np.uint8),
                thresholds=(0.5,),
                tolerance=tolerance,
                annotated=counted,
            )
            for number in range(count)
        )
    return ClassComparison(confusion, compared)


def _boundary_f1(comparison: Comparison) -> float:
    has_boundary = comparison.boundary_predicted + comparison.boundary_true > 0
    return comparison.scores()["boundary_F1"] if has_boundary else float("nan")


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")
