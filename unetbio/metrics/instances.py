"""Scores of predicted cells.

`compare` counts what can be added over images; the sum of comparisons pools them, and `Comparison.scores` turns counts
into scores, for one image or many alike. Two empty images agree. All scores work on 2-D and 3-D.

With IoU = intersection / union of a predicted and a true cell, and a threshold ``t``, predicted and true cells are
matched one to one where IoU >= t: TP pairs, FP predicted and FN true cells left over.

``AP@t``
    TP / (TP + FP + FN): the "average precision" of the Data Science Bowl 2018, StarDist and Cellpose.
``mean_AP``
    Mean of ``AP@t`` over the thresholds.
``precision@t``, ``recall@t``, ``F1@t``
    TP / (TP + FP), TP / (TP + FN), 2 TP / (2 TP + FP + FN).
``SQ@t``, ``PQ@t``
    Mean IoU of the matched cells (segmentation quality), and panoptic quality ``SQ@t * F1@t`` (Kirillov et al., arXiv
    1801.00868).
``merges_per_100``, ``splits_per_100``
    A merge is a predicted cell that covers more than half of each of two or more true cells; a split is a true cell
    that covers more than half of each of two or more predicted cells. Both are counted per 100 true cells.
``foreground_IoU``
    Intersection / union of all cells' pixels, regardless of ids.
``boundary_F1``
    Harmonic mean of two shares: of predicted boundary pixels that have a true one within ``tolerance`` (Euclidean, in
    pixels), and the reverse. A boundary pixel belongs to a cell and has a face neighbour that does not; the border of
    the image makes none.
``pixel_error``
    Share of pixels that are a cell in one image and background in the other.
``adapted_rand_error``
    1 - F score of pairs of pixels (Arganda-Carreras et al. 2015, doi 10.3389/fnana.2015.00142) over the pixels of true
    cells; 0 where both images are empty, 1 where the truth alone is. Pooled: mean over images.
``vi_split``, ``vi_merge``, ``variation_of_information``
    Conditional entropies in bits of prediction given truth and of truth given prediction (Meila 2007, doi
    10.1016/j.jmva.2006.11.013), and their sum; over all pixels, background as one more segment. Pooled: mean over
    images.

A share of nothing (0 / 0) is 1 if the other image is empty too, and 0 if not; rates per 100 true cells without true
cells are NaN.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unetbio.errors import ImageError, UsageError
from unetbio.labels import check_label_image
from unetbio.metrics.boundaries import boundary_pixels, count_near, steps_within
from unetbio.metrics.overlap import Overlap

__all__ = [
    "THRESHOLDS",
    "Comparison",
    "Matching",
    "Scores",
    "average_precision",
    "compare",
    "evaluate",
    "match",
    "short",
]

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""IoU .5 to .95 in steps of .05."""

BOUNDARY_TOLERANCE = 2.0

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.int64]


@dataclass(frozen=True)
class Matching:
    """Cells that belong together.

    Parameters
    ----------
    pairs : ndarray of int64, shape (N, 2)
        Ids of the predicted and the true cell, as in the images.
    iou : ndarray of float64, shape (N,)
        Intersection over union of each pair.
    """

    pairs: IndexArray
    iou: FloatArray


@dataclass(frozen=True)
class Comparison:
    """Counts of one image, or by addition of several.

    Parameters
    ----------
    thresholds : tuple of float
        IoU thresholds of the matching.
    images, n_true, n_predicted : int
        How many.
    matched, iou_sum : ndarray of float64
        True positives, and the sum of their IoU, one entry a threshold.
    merges, splits : int
        Predicted cells that merge, true cells that are split.
    pixels, foreground_both, foreground_any : int
        Pixels in all, in a cell of both images, in a cell of at least one.
    boundary_predicted, boundary_true, boundary_predicted_hits, boundary_true_hits : int
        Boundary pixels, and those of them that have a boundary pixel of the other image within the tolerance.
    rand_error, vi_split, vi_merge : float
        Sums over the images.
    """

    thresholds: tuple[float, ...]
    images: int
    n_true: int
    n_predicted: int
    matched: FloatArray
    iou_sum: FloatArray
    merges: int
    splits: int
    pixels: int
    foreground_both: int
    foreground_any: int
    boundary_predicted: int
    boundary_true: int
    boundary_predicted_hits: int
    boundary_true_hits: int
    rand_error: float
    vi_split: float
    vi_merge: float

    def __add__(self, other: "Comparison") -> "Comparison":
        if self.thresholds != other.thresholds:
            raise ValueError(f"comparisons at {self.thresholds} and {other.thresholds} cannot be pooled")
        names = [field.name for field in fields(self) if field.name != "thresholds"]
        return Comparison(self.thresholds, **{name: getattr(self, name) + getattr(other, name) for name in names})

    def scores(self) -> dict[str, float]:
        """All scores by name, after the number of cells."""
        matched, predicted, true = self.matched, self.n_predicted, self.n_true
        precision = _share(matched, predicted, true)
        recall = _share(matched, true, predicted)
        f1 = _share(2 * matched, predicted + true)
        average = _share(matched, predicted + true - matched)
        quality = np.where(matched > 0, self.iou_sum / np.maximum(matched, 1), float(predicted + true == 0))
        by_threshold = {
            "AP": average, "precision": precision, "recall": recall, "F1": f1, "SQ": quality, "PQ": quality * f1
        }  # fmt: skip
        per_100 = 100 / true if true else float("nan")
        return {
            "n_true": float(true),
            "n_predicted": float(predicted),
            "mean_AP": float(average.mean()),
            **{
                f"{name}@{short(threshold)}": float(value)
                for name, values in by_threshold.items()
                for threshold, value in zip(self.thresholds, values, strict=True)
            },
            "merges_per_100": self.merges * per_100,
            "splits_per_100": self.splits * per_100,
            "foreground_IoU": float(_share(self.foreground_both, self.foreground_any)),
            "boundary_F1": self._boundary_f1(),
            "pixel_error": (self.foreground_any - self.foreground_both) / self.pixels,
            "adapted_rand_error": self.rand_error / self.images,
            "vi_split": self.vi_split / self.images,
            "vi_merge": self.vi_merge / self.images,
            "variation_of_information": (self.vi_split + self.vi_merge) / self.images,
        }

    def _boundary_f1(self) -> float:
        precision = float(_share(self.boundary_predicted_hits, self.boundary_predicted, self.boundary_true))
        recall = float(_share(self.boundary_true_hits, self.boundary_true, self.boundary_predicted))
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@dataclass(frozen=True)
class Scores:
    """Scores by name of every image, and of all of them pooled.

    Parameters
    ----------
    names : tuple of str
        Names of the images.
    images : tuple of dict
        One an image.
    pooled : dict
        From the sum of the images' counts; of no image at all, that of two empty ones.
    """

    names: tuple[str, ...]
    images: tuple[dict[str, float], ...]
    pooled: dict[str, float]


def compare(
    predicted: ArrayLike,
    truth: ArrayLike,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    tolerance: float = BOUNDARY_TOLERANCE,
    annotated: NDArray[np.bool_] | None = None,
) -> Comparison:
    """Compare the cells of one image with the truth.

    Parameters
    ----------
    predicted, truth : array-like of int
        Label images of the same shape, ``(Y, X)`` or ``(Z, Y, X)``; 0 is background.
    thresholds : sequence of float
        IoU thresholds, above 0 and at most 1.
    tolerance : float
        How far boundary pixels may lie apart, in pixels.
    annotated : ndarray of bool, optional
        Pixels at which the truth is known; boundaries are compared where it is known of all face neighbours too.

    Returns
    -------
    Comparison
        Counts; add them to pool images.

    Raises
    ------
    ImageError
        ``wrong_shape`` when the shapes differ or there are no pixels, ``not_labels`` and ``wrong_ndim`` when an array
        is no label image.
    UsageError
        When a threshold or the tolerance is out of range.
    """
    thresholds = _check_thresholds(thresholds)
    if not 0 <= tolerance < 100:
        raise UsageError(f"boundary tolerance {tolerance:g}: must be at least 0 and below 100 pixels; 2 is usual")
    overlap = Overlap(*_check_pair(predicted, truth))
    matches = [overlap.match(threshold) for threshold in thresholds]
    boundaries = [boundary_pixels(mask, annotated) for mask in (overlap.predicted, overlap.truth)]
    steps = steps_within(tolerance, overlap.truth.ndim)
    hits = [count_near(one, other, steps) for one, other in (boundaries, boundaries[::-1])]
    split, merge = overlap.variation_of_information()
    both = int(overlap.pixels[(overlap.rows > 0) & (overlap.columns > 0)].sum())
    either = int(overlap.pixels[(overlap.rows > 0) | (overlap.columns > 0)].sum())
    return Comparison(
        thresholds=thresholds,
        images=1,
        n_true=overlap.n_true,
        n_predicted=overlap.n_predicted,
        matched=np.array([len(chosen) for chosen in matches], dtype=np.float64),
        iou_sum=np.array([overlap.iou[chosen].sum() for chosen in matches]),
        merges=overlap.count_merges(),
        splits=overlap.count_splits(),
        pixels=overlap.truth.size,
        foreground_both=both,
        foreground_any=either,
        boundary_predicted=int(boundaries[0].sum()),
        boundary_true=int(boundaries[1].sum()),
        boundary_predicted_hits=hits[0],
        boundary_true_hits=hits[1],
        rand_error=overlap.rand_error(),
        vi_split=split,
        vi_merge=merge,
    )


def evaluate(
    predicted: Iterable[ArrayLike],
    truth: Iterable[ArrayLike],
    *,
    names: Sequence[str] | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    tolerance: float = BOUNDARY_TOLERANCE,
) -> Scores:
    """Score many images, each and pooled.

    Parameters
    ----------
    predicted, truth : iterable of array-like
        Label images in the same order; taken one pair at a time, so that generators need little memory.
    names : sequence of str, optional
        Names of the images; numbers from 0 by default.
    thresholds, tolerance
        As in `compare`.

    Returns
    -------
    Scores
        Names, scores of every image, pooled scores.

    Raises
    ------
    ValueError
        When there are not as many predicted images, true images and names.
    ImageError, UsageError
        As in `compare`.
    """
    comparisons = [
        compare(one, other, thresholds=thresholds, tolerance=tolerance)
        for one, other in zip(predicted, truth, strict=True)
    ]
    names = [str(number) for number in range(len(comparisons))] if names is None else names
    if len(names) != len(comparisons):
        raise ValueError(f"{len(names)} names for {len(comparisons)} images")
    nothing = np.zeros((1, 1), dtype=np.uint8)
    pooled = reduce(add, comparisons) if comparisons else compare(nothing, nothing, thresholds=thresholds)
    return Scores(tuple(names), tuple(comparison.scores() for comparison in comparisons), pooled.scores())


def average_precision(
    predicted: Iterable[ArrayLike], truth: Iterable[ArrayLike], thresholds: Sequence[float] = THRESHOLDS
) -> list[float]:
    """TP / (TP + FP + FN), pooled over images, for each threshold: ``AP@t`` of `evaluate` alone.

    Quick enough to search thresholds with; parameters and errors as in `evaluate`.
    """
    thresholds = _check_thresholds(thresholds)
    matched = np.zeros(len(thresholds))
    cells = 0
    for one, other in zip(predicted, truth, strict=True):
        overlap = Overlap(*_check_pair(one, other))
        matched += [len(overlap.match(threshold)) for threshold in thresholds]
        cells += overlap.n_predicted + overlap.n_true
    return [float(value) for value in _share(matched, cells - matched)]


def match(predicted: ArrayLike, truth: ArrayLike, threshold: float = 0.5) -> Matching:
    """Match predicted and true cells one to one, where their IoU is at least ``threshold``.

    Above .5 no cell has two candidates. Where one has (at .5 and below), as many pairs as possible are made, and of all
    such matchings one with the largest sum of IoU is taken.

    Parameters
    ----------
    predicted, truth : array-like of int
        Label images of the same shape.
    threshold : float
        Above 0 and at most 1.

    Returns
    -------
    Matching
        Ordered by the id of the true cell.

    Raises
    ------
    ImageError, UsageError
        As in `compare`.

    Examples
    --------
    >>> match([[5, 5, 5, 0, 8]], [[0, 2, 2, 0, 1]]).pairs.tolist()
    [[8, 1], [5, 2]]
    """
    (threshold,) = _check_thresholds([threshold])
    labels = _check_pair(predicted, truth)
    overlap = Overlap(*labels)
    chosen = overlap.match(threshold)
    ids = [_old_ids(old, new) for old, new in zip(labels, (overlap.predicted, overlap.truth), strict=True)]
    pairs = np.stack([ids[0][overlap.columns[overlap.cells][chosen]], ids[1][overlap.rows[overlap.cells][chosen]]], 1)
    order = np.argsort(pairs[:, 1])
    return Matching(pairs[order], overlap.iou[chosen][order])


def _old_ids(old: NDArray[Any], new: NDArray[Any]) -> IndexArray:
    ids = np.zeros(int(new.max(initial=0)) + 1, dtype=np.int64)
    ids[new] = old
    return ids


def _check_pair(predicted: ArrayLike, truth: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    one, other = check_label_image(predicted, "the prediction"), check_label_image(truth, "the truth")
    if one.shape != other.shape:
        raise ImageError(
            "wrong_shape",
            f"the prediction has shape {one.shape} and the truth {other.shape}: both need the size of the same image",
        )
    if other.size == 0:
        raise ImageError("wrong_shape", f"label images of shape {other.shape} hold no pixels: nothing can be compared")
    return one, other


def _check_thresholds(thresholds: Sequence[float]) -> tuple[float, ...]:
    checked = tuple(float(threshold) for threshold in thresholds)
    if not checked or not all(0 < threshold <= 1 for threshold in checked):
        given = ", ".join(f"{threshold:g}" for threshold in checked) or "none"
        raise UsageError(f"IoU thresholds {given}: need one or more, each above 0 and at most 1, such as 0.5,0.75")
    return checked


def _share(part: Any, whole: Any, other: Any = 0) -> FloatArray:
    """``part / whole``; for an empty whole, 1 if the other image is empty too, and 0 if not."""
    whole = np.asarray(whole, dtype=np.float64)
    share: FloatArray = np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.equal(other, 0))
    return share


def short(threshold: float) -> str:
    """Threshold in names of scores: ``.5``."""
    return f"{threshold:g}".removeprefix("0")
