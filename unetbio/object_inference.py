"""Objects of an image of any size, found window by window; an object that lies across windows is one object.

1.  Windows overlap and cover the image; where it is smaller than a window it is mirrored. Each pixel belongs to the
    core of one window, the one in which it lies farthest from the rim.
2.  In a window objects are drawn by falling score. A pixel belongs to the first object that takes it; an object that
    gets less than half of its own pixels is one that was found already, and is left out.
3.  A piece that comes near a rim of its window, beyond which the image goes on, may be cut. A cut piece without a pixel
    in the core of its window is left out: it is another window's to see.
4.  Pieces of two windows are the same object where, in the strip that both windows see, their intersection is at least
    half of their union. This is carried on from window to window, as connected components of a graph.
5.  Of the pieces of an object one that is not cut counts, the one nearest to the centre of its window; if all are cut
    their union counts. Objects are drawn into the label image as in step 2.

With a detector that finds the true objects this gives the true label image, whatever the size of objects and windows,
as long as each object is connected: two neighbouring pixels on either side of the line between two cores lie in the
strip of both windows, so that all pieces of an object that count are joined.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from math import ceil, hypot, prod
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage, sparse
from torch import Tensor, nn

from unetbio.errors import ImageError, UsageError
from unetbio.geometry import Geometry
from unetbio.labels import LabelImage, relabel_raster
from unetbio.network_cost import NetworkCost, measure_cost
from unetbio.networks.mask_rcnn import Objects
from unetbio.objects import MASK_THRESHOLD, SCORE_THRESHOLD, ObjectTable, bounding_boxes
from unetbio.predictor import MEMORY_BUDGETS, fold_batch_norm
from unetbio.sliding_window import OVERLAP, WINDOW
from unetbio.tiling import ArrayLike, read_mirrored

__all__ = [
    "Detector",
    "FoundObjects",
    "TorchDetector",
    "find_objects",
    "merge_objects",
    "predict_objects",
]

CUT_MARGIN = 2
"""Pixels from the rim of a window within which an object counts as cut: networks draw cut objects a little short."""

SAME_OBJECT = 0.5
"""Intersection over union, within the strip that two windows share, from which on two pieces are one object."""

LEFT_OVER = 0.5
"""Share of its pixels that an object must get to be drawn."""

Progress = Callable[[int, int], None]
Box = tuple[slice, slice]


class Detector(Protocol):
    """What is needed of a network that finds objects; tests put other things in its place."""

    @property
    def geometry(self) -> Geometry:
        """Legal sizes."""

    @property
    def in_channels(self) -> int:
        """Channels of the image."""

    def find_objects(self, image: Tensor) -> Objects:
        """Objects of an image ``(1, C, H, W)``, with masks of any size, the same for all."""


class TorchDetector:
    """A network as it is run over windows: evaluation mode, batch norm folded into the convolutions, channels last.

    The network is copied; what happens to it afterwards changes nothing here.

    Parameters
    ----------
    network : torch.nn.Module
        With the attributes ``geometry`` and ``in_channels`` and the method ``find_objects``.
    device : torch.device or str
        Where it runs.

    Attributes
    ----------
    exact : bool
        False: the answer depends on the windows.
    """

    exact = False

    def __init__(self, network: nn.Module, device: torch.device | str = "cpu") -> None:
        original: Any = network
        stride = original.geometry.stride
        self.geometry = Geometry((0, 0), stride, stride, "same")
        self.in_channels: int = original.in_channels
        self.device = torch.device(device)
        # Folded in float64 and rounded once; Apple's GPUs have no float64.
        folded: Any = fold_batch_norm(copy.deepcopy(network).cpu().double().eval()).float()
        self._network = folded.to(self.device, memory_format=torch.channels_last)

    @cached_property
    def _cost(self) -> NetworkCost:
        return measure_cost(_WholeImagePart(self._network), self.geometry, self.in_channels)

    @property
    def memory_budget(self) -> int:
        """Bytes of feature maps that a window may hold."""
        return MEMORY_BUDGETS[2]

    def find_objects(self, image: Tensor) -> Objects:
        """Objects of an image ``(1, C, H, W)``, on the device."""
        with torch.inference_mode():
            found: Objects = self._network.find_objects(image.to(self.device))
        return found

    def multiply_adds(self, input_shape: Sequence[int]) -> int:
        """Multiply-adds for one window, without those for what is found in it."""
        return self._cost.multiply_adds(input_shape)

    def memory_bytes(self, input_shape: Sequence[int]) -> int:
        """Bytes of feature maps that are held at once for one window, without those for what is found in it."""
        return self._cost.memory_bytes(input_shape)


class _WholeImagePart(nn.Module):
    """What a network computes for the whole window; its price grows with the window's size."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        finest: Tensor = self.network(image).pyramid[0]
        return finest


@dataclass(frozen=True)
class _Window:
    """Part of an image.

    Parameters
    ----------
    inside : tuple of slice
        The pixels of the image that it sees.
    core : tuple of slice
        Those that it answers for.
    """

    inside: Box
    core: Box


@dataclass(frozen=True)
class FoundObjects:
    """Objects of every window, of any score, before they are merged.

    Parameters
    ----------
    shape : tuple of int
        Spatial shape of the image.
    grid : tuple of sequence of int
        Where windows start, along each axis.
    window : tuple of int
        Their size; it may reach beyond the image.
    objects : sequence of Objects
        One a window, in raster order, on the CPU; boxes count from the window's first pixel.
    """

    shape: tuple[int, int]
    grid: tuple[Sequence[int], Sequence[int]]
    window: tuple[int, int]
    objects: Sequence[Objects]


def predict_objects(
    image: ArrayLike,
    network: Detector,
    *,
    window: int = WINDOW,
    overlap: float = OVERLAP,
    score_threshold: float = SCORE_THRESHOLD,
    mask_threshold: float = MASK_THRESHOLD,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> tuple[LabelImage, ObjectTable]:
    """Find the objects of an image: `find_objects`, then `merge_objects`; parameters, results and errors are theirs."""
    found = find_objects(image, network, window=window, overlap=overlap, device=device, progress=progress)
    return merge_objects(found, score_threshold=score_threshold, mask_threshold=mask_threshold)


def find_objects(
    image: ArrayLike,
    network: Detector,
    *,
    window: int = WINDOW,
    overlap: float = OVERLAP,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> FoundObjects:
    """Run a network over windows: the part that takes time, and that does not depend on thresholds.

    Parameters
    ----------
    image : array-like
        ``(C, Y, X)``, normalised; any size from 1. Windows are sliced out of it one by one.
    network : Detector
        A `torch.nn.Module` is made a `TorchDetector` first.
    window : int
        Pixels of a window along each axis, rounded up to a size that is legal. An image that is smaller gets a smaller
        window.
    overlap : float
        Share of a window that the next one sees again, at least; windows are spread evenly.
    device : torch.device or str
        Where a `torch.nn.Module` is run.
    progress : callable, optional
        Called with the pixels done and the pixels in all after each window.

    Raises
    ------
    ImageError
        When the image is empty or has another number of channels than the network takes.
    UsageError
        When the image has another number of spatial axes than two, or ``window`` or ``overlap`` cannot be meant.
    """
    shape = _checked_shape(image, network)
    if window < 3:
        raise UsageError(f"windows of {window} pixels cannot be used: give 3 or more, so that neighbours can share two")
    if not 0 < overlap < 1:
        raise UsageError(f"an overlap of {overlap} cannot be used: give the share of a window, above 0 and below 1")
    sizes = [
        min(_legal(window, stride), _legal(length, stride))
        for length, stride in zip(shape, network.geometry.stride, strict=True)
    ]
    grid = tuple(_starts(length, size, overlap) for length, size in zip(shape, sizes, strict=True))
    found = FoundObjects(shape, (grid[0], grid[1]), (sizes[0], sizes[1]), objects := [])
    run = TorchDetector(network, device) if isinstance(network, nn.Module) else network
    done = 0
    for start, part in zip(product(*grid), _windows(found), strict=True):
        pixels = np.ascontiguousarray(read_mirrored(image, start, sizes), dtype=np.float32)
        answer = run.find_objects(torch.from_numpy(pixels)[None])
        objects.append(Objects(*(getattr(answer, name).cpu() for name in ("boxes", "scores", "classes", "masks"))))
        done += prod(side.stop - side.start for side in part.core)
        if progress is not None:
            progress(done, prod(shape))
    return found


def merge_objects(
    found: FoundObjects, *, score_threshold: float = SCORE_THRESHOLD, mask_threshold: float = MASK_THRESHOLD
) -> tuple[LabelImage, ObjectTable]:
    """Make one label image of the objects of all windows; the module says how.

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
        ``bbox_y_stop``, ``bbox_x_start``, ``bbox_x_stop`` in whole pixels, named as `unetbio.measurements` names them.
        An object in pieces has the largest score among them, and that piece's class.
    """
    windows = list(_windows(found))
    pieces: list[_Piece] = []
    planes = [
        _draw_window(number, window, objects, found.shape, pieces, score_threshold, mask_threshold)
        for number, (window, objects) in enumerate(zip(windows, found.objects, strict=True))
    ]
    groups = _same_objects(found, windows, planes, pieces)
    chosen = sorted((_choose_pieces(group) for group in groups), key=lambda group: -max(p.score for p in group))
    plane = np.zeros(found.shape, dtype=np.int32)
    _draw(plane, (_join_pieces(group, windows, planes) for group in chosen))
    label_image = relabel_raster(plane)
    return label_image, _table(label_image, plane, [max(group, key=lambda p: p.score) for group in chosen])


@dataclass(frozen=True)
class _Piece:
    """An object as one window sees it.

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


def _checked_shape(image: ArrayLike, network: Detector) -> tuple[int, int]:
    if len(image.shape) != 3:
        raise UsageError(
            f"the network takes 2 spatial axes, the image has {len(image.shape) - 1}: {tuple(image.shape[1:])}"
        )
    channels, height, width = image.shape
    if channels != network.in_channels:
        raise ImageError(
            "wrong_channels",
            f"the image has {channels} channels and the network takes {network.in_channels}: "
            "choose channels, or a model for this kind of image",
        )
    if min(height, width) < 1:
        raise ImageError("empty_image", f"an image of {(height, width)} pixels is empty: nothing can be found in it")
    return height, width


def _legal(size: int, stride: int) -> int:
    return ceil(size / stride) * stride


def _starts(length: int, size: int, overlap: float) -> list[int]:
    """Where windows of ``size`` pixels start that cover ``length``: spread evenly, at least two pixels shared."""
    if length <= size:
        return [0]
    shared = min(max(2, ceil(overlap * size)), size - 1)
    count = ceil((length - shared) / (size - shared))
    return [index * (length - size) // (count - 1) for index in range(count)]


def _windows(found: FoundObjects) -> Iterator[_Window]:
    axes = []
    for starts, size, length in zip(found.grid, found.window, found.shape, strict=True):
        middles = [(start + size + following) // 2 for start, following in pairwise(starts)]
        edges = [0, *middles, length]
        axes.append(
            [(slice(s, min(s + size, length)), slice(*core)) for s, core in zip(starts, pairwise(edges), strict=True)]
        )
    for (rows, core_rows), (columns, core_columns) in product(*axes):
        yield _Window((rows, columns), (core_rows, core_columns))


def _within(box: Box, outer: Box) -> Box:
    """The same pixels, counted from the first of ``outer``."""
    rows, columns = (slice(s.start - o.start, s.stop - o.start) for s, o in zip(box, outer, strict=True))
    return rows, columns


def _draw(plane: NDArray[np.int32], masks: Iterable[tuple[Box, NDArray[np.bool_]]]) -> None:
    """Draw objects, the best first: the pixels that are free, if they are enough, get its number, counted from 1."""
    for number, (box, mask) in enumerate(masks, start=1):
        part = plane[box]
        free = mask & (part == 0)
        count = np.count_nonzero(free)
        if count and count >= LEFT_OVER * np.count_nonzero(mask):
            part[free] = number


def _draw_window(
    window_number: int,
    window: _Window,
    objects: Objects,
    shape: Sequence[int],
    pieces: list[_Piece],
    score_threshold: float,
    mask_threshold: float,
) -> NDArray[np.int32]:
    """Draw the objects of a window, note the pieces that count, and give the plane with their numbers."""
    scores, boxes, masks = (part.numpy() for part in (objects.scores, objects.boxes, objects.masks))
    order = [index for index in np.argsort(-scores, kind="stable") if scores[index] >= score_threshold]
    plane = np.zeros([side.stop - side.start for side in window.inside], dtype=np.int32)
    _draw(plane, (_paste(boxes[index], masks[index], plane.shape, mask_threshold) for index in order))
    answered_for = set(np.unique(plane[_within(window.core, window.inside)]).tolist())
    numbers = np.zeros(len(order) + 1, dtype=np.int32)
    for drawn, box in enumerate(ndimage.find_objects(plane), start=1):
        if box is None:
            continue
        box = tuple(slice(s.start + o.start, s.stop + o.start) for s, o in zip(box, window.inside, strict=True))
        is_cut = _is_cut(box, window, shape)
        if is_cut and drawn not in answered_for:
            continue
        index = order[drawn - 1]
        numbers[drawn] = len(pieces) + 1
        pieces.append(
            _Piece(
                window=window_number,
                number=len(pieces) + 1,
                box=box,
                is_cut=is_cut,
                distance=_distance(box, window.inside),
                score=float(scores[index]),
                object_class=int(objects.classes[index]),
            )
        )
    return numbers[plane]


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


def _is_cut(box: Box, window: _Window, shape: Sequence[int]) -> bool:
    return any(
        (inside.start > 0 and side.start - inside.start < CUT_MARGIN)
        or (inside.stop < size and inside.stop - side.stop < CUT_MARGIN)
        for side, inside, size in zip(box, window.inside, shape, strict=True)
    )


def _distance(box: Box, outer: Box) -> float:
    along = [(b.start + b.stop - o.start - o.stop) / 2 for b, o in zip(box, outer, strict=True)]
    return hypot(*along)


def _same_objects(
    found: FoundObjects, windows: Sequence[_Window], planes: Sequence[NDArray[np.int32]], pieces: Sequence[_Piece]
) -> list[list[_Piece]]:
    """Pieces of one object each."""
    pairs = [np.zeros((0, 2), dtype=np.int64)]
    for first, second in _neighbours(found):
        strip = _intersection(windows[first].inside, windows[second].inside)
        pairs.append(_matches(*(planes[number][_within(strip, windows[number].inside)] for number in (first, second))))
    rows, columns = np.concatenate(pairs).T - 1
    graph = sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(pieces), len(pieces)))
    count, group_of = sparse.csgraph.connected_components(graph, directed=False)
    groups: list[list[_Piece]] = [[] for _ in range(count)]
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


def _choose_pieces(group: Sequence[_Piece]) -> list[_Piece]:
    whole = [piece for piece in group if not piece.is_cut]
    return [min(whole, key=lambda piece: piece.distance)] if whole else list(group)


def _join_pieces(
    group: Sequence[_Piece], windows: Sequence[_Window], planes: Sequence[NDArray[np.int32]]
) -> tuple[Box, NDArray[np.bool_]]:
    """Union of the pieces of an object."""
    rows, columns = (
        slice(min(piece.box[axis].start for piece in group), max(piece.box[axis].stop for piece in group))
        for axis in range(2)
    )
    mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=np.bool_)
    for piece in group:
        part = planes[piece.window][_within(piece.box, windows[piece.window].inside)]
        mask[_within(piece.box, (rows, columns))] |= part == piece.number
    return (rows, columns), mask


def _table(label_image: LabelImage, plane: NDArray[np.int32], best: Sequence[_Piece]) -> ObjectTable:
    drawn = np.zeros(int(label_image.max(initial=0)) + 1, dtype=np.int32)
    drawn[label_image] = plane
    rows = [best[number - 1] for number in drawn[1:]]
    return {
        "label": np.arange(1, len(rows) + 1),
        "class": np.array([piece.object_class for piece in rows], dtype=np.int64),
        "score": np.array([piece.score for piece in rows], dtype=np.float64),
        **bounding_boxes(label_image),
    }
