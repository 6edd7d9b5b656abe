"""Paint regions into a label image.

A pixel that several regions cover belongs to the smallest of them (by its pixels in this plane), and of equal ones to
the first in the file: a nucleus drawn within a cell stays whole, whatever the order of drawing.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.annotations.regions import Grid, Region
from unetbio.errors import ImageError
from unetbio.labels import label_dtype

__all__ = ["Painting", "paint"]

MAX_COVER = 1000
"""Most times that the boxes of all regions may cover a plane: more is a damaged file, and hours of work."""

SMALL_PLANE = 1 << 20

SEVERAL = 2
"""Regions that one holds, from which on it may be no cell: a cell may have a nucleus drawn within it."""


@dataclass(frozen=True)
class Painting:
    """A label image, and what happened to regions that are not whole in it.

    Parameters
    ----------
    label_image : ndarray of uint16 or uint32
        ``([T,] [Z,] Y, X)``.
    overlapping : int
        Pixels that several regions cover.
    hidden : int
        Regions of which no pixel is left, since smaller ones cover all.
    outside : int
        Regions without a pixel in the image.
    elsewhere : int
        Regions of times or sections that are left out.
    holding : int
        Regions that hold several others whole, as one does that is drawn around the tissue.
    classes : mapping
        For each time, or for None where there is one at most, the class of each cell in the label image whose region
        has one, by rising id.
    """

    label_image: NDArray[Any]
    overlapping: int
    hidden: int
    outside: int
    elsewhere: int
    holding: int = 0
    classes: Mapping[int | None, Mapping[int, str]] = field(default_factory=dict)


def paint(regions: Sequence[Region], grid: Grid) -> Painting:
    """Paint regions into a label image.

    Regions keep the id that the file names; the others get the next free ids, in the order of the file. A second
    region of one id in a plane counts as one without id.

    Raises
    ------
    ImageError
        ``bad_outline``, ``too_many_labels``.
    """
    places = [grid.planes_of(region) for region in regions]
    ids = _number(regions, places)
    label_image = np.zeros(grid.shape, label_dtype(max(ids, default=0)))
    planes = label_image.reshape(len(grid.times), len(grid.sections), grid.height, grid.width)
    painted: Counter[int] = Counter()
    overlapping = 0
    holding: set[int] = set()
    for place in sorted({place for several in places for place in several}):
        here = [index for index, several in enumerate(places) if place in several]
        count, found = _paint_plane(planes[place], [(ids[i], regions[i]) for i in here], painted)
        overlapping += count
        holding |= found
    left = set(np.unique(label_image).tolist())
    in_image = [number for number, several in zip(ids, places, strict=True) if several]
    return Painting(
        label_image,
        overlapping,
        hidden=sum(painted[number] > 0 and number not in left for number in in_image),
        outside=sum(not painted[number] for number in in_image),
        elsewhere=len(ids) - len(in_image),
        holding=len(holding),
        classes=_classes(regions, ids, places, planes, grid.times),
    )


def _classes(
    regions: Sequence[Region],
    ids: Sequence[int],
    places: Sequence[Sequence[tuple[int, int]]],
    planes: NDArray[Any],
    times: Sequence[int | None],
) -> dict[int | None, dict[int, str]]:
    """Classes of the cells of each time; cells of different times can share an id."""
    found: dict[int | None, dict[int, str]] = {}
    for index, t in enumerate(times):
        left = set(np.unique(planes[index]).tolist())
        here = [any(place[0] == index for place in several) for several in places]
        rows = zip(ids, regions, here, strict=True)
        classes = sorted((number, region.kind) for number, region, is_here in rows if is_here and number in left)
        if named := {number: kind for number, kind in classes if kind}:
            # Tables of a single time name none, as those of runs.
            found[t if len(times) > 1 else None] = named
    return found


def _number(regions: Sequence[Region], places: Sequence[Iterable[tuple[int, int]]]) -> list[int]:
    taken: set[tuple[int, tuple[int, int]]] = set()
    ids = []
    for region, several in zip(regions, places, strict=True):
        keys = {(region.number or 0, place) for place in several}
        keeps = region.number is not None and taken.isdisjoint(keys)
        taken |= keys
        ids.append(region.number if keeps and region.number else 0)
    free = max(ids, default=0) + 1
    for index, number in enumerate(ids):
        if not number:
            ids[index] = free
            free += 1
    return ids


def _paint_plane(
    plane: NDArray[Any], regions: Sequence[tuple[int, Region]], painted: "Counter[int]"
) -> tuple[int, set[int]]:
    """Paint the regions of a plane, the largest first; returns the pixels that several cover, and who holds others."""
    height, width = plane.shape
    areas, boxes = [], 0
    for number, region in regions:
        patch = region.shape.pixels(height, width)
        areas.append(int(np.count_nonzero(patch.mask)))
        painted[number] += areas[-1]
        boxes += patch.mask.size
        if boxes > MAX_COVER * max(plane.size, SMALL_PLANE):
            raise ImageError("bad_outline", f"regions cover the image over {MAX_COVER} times; export them again")
    twice = np.zeros(plane.shape, np.bool_)
    for index in sorted(range(len(areas)), key=lambda index: (-areas[index], -index)):
        number, region = regions[index]
        patch = region.shape.pixels(height, width)
        part = plane[patch.box]
        twice[patch.box] |= patch.mask & (part > 0)
        part[patch.mask] = number
    overlapping = int(np.count_nonzero(twice))
    return overlapping, _holding(plane, regions, twice) if overlapping else set()


def _holding(plane: NDArray[Any], regions: Sequence[tuple[int, Region]], twice: NDArray[np.bool_]) -> set[int]:
    """Ids of regions within which several others lie whole."""
    sizes = dict(zip(*(found.tolist() for found in np.unique(plane, return_counts=True)), strict=True))
    found = set()
    for number, region in regions:
        patch = region.shape.pixels(*plane.shape)
        if not (twice[patch.box] & patch.mask).any():
            continue
        within, counts = np.unique(plane[patch.box][patch.mask], return_counts=True)
        whole = [one for one, count in zip(within.tolist(), counts.tolist(), strict=True) if sizes[one] == count]
        if len(set(whole) - {number}) >= SEVERAL:
            found.add(number)
    return found
