"""Merge the objects of all windows into one label image: join the pieces of objects that lie across windows."""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from unetbio.inference.objects.pieces import Piece, draw, draw_window
from unetbio.inference.objects.windows import Box, FoundObjects, Window, windows_of, within
from unetbio.labels import LabelImage, relabel_raster
from unetbio.postprocessing.objects import MASK_THRESHOLD, SCORE_THRESHOLD, ObjectTable, bounding_boxes

__all__ = ["merge_objects"]

SAME_OBJECT = 0.5
"""Intersection over union, within the strip that two windows share, from which on two pieces are one object."""


def merge_objects(
    found: FoundObjects, *, score_threshold: float = SCORE_THRESHOLD, mask_threshold: float = MASK_THRESHOLD
) -> tuple[LabelImage, ObjectTable]:
    """Merge the objects of all windows into one label image; `unetbio.inference.objects` lists the steps.

    Parameters
    ----------
    found : FoundObjects
        Of `find_objects`.
    score_threshold : float
        Objects that score less are left out.
    mask_threshold : float
        Probability from which on a pixel belongs to an object.

    Returns
    -------
    label_image : ndarray of uint16 or uint32
        ``(Y, X)``, ids from 1 in raster order.
    table : dict of str to ndarray
        One entry an object, by rising id: ``label``, ``class`` (from 1), ``score``, and its box ``bbox_y_start``,
        ``bbox_y_stop``, ``bbox_x_start``, ``bbox_x_stop`` in whole pixels, named as `unetbio.measurement.regions`
        names them. An object in pieces takes score and class from the piece with the largest score.
    """
    windows = list(windows_of(found))
    planes: list[NDArray[np.int32]] = []
    pieces: list[Piece] = []
    for number, (window, objects) in enumerate(zip(windows, found.objects, strict=True)):
        plane, seen = draw_window(
            number, window, objects, found.shape, len(pieces) + 1, score_threshold, mask_threshold
        )
        planes.append(plane)
        pieces += seen
    groups = _same_objects(found, windows, planes, pieces)
    chosen = sorted((_choose_pieces(group) for group in groups), key=lambda group: -max(p.score for p in group))
    plane = np.zeros(found.shape, dtype=np.int32)
    draw(plane, (_join_pieces(group, windows, planes) for group in chosen))
    label_image = relabel_raster(plane)
    return label_image, _table(label_image, plane, [max(group, key=lambda p: p.score) for group in chosen])


def _same_objects(
    found: FoundObjects, windows: Sequence[Window], planes: Sequence[NDArray[np.int32]], pieces: Sequence[Piece]
) -> list[list[Piece]]:
    """Pieces of one object each."""
    pairs = [np.zeros((0, 2), dtype=np.int64)]
    for first, second in _neighbours(found):
        strip = _intersection(windows[first].inside, windows[second].inside)
        pairs.append(_matches(*(planes[number][within(strip, windows[number].inside)] for number in (first, second))))
    rows, columns = np.concatenate(pairs).T - 1
    # Imported here, since only networks that find objects need it.
    from scipy import sparse

    graph = sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(pieces), len(pieces)))
    count, group_of = sparse.csgraph.connected_components(graph, directed=False)
    groups: list[list[Piece]] = [[] for _ in range(count)]
    for piece, group in zip(pieces, group_of, strict=True):
        groups[group].append(piece)
    return groups


def _neighbours(found: FoundObjects) -> Iterator[tuple[int, int]]:
    """Pairs of windows that see common pixels."""
    columns_count = len(found.grid[1])
    rows, columns = (
        [
            (first, second)
            for first in range(len(starts))
            for second in range(first, len(starts))
            if starts[second] - starts[first] < size
        ]
        for starts, size in zip(found.grid, found.window, strict=True)
    )
    for (top, bottom), (left, right) in product(rows, columns):
        if (top, left) != (bottom, right):
            yield top * columns_count + left, bottom * columns_count + right
        if top != bottom and left != right:
            yield top * columns_count + right, bottom * columns_count + left


def _intersection(first: Box, second: Box) -> Box:
    rows, columns = (slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(first, second, strict=True))
    return rows, columns


def _matches(first: NDArray[np.int32], second: NDArray[np.int32]) -> NDArray[np.int64]:
    """Pairs of numbers ``(n, 2)`` whose pixels in a strip are nearly the same."""
    both = (first > 0) & (second > 0)
    pairs, common = np.unique(np.stack([first[both], second[both]], axis=1), axis=0, return_counts=True)
    areas = [dict(zip(*np.unique(plane, return_counts=True), strict=True)) for plane in (first, second)]
    union = np.array([areas[0][a] + areas[1][b] for a, b in pairs], dtype=np.int64) - common
    return pairs[common >= SAME_OBJECT * union].astype(np.int64)


def _choose_pieces(group: Sequence[Piece]) -> list[Piece]:
    whole = [piece for piece in group if not piece.is_cut]
    return [min(whole, key=lambda piece: piece.distance)] if whole else list(group)


def _join_pieces(
    group: Sequence[Piece], windows: Sequence[Window], planes: Sequence[NDArray[np.int32]]
) -> tuple[Box, NDArray[np.bool_]]:
    """Union of the pieces of an object."""
    rows, columns = (
        slice(min(piece.box[axis].start for piece in group), max(piece.box[axis].stop for piece in group))
        for axis in range(2)
    )
    mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=np.bool_)
    for piece in group:
        part = planes[piece.window][within(piece.box, windows[piece.window].inside)]
        mask[within(piece.box, (rows, columns))] |= part == piece.number
    return (rows, columns), mask


def _table(label_image: LabelImage, plane: NDArray[np.int32], best: Sequence[Piece]) -> ObjectTable:
    drawn = np.zeros(int(label_image.max(initial=0)) + 1, dtype=np.int32)
    drawn[label_image] = plane
    rows = [best[number - 1] for number in drawn[1:]]
    return {
        "label": np.arange(1, len(rows) + 1),
        "class": np.array([piece.object_class for piece in rows], dtype=np.int64),
        "score": np.array([piece.score for piece in rows], dtype=np.float64),
        **bounding_boxes(label_image),
    }
