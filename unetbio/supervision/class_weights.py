"""Weights of classes in the loss, from their frequencies."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from unetbio.errors import UsageError

__all__ = ["class_weights", "median_frequency_weights"]


def class_weights(counts: Sequence[int], *, cap: float = 2.0) -> tuple[float, ...]:
    """Weights that balance how often classes occur over a whole data set.

    A class weighs the inverse of its frequency, at most `cap`, scaled so that the mean over all pixels is 1: the loss
    keeps its scale, and learning rates carry over between data sets. What the cap takes from a rare class goes to the
    others. Weights multiply the odds that a network learns to predict, so a rare class comes out too large: hence the
    cap. Counted image by image, that shift would differ from image to image, and no threshold could undo it.

    Parameters
    ----------
    counts
        Pixels of each class over all images, background first; a class without pixels weighs `cap`.
    cap
        Largest weight, at least 1; 1 turns the balance off.

    Returns
    -------
    tuple of float
        One weight per class.

    Raises
    ------
    UsageError
        No pixel was counted, a count is negative, or `cap` is below 1.

    Examples
    --------
    >>> class_weights([750, 250])
    (0.6666666666666666, 2.0)
    >>> class_weights([750, 250], cap=1.5)
    (0.8333333333333334, 1.5)
    """
    if not (math.isfinite(cap) and cap >= 1):
        raise UsageError(f"the cap of the class weights is {cap}, needs to be 1 or more, the mean weight")
    total = sum(counts)
    if total <= 0 or min(counts) < 0:
        raise UsageError(f"class weights need pixel counts of 0 or more, not all 0, got {list(counts)}")
    frequencies = [count / total for count in counts]
    capped = {index for index, count in enumerate(counts) if count == 0}
    while True:
        # What the capped classes leave of the mean of 1 is shared equally: weight * frequency is the same for the rest.
        free = [index for index in range(len(counts)) if index not in capped]
        share = (1 - cap * sum(frequencies[index] for index in capped)) / max(len(free), 1)
        over = {index for index in free if share > cap * frequencies[index]}
        if not over:
            break
        capped |= over
    return tuple(cap if index in capped else share / frequency for index, frequency in enumerate(frequencies))


def median_frequency_weights(counts: ArrayLike) -> tuple[float, ...]:
    """Weights that balance classes by the median of their frequencies.

    ``weight(c) = median(freq) / freq(c)`` with ``freq(c)`` the pixels of class c over the pixels of all images in which
    c occurs (Eigen & Fergus 2015, arXiv 1411.4734, section 4.3.2; SegNet, arXiv 1511.00561, section 3.1). A rare
    class of large objects is so distinguished from a frequent class of small ones. There is no cap.

    Parameters
    ----------
    counts
        ``(images, K)``: pixels of each class in each image; unannotated pixels are not counted.

    Returns
    -------
    tuple of float
        One weight per class; 1 for a class without pixels.

    Raises
    ------
    UsageError
        No pixel was counted, or a count is negative.

    Examples
    --------
    >>> median_frequency_weights([[60, 40, 0], [90, 0, 10]])
    (0.5333333333333333, 1.0, 4.0)
    """
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim != 2 or table.sum() <= 0 or table.min() < 0:
        raise UsageError(f"class weights need pixel counts of 0 or more, not all 0, got {table.tolist()}")
    occurs = table.sum(axis=0) > 0
    where_it_occurs = ((table > 0) * table.sum(axis=1, keepdims=True)).sum(axis=0)
    frequencies = table.sum(axis=0)[occurs] / where_it_occurs[occurs]
    weights = np.ones(table.shape[1])
    weights[occurs] = np.median(frequencies) / frequencies
    return tuple(float(weight) for weight in weights)
