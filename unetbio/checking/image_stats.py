"""Statistics of an image, from all of its pixels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.io import Image
from unetbio.preprocessing.grey_values import GreyLevels

__all__ = ["ImageStats"]


@dataclass(frozen=True)
class ImageStats:
    """Statistics of an image.

    Parameters
    ----------
    axes, shape, dtype, pixel_size_um, pixel_size_trusted, series_count
        As `unetbio.io.Image` has them.
    pixel_hash : str
        SHA-256 of shape, dtype and grey values: the same in every file format.
    levels : tuple of GreyLevels
        One for each channel, over the times and sections that will be segmented, or over their projection.
    channel_names : tuple of str
        As `unetbio.io.Image` has them.
    not_stored : str
        One line that counts missing chunks, which were read as the fill value; empty if there are none.
    is_grey : bool
        Whether a picture has colours that are equal in all pixels, so that it is taken as grey.
    is_opaque : bool
        Whether it is a picture without a transparent pixel, so that alpha is left out.
    smaller : tuple of (int, int)
        Rows and columns of each smaller resolution of a pyramid.
    """

    axes: str
    shape: tuple[int, ...]
    dtype: str
    pixel_size_um: dict[str, float]
    pixel_size_trusted: bool
    series_count: int
    pixel_hash: str
    levels: tuple[GreyLevels, ...]
    channel_names: tuple[str, ...]
    not_stored: str = ""
    is_grey: bool = False
    is_opaque: bool = False
    smaller: tuple[tuple[int, int], ...] = ()

    def image(self, source: Path, reopen: Callable[[], Image]) -> Image:
        """The image; ``reopen`` opens its files when its pixels are read."""
        return Image(
            self.axes,
            self.shape,
            np.dtype(self.dtype),
            self.pixel_size_um,
            self.pixel_size_trusted,
            self.channel_names,
            source,
            _InFile(reopen, self.smaller, self.is_grey, self.is_opaque),
            series_count=self.series_count,
        )

    def describe(self) -> str:
        """``C=2 Y=512 X=512 uint16, 0.65 um a pixel``."""
        sizes = " ".join(f"{axis}={size}" for axis, size in zip(self.axes, self.shape, strict=True))
        return f"{sizes} {self.dtype}, {self._scale()}"

    def _scale(self) -> str:
        sizes = [self.pixel_size_um[axis] for axis in "ZYX" if axis in self.pixel_size_um and axis in self.axes]
        if not sizes:
            return "pixel size unknown"
        text = " x ".join(f"{size:.4g}" for size in (sizes[-1:] if len(set(sizes)) == 1 else sizes))
        return f"{text} um a pixel" + ("" if self.pixel_size_trusted else " (not to be trusted)")


@dataclass(frozen=True)
class _InFile:
    """Pixels of an image whose file is not open."""

    reopen: Callable[[], Image]
    levels: tuple[tuple[int, int], ...]
    is_grey: bool
    is_opaque: bool
    level: int = 0

    def at_level(self, level: int) -> "_InFile":
        """Pixels of a smaller resolution; means of equal colours are equal."""
        return replace(self, levels=(), level=level)

    def read(self, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        return self.reopen().at_level(self.level).pixels.read(t, z, channels, y, x)
