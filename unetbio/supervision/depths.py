"""Depth of pixels inside their cells: the distance to the nearest pixel outside."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Depths", "depths_in_cells"]

FAR = np.float32(1e6)
"""Stands for infinite distances, whose squares must stay finite."""


class Depths(NamedTuple):
    """Distances in in-plane pixels, each of the label image's shape.

    Parameters
    ----------
    depths : ndarray of float32
        From a pixel of a cell to the nearest pixel outside of it, between pixel centres; 0 on background.
    radii : ndarray of float32
        The largest depth of the pixel's cell, its inscribed radius; 0 on background.
    gaps : ndarray of float32
        From a pixel to the nearest place where two cells touch.
    """

    depths: NDArray[np.float32]
    radii: NDArray[np.float32]
    gaps: NDArray[np.float32]


def depths_in_cells(
    label_image: NDArray[np.integer],
    *,
    spacing: Sequence[float] | None = None,
    ignored: NDArray[np.bool_] | None = None,
) -> Depths:
    """Measure depths, inscribed radii and distances to touching cells.

    Parameters
    ----------
    label_image : ndarray of int
        ``(Y, X)`` or ``(Z, Y, X)``, 0 = background. The border of the image is no outline.
    spacing : sequence of float, optional
        Size of a voxel along each axis, in in-plane pixels; 1 by default.
    ignored : ndarray of bool, optional
        Pixels that are not annotated, 0 in the label image. As at the border of the image, what a cell is there is not
        known, and it has no outline.

    Returns
    -------
    Depths
        Where a cell touches another one, the other one's pixels count as one in-plane pixel away.

    Examples
    --------
    >>> found = depths_in_cells(np.array([[0, 1, 1, 1, 2, 2, 0]]))
    >>> found.depths
    array([[0., 1., 2., 1., 1., 1., 0.]], dtype=float32)
    >>> found.radii
    array([[0., 2., 2., 2., 1., 1., 0.]], dtype=float32)
    """
    inside = label_image > 0
    outside = _distance(inside if ignored is None else inside | ignored, spacing)
    gaps = _distance(~_touching(label_image), spacing) + 1
    depths = np.where(inside, np.minimum(outside, gaps), np.float32(0))
    largest = np.zeros(int(label_image.max(initial=0)) + 1, np.float32)
    np.maximum.at(largest, label_image.ravel(), depths.ravel())
    return Depths(depths, largest[label_image], gaps)


def _distance(inside: NDArray[np.bool_], spacing: Sequence[float] | None) -> NDArray[np.float32]:
    """Distance to the nearest pixel that is not set."""
    if inside.all():
        return np.full(inside.shape, FAR)
    from scipy import ndimage  # here, since only training needs it

    distances: NDArray[np.float32] = ndimage.distance_transform_edt(inside, sampling=spacing).astype(np.float32)
    return distances


def _touching(label_image: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Pixels of cells with a pixel of another cell beside them, over faces."""
    touching = np.zeros(label_image.shape, np.bool_)
    for axis in range(label_image.ndim):
        first, second = (np.moveaxis(array, axis, 0) for array in (label_image, touching))
        meet = (first[1:] != first[:-1]) & (first[1:] > 0) & (first[:-1] > 0)
        second[1:] |= meet
        second[:-1] |= meet
    return touching
