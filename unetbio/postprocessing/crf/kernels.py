"""Kernels of the fully connected CRF, and the kernel of position.

The Gaussian kernel is a convolution, one axis after the other.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unetbio.compilation import compiled

__all__ = ["FloatArray", "Kernel", "blur", "each_plane", "gaussian_kernel", "gaussian_taps"]

GAUSSIAN_REACH = 4.0
"""Standard deviations after which a blur is cut off; 3e-4 of its peak is left."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Kernel:
    """Sums over all pixels, with a weight; times any constant, which the normalisation takes out.

    Parameters
    ----------
    weight : float
        w1 or w2.
    filter : callable
        ``(K, Y, X)`` float64 to the same shape: at each pixel i the sum over all pixels j, i among them, of
        ``G(i, j) * plane(j)``.
    self_weights : ndarray of float64, shape (Y, X)
        ``G(i, i)`` of that same filter.
    """

    weight: float
    filter: Callable[[FloatArray], FloatArray]
    self_weights: FloatArray


def gaussian_kernel(shape: Sequence[int], weight: float, xy: float) -> Kernel:
    """The kernel of position alone, cut off at 4 standard deviations along each axis.

    Parameters
    ----------
    shape : sequence of int
        ``(Y, X)``.
    weight : float
        w2.
    xy : float
        Standard deviation in pixels.

    Returns
    -------
    Kernel
    """
    taps = gaussian_taps(xy)
    dims = np.array(shape)

    def convolve(plane: FloatArray) -> FloatArray:
        return np.asarray(blur(plane, dims, taps))

    return Kernel(weight, each_plane(convolve), np.full(tuple(shape), taps[0] ** len(dims)))


def each_plane(function: Callable[[FloatArray], FloatArray]) -> Callable[[FloatArray], FloatArray]:
    """Make a filter of ``(K, Y, X)`` from one of flat planes ``(Y * X,)``; there may be no plane at all."""
    return lambda planes: np.reshape([function(plane.reshape(-1)) for plane in planes], planes.shape)


def gaussian_taps(sigma: float) -> FloatArray:
    """Half a Gaussian of ``sigma`` steps of standard deviation, its peak (1) first; at least two taps."""
    steps = np.arange(max(1, math.ceil(GAUSSIAN_REACH * sigma)) + 1)
    return np.asarray(np.exp(-0.5 * (steps / sigma) ** 2))


@compiled
def blur(points: FloatArray, dims: NDArray[np.int64], taps: FloatArray) -> FloatArray:
    """Convolve along each axis with symmetric taps; 0 beyond the border.

    Parameters
    ----------
    points : ndarray of float64
        Flat, of the shape ``dims``.
    dims : ndarray of int64
        Points along each axis.
    taps : ndarray of float64
        From the centre outwards.

    Returns
    -------
    ndarray of float64
        Flat, of the same shape.
    """
    inner = points.size
    for axis in range(len(dims)):
        block = inner
        inner //= dims[axis]
        blurred = points * taps[0]
        # One step along this axis is `inner` places on, so that within a block all lines are added at once.
        for start in range(0, points.size, block):
            for step in range(1, min(len(taps), dims[axis])):
                shift = step * inner
                for place in range(start, start + block - shift):
                    blurred[place] += taps[step] * points[place + shift]
                    blurred[place + shift] += taps[step] * points[place]
        points = blurred
    return points
