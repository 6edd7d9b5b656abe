"""Images whose grey values are noise: neighbouring pixels have nothing in common.

Numbers of 16 bits that were cut to their lower 8 look so, and keep a plausible range. In 802 real images of nine sets
(fluorescence, H&E, phase contrast, electron microscopy, magnetic resonance, stacks) the correlation of neighbours is
.486 or more; in three stacks of one of these sets, which were cut, it is .084 or less.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.training.data.checks.alignment import fullest_plane

__all__ = ["is_noise"]

LEAST_CORRELATION = 0.2
LEAST_PIXELS = 1000
"""In fewer pixels the correlation is left to chance."""


def is_noise(image: NDArray[Any], label_image: NDArray[np.integer]) -> bool:
    """Whether grey values of neighbouring pixels have nothing in common.

    Parameters
    ----------
    image : ndarray
        ``(C, *spatial)``, raw grey values. Of a stack the plane with most foreground is looked at.
    label_image : ndarray of int
        ``(*spatial)``, 0 = background.

    Returns
    -------
    bool
        True if no channel has structure along rows or columns. False for constant and for tiny images.
    """
    plane, _ = fullest_plane(image, label_image)
    if plane[0].size < LEAST_PIXELS:
        return False
    return all(
        _correlation(first, second) < LEAST_CORRELATION
        for channel in plane.astype(np.float64)
        for first, second in ((channel[1:], channel[:-1]), (channel[:, 1:], channel[:, :-1]))
    )


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    first, second = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / norm if norm > 0 else 1.0
