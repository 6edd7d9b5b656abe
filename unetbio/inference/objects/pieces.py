"""Draw the objects of one window, and mark those that its rim may have cut."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, hypot

import numpy as np
from numpy.typing import NDArray

from unetbio.inference.objects.windows import Box, Window, within
from unetbio.networks.detection import Objects

__all__ = ["Piece", "draw", "draw_window"]

CUT_MARGIN = 2
"""Pixels from the rim of a window within which an object counts as cut: networks draw cut objects a little short."""

LEFT_OVER = 0.5
"""Share of its pixels that an object must get to be drawn."""


@dataclass(frozen=True)
class Piece:
    """Object, or part of one, in one window.

    Parameters
    ----------
    window : int
        Which one.
    number : int
        Its pixels hold this number in the plane of the window; no other piece of any window has it.
    box : tuple of slice
        In pixels of the image.
    is_cut : bool
        Whether it comes near a rim beyond which the image goes on.
    distance : float
        From the centre of the window to the centre of the box.
    score, object_class
        Of the object.
    """

    window: int
    number: int
    box: Box
    is_cut: bool
    distance: float
    score: float
    object_class: int


def draw(plane: NDArray[np.int32], masks: Iterable[tuple[Box, NDArray[np.bool_]]]) -> None:
    """Draw objects by falling score: each gets its free pixels, numbered from 1, if these are enough."""
    for number, (box, mask) in enumerate(masks, start=1):
        part = plane[box]
        free = mask & (part == 0)
        count = np.count_nonzero(free)
        if count and count >= LEFT_OVER * np.count_nonzero(mask):
            part[free] = number


def draw_window(
    window_number: int,
    window: Window,
    objects: Objects,
    shape: Sequence[int],
    first: int,
    score_threshold: float,
    mask_threshold: float,
) -> tuple[NDArray[np.int32], list[Piece]]:
    """Draw the objects of a window, and list the pieces that are kept.

    Parameters
    ----------
    window_number : int
        Which window.
    window : Window
        Where it lies.
    objects : Objects
        Found in it.
    shape : sequence of int
        ``(Y, X)`` of the image.
    first : int
        Number of the first piece.
    score_threshold, mask_threshold : float
        As of `unetbio.inference.objects.merge_objects`.

    Returns
    -------
    plane : ndarray of int32
        ``(Y, X)`` of the window: numbers of pieces, 0 = none.
    pieces : list of Piece
        By rising number.
    """
    scores, boxes, masks = (part.numpy() for part in (objects.scores, objects.boxes, objects.masks))
    order = [index for index in np.argsort(-scores, kind="stable") if scores[index] >= score_threshold]
    plane = np.zeros([side.stop - side.start for side in window.inside], dtype=np.int32)
    draw(plane, (_paste(boxes[index], masks[index], plane.shape, mask_threshold) for index in order))
    in_core = set(np.unique(plane[within(window.core, window.inside)]).tolist())
    numbers = np.zeros(len(order) + 1, dtype=np.int32)
    pieces: list[Piece] = []
    # Imported here, since only networks that find objects need it.
    from scipy import ndimage

    for drawn, box in enumerate(ndimage.find_objects(plane), start=1):
        if box is None:
            continue
        box = tuple(slice(s.start + o.start, s.stop + o.start) for s, o in zip(box, window.inside, strict=True))
        is_cut = _is_cut(box, window, shape)
        if is_cut and drawn not in in_core:
            continue
        index = order[drawn - 1]
        numbers[drawn] = first + len(pieces)
        pieces.append(
            Piece(
                window=window_number,
                number=first + len(pieces),
                box=box,
                is_cut=is_cut,
                distance=_distance(box, window.inside),
                score=float(scores[index]),
                object_class=int(objects.classes[index]),
            )
        )
    return numbers[plane], pieces


def _paste(
    box: NDArray[np.float32], mask: NDArray[np.float32], shape: Sequence[int], threshold: float
) -> tuple[Box, NDArray[np.bool_]]:
    """Stretch a mask over its box: pixels of the window whose centres lie in the box, and which of them belong."""
    sides, stretched = [], mask
    for axis, size in enumerate(shape):
        start, stop = float(box[axis]), float(box[axis + 2])
        first, last = (min(max(0, ceil(edge - 0.5)), size) for edge in (start, stop))
        sides.append(slice(first, max(first, last)))
        # Between the centres of the mask's pixels; beyond the outermost their value counts
        places = (np.arange(first, last) + 0.5 - start) / max(stop - start, 1e-6) * mask.shape[axis] - 0.5
        places = places.clip(0, mask.shape[axis] - 1)
        below = places.astype(np.intp)
        above = np.minimum(below + 1, mask.shape[axis] - 1)
        fraction = (places - below).reshape((-1, 1) if axis == 0 else (1, -1))
        stretched = stretched.take(below, axis) * (1 - fraction) + stretched.take(above, axis) * fraction
    return (sides[0], sides[1]), stretched >= threshold


def _is_cut(box: Box, window: Window, shape: Sequence[int]) -> bool:
    return any(
        (inside.start > 0 and side.start - inside.start < CUT_MARGIN)
        or (inside.stop < size and inside.stop - side.stop < CUT_MARGIN)
        for side, inside, size in zip(box, window.inside, shape, strict=True)
    )


def _distance(box: Box, outer: Box) -> float:
    along = [(b.start + b.stop - o.start - o.stop) / 2 for b, o in zip(box, outer, strict=True)]
    return hypot(*along)
