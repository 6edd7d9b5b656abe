"""Areas: the pixels of a plane that are segmented, where these are not all.

An area is asked for a part of the plane, as `unetbio.postprocessing.bands.Area` says, so that it takes no memory of the
size of the image. What it says of a pixel does not depend on the part.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unetbio.annotations.outlines import Polygons
from unetbio.io.image import Image
from unetbio.io.tolerant import Box
from unetbio.postprocessing.bands import bands_of
from unetbio.settings.regions import Outline

if TYPE_CHECKING:
    from unetbio.postprocessing.bands import Area

__all__ = ["CELL_REACH", "OutlinedArea", "SurroundedArea", "count_pixels", "outlined_area"]

PIXELS_AT_ONCE = 1 << 24

CELL_REACH = 128
"""Pixels that the network sees, by which a cell in an area can reach beyond it."""


@dataclass(frozen=True)
class OutlinedArea:
    """The pixels whose centres lie in an outline.

    Parameters
    ----------
    polygons : Polygons
        The outline, in pixels of the plane.
    shape : (int, int)
        Rows and columns of the plane.
    """

    polygons: Polygons
    shape: tuple[int, int]

    def __call__(self, where: tuple[slice, ...]) -> NDArray[np.bool_]:
        """Which pixels of a part are in the area: `unetbio.postprocessing.bands.Area`."""
        return self.polygons.covers(*_parts(where, self.shape))

    def scaled(self, shape: tuple[int, ...]) -> "OutlinedArea":
        """The area in the plane at another size."""
        rows, columns = shape[-2:]
        if (rows, columns) == self.shape:
            return self
        scale = self.shape[0] / rows, self.shape[1] / columns
        return OutlinedArea(self.polygons.seen_from((0, 0), scale), (rows, columns))

    def crop(self, rows: slice, columns: slice) -> "OutlinedArea":
        """The area in a part of the plane."""
        height, width = (len(range(size)[part]) for part, size in zip((rows, columns), self.shape, strict=True))
        return OutlinedArea(self.polygons.seen_from((rows.start, columns.start), (1.0, 1.0)), (height, width))


@dataclass(frozen=True)
class SurroundedArea:
    """An area and the pixels around it.

    Parameters
    ----------
    area : OutlinedArea
        The area.
    reach : int
        Rows and columns around each of its pixels.
    """

    area: OutlinedArea
    reach: int

    def __call__(self, where: tuple[slice, ...]) -> NDArray[np.bool_]:
        """Which pixels of a part are in the area, or near it: `unetbio.postprocessing.bands.Area`."""
        parts = _parts(where, self.area.shape)
        around = tuple(
            slice(max(0, part.start - self.reach), min(size, part.stop + self.reach))
            for part, size in zip(parts, self.area.shape, strict=True)
        )
        mask = self.area(around)
        if mask.any() and not mask.all():
            from scipy import ndimage  # here, since most images need none of it

            mask = ndimage.maximum_filter(mask, 2 * self.reach + 1, mode="constant")
        inner = (
            slice(part.start - wide.start, part.stop - wide.start) for part, wide in zip(parts, around, strict=True)
        )
        return mask[tuple(inner)]


@dataclass(frozen=True)
class UndamagedArea:
    """An area, or the whole plane, without damaged parts.

    Parameters
    ----------
    area : Area, optional
        The area.
    boxes : callable
        Gives the damaged parts of the image, which are known once it was read: first row, row after the last, and the
        same of columns.
    of, shape : (int, int)
        Rows and columns of the image, and of the plane, which is the image at another size.
    """

    area: "Area | None"
    boxes: Callable[[], list[Box]]
    of: tuple[int, int]
    shape: tuple[int, int]

    def __call__(self, where: tuple[slice, ...]) -> NDArray[np.bool_]:
        """Which pixels of a part are in the area: `unetbio.postprocessing.bands.Area`."""
        parts = _parts(where, self.shape)
        # Pixels of the image in which those of the plane lie.
        rows, columns = (
            ((np.arange(part.start, part.stop) + 0.5) * full / size).astype(np.int64)
            for part, full, size in zip(parts, self.of, self.shape, strict=True)
        )
        mask = np.ones((len(rows), len(columns)), np.bool_) if self.area is None else self.area(where).copy()
        for top, bottom, left, right in self.boxes():
            inside = [(at >= low) & (at < high) for at, low, high in ((rows, top, bottom), (columns, left, right))]
            if inside[0].any() and inside[1].any():
                mask[np.ix_(*inside)] = False
        return mask


def outlined_area(outline: Outline, image: Image) -> OutlinedArea:
    """The area of an outline at full resolution, in an image that shows a part of the file."""
    polygons = Polygons([[np.array(ring) for ring in rings] for rings in outline])
    shape = image.size("Y"), image.size("X")
    if image.part is not None:
        start = image.part.rows[0], image.part.columns[0]
        polygons = polygons.seen_from(start, image.part.scale)
    return OutlinedArea(polygons, shape)


def _parts(where: tuple[slice, ...], shape: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of a part, as numbers from 0."""
    rows, columns = where[-2:] or (slice(None), slice(None))
    return slice(*rows.indices(shape[0])[:2]), slice(*columns.indices(shape[1])[:2])


def count_pixels(area: "Area", shape: tuple[int, ...]) -> int:
    """Pixels of a plane of this shape that are in an area."""
    rows, columns = shape[-2:]
    bands = bands_of(rows, max(1, PIXELS_AT_ONCE // columns))
    return sum(int(np.count_nonzero(area((band, slice(None))))) for band in bands)
