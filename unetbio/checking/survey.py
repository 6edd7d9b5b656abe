"""One file before a run: every pixel is decoded, in windows; what is in it, and what is wrong with it."""

import contextlib
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unetbio.batch.budget import MemoryBudget
from unetbio.batch.plan import Item
from unetbio.errors import ImageError
from unetbio.grey_values import GreyLevels, LevelCounter
from unetbio.io import Image, read_image
from unetbio.preparation import Opened, open_image

if TYPE_CHECKING:
    from unetbio.model_file import ModelInfo

__all__ = ["Facts", "Finding", "Survey", "survey"]

WINDOW_BYTES = 64 << 20
"""Pixels that are decoded at a time."""

WINDOW_ROWS = 1024
"""Windows are multiples of this high, so that tiles of a file are not decoded twice."""

COPIES = 4
"""Windows that one thread holds at most: decoded, in order, and as the integers that are counted."""

WHOLE_FORMATS = ("png", "jpeg", "nifti")
"""Formats that are decoded in one piece, however small the window."""

CELLS_IN_SIGHT = 2.0
"""An image narrower than as many cells is too small to say anything."""

RESCALED = (0.25, 4.0)
"""Factors between which an image can be rescaled to the model's pixels without being made of other stuff."""


@dataclass(frozen=True)
class Finding:
    """One thing that somebody should know before the run.

    Parameters
    ----------
    path : str
        The file, as it was given; with its series where one was asked for.
    code : str
        In snake case, for programs.
    message : str
        One line.
    """

    path: str
    code: str
    message: str


@dataclass(frozen=True)
class Facts:
    """What is in a file.

    Parameters
    ----------
    axes, shape, dtype, pixel_size_um, pixel_size_trusted, series_count
        As `unetbio.io.Image` has them.
    pixel_hash : str
        SHA-256 of shape, dtype and grey values: the same in every container.
    levels : tuple of GreyLevels
        One a channel, over all times and sections.
    """

    axes: str
    shape: tuple[int, ...]
    dtype: str
    pixel_size_um: dict[str, float]
    pixel_size_trusted: bool
    series_count: int
    pixel_hash: str
    levels: tuple[GreyLevels, ...]

    def describe(self) -> str:
        """``C=2 Y=512 X=512 uint16, 0.65 um a pixel``."""
        sizes = " ".join(f"{axis}={size}" for axis, size in zip(self.axes, self.shape, strict=True))
        return f"{sizes} {self.dtype}, {self._scale()}"

    def _scale(self) -> str:
        sizes = [self.pixel_size_um[axis] for axis in "ZYX" if axis in self.pixel_size_um and axis in self.axes]
        if not sizes:
            return "pixel size unknown"
        text = " x ".join(f"{size:.4g}" for size in (sizes[-1:] if len(set(sizes)) == 1 else sizes))
        return f"{text} um a pixel" + ("" if self.pixel_size_trusted else " (not to be trusted)")


@dataclass(frozen=True)
class Survey:
    """One input.

    Parameters
    ----------
    item : Item
        The input.
    facts : Facts, optional
        None when it cannot be read.
    is_readable : bool
        Whether all images of the file can be read to their last pixel.
    channels : tuple of int
        Channels that the model would get; all of them when that is not settled.
    findings : tuple of Finding
        What is wrong with this file, whatever the others hold.
    """

    item: Item
    facts: Facts | None = None
    is_readable: bool = False
    channels: tuple[int, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def path(self) -> str:
        """What findings call the input."""
        series = self.item.settings.series
        return str(self.item.source) + ("" if series is None else f" (series {series})")


def survey(item: Item, info: "ModelInfo", ndim: int, budget: MemoryBudget) -> Survey:
    """Read a file to its last pixel and compare it with what the model takes.

    Parameters
    ----------
    item : Item
        The input.
    info : ModelInfo
        Of the model.
    ndim : {2, 3}
        Spatial axes of the model.
    budget : MemoryBudget
        What all threads may hold together.

    Returns
    -------
    Survey
        Whatever happens: no file raises.
    """
    found: list[tuple[str, str]] = []
    facts, image, is_readable = None, None, False
    try:
        image = _open(item, item.settings.series or 0)
        facts = _scan(image, budget)
        if item.settings.series is None:
            _decode_others(item, image.series_count, budget)
        is_readable = True
    except Exception as error:
        found.append(_reason(error))
    channels: tuple[int, ...] = ()
    if image is not None and facts is not None:
        channels = tuple(range(len(facts.levels)))
        found += _content(facts, item)
        try:
            opened = open_image(image, item.settings, info, ndim)
            channels = opened.channels
            found += _fit(opened, info)
        except Exception as error:
            found.append(_reason(error))
        found += _grey_values(facts, channels)
    result = Survey(item, facts, is_readable, channels)
    return replace(result, findings=tuple(Finding(result.path, code, message) for code, message in found))


def _open(item: Item, series: int) -> Image:
    return read_image(item.source, axes=item.settings.axes, series=series)


def _reason(error: Exception) -> tuple[str, str]:
    if isinstance(error, ImageError):
        return error.reason, str(error)
    if isinstance(error, MemoryError):
        return "out_of_memory", "it does not fit into memory"
    # A mistake of ours is that file's finding and not the end of all.
    return "internal", f"internal error ({' '.join(f'{type(error).__name__}: {error}'.split())})"


def _scan(image: Image, budget: MemoryBudget) -> Facts:
    """Decode all pixels once; hash and count them."""
    counters = [LevelCounter(image.dtype, math.prod(image.shape) // image.size("C")) for _ in range(image.size("C"))]
    little = image.dtype.newbyteorder("<")
    digest = hashlib.sha256(f"{image.shape}{little.str}".encode())
    with _taking(budget, image):
        for window in _windows(image):
            for counter, channel in zip(counters, window, strict=True):
                plain = np.ascontiguousarray(channel, little)
                digest.update(plain.reshape(-1).view(np.uint8).data)
                counter.add(channel)
    return Facts(
        image.axes,
        image.shape,
        str(image.dtype),
        image.pixel_size_um,
        image.pixel_size_trusted,
        image.series_count,
        digest.hexdigest(),
        tuple(counter.result() for counter in counters),
    )


def _decode_others(item: Item, count: int, budget: MemoryBudget) -> None:
    """Decode the file's further images; only that it can be done is asked."""
    for series in range(1, count):
        try:
            image = _open(item, series)
            with _taking(budget, image):
                for _ in _windows(image):
                    pass
        except ImageError as error:
            raise ImageError(error.reason, f"series {series}: {error}") from error


@contextlib.contextmanager
def _taking(budget: MemoryBudget, image: Image) -> Iterator[None]:
    """Hold what the windows of an image take of the budget."""
    whole = image.nbytes if image.format in WHOLE_FORMATS else 0
    size = whole + COPIES * min(image.nbytes, WINDOW_BYTES)
    budget.take(size)
    try:
        yield
    finally:
        budget.give(size)


def _windows(image: Image) -> Iterator[NDArray[Any]]:
    """All pixels as ``(C, rows, X)``; the cut follows from shape and dtype alone, so that equal pixels hash equally."""
    height = image.size("Y")
    row = image.size("C") * image.size("X") * image.dtype.itemsize
    rows = max(WINDOW_ROWS, WINDOW_BYTES // max(1, row) // WINDOW_ROWS * WINDOW_ROWS)
    for t in range(image.size("T")):
        for z in range(image.size("Z")):
            for start in range(0, height, rows):
                window = image.read(t=t, z=z, y=slice(start, min(height, start + rows)))
                yield window if "C" in image.axes else window[np.newaxis]


def _content(facts: Facts, item: Item) -> Iterator[tuple[str, str]]:
    if facts.series_count > 1 and item.settings.series is None:
        yield "more_series", f"holds {facts.series_count} images, and the first is taken: choose with --series"


def _grey_values(facts: Facts, channels: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    levels = [(channel, facts.levels[channel]) for channel in channels]
    if bad := sum(level.not_finite for _, level in levels):
        yield "not_finite", f"{bad} pixels are NaN or infinite: replace them with grey values, for example zeros"
    for channel, level in levels:
        where = f"channel {channel}: " if len(facts.levels) > 1 else ""
        if level.is_constant:
            yield "constant", f"{where}one grey value everywhere ({level.highest:g}): nothing to see"
        elif level.is_saturated:
            share = 100 * level.at_highest / level.pixels
            yield "saturated", f"{where}{share:.1f} % of the pixels have the largest grey value {level.highest:g}"


def _fit(opened: Opened, info: "ModelInfo") -> Iterator[tuple[str, str]]:
    factor = max(opened.zoom, key=lambda zoom: abs(math.log(zoom)))
    if not RESCALED[0] <= factor <= RESCALED[1]:
        yield (
            "odd_pixel_size",
            f"would be rescaled by {factor:.3g} to the model's pixels: is its pixel size right (--pixel-size UM)?",
        )
    # Stacks are often thin: what lies in the plane counts.
    narrowest = min(opened.grid[-2:])
    if info.cell_diameter_px is not None and narrowest < CELLS_IN_SIGHT * info.cell_diameter_px:
        yield (
            "too_small",
            f"{narrowest} pixels wide at the model's scale, where a cell is {info.cell_diameter_px:.0f} pixels wide",
        )
