"""Label images in another size."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["nearest_pixels", "resize_nearest"]


def resize_nearest(label_image: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Resize a label image without inventing ids: every pixel takes the id of the nearest one.

    Pixel centres are aligned (pixel ``i`` of ``n`` lies at ``(i + 1/2) / n``); the index is exact integer arithmetic,
    and a centre on the line between two pixels takes the later one.

    Parameters
    ----------
    label_image : ndarray
        Any number of axes, none of length 0.
    shape : sequence of int
        The new size, one entry an axis.

    Returns
    -------
    ndarray
        Same dtype; the same array when the shape is the same.

    Raises
    ------
    ValueError
        When the number of axes differs.
    """
    if len(shape) != label_image.ndim:
        raise ValueError(f"a label image of shape {label_image.shape} cannot be resized to {tuple(shape)}")
    if tuple(shape) == label_image.shape:
        return label_image
    places = (nearest_pixels(old, new) for old, new in zip(label_image.shape, shape, strict=True))
    return label_image[np.ix_(*places)]


def nearest_pixels(old: int, new: int) -> NDArray[np.int64]:
    """For each of ``new`` pixels along an axis the nearest of ``old`` ones, see `resize_nearest`."""
    # floor((i + 1/2) * old / new)
    return (2 * np.arange(new) + 1) * old // (2 * new)
