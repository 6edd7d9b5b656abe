"""Calibrate the confidence of cells on validation images, so that of cells with .8 four in five are right."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["MIN_CELLS", "Knots", "fit_confidence"]

Knots = tuple[tuple[float, float], ...]

MIN_CELLS = 100
"""With fewer cells a share of right ones would be guesswork."""

MAX_KNOTS = 12
CELLS_PER_KNOT = 40


def fit_confidence(means: Sequence[float] | NDArray[np.floating], right: ArrayLike) -> Knots:
    """Share of right cells as a rising function of the mean probability over a cell's pixels.

    Cells are put into groups of about equal number along the mean probability. The share of right cells of each group
    is made to rise (isotonic regression: Zadrozny & Elkan 2002, doi:10.1145/775047.775151).

    Parameters
    ----------
    means : sequence of float
        Mean probability over the pixels of each predicted cell.
    right : array-like of bool
        Whether each one matches a true cell at an IoU of at least .5.

    Returns
    -------
    tuple of (float, float)
        Rising pairs of a mean probability and the share of right cells there, for `calibrated`; empty for fewer than
        `MIN_CELLS` cells.
    """
    order = np.argsort(means, kind="stable")
    if len(order) < MIN_CELLS:
        return ()
    raw, hits = np.asarray(means, np.float64)[order], np.asarray(right, np.float64)[order]
    groups = np.array_split(np.arange(len(order)), min(MAX_KNOTS, len(order) // CELLS_PER_KNOT))
    sizes = np.array([len(group) for group in groups])
    # Laplace's rule: a group in which all are right does not promise certainty.
    shares = np.array([(hits[group].sum() + 1) / (len(group) + 2) for group in groups])
    from scipy.optimize import isotonic_regression  # here, since only training needs it

    rising = isotonic_regression(shares, weights=sizes).x
    knots = {float(raw[group].mean().round(4)): float(share) for group, share in zip(groups, rising, strict=True)}
    return tuple((mean, round(share, 4)) for mean, share in sorted(knots.items()))
