"""Overlap-tile inference: the same answer for every tile size, batch size and thread count.

Networks that cannot promise that are run over sliding windows instead (`unetbio.sliding_window`).

Valid convolutions make a tiled prediction equal to that of the whole image up to the rounding of float32, since tiles
of different shapes take different kernels: about 1e-6. Decisions are made identical by a second look: where a
probability is within `DECISION_TOLERANCE` of a threshold, or two classes are about as probable, the network runs again
in float64, whose rounding (1e-14) no threshold meets. Tiles therefore change neither the probabilities beyond 1e-5 nor
any decision.

Memory is bounded by one tile, the planes of the result and one plane of doubtful pixels; the image is read tile by
tile.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from unetbio.errors import EnvironmentStoppedError, UsageError
from unetbio.geometry import Geometry
from unetbio.predictor import Predictor, Runner, TorchPredictor, choose_device
from unetbio.sliding_window import default_window, predict_windows
from unetbio.tiling import ArrayLike, Tile, TilePlan, plan_tiles, read_mirrored, split_tile, tile_of

__all__ = [
    "DECISION_TOLERANCE",
    "Predictor",
    "TorchPredictor",
    "choose_device",
    "decide",
    "decide_classes",
    "plan",
    "predict",
    "round_to_bytes",
]

DECISION_TOLERANCE = 1e-5
"""Probabilities nearer than this to a threshold are decided in float64: ten times what tiles change.

For input up to 1, as normalisation gives it; rounding grows with the input, and so does the tolerance.
"""

TIE_MARGIN = 2.0**-40
"""A float64 probability this little below a threshold equals it, and counts as above: 50 times its rounding."""

LOWEST_THRESHOLD = 1e-4
"""Nearer to 0 or 1 than this, a threshold would meet the probabilities of all the pixels that a network is sure of."""

FINE_STRIDES = 2
"""Side of a fine block in strides: an isolated pixel in doubt costs one."""

COARSE_CONTEXTS = 4
"""Side of a coarse block in contexts, at most: larger ones would save little work and take more memory."""

REMEMBERED_BLOCKS = 16
"""Float64 blocks whose input is compared with the next ones'."""

SHRINK = 0.75
"""After a device ran out of memory: the largest input tried again, as a part of the one that failed."""

Progress = Callable[[int, int], None]
Compute = Callable[[NDArray[np.float32]], NDArray[Any]]
# Gets where the probabilities of a tile lie in the image, and ``(K, *extent)``.
Keep = Callable[[tuple[slice, ...], NDArray[np.float32]], None]


def plan(
    shape: Sequence[int],
    predictor: Runner,
    *,
    tile: int | None = None,
    batch_size: int = 1,
    memory_budget: int | None = None,
) -> TilePlan:
    """The tiles that `predict` and `decide` would run, for dry runs and provenance.

    Parameters
    ----------
    shape : sequence of int
        Spatial shape of the image.
    predictor : Runner
        The network.
    tile : int, optional
        See `unetbio.tiling.plan_tiles`.
    batch_size : int
        Tiles that are run at once, and so share the budget.
    memory_budget : int, optional
        Bytes; the predictor's own unless given.

    Returns
    -------
    TilePlan
        Its cost is in multiply-adds. For a network that is not exact, the windows as if they did not overlap.
    """
    if batch_size < 1:
        raise UsageError(f"a batch of {batch_size} tiles cannot be run: give 1 or more")
    return plan_tiles(
        shape,
        predictor.geometry,
        tile=default_window(predictor) if tile is None and not predictor.exact else tile,
        cost=predictor.multiply_adds,
        memory=lambda input_shape: batch_size * predictor.memory_bytes(input_shape),
        memory_budget=predictor.memory_budget if memory_budget is None else memory_budget,
    )


def predict(
    image: ArrayLike,
    predictor: Predictor,
    *,
    tile: int | None = None,
    batch_size: int = 1,
    memory_budget: int | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Probabilities of every pixel.

    Parameters
    ----------
    image : array-like
        ``(C, *spatial)``, normalised; any spatial size from 1. It is sliced tile by tile and mirrored beyond its
        border.
    predictor : Predictor
        The network.
    tile, batch_size, memory_budget
        See `plan`. They change the result by rounding alone: less than 1e-5.
    progress : callable, optional
        Called with the pixels done and the pixels in all after each tile.

    Returns
    -------
    ndarray of float32
        ``(K, *spatial)``.

    Raises
    ------
    ImageError
        When the image is empty or has another number of channels than the network takes.
    UsageError
        When the image has another number of axes, or ``tile`` or ``batch_size`` is not one.
    EnvironmentStoppedError
        When not even a tile of one stride fits into the memory of the device.
    """
    tiles = plan(image.shape[1:], predictor, tile=tile, batch_size=batch_size, memory_budget=memory_budget)
    if not predictor.exact:
        return predict_windows(image, predictor, tile=tile, batch_size=batch_size, progress=progress)
    result = np.empty((predictor.num_classes, *tiles.shape), dtype=np.float32)
    for write_slices, probabilities in _run(
        image, predictor.probabilities, tiles, predictor.geometry, batch_size, progress
    ):
        result[(slice(None), *write_slices)] = probabilities
    return result


def decide(
    image: ArrayLike,
    predictor: Predictor,
    thresholds: Sequence[float],
    *,
    class_index: int = 1,
    tile: int | None = None,
    batch_size: int = 1,
    memory_budget: int | None = None,
    progress: Progress | None = None,
    probabilities_out: NDArray[np.float32] | None = None,
    rounded_out: NDArray[np.uint8] | None = None,
) -> NDArray[np.bool_]:
    """For each threshold, the pixels whose probability is at least that; identical for every tile plan.

    Probabilities within `DECISION_TOLERANCE` of a threshold (times the largest grey value, where that is above 1) are
    computed again in float64, over blocks of a fixed grid that begins at the image's first pixel: a fine one where few
    pixels of a region are in doubt, a coarse one where many are, whichever is less work. Blocks with equal input are
    computed once, so a flat image in doubt everywhere costs a few blocks; any other costs at most about three times its
    multiply-adds in float64 (2-D; more in 3-D, where blocks are smaller against the context).

    Parameters
    ----------
    image, predictor, tile, batch_size, memory_budget, progress
        See `predict`.
    thresholds : sequence of float
        Between 0.0001 and 0.9999. A probability that equals one (to 1e-12) is above it.
    class_index : int
        The class whose probability is meant.
    probabilities_out : ndarray of float32, optional
        ``(K, *spatial)``: filled with what `predict` would return.
    rounded_out : ndarray of uint8, optional
        ``(*spatial)``: filled with the probability of the class in 255ths (`round_to_bytes`), at a quarter of the
        memory. Where tiles change it by rounding, a pixel may differ by one.

    Returns
    -------
    ndarray of bool
        ``(len(thresholds), *spatial)``.

    Raises
    ------
    ImageError, UsageError, EnvironmentStoppedError
        As `predict`; also when a threshold or ``class_index`` is out of range.
    """
    _check_decision(thresholds, class_index, predictor.num_classes)
    rule = _AtLeast(tuple(thresholds), class_index)
    keep = _keeping(probabilities_out, rounded_out, class_index)
    return _decide(image, predictor, rule, tile, batch_size, memory_budget, progress, keep)


def decide_classes(
    image: ArrayLike,
    predictor: Predictor,
    *,
    tile: int | None = None,
    batch_size: int = 1,
    memory_budget: int | None = None,
    progress: Progress | None = None,
    probabilities_out: NDArray[np.float32] | None = None,
) -> NDArray[np.uint8]:
    """The most probable class of each pixel; identical for every tile plan.

    Where the two largest probabilities differ by less than twice the tolerance of `decide`, they are computed again in
    float64, as there. Classes that are equally probable (to 1e-12) are decided for the one with the lowest number.

    Parameters
    ----------
    image, predictor, tile, batch_size, memory_budget, progress, probabilities_out
        See `decide`.

    Returns
    -------
    ndarray of uint8
        ``(*spatial)``.

    Raises
    ------
    ImageError, UsageError, EnvironmentStoppedError
        As `predict`.
    """
    decided: NDArray[np.uint8] = _decide(
        image, predictor, _MostProbable(), tile, batch_size, memory_budget, progress, _keeping(probabilities_out)
    )[0]
    return decided


def round_to_bytes(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Probabilities in 255ths, to the nearest: a byte a pixel."""
    scaled = probability * np.float32(255)
    # A network can answer with what is no number, which has no byte.
    np.fmax(scaled, np.float32(0), out=scaled)
    # Beneath the point nothing is kept, so that this rounds.
    scaled += np.float32(0.5)
    return scaled.astype(np.uint8)


def _keeping(
    probabilities_out: NDArray[np.float32] | None,
    rounded_out: NDArray[np.uint8] | None = None,
    class_index: int = 0,
) -> Keep:
    """What fills the arrays that are given with the probabilities of each tile."""

    def keep(where: tuple[slice, ...], probabilities: NDArray[np.float32]) -> None:
        if probabilities_out is not None:
            probabilities_out[(slice(None), *where)] = probabilities
        if rounded_out is not None:
            rounded_out[where] = round_to_bytes(probabilities[class_index])

    return keep


class _Rule(Protocol):
    """How probabilities become decisions."""

    @property
    def planes(self) -> int:
        """Decisions a pixel."""

    @property
    def dtype(self) -> type[Any]:
        """Of a decision."""

    def look(self, probabilities: NDArray[np.float32], tolerance: float) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """``(K, *extent)`` to decisions ``(planes, *extent)``, and to the pixels in doubt, ``(*extent)``."""

    def settle(self, probabilities: NDArray[np.float64]) -> NDArray[Any]:
        """``(K, n)`` of pixels in doubt to ``(planes, n)``."""


@dataclass(frozen=True)
class _AtLeast:
    """Whether the probability of a class is at least each threshold."""

    thresholds: tuple[float, ...]
    class_index: int
    dtype: ClassVar[type[Any]] = np.bool_

    @property
    def planes(self) -> int:
        return len(self.thresholds)

    def look(self, probabilities: NDArray[np.float32], tolerance: float) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        planes = np.empty((self.planes, *probabilities.shape[1:]), np.bool_)
        in_doubt = np.zeros(probabilities.shape[1:], np.bool_)
        for plane, threshold in zip(planes, self.thresholds, strict=True):
            above = probabilities[self.class_index] - np.float32(threshold)
            plane[...] = above >= 0
            in_doubt |= np.abs(above) < tolerance
        return planes, in_doubt

    def settle(self, probabilities: NDArray[np.float64]) -> NDArray[Any]:
        certain = probabilities[self.class_index]
        return np.stack([certain >= threshold - TIE_MARGIN for threshold in self.thresholds])


class _MostProbable:
    """The number of the most probable class; of equals the lowest."""

    planes = 1
    dtype: type[Any] = np.uint8

    def look(self, probabilities: NDArray[np.float32], tolerance: float) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        second, first = np.partition(probabilities, (-2, -1), axis=0)[-2:]
        # Each of the two may be off by what one alone is.
        return probabilities.argmax(axis=0)[np.newaxis], first - second < 2 * tolerance

    def settle(self, probabilities: NDArray[np.float64]) -> NDArray[Any]:
        largest: NDArray[np.bool_] = probabilities >= probabilities.max(axis=0) - TIE_MARGIN
        lowest: NDArray[np.intp] = largest.argmax(axis=0)
        return lowest[np.newaxis]


def _decide(
    image: ArrayLike,
    predictor: Predictor,
    rule: _Rule,
    tile: int | None,
    batch_size: int,
    memory_budget: int | None,
    progress: Progress | None,
    keep: Keep,
) -> NDArray[Any]:
    """Decisions ``(planes, *spatial)``, with a second look in float64 at what is in doubt."""
    tiles = plan(image.shape[1:], predictor, tile=tile, batch_size=batch_size, memory_budget=memory_budget)
    if not predictor.exact:
        blended = predict_windows(image, predictor, tile=tile, batch_size=batch_size, progress=progress)
        keep((), blended)
        decided: NDArray[Any] = rule.look(blended, 0.0)[0].astype(rule.dtype, copy=False)
        return decided
    planes: NDArray[Any] = np.empty((rule.planes, *tiles.shape), dtype=rule.dtype)
    doubtful = np.zeros(tiles.shape, dtype=bool)
    tolerance = DECISION_TOLERANCE * max(1.0, _largest(image))
    for write_slices, probabilities in _run(
        image, predictor.probabilities, tiles, predictor.geometry, batch_size, progress
    ):
        keep(write_slices, probabilities)
        planes[(slice(None), *write_slices)], doubtful[write_slices] = rule.look(probabilities, tolerance)
    _settle(image, predictor, rule, doubtful, planes)
    return planes


def _largest(image: ArrayLike) -> float:
    # One row (or section) of every channel at a time: the image may be larger than memory.
    return max(float(np.abs(image[:, row : row + 1]).max()) for row in range(image.shape[1]))


def _check_decision(thresholds: Sequence[float], class_index: int, num_classes: int) -> None:
    for threshold in thresholds:
        if not LOWEST_THRESHOLD <= threshold <= 1 - LOWEST_THRESHOLD:
            raise UsageError(
                f"a probability threshold of {threshold} cannot be used: give one from {LOWEST_THRESHOLD} "
                f"to {1 - LOWEST_THRESHOLD}"
            )
    if not 0 <= class_index < num_classes:
        raise UsageError(f"there is no class {class_index}: the network has classes 0 to {num_classes - 1}")


def _settle(
    image: ArrayLike, predictor: Predictor, rule: _Rule, doubtful: NDArray[np.bool_], planes: NDArray[Any]
) -> None:
    """Decide the doubtful pixels in float64, in place."""
    blocks = _blocks(doubtful, predictor)
    compute = _remembering(predictor.probabilities_float64)
    for write_slices, probabilities in _run(image, compute, blocks, predictor.geometry, 1, None):
        here = doubtful[write_slices]
        planes[(slice(None), *write_slices)][:, here] = rule.settle(probabilities[:, here])


def _blocks(doubtful: NDArray[np.bool_], predictor: Predictor) -> Iterator[Tile]:
    """Blocks of the fixed grids that hold all doubtful pixels."""
    geometry = predictor.geometry
    fine, coarse = _block_shapes(predictor)
    fine_cost = predictor.multiply_adds(geometry.input_size(fine))
    coarse_cost = predictor.multiply_adds(geometry.input_size(coarse))
    # One row of coarse blocks at a time, so that the positions of doubtful pixels stay few.
    for row in range(0, doubtful.shape[0], coarse[0]):
        pixels = np.argwhere(doubtful[row : row + coarse[0]])
        pixels[:, 0] += row
        by_coarse: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        for block in np.unique(pixels // fine, axis=0) * fine:
            by_coarse.setdefault(tuple((block // coarse * coarse).tolist()), []).append(tuple(block.tolist()))
        for start, members in by_coarse.items():
            if len(members) * fine_cost > coarse_cost:
                yield _block(start, coarse, doubtful.shape, geometry)
            else:
                yield from (_block(member, fine, doubtful.shape, geometry) for member in members)


def _block_shapes(predictor: Predictor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Fine blocks of two strides, and coarse ones so much larger that little of their work is context."""
    geometry = predictor.geometry
    fine = tuple(FINE_STRIDES * stride for stride in geometry.stride)
    wanted = max(1, *(COARSE_CONTEXTS * lost // size for lost, size in zip(geometry.context, fine, strict=True)))
    factor = 1 << (wanted.bit_length() - 1)

    def memory(times: int) -> int:
        # Twice that of float32
        return 2 * predictor.memory_bytes(geometry.input_size([times * size for size in fine]))

    while factor > 1 and memory(factor) > predictor.memory_budget:
        factor //= 2
    return fine, tuple(factor * size for size in fine)


def _block(start: Sequence[int], shape: Sequence[int], image_shape: Sequence[int], geometry: Geometry) -> Tile:
    stop = [min(begin + size, end) for begin, size, end in zip(start, shape, image_shape, strict=True)]
    return tile_of(start, stop, geometry)


def _remembering(compute: Compute) -> Compute:
    """``compute`` that knows its last answers: the background of an image is full of equal blocks."""
    known: dict[bytes, NDArray[Any]] = {}

    def remembered(batch: NDArray[np.float32]) -> NDArray[Any]:
        digest = hashlib.sha256(f"{batch.shape}".encode() + batch.tobytes()).digest()
        if digest not in known:
            if len(known) >= REMEMBERED_BLOCKS:
                known.pop(next(iter(known)))
            known[digest] = compute(batch)
        return known[digest]

    return remembered


def _run(
    image: ArrayLike,
    compute: Compute,
    tiles: Iterable[Tile],
    geometry: Geometry,
    batch_size: int,
    progress: Progress | None,
) -> Iterator[tuple[tuple[slice, ...], NDArray[Any]]]:
    """Compute tiles in batches of equal shape; yields where each answer goes and the answer, ``(K, *extent)``."""
    runner = _Runner(image, compute, geometry)
    total, done = prod(image.shape[1:]), 0
    for group in _groups(tiles, batch_size):
        for tile, probabilities in runner.run(group):
            yield tile.write_slices, probabilities[(slice(None), *(slice(0, size) for size in tile.write_shape))]
            done += prod(tile.write_shape)
            if progress is not None:
                progress(done, total)


def _groups(tiles: Iterable[Tile], batch_size: int) -> Iterator[list[Tile]]:
    waiting: dict[tuple[int, ...], list[Tile]] = {}
    for tile in tiles:
        group = waiting.setdefault(tile.read_shape, [])
        group.append(tile)
        if len(group) == batch_size:
            yield waiting.pop(tile.read_shape)
    yield from waiting.values()


class _Runner:
    """Runs groups of tiles, and halves what the memory of the device cannot hold."""

    def __init__(self, image: ArrayLike, compute: Compute, geometry: Geometry) -> None:
        self.image = image
        self.compute = compute
        self.geometry = geometry
        self.most_pixels: float = float("inf")

    def run(self, group: list[Tile]) -> Iterator[tuple[Tile, NDArray[Any]]]:
        """Yield each tile, or the tiles that it was split into, with the answer."""
        pending = deque([group])
        while pending:
            tiles = pending.popleft()
            pixels = len(tiles) * prod(tiles[0].read_shape)
            smaller = self._smaller(tiles) if pixels > self.most_pixels else []
            if not smaller:
                answers = self._attempt(tiles)
                if answers is not None:
                    yield from zip(tiles, answers, strict=True)
                    continue
                # Sizes near the one that failed would fail as well, each after some time.
                self.most_pixels = min(self.most_pixels, SHRINK * pixels)
                smaller = self._smaller(tiles)
                if not smaller:
                    raise _no_room(tiles[0])
            pending.extendleft(reversed(smaller))

    def _attempt(self, tiles: list[Tile]) -> NDArray[Any] | None:
        try:
            parts = [read_mirrored(self.image, tile.read_start, tile.read_shape) for tile in tiles]
            return self.compute(np.stack(parts).astype(np.float32, copy=False))
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
        # Outside the handler, where the failed pass no longer holds what it had allocated.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None

    def _smaller(self, tiles: list[Tile]) -> list[list[Tile]]:
        """Half a batch and the other half, or the halves of a tile; nothing when it cannot be halved."""
        if len(tiles) > 1:
            middle = len(tiles) // 2
            return [tiles[:middle], tiles[middle:]]
        return [[part] for part in split_tile(tiles[0], self.geometry) or ()]


def _no_room(tile: Tile) -> EnvironmentStoppedError:
    size = " x ".join(map(str, tile.read_shape))
    return EnvironmentStoppedError(
        f"out of memory: the device cannot hold even the smallest tile ({size} pixels of input); "
        "free memory, run fewer workers, or choose --device cpu"
    )


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # The allocator of the CPU raises a plain RuntimeError.
    message = str(error).lower()
    return "can't allocate memory" in message or "not enough memory" in message or "out of memory" in message
