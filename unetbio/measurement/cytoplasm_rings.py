"""The ring of background around each cell: what lies near it, and nearer to it than to any other cell.

The ring around a nucleus estimates its cytoplasm without a stain for cytoplasm.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unetbio.compilation import compiled
from unetbio.errors import UsageError
from unetbio.labels import as_volume, check_label_image

__all__ = ["ring_labels", "ring_reach"]

ROUNDING = 1e-9
"""Squared distances that differ by a smaller share are equal: sizes of pixels are decimal fractions."""

Offsets = NDArray[np.int64]


def ring_labels(label_image: ArrayLike, distance: float, spacing: Sequence[float]) -> NDArray[np.int32]:
    """Give each pixel of background near a cell that cell's id.

    Parameters
    ----------
    label_image : array-like of int, shape (Y, X) or (Z, Y, X)
        0 is background; ids below 2**31.
    distance : float
        Largest distance between the centres of a pixel and of the nearest pixel of its cell, in the unit of `spacing`;
        that distance itself counts.
    spacing : sequence of float
        Size of a pixel along each axis.

    Returns
    -------
    ndarray of int32
        Shape of `label_image`: 0 on cells, beyond the distance, and where two cells are equally near.

    Raises
    ------
    UsageError
        When the distance or the spacing is no number above 0.
    ImageError
        When the array is no label image.

    Notes
    -----
    Distances are exact and Euclidean. The distance transform names one nearest pixel; another cell can only be as near
    at the few offsets of the same length, and those are looked at.

    Examples
    --------
    >>> ring_labels(np.array([[0, 1, 0, 0, 0, 2]]), 2, (1, 1))
    array([[1, 0, 1, 0, 2, 0]], dtype=int32)
    """
    labels = check_label_image(label_image)
    sizes = [float(size) for size in spacing]
    if not (math.isfinite(distance) and distance > 0):
        raise UsageError(f"the width of a ring is {distance}, needs to be a number above 0")
    if len(sizes) != labels.ndim or not all(math.isfinite(size) and size > 0 for size in sizes):
        raise UsageError(f"spacing is {sizes}, needs one number above 0 for each of the {labels.ndim} axes")
    volume = as_volume(labels).astype(np.int32)
    if not volume.any() or volume.all():
        return np.zeros(labels.shape, np.int32)
    # In units of the smallest size, a grid of squares has whole numbers for squared distances.
    unit = min(sizes)
    steps = np.array([1.0] * (3 - labels.ndim) + [size / unit for size in sizes])
    rings = _nearest_cells(volume, steps, (distance / unit) ** 2 * (1 + ROUNDING))
    return rings.reshape(labels.shape)


def ring_reach(distance: float, step: float) -> int:
    """Largest number of rows of size ``step`` between a pixel of a ring and the cells that decide whose it is."""
    if not (math.isfinite(distance) and distance > 0):
        return 0  # `ring_labels` refuses it.
    return math.ceil(distance / step)


def _nearest_cells(volume: NDArray[np.int32], steps: NDArray[np.float64], limit: float) -> NDArray[np.int32]:
    from scipy import ndimage

    feet = ndimage.distance_transform_edt(volume == 0, steps, return_distances=False, return_indices=True)
    rings = np.zeros_like(volume)
    farthest = _assign_nearest(volume, feet, steps, limit, rings)
    _drop_ties(volume, feet, steps, *_offsets_by_length(volume.shape, steps, farthest), rings)
    return rings


def _offsets_by_length(
    shape: tuple[int, ...], steps: NDArray[np.float64], farthest: float
) -> tuple[NDArray[np.float64], Offsets]:
    """Squared lengths of all offsets (z, y, x), none negative, up to the farthest one in use; in rising order."""
    reach = [min(size - 1, math.floor(math.sqrt(farthest) / step)) for size, step in zip(shape, steps, strict=True)]
    grids = np.meshgrid(*(np.arange(count + 1, dtype=np.int64) for count in reach), indexing="ij")
    offsets = np.stack([grid.reshape(-1) for grid in grids], axis=1)
    squares = ((offsets * steps) ** 2).sum(axis=1)
    order = np.argsort(squares, kind="stable")
    return squares[order], offsets[order]


@compiled
def _assign_nearest(
    volume: NDArray[np.int32], feet: NDArray[np.int32], steps: NDArray[np.float64], limit: float, rings: Any
) -> float:
    """Write the id of the nearest pixel of a cell, and return the largest squared distance in use."""
    depth, height, width = volume.shape
    farthest = 0.0
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                if volume[z, y, x] != 0:
                    continue
                foot_z, foot_y, foot_x = feet[0, z, y, x], feet[1, z, y, x], feet[2, z, y, x]
                square = (
                    ((foot_z - z) * steps[0]) ** 2 + ((foot_y - y) * steps[1]) ** 2 + ((foot_x - x) * steps[2]) ** 2
                )
                if square <= limit:
                    rings[z, y, x] = volume[foot_z, foot_y, foot_x]
                    farthest = max(farthest, square)
    return farthest * (1 + ROUNDING)


@compiled
def _drop_ties(
    volume: NDArray[np.int32],
    feet: NDArray[np.int32],
    steps: NDArray[np.float64],
    squares: NDArray[np.float64],
    offsets: Offsets,
    rings: Any,
) -> None:
    """Clear the pixels that are as near to another cell."""
    depth, height, width = volume.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                own = rings[z, y, x]
                if own == 0:
                    continue
                foot_z, foot_y, foot_x = feet[0, z, y, x], feet[1, z, y, x], feet[2, z, y, x]
                square = (
                    ((foot_z - z) * steps[0]) ** 2 + ((foot_y - y) * steps[1]) ** 2 + ((foot_x - x) * steps[2]) ** 2
                )
                index = np.searchsorted(squares, square * (1 - ROUNDING))
                while index < len(squares) and squares[index] <= square * (1 + ROUNDING):
                    dz, dy, dx = offsets[index, 0], offsets[index, 1], offsets[index, 2]
                    for mirrored in range(8):
                        to_z = z - dz if mirrored & 4 else z + dz
                        to_y = y - dy if mirrored & 2 else y + dy
                        to_x = x - dx if mirrored & 1 else x + dx
                        if 0 <= to_z < depth and 0 <= to_y < height and 0 <= to_x < width:
                            other = volume[to_z, to_y, to_x]
                            if other != 0 and other != own:
                                rings[z, y, x] = 0
                    index += 1
