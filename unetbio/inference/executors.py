"""Run a backend over tiles, in batches of equal shape; halve tiles that do not fit the device's memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import EnvironmentStoppedError
from unetbio.inference.backends.base import Predictor
from unetbio.inference.tiling import ArrayLike, Tile, read_mirrored, split_tile
from unetbio.postprocessing.bands import Area

__all__ = ["Compute", "OnTile", "Progress", "TileExecutor", "part_of"]

SHRINK = 0.75
"""Largest input that is tried after a device ran out of memory, as a part of the failed one."""

Compute = Callable[[NDArray[np.float32]], NDArray[Any]]
Progress = Callable[[int, int], None]
"""Called with the number of finished pixels and of all pixels."""
OnTile = Callable[[tuple[slice, ...], NDArray[Any]], None]
"""Called with the place of a tile in the image and its result ``(K, *extent)``."""


def part_of(progress: Progress, number: int, count: int) -> Progress:
    """Progress of one of ``count`` equal parts, the ``number``-th from 0."""
    return lambda done, total: progress(number * total + done, count * total)


class TileExecutor:
    """Computes tiles of an image one batch after another.

    Parameters
    ----------
    predictor : Predictor
        The network's backend.
    compute : callable
        One of the predictor's methods, ``(N, C, *input)`` float32 to ``(N, K, *extent)``.
    batch_size : int
        Number of tiles of equal shape that are computed at once.
    area : Area, optional
        Pixels that are wanted: tiles without any are not computed, and give zeros.
    """

    def __init__(self, predictor: Predictor, compute: Compute, batch_size: int = 1, area: Area | None = None) -> None:
        self._predictor = predictor
        self._compute = compute
        self._batch_size = batch_size
        self._area = area
        self._most_pixels: float = float("inf")

    def run(
        self, image: ArrayLike, tiles: Iterable[Tile], on_tile: OnTile, *, progress: Progress | None = None
    ) -> None:
        """Compute tiles and pass each result on.

        Parameters
        ----------
        image : array-like
            ``(C, *spatial)``, sliced tile by tile and mirrored beyond its border.
        tiles : iterable of Tile
            Tiles to compute.
        on_tile : callable
            Takes the place and the result of each tile, in this thread. A tile that does not fit the memory arrives in
            halves.
        progress : callable, optional
            Called after each tile.

        Raises
        ------
        EnvironmentStoppedError
            When not even a tile of one stride fits the memory of the device.
        """
        total, done = prod(image.shape[1:]), 0
        for batch in self._batches(tiles):
            for tile, result in self._results(image, batch):
                on_tile(tile.write_slices, result[(slice(None), *(slice(0, size) for size in tile.write_shape))])
                done += prod(tile.write_shape)
                if progress is not None:
                    progress(done, total)

    def _batches(self, tiles: Iterable[Tile]) -> Iterator[list[Tile]]:
        waiting: dict[tuple[int, ...], list[Tile]] = {}
        for tile in tiles:
            if not self._is_wanted(tile):
                yield [tile]
                continue
            batch = waiting.setdefault(tile.read_shape, [])
            batch.append(tile)
            if len(batch) == self._batch_size:
                yield waiting.pop(tile.read_shape)
        yield from waiting.values()

    def _is_wanted(self, tile: Tile) -> bool:
        return self._area is None or bool(self._area(tile.write_slices).any())

    def _results(self, image: ArrayLike, batch: list[Tile]) -> Iterator[tuple[Tile, NDArray[Any]]]:
        """Yield each tile with its result; a tile that is not wanted is alone in its batch."""
        if self._is_wanted(batch[0]):
            yield from self._run_batch(image, batch)
        else:
            yield batch[0], np.zeros((self._predictor.num_classes, *batch[0].write_shape), np.float32)

    def _run_batch(self, image: ArrayLike, batch: list[Tile]) -> Iterator[tuple[Tile, NDArray[Any]]]:
        """Yield each tile, or its parts if it was split, with the result."""
        pending = deque([batch])
        while pending:
            tiles = pending.popleft()
            pixels = len(tiles) * prod(tiles[0].read_shape)
            smaller = self._halves(tiles) if pixels > self._most_pixels else []
            if not smaller:
                results = self._attempt(image, tiles)
                if results is not None:
                    yield from zip(tiles, results, strict=True)
                    continue
                # Sizes near the one that failed would fail as well, each after some time.
                self._most_pixels = min(self._most_pixels, SHRINK * pixels)
                smaller = self._halves(tiles)
                if not smaller:
                    raise _no_room(tiles[0])
            pending.extendleft(reversed(smaller))

    def _attempt(self, image: ArrayLike, tiles: list[Tile]) -> NDArray[Any] | None:
        """Results ``(N, K, *extent)``; None when the memory of the device does not hold these tiles."""
        try:
            parts = [read_mirrored(image, tile.read_start, tile.read_shape) for tile in tiles]
            return self._compute(np.stack(parts).astype(np.float32, copy=False))
        except Exception as error:
            if not self._predictor.is_out_of_memory(error):
                raise
        # Outside the handler, where the failed pass no longer holds what it had allocated.
        self._predictor.release_memory()
        return None

    def _halves(self, tiles: list[Tile]) -> list[list[Tile]]:
        """Half a batch and the other half, or the halves of a tile; empty when it cannot be halved."""
        if len(tiles) > 1:
            middle = len(tiles) // 2
            return [tiles[:middle], tiles[middle:]]
        return [[part] for part in split_tile(tiles[0], self._predictor.geometry) or ()]


def _no_room(tile: Tile) -> EnvironmentStoppedError:
    size = " x ".join(map(str, tile.read_shape))
    return EnvironmentStoppedError(
        f"out of memory: the device cannot hold even the smallest tile ({size} pixels of input); "
        "free memory, run fewer workers, or choose --device cpu"
    )
