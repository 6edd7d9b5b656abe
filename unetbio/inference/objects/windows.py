"""Windows over an image: their positions, and the objects found in each."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import ceil, prod

import numpy as np
import torch
from torch import nn

from unetbio.errors import ImageError, UsageError
from unetbio.inference.objects.detector import Detector, TorchDetector
from unetbio.inference.sliding_window import OVERLAP, WINDOW
from unetbio.inference.tiling import ArrayLike, read_mirrored
from unetbio.networks.detection import Objects

__all__ = ["Box", "FoundObjects", "Progress", "Window", "find_objects", "windows_of", "within"]

Progress = Callable[[int, int], None]
Box = tuple[slice, slice]


@dataclass(frozen=True)
class Window:
    """Part of an image.

    Parameters
    ----------
    inside : tuple of slice
        The pixels of the image that it sees.
    core : tuple of slice
        Pixels that belong to this window.
    """

    inside: Box
    core: Box


@dataclass(frozen=True)
class FoundObjects:
    """Objects of every window, of any score, before they are merged.

    Parameters
    ----------
    shape : tuple of int
        Spatial shape of the image.
    grid : tuple of sequence of int
        Where windows start, along each axis.
    window : tuple of int
        Their size; it may reach beyond the image.
    objects : sequence of Objects
        One a window, in raster order, on the CPU; boxes count from the window's first pixel.
    """

    shape: tuple[int, int]
    grid: tuple[Sequence[int], Sequence[int]]
    window: tuple[int, int]
    objects: Sequence[Objects]


def find_objects(
    image: ArrayLike,
    network: Detector,
    *,
    window: int = WINDOW,
    overlap: float = OVERLAP,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> FoundObjects:
    """Run a network over windows: the part that takes time, and that does not depend on thresholds.

    Parameters
    ----------
    image : array-like
        ``(C, Y, X)``, normalised; any size from 1. Windows are sliced out of it one by one.
    network : Detector
        A `torch.nn.Module` is wrapped in a `TorchDetector`.
    window : int
        Pixels of a window along each axis, rounded up to a size that is legal. An image that is smaller gets a smaller
        window.
    overlap : float
        Share of a window that the next one sees again, at least; windows are spread evenly.
    device : torch.device or str
        Where a `torch.nn.Module` is run.
    progress : callable, optional
        Called with the pixels done and the pixels in all after each window.

    Raises
    ------
    ImageError
        When the image is empty or has another number of channels than the network takes.
    UsageError
        When the image does not have two spatial axes, or ``window`` or ``overlap`` is out of range.
    """
    shape = _checked_shape(image, network)
    if window < 3:
        raise UsageError(f"windows of {window} pixels cannot be used: give 3 or more, so that neighbours can share two")
    if not 0 < overlap < 1:
        raise UsageError(f"an overlap of {overlap} cannot be used: give the share of a window, above 0 and below 1")
    sizes = [
        min(_legal(window, stride), _legal(length, stride))
        for length, stride in zip(shape, network.geometry.stride, strict=True)
    ]
    grid = tuple(_starts(length, size, overlap) for length, size in zip(shape, sizes, strict=True))
    found = FoundObjects(shape, (grid[0], grid[1]), (sizes[0], sizes[1]), objects := [])
    run = TorchDetector(network, device) if isinstance(network, nn.Module) else network
    done = 0
    for start, part in zip(product(*grid), windows_of(found), strict=True):
        pixels = np.ascontiguousarray(read_mirrored(image, start, sizes), dtype=np.float32)
        in_window = run.find_objects(torch.from_numpy(pixels)[None])
        objects.append(Objects(*(getattr(in_window, name).cpu() for name in ("boxes", "scores", "classes", "masks"))))
        done += prod(side.stop - side.start for side in part.core)
        if progress is not None:
            progress(done, prod(shape))
    return found


def _checked_shape(image: ArrayLike, network: Detector) -> tuple[int, int]:
    if len(image.shape) != 3:
        raise UsageError(
            f"the network takes 2 spatial axes, the image has {len(image.shape) - 1}: {tuple(image.shape[1:])}"
        )
    channels, height, width = image.shape
    if channels != network.in_channels:
        raise ImageError(
            "wrong_channels",
            f"the image has {channels} channels and the network takes {network.in_channels}: "
            "choose channels, or a model for this kind of image",
        )
    if min(height, width) < 1:
        raise ImageError("empty_image", f"an image of {(height, width)} pixels is empty: nothing can be found in it")
    return height, width


def _legal(size: int, stride: int) -> int:
    return ceil(size / stride) * stride


def _starts(length: int, size: int, overlap: float) -> list[int]:
    """Start pixels of windows of ``size`` that cover ``length``: spread evenly, with at least two shared pixels."""
    if length <= size:
        return [0]
    shared = min(max(2, ceil(overlap * size)), size - 1)
    count = ceil((length - shared) / (size - shared))
    return [index * (length - size) // (count - 1) for index in range(count)]


def windows_of(found: FoundObjects) -> Iterator[Window]:
    """Windows in raster order; their cores cover the image, each pixel once."""
    axes = []
    for starts, size, length in zip(found.grid, found.window, found.shape, strict=True):
        middles = [(start + size + following) // 2 for start, following in pairwise(starts)]
        edges = [0, *middles, length]
        axes.append(
            [(slice(s, min(s + size, length)), slice(*core)) for s, core in zip(starts, pairwise(edges), strict=True)]
        )
    for (rows, core_rows), (columns, core_columns) in product(*axes):
        yield Window((rows, columns), (core_rows, core_columns))


def within(box: Box, outer: Box) -> Box:
    """The same pixels, counted from the first of ``outer``."""
    rows, columns = (slice(s.start - o.start, s.stop - o.start) for s, o in zip(box, outer, strict=True))
    return rows, columns
