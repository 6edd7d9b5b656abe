"""Find the tissue of a stained slide, so that empty glass is not segmented.

Glass is bright and nearly colourless. On a small copy of the slide, pixels whose saturation (HSV) or darkness stands
out from the glass are tissue. The threshold is where the peak of the glass ends in the histogram (triangle method of
Zack, Rogers and Latt 1977, doi 10.1177/25.7.70454). Gaps are closed, as CLAM does (Lu et al. 2021,
doi 10.1038/s41551-020-00682-w). Colours are compared as integers, so that the answer is the same on every machine.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.io.grey_pictures import COLOURS, picture_names
from unetbio.io.image import Image
from unetbio.postprocessing.bands import bands_of
from unetbio.preprocessing.parts import full_pixels

__all__ = ["Tissue", "TissueArea", "find_tissue"]

SQUARE = 16
"""Side of the squares that are pixels of the small copy, at full resolution: the noise of JPEG averages out, and a
nucleus colours its square."""

PIXELS_AT_ONCE = 1 << 22

GLASS_SATURATION = 20
"""Highest saturation of glass, of 255: above it all is tissue."""

GLASS_BRIGHTNESS = 170
"""Lowest brightness of glass, of 255."""

DARKNESS = 0.9
"""Share of the brightness of the glass below which a pixel is tissue, whatever its colour."""

CLOSED = 2
"""Gaps up to twice so many pixels of the small copy are closed."""


@dataclass(frozen=True)
class Tissue:
    """What was found on the small copy of a slide.

    Parameters
    ----------
    mask : ndarray of bool
        ``(rows, columns)`` of the copy: tissue, without its surroundings.
    step : (float, float)
        Pixels of the full resolution for one of the copy, along Y and X.
    threshold : int, optional
        Saturation above which pixels are tissue; None where no glass was found, and all is tissue.
    """

    mask: NDArray[np.bool_]
    step: tuple[float, float]
    threshold: int | None

    def area(self, shape: tuple[int, int], full_pixels: tuple[float, float], margin: int) -> "TissueArea":
        """The tissue and its surroundings in an image of this shape.

        Parameters
        ----------
        shape : (int, int)
            Rows and columns of the image.
        full_pixels : (float, float)
            Pixels of the full resolution for one of the image.
        margin : int
            Pixels of the image by which the tissue is grown, at least.
        """
        from scipy import ndimage  # here, since most images need none of it

        step = self.step[0] / full_pixels[0], self.step[1] / full_pixels[1]
        # A pixel more, since tissue ends anywhere within one.
        rows, columns = (1 + math.ceil(margin / size) for size in step)
        grown = ndimage.maximum_filter(self.mask, (2 * rows + 1, 2 * columns + 1), mode="constant")
        return TissueArea(grown, shape, step, threshold=self.threshold)


@dataclass(frozen=True)
class TissueArea:
    """The pixels of a plane that lie in tissue, or near it.

    Parameters
    ----------
    mask : ndarray of bool
        Of the small copy.
    shape : (int, int)
        Rows and columns of the plane.
    step : (float, float)
        Pixels of the plane for one of the mask.
    start : (int, int)
        Pixels of the plane before its first row and column, where it is a part of another.
    threshold : int, optional
        As of `Tissue`.
    """

    mask: NDArray[np.bool_]
    shape: tuple[int, int]
    step: tuple[float, float]
    start: tuple[int, int] = (0, 0)
    threshold: int | None = None

    def __call__(self, where: tuple[slice, ...]) -> NDArray[np.bool_]:
        """Which pixels of a part are in the area: `unetbio.postprocessing.bands.Area`."""
        parts = where[-2:] or (slice(None), slice(None))
        rows, columns = (self._places(axis, part) for axis, part in enumerate(parts))
        return self.mask[rows[:, np.newaxis], columns]

    def _places(self, axis: int, part: slice) -> NDArray[np.intp]:
        """Pixels of the mask that hold the centres of these pixels of the plane."""
        centres = np.arange(self.shape[axis])[part] + self.start[axis] + 0.5
        places: NDArray[np.intp] = np.minimum(centres / self.step[axis], self.mask.shape[axis] - 1).astype(np.intp)
        return places

    def scaled(self, shape: tuple[int, ...]) -> "TissueArea":
        """The area in the plane at another size."""
        rows, columns = shape[-2:]
        if (rows, columns) == self.shape:
            return self
        factors = rows / self.shape[0], columns / self.shape[1]
        step = self.step[0] * factors[0], self.step[1] * factors[1]
        start = round(self.start[0] * factors[0]), round(self.start[1] * factors[1])
        return replace(self, shape=(rows, columns), step=step, start=start)

    def crop(self, rows: slice, columns: slice) -> "TissueArea":
        """The area in a part of the plane."""
        starts = self.start[0] + rows.start, self.start[1] + columns.start
        shape = len(range(self.shape[0])[rows]), len(range(self.shape[1])[columns])
        return replace(self, shape=shape, start=starts)


def find_tissue(image: Image) -> Tissue:
    """Find the tissue of a slide.

    Parameters
    ----------
    image : Image
        At full resolution.

    Raises
    ------
    ImageError
        ``wrong_channels``: it has no red, green and blue of 8 bits; ``wrong_axes``: it is no plane.
    """
    _check(image)
    copy, step = _small_copy(image)
    saturation, brightness = _saturation(copy), copy.max(axis=0)
    threshold = _glass_threshold(saturation)
    is_pale = brightness >= GLASS_BRIGHTNESS
    if threshold is not None:
        is_pale &= saturation <= threshold
    if threshold is None or not is_pale.any():
        return Tissue(np.ones(saturation.shape, np.bool_), step, None)
    is_dark = brightness < DARKNESS * int(np.median(brightness[is_pale]))
    return Tissue(_closed((saturation > threshold) | is_dark), step, threshold)


def _check(image: Image) -> None:
    if picture_names(image)[:3] != COLOURS or image.dtype != np.uint8:
        raise ImageError(
            "wrong_channels",
            f"--tissue auto tells glass by its colour, and needs red, green and blue of 8 bits: the image has "
            f"{image.describe()}; leave out --tissue",
        )
    if image.size("Z") > 1 or image.size("T") > 1:
        raise ImageError(
            "wrong_axes", f"--tissue auto is for slides of one plane, not for {image.describe()}: leave out --tissue"
        )


def _small_copy(image: Image) -> tuple[NDArray[np.uint8], tuple[float, float]]:
    """Red, green and blue of the slide ``(3, rows, columns)``, and the pixels of the full resolution for one of it."""
    scales = [full_pixels(image.at_level(level)) for level in range(len(image.levels))]
    chosen = max(level for level, scale in enumerate(scales) if scale <= max(SQUARE, scales[0]))
    level, factor = image.at_level(chosen), max(1, round(SQUARE / scales[chosen]))
    rows, columns = level.size("Y"), level.size("X")
    bands = bands_of(rows, factor * max(1, PIXELS_AT_ONCE // (factor * columns)))
    means = [_means(level.read(c=slice(0, 3), y=band), factor) for band in bands]
    scale = (1.0, 1.0) if level.part is None else level.part.scale
    return np.concatenate(means, axis=1), (scale[0] * factor, scale[1] * factor)


def _means(colours: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Mean of each square of pixels; those at the end may be smaller."""
    sums, pixels = colours.astype(np.uint32), np.ones(colours.shape[1:], np.uint32)
    for axis in (-1, -2):
        starts = np.arange(0, colours.shape[axis], factor)
        sums, pixels = np.add.reduceat(sums, starts, axis), np.add.reduceat(pixels, starts, axis)
    return ((2 * sums + pixels) // (2 * pixels)).astype(np.uint8)


def _saturation(colours: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Of HSV, from 0 to 255."""
    highest = colours.max(axis=0).astype(np.int64)
    saturation: NDArray[np.int64] = (highest - colours.min(axis=0)) * 255 // np.maximum(highest, 1)
    return saturation


def _glass_threshold(saturation: NDArray[np.int64]) -> int | None:
    """Where the peak of the glass ends; None if the most frequent saturation is not that of glass."""
    counts = np.bincount(saturation.reshape(-1), minlength=256)
    peak, end = int(counts.argmax()), int(saturation.max())
    if peak > GLASS_SATURATION:
        return None
    # How far each count is below the line from the peak to the end of the histogram.
    values = np.arange(peak, end + 1)
    below = counts[peak] * (end - values) - (end - peak) * counts[values]
    return min(GLASS_SATURATION, peak + int(below.argmax()))


def _closed(tissue: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy import ndimage  # here, since most images need none of it

    size = 2 * CLOSED + 1
    grown = ndimage.maximum_filter(np.pad(tissue, CLOSED), size, mode="constant")
    inner = (slice(CLOSED, -CLOSED),) * 2
    closed: NDArray[np.bool_] = ndimage.minimum_filter(grown, size, mode="constant")[inner]
    return closed | tissue
