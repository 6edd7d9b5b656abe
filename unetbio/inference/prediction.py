"""Overlap-tile inference: the same answer for every tile size, batch size and thread count.

Networks that cannot promise that are run over sliding windows instead (`unetbio.inference.sliding_window`).

Valid convolutions make a tiled prediction equal to that of the whole image up to the rounding of float32, since tiles
of different shapes take different kernels: about 1e-6. Decisions are made identical by a second look
(`unetbio.inference.exact_decisions`): where a probability is within `DECISION_TOLERANCE` of a threshold, or two
classes are about as probable, the network runs again in float64. Tiles therefore change neither the probabilities
beyond 1e-5 nor any decision.

Memory is bounded by one tile, the planes of the result and one plane of doubtful pixels; the image is read tile by
tile.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import UsageError
from unetbio.inference.backends.pytorch import Predictor, Runner, TorchPredictor, choose_device
from unetbio.inference.exact_decisions import AtLeast, MostProbable, Rule, settle
from unetbio.inference.run_tiles import Progress, run_tiles
from unetbio.inference.sliding_window import default_window, predict_windows
from unetbio.inference.tiling import ArrayLike, TilePlan, plan_tiles

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

LOWEST_THRESHOLD = 1e-4
"""Nearer to 0 or 1 than this, a threshold would meet the probabilities of all the pixels that a network is sure of."""

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
    tiles = plan(image.shape[1:], predictor, tile=tile, batch_size=batch_size, memory_budget=memory_budget)
    if not predictor.exact:
        return predict_windows(image, predictor, tile=tile, batch_size=batch_size, progress=progress)
    result = np.empty((predictor.num_classes, *tiles.shape), dtype=np.float32)
    for write_slices, probabilities in run_tiles(
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
    rule = AtLeast(tuple(thresholds), class_index)
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
        image, predictor, MostProbable(), tile, batch_size, memory_budget, progress, _keeping(probabilities_out)
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


def _decide(
    image: ArrayLike,
    predictor: Predictor,
    rule: Rule,
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
    for write_slices, probabilities in run_tiles(
        image, predictor.probabilities, tiles, predictor.geometry, batch_size, progress
    ):
        keep(write_slices, probabilities)
        planes[(slice(None), *write_slices)], doubtful[write_slices] = rule.look(probabilities, tolerance)
    settle(image, predictor, rule, doubtful, planes)
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
