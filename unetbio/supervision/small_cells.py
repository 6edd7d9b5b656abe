"""Weights of small cells, which have so few pixels that a loss over pixels hardly sees them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["REFERENCE_DIAMETER", "RIM", "small_cell_weights"]

REFERENCE_DIAMETER = 12
"""Diameter in pixels, below which a cell is small."""

RIM = 2
"""Pixels around a small cell that weigh as it does, so that its outline does not move outwards."""


def small_cell_weights(
    label_image: NDArray[np.integer],
    *,
    largest: float,
    spacing: Sequence[float] | None = None,
    ignored: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Weights with which a small cell counts as much as one of `REFERENCE_DIAMETER`, if that is not more than allowed.

    Parameters
    ----------
    label_image : ndarray of int
        ``(Y, X)`` or ``(Z, Y, X)``, 0 = background. The size of cells at its border is not known: they weigh 1.
    largest : float
        Largest weight, at least 1.
    spacing : sequence of float, optional
        Size of a voxel along each axis, in in-plane pixels; 1 by default.
    ignored : ndarray of bool, optional
        Pixels that are not annotated: cells beside them weigh 1 too.

    Returns
    -------
    ndarray of float32
        Of the label image's shape; 1 on large cells and far from small ones.

    Examples
    --------
    >>> small_cell_weights(np.array([[0] * 8, [0, 0, 0, 0, 5, 0, 0, 0], [0] * 8]), largest=3)[1]
    array([1., 1., 3., 3., 3., 3., 3., 1.], dtype=float32)
    """
    from scipy.ndimage import binary_dilation  # here, since only training needs them
    from skimage.segmentation import expand_labels

    ndim = label_image.ndim
    steps = (1.0,) * ndim if spacing is None else tuple(spacing)
    reference = np.pi * REFERENCE_DIAMETER**ndim / (4 if ndim == 2 else 6) / np.prod(steps)
    sizes = np.bincount(label_image.ravel())
    weights = np.clip(reference / np.maximum(sizes, 1), 1, largest).astype(np.float32)
    for axis in range(ndim):
        weights[label_image.take([0, -1], axis)] = 1
    if ignored is not None:
        weights[label_image[binary_dilation(ignored)]] = 1
    weights[0] = 1
    found: NDArray[np.float32] = weights[expand_labels(label_image, RIM, spacing=steps)]
    return found
