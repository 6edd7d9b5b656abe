"""Run a network over tiles: batches of equal shape, and halves of what the memory of the device cannot hold."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unetbio.errors import EnvironmentStoppedError
from unetbio.geometry import Geometry
from unetbio.inference.tiling import ArrayLike, Tile, read_mirrored, split_tile

__all__ = ["Compute", "Progress", "run_tiles"]

SHRINK = 0.75
"""After a device ran out of memory: the largest input tried again, as a part of the one that failed."""

Progress = Callable[[int, int], None]
Compute = Callable[[NDArray[np.float32]], NDArray[Any]]


def run_tiles(
    image: ArrayLike,
    compute: Compute,
    tiles: Iterable[Tile],
    geometry: Geometry,
    batch_size: int,
    progress: Progress | None,
) -> Iterator[tuple[tuple[slice, ...], NDArray[Any]]]:
    """Compute tiles in batches of equal shape.

    Parameters
    ----------
    image : array-like
        ``(C, *spatial)``, sliced tile by tile and mirrored beyond its border.
    compute : callable
        From tiles ``(N, C, *extent)`` float32 to answers ``(N, K, *extent)``.
    tiles : iterable of Tile
        What to compute.
    geometry : Geometry
        Of the network, for the halves of a tile that is too large.
    batch_size : int
        Tiles of equal shape that are computed at once.
    progress : callable or None
        Called with the pixels done and the pixels in all after each tile.

    Yields
    ------
    tuple of slice, ndarray
        Where the answer lies in the image, and the answer, ``(K, *extent)``.

    Raises
    ------
    EnvironmentStoppedError
        When not even a tile of one stride fits into the memory of the device.
    """
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
