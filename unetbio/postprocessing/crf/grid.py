"""The bilateral kernel over an ordinary grid (Chen, Paris, Durand 2007, doi 10.1145/1276377.1276506).

Pixels lie as scattered points in 2 + C dimensions, position and colour: they are spread to the corners of a grid,
blurred there and read again.
"""

import math

import numpy as np
from numpy.typing import NDArray

from unetbio.compilation import compiled
from unetbio.postprocessing.crf.kernels import FloatArray, Kernel, blur, each_plane, gaussian_taps

__all__ = ["grid_kernel"]


def grid_kernel(
    features: FloatArray, samples: int, dims: NDArray[np.int64], weight: float, shape: tuple[int, ...]
) -> Kernel:
    """Make the kernel of a grid over position and colour that is read by linear interpolation.

    Parameters
    ----------
    features : ndarray of float64, shape (pixels, axes)
        Positions and colours in standard deviations, 0 or more.
    samples : int
        Grid points a standard deviation.
    dims : ndarray of int64, shape (axes,)
        Points of the grid along each axis.
    weight : float
        Of the kernel.
    shape : tuple of int
        ``(Y, X)``.

    Returns
    -------
    Kernel
    """
    places = features * samples
    corners = np.floor(places)
    fractions = places - corners
    strides = np.append(np.cumprod(dims[:0:-1])[::-1], 1)
    bases = (corners @ strides).astype(np.int64)
    offsets = np.array([bits @ strides for bits in _corner_bits(len(dims))])
    # Spreading to corners and reading from them blur too: a tent each, of variance 1 / 6 in steps of the grid.
    taps = gaussian_taps(math.sqrt(samples**2 - 1 / 3))

    def sums(plane: FloatArray) -> FloatArray:
        points = _splat(plane, bases, fractions, offsets, math.prod(dims))
        return np.asarray(_slice(blur(points, dims, taps), bases, fractions, offsets))

    # From a pixel to itself: by one corner there and back, or by the two, one step of the blur apart, along each axis.
    across = 2 * fractions * (1 - fractions)
    self_weights = np.prod((1 - across) * taps[0] + across * taps[1], axis=1)
    return Kernel(weight, each_plane(sums), self_weights.reshape(shape))


def _corner_bits(axes: int) -> NDArray[np.int64]:
    """0 or 1 along each axis for the corners of a cube; the first axis changes fastest, as `_corner_shares` does."""
    return np.arange(2**axes)[:, None] >> np.arange(axes) & 1


@compiled
def _corner_shares(fractions: FloatArray, pixel: int, shares: FloatArray) -> None:
    """Shares of the corners of a pixel's cube by linear interpolation along each axis."""
    shares[0] = 1.0
    for axis in range(fractions.shape[1]):
        upper = fractions[pixel, axis]
        for corner in range(1 << axis):
            shares[corner + (1 << axis)] = shares[corner] * upper
            shares[corner] *= 1 - upper


@compiled
def _splat(
    plane: FloatArray, bases: NDArray[np.int64], fractions: FloatArray, offsets: NDArray[np.int64], size: int
) -> FloatArray:
    """Spread each pixel to the corners of its cube."""
    points = np.zeros(size)
    shares = np.empty(len(offsets))
    for pixel in range(len(plane)):
        _corner_shares(fractions, pixel, shares)
        for corner in range(len(offsets)):
            points[bases[pixel] + offsets[corner]] += shares[corner] * plane[pixel]
    return points


@compiled
def _slice(
    points: FloatArray, bases: NDArray[np.int64], fractions: FloatArray, offsets: NDArray[np.int64]
) -> FloatArray:
    """Read each pixel from the corners of its cube."""
    plane = np.zeros(len(bases))
    shares = np.empty(len(offsets))
    for pixel in range(len(bases)):
        _corner_shares(fractions, pixel, shares)
        for corner in range(len(offsets)):
            plane[pixel] += shares[corner] * points[bases[pixel] + offsets[corner]]
    return plane
