"""Overlap tiles: pixels of an image that a network reads and writes, tile by tile.

The output for pixels ``[start, stop)`` of an axis depends on the input ``[start - context, stop + context)`` alone.
A network pools windows of ``stride`` pixels, so the same pixels fall into the same windows only if ``start`` is a
multiple of ``stride``: only then a tile and the whole image give equal results (Rumberger et al., arXiv 2101.05846). A
tile reads the smallest legal input that covers what it writes; where that reaches beyond the image, the image is
mirrored.

This module does not depend on a network: cost and memory of an input are given as functions of its shape.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError, UsageError
from unetbio.geometry import Geometry

__all__ = ["ArrayLike", "Tile", "TilePlan", "plan_tiles", "read_mirrored", "split_tile", "tile_of"]

Shape = tuple[int, ...]
CostOfShape = Callable[[Shape], int]


class ArrayLike(Protocol):
    """Interface of an image that is read tile by tile: a shape and slicing (NumPy, Zarr, a memory map ...)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""

    def __getitem__(self, index: Any, /) -> Any:
        """The part of the array that a tuple of slices names."""


@dataclass(frozen=True)
class Tile:
    """Part of an image that a network computes at once.

    Parameters
    ----------
    write_slices : tuple of slice
        Pixels of the image that the tile writes; they lie within the image and begin at multiples of the
        stride.
    read_start : tuple of int
        Where its input begins: ``context`` pixels before, so below 0 at the border.
    read_shape : tuple of int
        Legal input shape; the input may reach beyond the image at either end.
    """

    write_slices: tuple[slice, ...]
    read_start: Shape
    read_shape: Shape

    @property
    def write_shape(self) -> Shape:
        """Pixels that the tile writes, along each axis."""
        return tuple(write.stop - write.start for write in self.write_slices)


@dataclass(frozen=True)
class TilePlan:
    """Tiles that cover an image without overlap; iterating yields each `Tile`, in raster order.

    Parameters
    ----------
    shape : tuple of int
        Spatial shape of the image.
    geometry : Geometry
        Of the network.
    tile_shape : tuple of int
        Distance between the origins of neighbouring tiles: multiples of the stride. The last tile of an axis ends with
        the image.
    cost : int
        Sum over the tiles of the cost that the planner was given: multiply-adds, or pixels read.
    cost_of_whole : int
        The same for one tile that covers the image.
    """

    shape: Shape
    geometry: Geometry
    tile_shape: Shape
    cost: int
    cost_of_whole: int

    @property
    def counts(self) -> Shape:
        """Number of tiles along each axis."""
        return _counts(self.shape, self.tile_shape, self.geometry)

    @property
    def cost_ratio(self) -> float:
        """Work of this plan as a multiple of the work for the image in one piece."""
        return self.cost / self.cost_of_whole

    def __len__(self) -> int:
        return prod(self.counts)

    def __iter__(self) -> Iterator[Tile]:
        counts = self.counts
        for index in product(*map(range, counts)):
            start = tuple(i * pitch for i, pitch in zip(index, self.tile_shape, strict=True))
            stop = tuple(
                size if i == count - 1 else begin + pitch
                for i, count, begin, pitch, size in zip(index, counts, start, self.tile_shape, self.shape, strict=True)
            )
            yield tile_of(start, stop, self.geometry)


def tile_of(start: Sequence[int], stop: Sequence[int], geometry: Geometry) -> Tile:
    """Tile that writes the pixels from ``start`` to before ``stop``.

    Parameters
    ----------
    start : sequence of int
        Multiples of the stride.
    stop : sequence of int
        Anything above ``start``.
    geometry : Geometry
        Of the network.

    Raises
    ------
    ValueError
        When ``start`` is not a multiple of the stride: tile and whole image would differ.
    """
    if any(begin % stride for begin, stride in zip(start, geometry.stride, strict=True)):
        raise ValueError(f"a tile cannot begin at {tuple(start)}: the stride of the network is {geometry.stride}")
    return Tile(
        write_slices=tuple(slice(begin, end) for begin, end in zip(start, stop, strict=True)),
        read_start=tuple(begin - context for begin, context in zip(start, geometry.context, strict=True)),
        read_shape=geometry.input_size([end - begin for begin, end in zip(start, stop, strict=True)]),
    )


def split_tile(tile: Tile, geometry: Geometry) -> tuple[Tile, Tile] | None:
    """Part a tile in two at a multiple of the stride, near the middle of the axis with most strides.

    Returns
    -------
    tuple of Tile, or None
        ``None`` when no axis is longer than one stride.
    """
    strides = [-(-size // stride) for size, stride in zip(tile.write_shape, geometry.stride, strict=True)]
    axis = max(range(len(strides)), key=lambda a: (strides[a], tile.read_shape[a]))
    if strides[axis] < 2:
        return None
    start = [write.start for write in tile.write_slices]
    stop = [write.stop for write in tile.write_slices]
    middle = start[axis] + (strides[axis] + 1) // 2 * geometry.stride[axis]
    before_stop, after_start = stop.copy(), start.copy()
    before_stop[axis] = after_start[axis] = middle
    return tile_of(start, before_stop, geometry), tile_of(after_start, stop, geometry)


def plan_tiles(
    shape: Sequence[int],
    geometry: Geometry,
    *,
    tile: int | Sequence[int] | None = None,
    cost: CostOfShape = prod,
    memory: CostOfShape = prod,
    memory_budget: int | None = None,
) -> TilePlan:
    """Cut an image into tiles.

    Parameters
    ----------
    shape : sequence of int
        Spatial shape of the image, any size from 1.
    geometry : Geometry
        Of the network.
    tile : int or sequence of int, optional
        Wanted size of the result of a tile, one for all axes or one each; rounded down to a multiple of the stride, and
        up to one stride. Without it the cheapest plan under the budget is taken: of all balanced cuts, the one with the
        least cost, then with the fewest tiles.
    cost : callable
        From an input shape to the work it takes, as an integer: multiply-adds. Pixels read unless given. Like
        ``memory`` it grows with each axis.
    memory : callable
        From an input shape to its memory, in the unit of ``memory_budget``. Pixels read unless given.
    memory_budget : int, optional
        Memory of one tile; unlimited unless given. If not even the smallest tile fits, the smallest is planned, and the
        run shows whether the machine can hold it.

    Returns
    -------
    TilePlan

    Raises
    ------
    ImageError
        When an axis of the image is empty.
    UsageError
        When ``tile`` is below 1 or does not fit the number of axes.
    """
    shape = tuple(int(size) for size in shape)
    if len(shape) != geometry.ndim:
        raise UsageError(f"the network takes {geometry.ndim} spatial axes, the image has {len(shape)}: {shape}")
    if min(shape) < 1:
        raise ImageError("empty_image", f"an image of {shape} pixels is empty: nothing can be segmented")
    cost = cache(cost)
    if tile is not None:
        tile_shape = _requested(tile, shape, geometry)
    else:
        tile_shape = _cheapest(shape, geometry, cost, memory, memory_budget)
    return TilePlan(
        shape=shape,
        geometry=geometry,
        tile_shape=tile_shape,
        cost=_total(shape, tile_shape, geometry, cost),
        cost_of_whole=cost(geometry.input_size(shape)),
    )


def _requested(tile: int | Sequence[int], shape: Shape, geometry: Geometry) -> Shape:
    wanted = (tile,) * geometry.ndim if isinstance(tile, int | np.integer) else tuple(tile)
    if len(wanted) != geometry.ndim or min(wanted) < 1:
        raise UsageError(
            f"--tile {tile} is not a tile size: give one whole number from 1, or {geometry.ndim} of them, one an axis"
        )
    return tuple(
        max(1, min(size, -(-length // stride) * stride) // stride) * stride
        for size, length, stride in zip(wanted, shape, geometry.stride, strict=True)
    )


def _spare(geometry: Geometry) -> Shape:
    # The smallest legal input for a multiple of the stride may give a few pixels more than that: 388 for 384. The tile
    # that ends an axis uses them.
    return tuple(
        (minimum - 2 * context) % stride
        for minimum, context, stride in zip(geometry.minimum, geometry.context, geometry.stride, strict=True)
    )


def _counts(shape: Shape, tile_shape: Shape, geometry: Geometry) -> Shape:
    return tuple(
        max(1, -(-(size - spare) // pitch))
        for size, spare, pitch in zip(shape, _spare(geometry), tile_shape, strict=True)
    )


def _pitches(size: int, spare: int, stride: int) -> list[int]:
    """Distances between origins that cut an axis into 1, 2, 3 ... pieces as equal as the stride allows, each once."""
    strides = max(1, -(-(size - spare) // stride))
    pitches = {-(-strides // count) * stride for count in range(1, strides + 1)}
    return sorted(pitches, reverse=True)


def _total(shape: Shape, tile_shape: Shape, geometry: Geometry, cost: CostOfShape) -> int:
    """Sum of ``cost`` over the tiles: along an axis all tiles are alike but the last, so few shapes occur."""
    groups: list[list[tuple[int, int]]] = []
    for axis, (size, pitch, count) in enumerate(
        zip(shape, tile_shape, _counts(shape, tile_shape, geometry), strict=True)
    ):
        last = _axis_input(size - (count - 1) * pitch, axis, geometry)
        groups.append([(_axis_input(pitch, axis, geometry), count - 1), (last, 1)])
    total = 0
    for combination in product(*groups):
        times = prod(count for _, count in combination)
        if times:
            total += times * cost(tuple(size for size, _ in combination))
    return total


def _axis_input(output: int, axis: int, geometry: Geometry) -> int:
    minimum, stride = geometry.minimum[axis], geometry.stride[axis]
    return minimum + stride * max(0, -(-(output + 2 * geometry.context[axis] - minimum) // stride))


def _largest_input(shape: Shape, tile_shape: Shape, geometry: Geometry) -> Shape:
    counts = _counts(shape, tile_shape, geometry)
    return geometry.input_size(
        [size if count == 1 else pitch for size, pitch, count in zip(shape, tile_shape, counts, strict=True)]
    )


def _cheapest(
    shape: Shape, geometry: Geometry, cost: CostOfShape, memory: CostOfShape, memory_budget: int | None
) -> Shape:
    pitches = list(map(_pitches, shape, _spare(geometry), geometry.stride))
    # Every cut adds work, so if one piece fits, no cut is tried.
    if memory_budget is None or memory(geometry.input_size(shape)) <= memory_budget:
        return tuple(longest for longest, *_ in pitches)

    def needed(tile_shape: Shape) -> int:
        return memory(_largest_input(shape, tile_shape, geometry))

    def rank(tile_shape: Shape) -> tuple[int, int]:
        return _total(shape, tile_shape, geometry, cost), prod(_counts(shape, tile_shape, geometry))

    budget = max(memory_budget, needed(tuple(shortest for *_, shortest in pitches)))
    return min(_largest_fitting(pitches, lambda tile_shape: needed(tile_shape) <= budget), key=rank)


def _largest_fitting(pitches: Sequence[Sequence[int]], fits: Callable[[Shape], bool]) -> Iterator[Shape]:
    """Tile shapes that fit and cannot be longer along the last axis; shorter ones only add tiles, and so work.

    Memory grows with the length of a tile, so that half of the pitches are ruled out at a time.
    """
    *others, last = pitches
    for start in product(*others):
        first = bisect_left(last, True, key=lambda pitch: fits((*start, pitch)))
        if first < len(last):
            yield (*start, last[first])


def read_mirrored(image: ArrayLike, start: Sequence[int], shape: Sequence[int]) -> NDArray[Any]:
    """Read a part of an image that may reach beyond it; there the image is mirrored.

    The mirror stands in the centre of the outermost pixel, which is not repeated: ``c b | a b c | b a``. However far
    the part reaches, mirrors follow mirrors; an axis of one pixel is that pixel everywhere.

    Parameters
    ----------
    image : array-like
        ``(C, *spatial)``; only the pixels needed are sliced out of it.
    start : sequence of int
        Spatial position of the first pixel; may be negative.
    shape : sequence of int
        Spatial shape of the part.

    Returns
    -------
    numpy.ndarray
        ``(C, *shape)``, in the dtype of the image.

    Examples
    --------
    >>> read_mirrored(np.array([[1, 2, 3]]), start=[-2], shape=[7])
    array([[3, 2, 1, 2, 3, 2, 1]])
    """
    wanted = [_mirrored(begin, length, size) for begin, length, size in zip(start, shape, image.shape[1:], strict=True)]
    lows = [int(index.min()) for index in wanted]
    part = np.asarray(
        image[(slice(None), *(slice(low, int(index.max()) + 1) for low, index in zip(lows, wanted, strict=True)))]
    )
    for axis, (low, index) in enumerate(zip(lows, wanted, strict=True), start=1):
        if len(index) != part.shape[axis] or index[0] > index[-1]:
            part = part.take(index - low, axis=axis)
    return part


def _mirrored(start: int, length: int, size: int) -> NDArray[np.intp]:
    # Reflection without repeating the edge has the period 2 (size - 1); the second half of a period runs backwards.
    period = max(1, 2 * (size - 1))
    position = np.arange(start, start + length, dtype=np.intp) % period
    return np.minimum(position, period - position) if size > 1 else np.zeros(length, dtype=np.intp)
