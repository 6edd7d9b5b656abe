"""Pixels of a stack of TIFF pages, decoded where they are asked for."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.io.formats.tiff.colour import Colour
from unetbio.io.formats.tiff.pages import Page, decode_window
from unetbio.io.missing import MissingPlanes

__all__ = ["TiffPixels"]


@dataclasses.dataclass(frozen=True)
class TiffPixels:
    """Decodes the strips or tiles of a window; holds no open file."""

    pages: tuple[Page | None, ...]
    dims: tuple[tuple[str, int], ...]
    roles: tuple[int, ...]
    colour: Colour
    missing_files: tuple[str, ...] = ()
    cut: str = ""
    smaller: tuple["TiffPixels", ...] = ()

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of each smaller resolution."""
        layouts = [next(page.layout for page in level.pages if page is not None) for level in self.smaller]
        return tuple((layout.shaped[2], layout.shaped[3]) for layout in layouts)

    def at_level(self, level: int) -> "TiffPixels":
        """Pixels of a smaller resolution, from 1."""
        return self.smaller[level - 1]

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold the pixels."""
        return tuple(dict.fromkeys(page.path for page in self.pages if page is not None))

    @property
    def windows_apart(self) -> bool:
        """Whether a window is unpacked without the rest of its plane."""
        layouts = (page.layout for page in self.pages if page is not None)
        return all(layout.compression == 1 or math.prod(layout.chunked) > 1 for layout in layouts)

    @functools.cached_property
    def missing(self) -> MissingPlanes | None:
        """Planes that the metadata name and that are in no file, and whether the file was cut."""
        if None not in self.pages and not self.cut:
            return None
        sizes = {axis: math.prod(n for letter, n in self.dims if letter == axis) for axis in "TCZ"}
        shape = (sizes["T"], sizes["C"], sizes["Z"])
        present = np.zeros(shape, bool)
        for t, c, z in np.ndindex(*shape):
            present[t, c, z] = self.pages[self._find(t, z, c)[0]] is not None
        return MissingPlanes.of(present, self.missing_files, self.cut)

    def read(self, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        """See `unetbio.io.image.PlaneSource`."""
        if self.colour.palette is not None:
            planes = self.colour.apply(self._plane(t, z, [0], y, x))
            return planes[list(channels)]
        return self.colour.apply(self._plane(t, z, channels, y, x))

    def _plane(self, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        out: NDArray[Any] | None = None
        decoded: tuple[int, NDArray[Any]] | None = None
        for i, channel in enumerate(channels):
            page, place = self._find(t, z, channel)
            if decoded is None or decoded[0] != page:
                decoded = (page, decode_window(self._page(page), y, x))
            sample, depth, interleaved = place
            plane = decoded[1][sample, depth, :, :, interleaved]
            if out is None:
                out = np.empty((len(channels), *plane.shape), plane.dtype)
            out[i] = plane
        if out is None:
            raise ValueError("no channel asked for")
        return out

    def _page(self, number: int) -> Page:
        page = self.pages[number]
        if page is None:
            raise ValueError("a missing plane was asked for")
        return page

    def _find(self, t: int, z: int, channel: int) -> tuple[int, tuple[int, int, int]]:
        """Page and place in it (separate sample, section, interleaved sample) of one plane."""
        left = {"T": t, "Z": z, "C": channel}
        indices = [0] * len(self.dims)
        for i in range(len(self.dims) - 1, -1, -1):
            letter, length = self.dims[i]
            left[letter], indices[i] = divmod(left[letter], length)
        outer = len(self.dims) - len(self.roles)
        page = 0
        for (_, length), index in zip(self.dims[:outer], indices[:outer], strict=True):
            page = page * length + index
        inside = dict(zip(self.roles, indices[outer:], strict=True))
        return page, (inside.get(0, 0), inside.get(1, 0), inside.get(4, 0))
