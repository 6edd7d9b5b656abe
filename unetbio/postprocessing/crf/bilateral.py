"""Choose how to sum the kernel of position and colour over all pixels."""

import math

import numpy as np
from numpy.typing import NDArray

from unetbio.postprocessing.crf.grid import grid_kernel
from unetbio.postprocessing.crf.kernels import Kernel
from unetbio.postprocessing.crf.lattice import lattice_kernel

__all__ = ["GREY_LEVELS", "bilateral_kernel"]

GREY_LEVELS = 255.0
"""The colours that `CrfSettings.bilateral_rgb` is meant for are 8-bit."""

SAMPLES = (3, 2)
"""Grid points a standard deviation: as many as fit. Probabilities come within .01 and .02 of those with exact sums."""

MAX_GRID_POINTS = 10_000_000
"""Of 8 bytes each, or as many as the image has pixels if that is more; beyond, the lattice is used."""


def bilateral_kernel(colours: NDArray[np.float32], weight: float, xy: float, rgb: float) -> Kernel:
    """The kernel of position and colour, over a grid or, where that gets too large, a permutohedral lattice.

    Which of the two depends on the shape and the widths alone, not on the colours.

    Parameters
    ----------
    colours : ndarray, shape (C, Y, X)
        0 to 255.
    weight : float
        w1.
    xy, rgb : float
        Standard deviations over pixels and over colours.

    Returns
    -------
    Kernel
        Its sums are near the true ones: how near is in the tests.
    """
    shape = colours.shape[1:]
    extents = [*[(size - 1) / xy for size in shape], *[GREY_LEVELS / rgb] * len(colours)]
    positions = [axis.reshape(-1) / xy for axis in np.indices(shape)]
    features = np.stack([*positions, *[channel.reshape(-1) / np.float64(rgb) for channel in colours]], axis=1)
    largest = max(MAX_GRID_POINTS, math.prod(shape))
    for samples in SAMPLES:
        dims = [math.floor(extent * samples) + 2 for extent in extents]
        if math.prod(dims) <= largest:
            return grid_kernel(features, samples, np.array(dims), weight, shape)
    return lattice_kernel(features, weight, shape)
