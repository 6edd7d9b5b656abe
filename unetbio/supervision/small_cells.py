"""Weights of small cells, which have so few pixels that a loss over pixels hardly sees them."""

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import expand_labels

__all__ = ["REFERENCE_DIAMETER", "RIM", "small_cell_weights"]

REFERENCE_DIAMETER = 12
"""Diameter in pixels, below which a cell is small."""

RIM = 2
"""Pixels around a small cell that weigh as it does, so that its outline does not move outwards."""


def small_cell_weights(label_image: NDArray[np.integer], *, largest: float) -> NDArray[np.float32]:
    """Weights with which a small cell counts as much as one of `REFERENCE_DIAMETER`, if that is not more than allowed.

    Parameters
    ----------
    label_image : ndarray of int
        ``(Y, X)`` or ``(Z, Y, X)``, 0 = background.
    largest : float
        Largest weight, at least 1.

    Returns
    -------
    ndarray of float32
        Of the label image's shape; 1 on large cells and far from small ones.

    Examples
    --------
    >>> small_cell_weights(np.array([[0, 0, 0, 0, 5, 0, 0, 0]]), largest=3)
    array([[1., 1., 3., 3., 3., 3., 3., 1.]], dtype=float32)
    """
    ndim = label_image.ndim
    reference = np.pi * REFERENCE_DIAMETER**ndim / (4 if ndim == 2 else 6)
    sizes = np.bincount(label_image.ravel())
    weights = np.clip(reference / np.maximum(sizes, 1), 1, largest).astype(np.float32)
    weights[0] = 1
    found: NDArray[np.float32] = weights[expand_labels(label_image, RIM)]
    return found
