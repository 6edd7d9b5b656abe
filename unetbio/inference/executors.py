"""Run a backend over tiles, in batches of equal shape; halve tiles that do not fit the device's memory.

A backend that computes several inputs at once gets its batches from threads. Images are read in the calling thread
alone.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import closing
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import EnvironmentStoppedError
from unetbio.inference.backends.base import Predictor
from unetbio.inference.tiling import ArrayLike, Tile, read_mirrored, split_tile
from unetbio.postprocessing.bands import Area

__all__ = ["Compute", "OnTile", "Progress", "TileExecutor", "part_of", "repeated"]

SHRINK = 0.75
"""Largest input that is tried after a device ran out of memory, as a part of the failed one."""

MOST_THREADS = 512
"""Threads that wait for results of a predictor that computes many inputs at once."""

Compute = Callable[[NDArray[np.float32]], NDArray[Any]]
Progress = Callable[[int, int], None]
"""Called with the number of finished pixels and of all pixels."""
OnTile = Callable[[tuple[slice, ...], NDArray[Any]], None]
"""Called with the place of a tile in the image and its result ``(K, *extent)``."""


def part_of(progress: Progress, number: int, count: int) -> Progress:
    """Progress of one of ``count`` equal parts, the ``number``-th from 0."""
    return lambda done, total: progress(number * total + done, count * total)


def repeated(progress: Progress, pixels: int) -> Progress:
    """Progress of work that is done once more: all pixels are done, and it can still be stopped."""
    return lambda done, total: progress(pixels, pixels)


class _Here(Executor):
    """Computes in the thread that asks."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """A future that is done; errors are raised at once."""
        future: Future[Any] = Future()
        future.set_result(function(*arguments, **options))
        return future


class TileExecutor:
    """Computes tiles of an image, as many batches at once as the predictor takes.

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
        with closing(self._results(image, tiles)) as results:
            for tile, result in results:
                on_tile(tile.write_slices, result[(slice(None), *(slice(0, size) for size in tile.write_shape))])
                done += prod(tile.write_shape)
                if progress is not None:
                    progress(done, total)

    def _batches(self, tiles: Iterable[Tile]) -> Iterator[list[Tile]]:
        """Batches of tiles of equal shape; a tile that is not wanted is alone in its batch."""
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

    def _results(self, image: ArrayLike, tiles: Iterable[Tile]) -> Generator[tuple[Tile, NDArray[Any]], None, None]:
        """Yield each tile, or its parts if it was split, with the result, in the order in which they are finished."""
        batches, halves = self._batches(tiles), deque[list[Tile]]()
        running: dict[Future[NDArray[Any] | None], list[Tile]] = {}
        pool = ThreadPoolExecutor(MOST_THREADS, "unetbio-tile") if self._predictor.inputs_at_once > 1 else _Here()
        try:
            while True:
                # Asked each time, since workers join and leave.
                while len(running) < self._predictor.inputs_at_once and (batch := self._next(halves, batches)):
                    if self._is_wanted(batch[0]):
                        running[pool.submit(self._attempt, _read(image, batch))] = batch
                    else:
                        yield batch[0], np.zeros((self._predictor.num_classes, *batch[0].write_shape), np.float32)
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    batch, results = running.pop(future), future.result()
                    if results is None:
                        halves.extendleft(reversed(self._after_failure(batch)))
                    else:
                        yield from zip(batch, results, strict=True)
        finally:
            # Threads that still compute, after an error, end by themselves.
            pool.shutdown(wait=False, cancel_futures=True)

    def _next(self, halves: deque[list[Tile]], batches: Iterator[list[Tile]]) -> list[Tile] | None:
        """The next batch; one that is known not to fit is halved."""
        while batch := halves.popleft() if halves else next(batches, None):
            smaller = self._halves(batch) if _pixels(batch) > self._most_pixels else []
            if not smaller:
                return batch
            halves.extendleft(reversed(smaller))
        return None

    def _attempt(self, batch: NDArray[np.float32]) -> NDArray[Any] | None:
        """Results ``(N, K, *extent)``; None when the memory of the device does not hold this batch."""
        try:
            return self._compute(batch)
        except Exception as error:
            if not self._predictor.is_out_of_memory(error):
                raise
        # Outside the handler, where the failed pass no longer holds what it had allocated.
        self._predictor.release_memory()
        return None

    def _after_failure(self, tiles: list[Tile]) -> list[list[Tile]]:
        """Halves of tiles that did not fit."""
        # Sizes near the one that failed would fail as well, each after some time.
        self._most_pixels = min(self._most_pixels, SHRINK * _pixels(tiles))
        smaller = self._halves(tiles)
        if not smaller:
            raise _no_room(tiles[0])
        return smaller

    def _halves(self, tiles: list[Tile]) -> list[list[Tile]]:
        """Half a batch and the other half, or the halves of a tile; empty when it cannot be halved."""
        if len(tiles) > 1:
            middle = len(tiles) // 2
            return [tiles[:middle], tiles[middle:]]
        return [[part] for part in split_tile(tiles[0], self._predictor.geometry) or ()]


def _read(image: ArrayLike, tiles: list[Tile]) -> NDArray[np.float32]:
    parts = [read_mirrored(image, tile.read_start, tile.read_shape) for tile in tiles]
    return np.stack(parts).astype(np.float32, copy=False)


def _pixels(tiles: list[Tile]) -> int:
    return len(tiles) * prod(tiles[0].read_shape)


def _no_room(tile: Tile) -> EnvironmentStoppedError:
    size = " x ".join(map(str, tile.read_shape))
    return EnvironmentStoppedError(
        f"out of memory: the device cannot hold even the smallest tile ({size} pixels of input); "
        "free memory, run fewer workers, or choose --device cpu"
    )
