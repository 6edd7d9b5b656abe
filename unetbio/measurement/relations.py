"""Which object of one label image lies in which of another: nuclei in cells, and the cytoplasm around them."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError

__all__ = ["Parents", "find_parents", "subtract"]


class Parents(NamedTuple):
    """Parents of the objects of a label image.

    Parameters
    ----------
    labels : ndarray of int64
        The objects, in ascending order.
    parents : ndarray of int64
        The object of the other label image that holds most of the pixels of each, of equal ones the smaller number; 0
        where none holds any.
    shares : ndarray of float64
        Share of the pixels of each that its parent holds.
    """

    labels: NDArray[np.int64]
    parents: NDArray[np.int64]
    shares: NDArray[np.float64]


def find_parents(children: NDArray[Any], parents: NDArray[Any]) -> Parents:
    """Find the parent of each object.

    Raises
    ------
    ImageError
        ``size_differs``: the label images differ in shape.
    """
    if children.shape != parents.shape:
        raise ImageError("size_differs", f"label images of {children.shape} and {parents.shape}: give one image")
    inside = children > 0
    pairs, counts = np.unique(
        np.column_stack((children[inside], parents[inside])).astype(np.int64), axis=0, return_counts=True
    )
    labels, areas = np.unique(children[inside].astype(np.int64), return_counts=True)
    found = pairs[:, 1] > 0
    pairs, counts = pairs[found], counts[found]
    # The last entry of each object is its best: the largest share, then the smaller number.
    order = np.lexsort((-pairs[:, 1], counts, pairs[:, 0]))
    best = np.zeros(len(labels), np.int64)
    overlap = np.zeros(len(labels), np.int64)
    row = np.searchsorted(labels, pairs[order, 0])
    best[row], overlap[row] = pairs[order, 1], counts[order]
    return Parents(labels, best, overlap / np.maximum(areas, 1))


def subtract(cells: NDArray[Any], nuclei: NDArray[Any]) -> NDArray[Any]:
    """Cytoplasm: the pixels of each cell that are of no nucleus."""
    return np.where(nuclei > 0, 0, cells).astype(cells.dtype)
