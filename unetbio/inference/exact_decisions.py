"""Recompute pixels near a threshold in float64, so that masks do not depend on tiling.

float32 rounds differently in tiles of different shapes, by about 1e-6; float64 by 1e-14, which no threshold meets. The
float64 pass runs over blocks of a fixed grid that begins at the image's first pixel.
"""

import hashlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from unetbio.geometry import Geometry
from unetbio.inference.backends.base import Predictor
from unetbio.inference.executors import Compute, Progress, TileExecutor
from unetbio.inference.tiling import ArrayLike, Tile, tile_of
from unetbio.postprocessing.bands import RowArray

__all__ = ["AtLeast", "CellsAndClasses", "MostProbable", "Rule", "add_classes", "refine"]

TIE_MARGIN = 2.0**-40
"""A float64 probability this little below a threshold equals it, and counts as above: 50 times its rounding."""

COARSE_CONTEXTS = 4
"""Side of a coarse block in contexts, at most: larger ones would save little work and take more memory."""

REMEMBERED_BLOCKS = 16
"""Float64 blocks whose input is compared with the next ones'."""


def add_classes(probabilities: NDArray[Any], classes: Sequence[int]) -> NDArray[Any]:
    """Probability that a pixel is of one of these classes: ``(K, *extent)`` to ``(*extent)``, of the same dtype."""
    added: NDArray[Any] = probabilities[classes[0]]
    for number in classes[1:]:
        added = added + probabilities[number]
    return added


class Rule(Protocol):
    """Rule that turns probabilities into decisions."""

    @property
    def planes(self) -> int:
        """Decisions a pixel."""

    @property
    def dtype(self) -> type[Any]:
        """Of a decision."""

    def classify_pixels(
        self, probabilities: NDArray[np.float32], tolerance: float
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """``(K, *extent)`` to decisions ``(planes, *extent)``, and to the pixels in doubt, ``(*extent)``."""

    def classify_exactly(self, probabilities: NDArray[np.float64]) -> NDArray[Any]:
        """``(K, n)`` of pixels in doubt to ``(planes, n)``."""


@dataclass(frozen=True)
class AtLeast:
    """Whether the probability of classes is at least each threshold.

    Parameters
    ----------
    thresholds : tuple of float
        A plane of decisions each.
    classes : tuple of tuple of int
        For each threshold the classes whose probabilities are added.
    """

    thresholds: tuple[float, ...]
    classes: tuple[tuple[int, ...], ...]
    dtype: ClassVar[type[Any]] = np.bool_

    @property
    def planes(self) -> int:
        """One a threshold."""
        return len(self.thresholds)

    def classify_pixels(
        self, probabilities: NDArray[np.float32], tolerance: float
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """As `Rule.classify_pixels`."""
        planes = np.empty((self.planes, *probabilities.shape[1:]), np.bool_)
        in_doubt = np.zeros(probabilities.shape[1:], np.bool_)
        for plane, threshold, classes in zip(planes, self.thresholds, self.classes, strict=True):
            above = add_classes(probabilities, classes) - np.float32(threshold)
            plane[...] = above >= 0
            in_doubt |= np.abs(above) < tolerance
        return planes, in_doubt

    def classify_exactly(self, probabilities: NDArray[np.float64]) -> NDArray[Any]:
        """As `Rule.classify_exactly`."""
        decided = zip(self.thresholds, self.classes, strict=True)
        return np.stack([add_classes(probabilities, of) >= threshold - TIE_MARGIN for threshold, of in decided])


class MostProbable:
    """The number of the most probable class; of equals the lowest."""

    planes = 1
    dtype: type[Any] = np.uint8

    def classify_pixels(
        self, probabilities: NDArray[np.float32], tolerance: float
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """As `Rule.classify_pixels`."""
        second, first = np.partition(probabilities, (-2, -1), axis=0)[-2:]
        # Each of the two probabilities may be off by the tolerance.
        return probabilities.argmax(axis=0)[np.newaxis], first - second < 2 * tolerance

    def classify_exactly(self, probabilities: NDArray[np.float64]) -> NDArray[Any]:
        """As `Rule.classify_exactly`."""
        largest: NDArray[np.bool_] = probabilities >= probabilities.max(axis=0) - TIE_MARGIN
        lowest: NDArray[np.intp] = largest.argmax(axis=0)
        return lowest[np.newaxis]


@dataclass(frozen=True)
class CellsAndClasses:
    """Planes of thresholds, and the most probable class of cells of each pixel of the first plane; 0 elsewhere.

    Only pixels of the first plane are in doubt about their class: on the background all classes of cells are equally
    improbable.

    Parameters
    ----------
    cells : AtLeast
        Thresholds; the first is that of the mask.
    """

    cells: AtLeast
    dtype: ClassVar[type[Any]] = np.uint8

    @property
    def planes(self) -> int:
        """One a threshold, and that of the classes."""
        return self.cells.planes + 1

    def classify_pixels(
        self, probabilities: NDArray[np.float32], tolerance: float
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """As `Rule.classify_pixels`."""
        planes, in_doubt = self.cells.classify_pixels(probabilities, tolerance)
        of_cells, close = MostProbable().classify_pixels(probabilities[1:], tolerance)
        return self._joined(planes, of_cells), in_doubt | (planes[0] & close)

    def classify_exactly(self, probabilities: NDArray[np.float64]) -> NDArray[Any]:
        """As `Rule.classify_exactly`."""
        of_cells = MostProbable().classify_exactly(probabilities[1:])
        return self._joined(self.cells.classify_exactly(probabilities), of_cells)

    @staticmethod
    def _joined(planes: NDArray[Any], of_cells: NDArray[Any]) -> NDArray[np.uint8]:
        classes = np.where(planes[:1], of_cells + 1, 0)
        return np.concatenate([planes.astype(np.uint8), classes.astype(np.uint8)])


def refine(
    image: ArrayLike,
    predictor: Predictor,
    rule: Rule,
    doubtful: RowArray,
    planes: RowArray,
    memory_budget: int,
    progress: Progress | None = None,
) -> None:
    """Decide the doubtful pixels in float64, in place.

    Parameters
    ----------
    image : array-like
        ``(C, *spatial)``.
    predictor : Predictor
        The network.
    rule : Rule
        Rule that turns probabilities into decisions.
    doubtful : array of bool
        ``(*spatial)``: the pixels to decide.
    planes : array
        ``(planes, *spatial)``: the decisions so far.
    memory_budget : int
        Bytes of feature maps that a block may hold; at least the smallest block is run.
    progress : callable, optional
        Called after each block, with all pixels done: it can stop the work by raising an error.
    """
    blocks = _blocks(doubtful, predictor, memory_budget)
    compute = _remembering(predictor.probabilities_float64)

    def on_tile(write_slices: tuple[slice, ...], probabilities: NDArray[Any]) -> None:
        here, where = doubtful[write_slices], (slice(None), *write_slices)
        # Written back as a whole, since arrays on disk give copies.
        decided = planes[where]
        decided[:, here] = rule.classify_exactly(probabilities[:, here])
        planes[where] = decided
        if progress is not None:
            progress(prod(doubtful.shape), prod(doubtful.shape))

    # Of an image that is not in memory, windows are read: blocks overlap, and most rows hold few of them.
    TileExecutor(predictor, compute).run(getattr(image, "in_windows", image), blocks, on_tile)


def _blocks(doubtful: RowArray, predictor: Predictor, memory_budget: int) -> Iterator[Tile]:
    """Blocks of the fixed grids that hold all doubtful pixels."""
    geometry = predictor.geometry
    fine, coarse = _block_shapes(predictor, memory_budget)
    fine_cost = predictor.multiply_adds(geometry.input_size(fine))
    coarse_cost = predictor.multiply_adds(geometry.input_size(coarse))
    # One row of coarse blocks at a time, so that the positions of doubtful pixels stay few.
    for row in range(0, doubtful.shape[0], coarse[0]):
        pixels = np.argwhere(doubtful[row : row + coarse[0]])
        pixels[:, 0] += row
        by_coarse: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        for block in np.unique(pixels // fine, axis=0) * fine:
            by_coarse.setdefault(tuple((block // coarse * coarse).tolist()), []).append(tuple(block.tolist()))
        blocks: list[Tile] = []
        for start, members in by_coarse.items():
            if len(members) * fine_cost > coarse_cost:
                blocks.append(_block(start, coarse, doubtful.shape, geometry))
            else:
                blocks.extend(_block(member, fine, doubtful.shape, geometry) for member in members)
        # Blocks that read the same rows follow each other: they lie in the same chunks of a file.
        yield from sorted(blocks, key=_rows_read)


def _rows_read(tile: Tile) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tile.read_start[:-1], tile.read_shape[:-1]


def _block_shapes(predictor: Predictor, memory_budget: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Fine blocks of one stride, and coarse ones so much larger that little of their work is context."""
    geometry = predictor.geometry
    fine = geometry.stride
    wanted = max(1, *(COARSE_CONTEXTS * lost // size for lost, size in zip(geometry.context, fine, strict=True)))
    factor = 1 << (wanted.bit_length() - 1)

    def memory(times: int) -> int:
        # Twice the bytes of float32
        return 2 * predictor.memory_bytes(geometry.input_size([times * size for size in fine]))

    while factor > 1 and memory(factor) > memory_budget:
        factor //= 2
    return fine, tuple(factor * size for size in fine)


def _block(start: Sequence[int], shape: Sequence[int], image_shape: Sequence[int], geometry: Geometry) -> Tile:
    stop = [min(begin + size, end) for begin, size, end in zip(start, shape, image_shape, strict=True)]
    return tile_of(start, stop, geometry)


def _remembering(compute: Compute) -> Compute:
    """``compute`` with a cache of its last results, since the background of an image has many equal blocks."""
    known: dict[bytes, NDArray[Any]] = {}
    changing = threading.Lock()

    def remembered(batch: NDArray[np.float32]) -> NDArray[Any]:
        digest = hashlib.sha256(f"{batch.shape}".encode() + batch.tobytes()).digest()
        found = known.get(digest)
        if found is None:
            found = compute(batch)
            with changing:
                known[digest] = found
                while len(known) > REMEMBERED_BLOCKS:
                    del known[next(iter(known))]
        return found

    return remembered
