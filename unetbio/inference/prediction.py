"""Overlap-tile inference: the same masks for every tile size, batch size and thread count.

Networks without exact tiles run over sliding windows (`unetbio.inference.sliding_window`).

Valid convolutions make a tiled prediction equal to that of the whole image up to the rounding of float32, since tiles
of different shapes take different kernels: about 1e-6. The network runs again in float64 for pixels whose probability
is within the backend's error bound of a threshold, or whose two best classes are about as probable
(`unetbio.inference.exact_decisions`). Tiles therefore change probabilities by less than 1e-5, and no decision.

Memory is bounded by one tile, the planes of the result and one plane of doubtful pixels; the image is read tile by
tile.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import groupby
from math import isfinite, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import UsageError
from unetbio.inference.backends.base import MEMORY_BUDGETS, Predictor, Runner
from unetbio.inference.exact_decisions import AtLeast, CellsAndClasses, MostProbable, Rule, add_classes, refine
from unetbio.inference.executors import OnTile, Progress, TileExecutor
from unetbio.inference.sliding_window import default_window, predict_windows
from unetbio.inference.tiling import ArrayLike, Tile, TilePlan, plan_tiles
from unetbio.postprocessing.bands import Allocate, Area, FinishedBands, RowArray
from unetbio.timing import stage

__all__ = [
    "decide",
    "decide_cells_and_classes",
    "decide_classes",
    "plan",
    "predict",
    "round_to_bytes",
    "without_outside",
]

LOOKED_AT = 1 << 22
"""Pixels whose largest grey value is looked for at once."""

LOWEST_THRESHOLD = 1e-4
"""A threshold nearer to 0 or 1 than this meets the probabilities of all pixels that a network is certain of."""


def plan(
    shape: Sequence[int],
    predictor: Runner,
    *,
    tile: int | None = None,
    batch_size: int = 1,
    memory_budget: int | None = None,
) -> TilePlan:
    """Tiles that `predict` and `decide` run, for dry runs and provenance.

    Parameters
    ----------
    shape : sequence of int
        Spatial shape of the image.
    predictor : Runner
        The network.
    tile : int, optional
        See `unetbio.inference.tiling.plan_tiles`.
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
    result = np.empty((predictor.num_classes, *image.shape[1:]), dtype=np.float32)
    _run(image, predictor, tile, batch_size, memory_budget, progress, _storing(result))
    return result


def decide(
    image: ArrayLike,
    predictor: Predictor,
    thresholds: Sequence[float],
    *,
    classes: Sequence[Sequence[int]] | None = None,
    tile: int | None = None,
    batch_size: int = 1,
    memory_budget: int | None = None,
    progress: Progress | None = None,
    probabilities_out: NDArray[np.float32] | None = None,
    rounded_out: Any = None,
    allocate: Allocate = np.zeros,
    finished: FinishedBands | None = None,
    area: Area | None = None,
) -> Any:
    """For each threshold, the pixels whose probability is at least that; identical for every tile plan.

    Probabilities within the backend's ``error_bound`` of a threshold (times the largest grey value, where that is above
    1) are computed again in float64, over blocks of a fixed grid that begins at the image's first pixel: a fine one
    where few pixels of a region are in doubt, a coarse one where many are, so that the work is least. Blocks with equal
    input are computed once, so a flat image in doubt everywhere costs a few blocks; any other costs at most about three
    times its multiply-adds in float64 (2-D; more in 3-D, where blocks are smaller against the context).

    Parameters
    ----------
    image, predictor, tile, batch_size, memory_budget, progress
        See `predict`.
    thresholds : sequence of float
        Between 0.0001 and 0.9999. A probability that equals one (to 1e-12) is above it.
    classes : sequence of sequence of int, optional
        For each threshold the classes whose probabilities are added; class 1 for all unless given.
    probabilities_out : ndarray of float32, optional
        ``(K, *spatial)``: filled with the result of `predict`.
    rounded_out : ndarray of uint8, optional
        ``(*spatial)``: filled with the probability of the first threshold's classes in 255ths (`round_to_bytes`), at a
        quarter of the memory. Where tiles change it by rounding, a pixel may differ by one.
    allocate : callable
        Makes the arrays of the size of the image, which may be on disk.
    finished : FinishedBands, optional
        Rows of tiles that were computed before are taken from here, and those that are computed are kept here; of an
        exact network, with ``rounded_out`` and without ``probabilities_out``.
    area : Area, optional
        Pixels that are wanted; all others are certain to be background, and tiles of them alone are not computed. What
        the network sees of the wanted pixels stays the same.

    Returns
    -------
    array of bool
        ``(len(thresholds), *spatial)``.

    Raises
    ------
    ImageError, UsageError, EnvironmentStoppedError
        As `predict`; also when a threshold or a class is out of range.
    """
    rule = _thresholds(predictor, thresholds, classes or [(1,)] * len(thresholds))
    on_tile = _storing(probabilities_out, rounded_out, rule.classes[0])
    kept = None if finished is None or probabilities_out is not None else (finished, rounded_out)
    return _decide(image, predictor, rule, tile, batch_size, memory_budget, progress, on_tile, area, allocate, kept)


def decide_cells_and_classes(
    image: ArrayLike,
    predictor: Predictor,
    thresholds: Sequence[float],
    *,
    classes: Sequence[Sequence[int]],
    tile: int | None = None,
    batch_size: int = 1,
    memory_budget: int | None = None,
    progress: Progress | None = None,
    probabilities_out: NDArray[np.float32] | None = None,
    rounded_out: NDArray[np.uint8] | None = None,
    area: Area | None = None,
) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """`decide`, and the most probable class of each pixel above the first threshold but the background.

    Parameters
    ----------
    image, predictor, thresholds, classes, tile, batch_size, memory_budget, progress, probabilities_out, rounded_out
        See `decide`.
    area
        See `decide`.

    Returns
    -------
    planes : ndarray of bool
        ``(len(thresholds), *spatial)``.
    classes : ndarray of uint8
        ``(*spatial)``: from 1, and 0 below the first threshold; of equally probable ones the lowest.

    Raises
    ------
    ImageError, UsageError, EnvironmentStoppedError
        As `decide`.
    """
    rule = CellsAndClasses(_thresholds(predictor, thresholds, classes))
    on_tile = _storing(probabilities_out, rounded_out, rule.cells.classes[0])
    planes = _decide(image, predictor, rule, tile, batch_size, memory_budget, progress, on_tile, area)
    return planes[:-1].view(np.bool_), planes[-1]


def decide_classes(
    image: ArrayLike,
    predictor: Predictor,
    *,
    tile: int | None = None,
    batch_size: int = 1,
    memory_budget: int | None = None,
    progress: Progress | None = None,
    probabilities_out: NDArray[np.float32] | None = None,
    area: Area | None = None,
) -> NDArray[np.uint8]:
    """The most probable class of each pixel; identical for every tile plan.

    Where the two largest probabilities differ by less than twice the tolerance of `decide`, they are computed again in
    float64, as there. Classes that are equally probable (to 1e-12) are decided for the one with the lowest number.

    Parameters
    ----------
    image, predictor, tile, batch_size, memory_budget, progress, probabilities_out, area
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
    on_tile = _storing(probabilities_out)
    planes = _decide(image, predictor, MostProbable(), tile, batch_size, memory_budget, progress, on_tile, area)
    decided: NDArray[np.uint8] = planes[0]
    return decided


def without_outside(probabilities: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Make pixels background with certainty that are not inside.

    Parameters
    ----------
    probabilities : ndarray
        ``(K, *extent)``; it stays as it is.
    inside : ndarray of bool
        ``(rows, columns)``, the last two axes of the extent.
    """
    if inside.all():
        return probabilities
    kept = np.where(inside, probabilities, np.float32(0))
    kept[0][..., ~inside] = 1
    return kept


def round_to_bytes(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Probabilities in 255ths, to the nearest: a byte a pixel."""
    scaled = probability * np.float32(255)
    # A network can give NaN, which has no byte.
    np.fmax(scaled, np.float32(0), out=scaled)
    # The conversion cuts the fraction off, so that adding .5 rounds.
    scaled += np.float32(0.5)
    return scaled.astype(np.uint8)


def _storing(
    probabilities_out: NDArray[np.float32] | None,
    rounded_out: Any = None,
    classes: Sequence[int] = (),
) -> OnTile:
    """Callback that stores the probabilities of each tile in the given arrays."""

    def store(where: tuple[slice, ...], probabilities: NDArray[np.float32]) -> None:
        if probabilities_out is not None:
            probabilities_out[(slice(None), *where)] = probabilities
        if rounded_out is not None:
            rounded_out[where] = round_to_bytes(add_classes(probabilities, classes))

    return store


def _decide(
    image: ArrayLike,
    predictor: Predictor,
    rule: Rule,
    tile: int | None,
    batch_size: int,
    memory_budget: int | None,
    progress: Progress | None,
    on_tile: OnTile,
    area: Area | None,
    allocate: Allocate = np.zeros,
    kept: tuple[FinishedBands, RowArray] | None = None,
) -> Any:
    """Decisions ``(planes, *spatial)``; of an exact network in full precision, those near a threshold from float64."""
    planes = allocate((rule.planes, *image.shape[1:]), rule.dtype)
    doubtful = allocate(tuple(image.shape[1:]), np.bool_)
    is_refined = predictor.exact and isfinite(predictor.error_bound)
    tolerance = predictor.error_bound * max(1.0, _largest(image)) if is_refined else 0.0

    def classify(where: tuple[slice, ...], probabilities: NDArray[np.float32]) -> None:
        on_tile(where, probabilities)
        planes[(slice(None), *where)], in_doubt = rule.classify_pixels(probabilities, tolerance)
        # Where grey values are far above 1, even pixels that are certain are in doubt.
        doubtful[where] = in_doubt if area is None else in_doubt & area(where)

    rows = None
    if kept is not None and predictor.exact:
        finished, rounded = kept
        # Decisions in doubt are made again: they are few.
        rows = _RowsOfTiles(finished, repr(rule), (planes, doubtful, rounded))
    _run(image, predictor, tile, batch_size, memory_budget, progress, classify, area, rows)
    if is_refined:
        budget = predictor.memory_budget if memory_budget is None else memory_budget
        # Float64 is computed on the CPU, whatever memory the device has.
        budget = min(budget, MEMORY_BUDGETS[predictor.geometry.ndim])
        with stage("exact decisions"):
            refine(image, predictor, rule, doubtful, planes, budget, progress)
    return planes


def _run(
    image: ArrayLike,
    predictor: Predictor,
    tile: int | None,
    batch_size: int,
    memory_budget: int | None,
    progress: Progress | None,
    on_tile: OnTile,
    area: Area | None = None,
    rows: "_RowsOfTiles | None" = None,
) -> None:
    """Tiles of an exact network, blended windows of any other."""
    on_tile = on_tile if area is None else _within(area, on_tile)
    with stage("network"):
        if predictor.exact:
            tiles = plan(image.shape[1:], predictor, tile=tile, batch_size=batch_size, memory_budget=memory_budget)
            executor = TileExecutor(predictor, predictor.probabilities, batch_size, area)
            if rows is None:
                executor.run(image, tiles, on_tile, progress=progress)
            else:
                rows.run(image, executor, tiles, on_tile, progress)
        else:
            on_tile((), predict_windows(image, predictor, tile=tile, batch_size=batch_size, progress=progress))


def _within(area: Area, on_tile: OnTile) -> OnTile:
    """Pass tiles on with background outside the area."""
    return lambda where, probabilities: on_tile(where, without_outside(probabilities, area(where)))


class _RowsOfTiles:
    """Computes tiles row by row (of sections in 3-D), and takes the rows that were finished before."""

    def __init__(self, finished: FinishedBands, rule: str, arrays: Sequence[RowArray]) -> None:
        self._finished, self._rule, self._arrays = finished, rule, arrays

    def run(
        self,
        image: ArrayLike,
        executor: TileExecutor,
        tiles: TilePlan,
        on_tile: OnTile,
        progress: Progress | None,
    ) -> None:
        pixels, done = prod(image.shape[1:]), 0
        # Pixels that are left of the rows in work, by their start and stop: tiles of two rows may be computed at once.
        left: dict[tuple[int, int], int] = {}

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if progress is not None:
                progress(done, pixels)

        def unfinished() -> Iterator[Tile]:
            for rows, row in groupby(tiles, key=_rows_of):
                count = (rows[1] - rows[0]) * prod(image.shape[2:])
                if self._take(tiles, rows):
                    advance(count)
                else:
                    left[rows] = count
                    yield from row

        def store(where: tuple[slice, ...], result: NDArray[Any]) -> None:
            on_tile(where, result)
            count = prod(place.stop - place.start for place in where)
            # A tile that was split has a part of the rows.
            rows = max(rows for rows in left if rows[0] <= where[0].start)
            left[rows] -= count
            if not left[rows]:
                del left[rows]
                self._keep(tiles, rows)
            advance(count)

        executor.run(image, unfinished(), store)

    def _take(self, tiles: TilePlan, rows: tuple[int, int]) -> bool:
        """Copy rows that were finished before; False where they were not."""
        arrays = self._finished.take(self._name(tiles, rows))
        if arrays is None:
            return False
        for (array, index), values in zip(self._places(*rows), arrays, strict=True):
            array[index] = values
        return True

    def _keep(self, tiles: TilePlan, rows: tuple[int, int]) -> None:
        self._finished.keep(self._name(tiles, rows), (array[index] for array, index in self._places(*rows)))

    def _name(self, tiles: TilePlan, rows: tuple[int, int]) -> str:
        facts = f"{self._rule} {tiles.shape} {tiles.tile_shape}"
        return f"{sha256(facts.encode()).hexdigest()[:16]}-{rows[0]}-{rows[1]}"

    def _places(self, start: int, stop: int) -> Iterator[tuple[RowArray, Any]]:
        """The arrays, and their parts of a band: one plane of decisions at a time, since bands may be large."""
        planes, *others = self._arrays
        for plane in range(planes.shape[0]):
            yield planes, (plane, slice(start, stop))
        for array in others:
            yield array, slice(start, stop)


def _rows_of(tile: Tile) -> tuple[int, int]:
    rows = tile.write_slices[0]
    return rows.start, rows.stop


def _largest(image: ArrayLike) -> float:
    if (known := getattr(image, "largest", None)) is not None:
        return float(known)
    # Some rows (or sections) at a time: the image may be larger than memory.
    rows = max(1, LOOKED_AT // prod(image.shape[2:]))
    parts = (image[:, start : start + rows] for start in range(0, image.shape[1], rows))
    return max(float(np.abs(part).max()) for part in parts)


def _thresholds(predictor: Predictor, thresholds: Sequence[float], classes: Sequence[Sequence[int]]) -> AtLeast:
    rule = AtLeast(tuple(thresholds), tuple(map(tuple, classes)))
    _check_decision(rule, predictor.num_classes)
    return rule


def _check_decision(rule: AtLeast, num_classes: int) -> None:
    for threshold in rule.thresholds:
        if not LOWEST_THRESHOLD <= threshold <= 1 - LOWEST_THRESHOLD:
            raise UsageError(
                f"a probability threshold of {threshold} cannot be used: give one from {LOWEST_THRESHOLD} "
                f"to {1 - LOWEST_THRESHOLD}"
            )
    for number in {number for classes in rule.classes for number in classes}:
        if not 0 <= number < num_classes:
            raise UsageError(f"there is no class {number}: the network has classes 0 to {num_classes - 1}")
