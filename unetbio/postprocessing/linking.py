"""Cells of neighbouring sections joined into 3-D objects, so that a 2-D model serves stacks.

The rule
--------
Two cells of neighbouring sections can be one object when their intersection over union reaches a threshold. A cell has
at most one partner in the section before it and at most one in the section after it: pairs are taken greedily, the
largest intersection over union first; of equal ones the pair whose cell in the earlier section comes first in raster
order (row by row, by each cell's first pixel), then the one whose later cell does. Objects are the chains of partners.
Above one half no cell can reach the threshold with two others, and the order of the pairs does not matter.

Nothing reaches over a section in which a cell is missing, and an object does not branch: where one cell becomes two,
the better partner goes on and the other begins an object of its own. The result depends on which pixels belong to a
cell, not on the cells' numbers.
"""

import itertools

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unetbio.compilation import compiled
from unetbio.errors import ImageError, UsageError
from unetbio.labels import LabelImage, check_label_image, relabel_raster

__all__ = ["link_sections", "number_sections", "pair_cells"]


def _check_threshold(threshold: float) -> None:
    """Refuse a threshold that is no intersection over union.

    Raises
    ------
    UsageError
        Unless it lies above 0 and not above 1.
    """
    # Written so that NaN is refused too.
    if not 0 < threshold <= 1:
        raise UsageError(f"link {threshold:g}: an intersection over union lies above 0 and not above 1, such as 0.25")


def number_sections(label_image: ArrayLike) -> LabelImage:
    """Give the cells of all sections different ids, each section's after those of the section before.

    Parameters
    ----------
    label_image : array-like of int
        ``(Z, Y, X)``; the same id in two sections means two cells.

    Returns
    -------
    ndarray of uint16 or uint32
        Ids from 1 in raster order of the whole stack.

    Examples
    --------
    >>> number_sections([[[7, 0, 2]], [[7, 7, 0]]]).tolist()
    [[[1, 0, 2]], [[3, 3, 0]]]
    """
    return relabel_raster(_distinct(label_image))


def link_sections(label_image: ArrayLike, threshold: float) -> LabelImage:
    """Join the cells of neighbouring sections into objects, by the rule of this module.

    Parameters
    ----------
    label_image : array-like of int
        ``(Z, Y, X)``: cells of each section on their own; the same id in two sections means nothing.
    threshold : float
        Intersection over union from which on two cells can be one, above 0 up to 1.

    Returns
    -------
    ndarray of uint16 or uint32
        Objects, with ids from 1 in raster order of their first pixels.

    Raises
    ------
    UsageError
        When the threshold is out of range.
    ImageError
        When the array is no stack of label images.

    Examples
    --------
    >>> link_sections([[[5, 5, 0, 8]], [[0, 3, 3, 9]]], 0.5).tolist()
    [[[1, 1, 0, 2]], [[0, 3, 3, 2]]]
    """
    _check_threshold(threshold)
    distinct = _distinct(label_image)
    objects = np.arange(int(distinct.max(initial=0)) + 1)
    for earlier, later in itertools.pairwise(distinct):
        pairs = pair_cells(earlier, later, threshold)
        # Sections are in order, so the object of the earlier cell is known.
        objects[pairs[:, 1]] = objects[pairs[:, 0]]
    return relabel_raster(objects[distinct])


def pair_cells(earlier: NDArray[np.integer], later: NDArray[np.integer], threshold: float) -> NDArray[np.int64]:
    """Find which cells of two sections are one, by the rule of this module.

    Parameters
    ----------
    earlier, later : ndarray of int
        ``(Y, X)``, ids in raster order, which is the order in which equal pairs are taken.
    threshold : float
        Smallest intersection over union.

    Returns
    -------
    ndarray of int64, shape (N, 2)
        Id in the earlier and in the later section; each at most once.
    """
    runs, lengths = _shared_runs(np.ascontiguousarray(earlier), np.ascontiguousarray(later))
    pairs, inverse = np.unique(runs, axis=0, return_inverse=True)
    shared = np.bincount(inverse.reshape(-1), weights=lengths, minlength=len(pairs))
    areas = np.bincount(earlier.reshape(-1)), np.bincount(later.reshape(-1))
    overlap = shared / (areas[0][pairs[:, 0]] + areas[1][pairs[:, 1]] - shared)
    # np.unique has sorted the pairs by their ids, and a stable sort keeps that order among equals.
    order = np.argsort(-overlap, kind="stable")
    order = order[overlap[order] >= threshold]
    chosen: NDArray[np.int64] = pairs[order][_match_greedily(pairs[order], len(areas[0]), len(areas[1]))]
    return chosen


def _distinct(label_image: ArrayLike) -> NDArray[np.int64]:
    """Ids that no two sections share, in raster order."""
    labels = check_label_image(label_image)
    if labels.ndim != 3:
        raise ImageError("wrong_ndim", f"a label image of shape {labels.shape}: sections need a stack (Z, Y, X)")
    distinct = np.zeros(labels.shape, np.int64)
    count = 0
    for z, section in enumerate(labels):
        own = relabel_raster(section).astype(np.int64)
        np.add(own, count, out=distinct[z], where=own > 0)
        count += int(own.max(initial=0))
    return distinct


@compiled
def _shared_runs(earlier: NDArray[np.int64], later: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of ids along runs of pixels in which both sections have a cell, and the lengths of the runs."""
    runs = np.empty((1024, 2), dtype=np.int64)
    lengths = np.empty(1024, dtype=np.int64)
    count = 0
    for y in range(earlier.shape[0]):
        inside = False
        for x in range(earlier.shape[1]):
            one, other = earlier[y, x], later[y, x]
            if one == 0 or other == 0:
                inside = False
                continue
            if inside and runs[count - 1, 0] == one and runs[count - 1, 1] == other:
                lengths[count - 1] += 1
                continue
            if count == len(lengths):
                runs = np.concatenate((runs, np.empty_like(runs)))
                lengths = np.concatenate((lengths, np.empty_like(lengths)))
            runs[count, 0] = one
            runs[count, 1] = other
            lengths[count] = 1
            count += 1
            inside = True
    return runs[:count], lengths[:count]


@compiled
def _match_greedily(pairs: NDArray[np.int64], earlier: int, later: int) -> NDArray[np.bool_]:
    """Accept each pair, in order, when neither of its cells is matched yet."""
    before = np.zeros(earlier, dtype=np.bool_)
    after = np.zeros(later, dtype=np.bool_)
    taken = np.zeros(len(pairs), dtype=np.bool_)
    for index in range(len(pairs)):
        one, other = pairs[index, 0], pairs[index, 1]
        if not before[one] and not after[other]:
            before[one] = after[other] = taken[index] = True
    return taken
