"""Grey values at another size, computed in bands of rows: of an image in memory, or of one that is read in rows.

They are what `skimage.transform.resize` gives, bit by bit, with linear interpolation between pixel centres: where an
image shrinks, after a Gaussian filter with a standard deviation of half of the factor less one. A row depends on the
rows near it alone, and each of its pixels is computed in the same order whatever else is computed with it.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.postprocessing.bands import Allocate, Band, RowArray, Rows, bands_of, planes_of

__all__ = ["RescaledPixels", "rescale", "rescale_in_bands"]

TRUNCATE = 4.0
"""Reach of the Gaussian filter, in standard deviations."""

BAND_PIXELS = 1 << 20
"""Pixels, of the image or of the new size, that are computed at once: each takes some numbers of eight bytes."""


def rescale(raw: NDArray[Any], grid: tuple[int, ...]) -> NDArray[Any]:
    """Grey values ``(C, *spatial)`` at another size, float32; as they are at their own."""
    if raw.shape[1:] == grid:
        return raw
    rescaled = np.empty((raw.shape[0], *grid), np.float32)
    _rescale_into(rescaled, raw)
    return rescaled


class RescaledPixels:
    """Grey values ``(C, *grid)`` of a frame at another size, computed once and kept in an array that may be on disk.

    Parameters
    ----------
    raw : array-like
        ``(C, *spatial)``, of which rows are read.
    grid : tuple of int
        The new size.
    allocate : callable
        Makes the array.
    """

    def __init__(self, raw: Rows, grid: tuple[int, ...], allocate: Allocate) -> None:
        self.shape, self.dtype = (raw.shape[0], *grid), np.dtype(np.float32)
        self._array = allocate(self.shape, self.dtype)
        _rescale_into(self._array, raw)

    def channel(self, number: int) -> Rows:
        """One of the channels, ``(1, *grid)``."""
        channel: Rows = planes_of(self._array, slice(number, number + 1))
        return channel

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        """A part of the array."""
        part: NDArray[np.float32] = self._array[index]
        return part


def _rescale_into(rescaled: RowArray, raw: Rows) -> None:
    for band, rows in rescale_in_bands(raw, rescaled.shape[1:]):
        rescaled[:, band] = rows


def rescale_in_bands(
    raw: Rows, grid: tuple[int, ...], rows: int | None = None
) -> Iterator[tuple[Band, NDArray[np.float32]]]:
    """Rescale an image in bands of rows (sections in 3-D); they do not change the result.

    Parameters
    ----------
    raw : array-like
        ``(C, *spatial)``, of which rows are read.
    grid : tuple of int
        The new size.
    rows : int, optional
        Rows of the new size that are computed at once.

    Yields
    ------
    slice
        Rows of the new size.
    ndarray of float32
        ``(C, ...)``, their grey values.
    """
    from scipy import ndimage

    shape = raw.shape[1:]
    factors = np.divide(shape, grid)
    sigmas = np.maximum(0, (factors - 1) / 2)
    # Computed as `scipy.ndimage.zoom` does, so that each place is the same number.
    places = [(np.arange(new) + 0.5) * factor - 0.5 for new, factor in zip(grid, factors, strict=True)]
    # The filter's, and a row beyond: at the edges, where the image is mirrored, that is one of the two neighbours.
    reach = int(TRUNCATE * sigmas[0] + 0.5) + 1
    row = max(math.prod(grid[1:]), math.ceil(factors[0] * math.prod(shape[1:])))
    for band in bands_of(grid[0], rows or max(1, BAND_PIXELS // (row * raw.shape[0]))):
        first = max(0, math.floor(places[0][band.start]) - reach)
        last = min(shape[0], math.floor(places[0][band.stop - 1]) + 2 + reach)
        # Whole numbers are subtracted, which is exact.
        wanted = np.meshgrid(places[0][band] - first, *places[1:], indexing="ij", copy=False)
        # All channels at once: colours are decoded together.
        parts = [channel.astype(np.float32) for channel in raw[:, first:last]]
        if sigmas.any():
            parts = [ndimage.gaussian_filter(part, sigmas, mode="mirror", truncate=TRUNCATE) for part in parts]
        yield (
            band,
            np.stack([ndimage.map_coordinates(part, wanted, np.float32, order=1, mode="mirror") for part in parts]),
        )
