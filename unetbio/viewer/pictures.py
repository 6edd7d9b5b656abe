"""Tiles of an image and of its label image, at the zooms of a viewer."""

import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
from numpy.typing import NDArray

__all__ = ["TILE", "Layer", "contrast", "draw_tile", "halved", "label_tile", "pyramid"]

TILE = 512
"""Pixels of a tile along both axes."""

JPEG_QUALITY = 92
PERCENT = (0.5, 99.8)
SAMPLES = 1 << 18


class Layer(NamedTuple):
    """How a channel is shown: grey values of black and of the full colour, and the colour ``(red, green, blue)``."""

    low: float
    high: float
    colour: tuple[int, int, int]


def pyramid(plane: NDArray[Any]) -> list[NDArray[Any]]:
    """A plane, and the same at half the size until a tile holds it; each pixel is the mean of four."""
    levels = [plane]
    while max(levels[-1].shape) > TILE:
        levels.append(halved(levels[-1]))
    return levels


def halved(plane: NDArray[Any]) -> NDArray[Any]:
    """A plane at half the size; each pixel is the mean of four."""
    even = np.pad(plane, [(0, size % 2) for size in plane.shape], mode="edge")
    kind = np.float32 if plane.dtype.kind == "f" else np.int64 if plane.dtype.itemsize > 2 else np.int32
    total: NDArray[Any] = np.zeros((even.shape[0] // 2, even.shape[1] // 2), kind)
    for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
        np.add(total, even[y::2, x::2], out=total)
    return (total / 4 if kind is np.float32 else total // 4).astype(plane.dtype)


def contrast(planes: Iterable[NDArray[Any]]) -> tuple[float, float, float, float]:
    """Grey values to show as black and as white, and the smallest and the largest, of regular samples of planes.

    They are those of the planes together: none of them is black or white as a whole.
    """
    samples = [sample for sample in map(_sample, planes) if sample.size]
    if not samples:
        return 0.0, 1.0, 0.0, 1.0
    lows, highs, smallest, largest = zip(*map(_contrast, samples), strict=True)
    return min(lows), max(highs), min(smallest), max(largest)


def _sample(plane: NDArray[Any]) -> NDArray[np.float64]:
    values = plane.reshape(-1)
    sample = values[:: max(1, values.size // SAMPLES)].astype(np.float64)
    return sample[np.isfinite(sample)]


def _contrast(sample: NDArray[np.float64]) -> tuple[float, float, float, float]:
    low, high = np.percentile(sample, PERCENT)
    smallest, largest = float(sample.min()), float(sample.max())
    # A few bright cells on a constant ground: the percentiles meet, the extremes may not.
    if high <= low:
        low, high = smallest, largest
    return float(low), float(max(high, low + 1e-6)), smallest, largest


def draw_tile(planes: Sequence[Any], layers: Sequence[Layer], x: int, y: int) -> bytes:
    """A tile of the sum of all channels, each in its colour, as JPEG.

    Parameters
    ----------
    planes : sequence of array
        ``(Y, X)`` of each channel, at one level of its pyramid, of which the tile is read.
    layers : sequence of Layer
        How each is shown.
    x, y : int
        Column and row of the tile.
    """
    rows, columns = slice(y * TILE, (y + 1) * TILE), slice(x * TILE, (x + 1) * TILE)
    shares = [_share(plane[rows, columns], layer) for plane, layer in zip(planes, layers, strict=True)]
    picture: NDArray[np.float32]
    if len(layers) == 1 and len({*layers[0].colour}) == 1:
        picture = shares[0] * np.float32(layers[0].colour[0])
    else:
        picture = np.tensordot(np.stack(shares, axis=-1), np.array([layer.colour for layer in layers], np.float32), 1)
    return bytes(imagecodecs.jpeg8_encode(np.clip(picture, 0, 255).astype(np.uint8), level=JPEG_QUALITY))


def _share(window: NDArray[Any], layer: Layer) -> NDArray[np.float32]:
    """Brightness from 0 to 1."""
    values = np.nan_to_num(window.astype(np.float32), nan=layer.low)
    share: NDArray[np.float32] = np.clip((values - np.float32(layer.low)) / np.float32(layer.high - layer.low), 0, 1)
    return share


def label_tile(plane: Any, level: int, x: int, y: int) -> bytes:
    """A tile of a label image in which each pixel stands for ``2**level``: little-endian uint32, compressed by zlib.

    It has a margin of one pixel on each side where the image goes on, so that outlines cross from tile to tile.
    """
    step = 1 << level
    rows, columns = (slice(max(0, at * TILE - 1) * step, ((at + 1) * TILE + 1) * step, step) for at in (y, x))
    return zlib.compress(np.ascontiguousarray(plane[rows, columns], "<u4").tobytes(), 1)
