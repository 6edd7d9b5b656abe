"""Average the probabilities of several networks, and of mirrored and turned images (test-time augmentation).

The average is itself a predictor of pixels from their neighbourhood, so tiles stay exact. Each tile is mirrored and
turned by itself. Legal inputs differ by whole strides, so mirrored tiles, too, pool the same pixels together, wherever
they begin and end.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from math import lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.geometry import Geometry
from unetbio.inference.backends.base import Predictor

__all__ = ["AveragedPredictor", "symmetries"]

ROUNDING = 2.0**-23
"""Most that adding a float32 probability to a sum of them, divided by their number, changes the mean."""


@dataclass(frozen=True)
class Symmetry:
    """A mirrored or turned image: the last two axes exchanged, then some axes reversed.

    Parameters
    ----------
    transposed : bool
        Whether the last two axes are exchanged.
    flipped : tuple of int
        Axes that are reversed, counted from the last, which is -1.
    """

    transposed: bool
    flipped: tuple[int, ...]

    def apply(self, batch: NDArray[Any]) -> NDArray[Any]:
        """``(N, C, *spatial)`` as the network sees it."""
        seen = batch.swapaxes(-1, -2) if self.transposed else batch
        return np.ascontiguousarray(np.flip(seen, self.flipped))

    def undo(self, result: NDArray[Any]) -> NDArray[Any]:
        """The result ``(N, K, *extent)`` as the image lies."""
        seen = np.flip(result, self.flipped)
        return seen.swapaxes(-1, -2) if self.transposed else seen


def symmetries(geometry: Geometry) -> tuple[Symmetry, ...]:
    """Symmetries that a network can take; the first changes nothing.

    The eight of the square in 2-D; four, without turns, if the network treats its axes in different ways. The eight
    mirrors along z, y and x in 3-D, whose voxels are rarely cubes.
    """
    axes = range(-geometry.ndim, 0)
    mirrored = list(chain.from_iterable(combinations(axes, count) for count in range(geometry.ndim + 1)))
    sizes = zip(geometry.context, geometry.stride, geometry.minimum, strict=True)
    turns = geometry.ndim == 2 and len(set(sizes)) == 1
    return tuple(Symmetry(transposed, flipped) for transposed in (False, True)[: 1 + turns] for flipped in mirrored)


class AveragedPredictor:
    """Mean of the probabilities of several networks, each over several symmetries of its input: a `Predictor`.

    Parameters
    ----------
    predictors : sequence of Predictor
        With the same number of axes, channels and classes. Where they are not exact, of one geometry.
    augment : bool
        Average over the `symmetries` of each network; if False, its input is taken as it is.
    """

    inputs_at_once = 1

    def __init__(self, predictors: Sequence[Predictor], *, augment: bool = False) -> None:
        self._predictors = tuple(predictors)
        self._symmetries = [symmetries(each.geometry)[: None if augment else 1] for each in predictors]
        self._first = self._predictors[0]
        self.geometry = _common([each.geometry for each in predictors])
        self.exact = self._first.exact
        self.window = self._first.window
        self.num_classes = self._first.num_classes
        self.memory_budget = min(each.memory_budget for each in predictors)
        passes = sum(map(len, self._symmetries))
        self.error_bound = max(each.error_bound for each in predictors) + passes * ROUNDING

    def probabilities(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Predictor`."""
        mean: NDArray[np.float32] = self._mean(batch, [each.probabilities for each in self._predictors])
        return mean

    def probabilities_float64(self, batch: NDArray[np.float32]) -> NDArray[np.float64]:
        """See `Predictor`."""
        mean: NDArray[np.float64] = self._mean(batch, [each.probabilities_float64 for each in self._predictors])
        return mean

    def multiply_adds(self, input_shape: Sequence[int]) -> int:
        """See `Runner`."""
        inputs = [self._input_of(each, input_shape) for each in self._predictors]
        each_pass = zip(self._predictors, self._symmetries, inputs, strict=True)
        return sum(len(of) * predictor.multiply_adds(shape) for predictor, of, (_, shape) in each_pass)

    def memory_bytes(self, input_shape: Sequence[int]) -> int:
        """See `Runner`: networks and symmetries run one after another."""
        return max(each.memory_bytes(self._input_of(each, input_shape)[1]) for each in self._predictors)

    def is_out_of_memory(self, error: BaseException) -> bool:
        """See `Predictor`."""
        return self._first.is_out_of_memory(error)

    def release_memory(self) -> None:
        """See `Predictor`."""
        self._first.release_memory()

    def _mean(self, batch: NDArray[np.float32], computes: Sequence[Callable[[NDArray[np.float32]], Any]]) -> Any:
        results = self._results(batch, computes)
        total = next(results).copy()
        for result in results:
            total += result
        return total / total.dtype.type(sum(map(len, self._symmetries)))

    def _results(
        self, batch: NDArray[np.float32], computes: Sequence[Callable[[NDArray[np.float32]], Any]]
    ) -> Iterator[NDArray[Any]]:
        """Probabilities of each pass, ``(N, K, *extent)``."""
        extent = _everywhere([0] * self.geometry.ndim, self.geometry.output_size(batch.shape[2:]))
        for predictor, of, compute in zip(self._predictors, self._symmetries, computes, strict=True):
            start, shape = self._input_of(predictor, batch.shape[2:])
            part = batch[_everywhere(start, shape)]
            for symmetry in of:
                yield symmetry.undo(compute(symmetry.apply(part)))[extent]

    def _input_of(self, predictor: Predictor, input_shape: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Where the input of one network begins in an input of all, and its shape."""
        start = tuple(most - own for most, own in zip(self.geometry.context, predictor.geometry.context, strict=True))
        return start, predictor.geometry.input_size(self.geometry.output_size(input_shape))


def _everywhere(start: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    """Index of a part of every channel of every image of a batch."""
    return (slice(None), slice(None), *(slice(begin, begin + size) for begin, size in zip(start, shape, strict=True)))


def _common(geometries: Sequence[Geometry]) -> Geometry:
    """Geometry whose every legal input holds one of each network, in the same place of its stride."""
    if len(set(geometries)) == 1:
        return geometries[0]
    per_axis = list(zip(*(zip(each.context, each.stride, strict=True) for each in geometries), strict=True))
    # The smallest legal input of a network may be up to a stride longer than what it is asked for.
    context = tuple(max(lost + stride for lost, stride in sizes) for sizes in per_axis)
    stride = tuple(lcm(*(stride for _, stride in sizes)) for sizes in per_axis)
    return Geometry(context, stride, tuple(2 * lost + step for lost, step in zip(context, stride, strict=True)))
