"""Scores of small, medium and large cells."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unetbio.metrics.instances import match

__all__ = ["SIZES", "average_precision_by_size", "size_borders"]

SIZES = ("small", "medium", "large")
IOU = 0.5


def size_borders(label_images: Sequence[NDArray[np.integer]]) -> tuple[float, float]:
    """Areas that divide the cells of all images into thirds, in pixels.

    Small cells have at most the first area, medium ones at most the second, large ones more. Without cells both are 0.
    """
    areas = np.concatenate([_areas(label_image)[1] for label_image in label_images])
    low, high = np.quantile(areas, [1 / 3, 2 / 3]) if len(areas) else (0.0, 0.0)
    return float(low), float(high)


def average_precision_by_size(
    predicted: Sequence[NDArray[np.integer]], truth: Sequence[NDArray[np.integer]], borders: tuple[float, float]
) -> dict[str, float]:
    """TP / (TP + FP + FN) at IoU .5 of the cells of each size, pooled over images.

    All cells are matched as in `unetbio.metrics.instances`. A pair has the size of its true cell. Missed and false
    cells have their own size.

    Returns
    -------
    dict of float
        By name of `SIZES`; NaN for a size without true or predicted cells.
    """
    matched, counted = np.zeros(len(SIZES)), np.zeros(len(SIZES))
    for found, true in zip(predicted, truth, strict=True):
        pairs = match(found, true, IOU).pairs
        for label_image, paired, is_true in ((true, pairs[:, 1], True), (found, pairs[:, 0], False)):
            ids, areas = _areas(label_image)
            # An area equal to a border belongs to the smaller size.
            size = np.searchsorted(borders, areas)
            is_paired = np.isin(ids, paired)
            counted += np.bincount(size[~is_paired | is_true], minlength=len(SIZES))
            matched += np.bincount(size[is_paired & is_true], minlength=len(SIZES))
    return {
        name: float(part / whole) if whole else float("nan")
        for name, part, whole in zip(SIZES, matched, counted, strict=True)
    }


def _areas(label_image: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    ids, areas = np.unique(label_image[label_image > 0], return_counts=True)
    return ids.astype(np.int64), areas.astype(np.int64)
