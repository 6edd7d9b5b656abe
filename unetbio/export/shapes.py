"""The shape of each cell of a label image: its pixels, and the outline along their edges.

Coordinates count from the upper left corner of the first pixel: pixel (y, x) covers the square from (x, y) to
(x + 1, y + 1). Outlines are therefore whole numbers, and enclose exactly as much area as the cell has pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.compilation import compiled
from unetbio.labels import connected_components, relabel_raster
from unetbio.measurement.cell_rows import find_cells
from unetbio.postprocessing.bands import Rows, bands_in_memory

__all__ = ["CellShape", "Ring", "cell_shapes", "signed_area"]

Ring = NDArray[np.int64]
"""Corners ``(N, 2)`` of a closed outline, x before y, each once."""

Polygon = tuple[Ring, ...]


@dataclass(frozen=True)
class CellShape:
    """One cell in one plane.

    Parameters
    ----------
    label : int
        Id of the cell.
    top, left : int
        Row and column of the bounding box.
    mask : ndarray of bool
        Pixels of the cell within the bounding box.
    """

    label: int
    top: int
    left: int
    mask: NDArray[np.bool_]

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.mask))

    @cached_property
    def polygons(self) -> tuple[Polygon, ...]:
        """One polygon for each connected part: the outer ring, then its holes.

        Pixels are connected over edges; parts that touch over a corner are two polygons. No ring meets a corner twice,
        so that each polygon is valid by the rules of OGC Simple Features. Outer rings have a positive `signed_area`,
        holes a negative one.
        """
        parts, count = connected_components(self.mask)
        corners, rings = _split_walks(*_walk_around(parts), *parts.shape)
        corners += np.array([self.left, self.top])
        outer: list[list[Ring]] = [[] for _ in range(count)]
        holes: list[list[Ring]] = [[] for _ in range(count)]
        for ring, owner in zip(np.split(corners, rings[:-1, 0]), rings[:, 1].tolist(), strict=True):
            (outer if signed_area(ring) > 0 else holes)[owner - 1].append(ring)
        return tuple((*first, *rest) for first, rest in zip(outer, holes, strict=True))


def cell_shapes(plane: Rows) -> Iterator[CellShape]:
    """The cells of a plane ``(Y, X)``, in raster order of their first pixels; one on disk is read in bands of rows."""
    if isinstance(plane, np.ndarray):
        yield from _shapes_in(plane, 0)
        return
    bands = bands_in_memory(plane)
    cells = find_cells(plane, bands)
    for band in bands:
        begins_here = (cells.first >= band.start) & (cells.first < band.stop)
        if begins_here.any():
            block = np.asarray(plane[band.start : int(cells.stop[begins_here].max())])
            is_wanted = np.append(False, begins_here)[cells.positions(block)]
            yield from _shapes_in(np.where(is_wanted, block, 0), band.start)


def _shapes_in(plane: NDArray[Any], top: int) -> Iterator[CellShape]:
    """The cells of a block of rows that begins at row ``top``."""
    from scipy import ndimage

    # Ids may be large and few, so they are numbered in raster order first.
    numbers = relabel_raster(plane)
    for number, box in enumerate(ndimage.find_objects(numbers.astype(np.int32)), start=1):
        mask = numbers[box] == number
        row, column = np.unravel_index(mask.argmax(), mask.shape)
        rows, columns = box
        yield CellShape(int(plane[box][row, column]), top + rows.start, columns.start, mask)


def signed_area(ring: Ring) -> float:
    """Area within a ring, positive if x turns towards y (clockwise on the screen), negative if not."""
    x, y = ring[:, 0], ring[:, 1]
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


# The sides of a pixel, walked with the pixel on the right hand: top, right, bottom, left. Beside side d lies the pixel
# SIDEWAYS[d] away, and at its end the pixel AHEAD[d] away; side d ends where side d + 1 begins.
AHEAD = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
SIDEWAYS = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])
BEGIN = np.array([(0, 0), (0, 1), (1, 1), (1, 0)])


@compiled
def _has(parts: NDArray[np.int32], y: int, x: int, part: int) -> bool:
    return bool(0 <= y < parts.shape[0] and 0 <= x < parts.shape[1] and parts[y, x] == part)


@compiled
def _walk_around(parts: NDArray[np.int32]) -> tuple[Ring, NDArray[np.int64]]:
    """Walk along the sides of each part; returns the corners, and the end and the part of each walk.

    If two pixels of a part touch only at a corner, the walk stays with its pixel.
    """
    height, width = parts.shape
    # Every walk includes the top of some pixel.
    walked = np.zeros((height, width), np.bool_)
    corners = np.empty((256, 2), np.int64)
    walks = np.empty((16, 2), np.int64)
    count, walk_count = 0, 0
    for first_y in range(height):
        for first_x in range(width):
            part = parts[first_y, first_x]
            if part == 0 or walked[first_y, first_x] or _has(parts, first_y - 1, first_x, part):
                continue
            y, x, side = first_y, first_x, 0
            while side != 0 or not walked[y, x]:
                walked[y, x] |= side == 0
                ahead_y, ahead_x = y + AHEAD[side, 0], x + AHEAD[side, 1]
                beside_y, beside_x = ahead_y + SIDEWAYS[side, 0], ahead_x + SIDEWAYS[side, 1]
                if _has(parts, ahead_y, ahead_x, part) and not _has(parts, beside_y, beside_x, part):
                    y, x = ahead_y, ahead_x
                    continue
                if _has(parts, ahead_y, ahead_x, part):
                    y, x, side = beside_y, beside_x, (side + 3) % 4
                else:
                    side = (side + 1) % 4
                if count == len(corners):
                    corners = np.concatenate((corners, np.empty_like(corners)))
                corners[count] = x + BEGIN[side, 1], y + BEGIN[side, 0]
                count += 1
            if walk_count == len(walks):
                walks = np.concatenate((walks, np.empty_like(walks)))
            walks[walk_count, 0] = count
            walks[walk_count, 1] = part
            walk_count += 1
    return corners[:count], walks[:walk_count]


@compiled
def _split_walks(corners: Ring, walks: NDArray[np.int64], height: int, width: int) -> tuple[Ring, NDArray[np.int64]]:
    """Split walks into rings, each between two visits of one corner."""
    # Each visit of a corner is one corner of one ring.
    split = np.empty_like(corners)
    rings = np.empty((len(corners) // 4, 2), np.int64)
    place = np.full((height + 1, width + 1), -1, np.int64)
    open_ring = np.empty_like(corners)
    done, ring_count, start = 0, 0, 0
    for walk in range(len(walks)):
        size = 0
        for index in range(start, walks[walk, 0] + 1):
            is_end = index == walks[walk, 0]
            first = 0 if is_end else place[corners[index, 1], corners[index, 0]]
            if first >= 0:
                for corner in range(first, size):
                    split[done] = open_ring[corner]
                    done += 1
                    place[open_ring[corner, 1], open_ring[corner, 0]] = -1
                rings[ring_count, 0] = done
                rings[ring_count, 1] = walks[walk, 1]
                ring_count += 1
                size = first
            if not is_end:
                open_ring[size] = corners[index]
                place[corners[index, 1], corners[index, 0]] = size
                size += 1
        start = walks[walk, 0]
    return split[:done], rings[:ring_count]
