"""Decode every pixel of a file, in windows, and report its statistics and problems."""

import contextlib
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unetbio.batch.budget import MemoryBudget
from unetbio.checking.check_cache import CheckCache, stamps_of
from unetbio.checking.image_stats import ImageStats
from unetbio.errors import EnvironmentStoppedError, ImageError
from unetbio.io import Image
from unetbio.io.formats import FORMATS
from unetbio.io.grey_pictures import ALPHA, is_grey_window, is_opaque_window, picture_names
from unetbio.io.image import select_channel, with_channel_names
from unetbio.preprocessing.grey_values import GreyLevels, LevelCounter
from unetbio.preprocessing.likeness import has_bright_ground
from unetbio.preprocessing.prepare import open_image
from unetbio.preprocessing.selection import ImageSelection
from unetbio.results.items import Item
from unetbio.settings.segmentation import Settings

if TYPE_CHECKING:
    from unetbio.models.model_file import ModelInfo

__all__ = ["Channels", "FileReport", "Finding", "describe_for_models", "report_file"]

WINDOW_BYTES = 64 << 20
"""Size of a window: all channels of as many rows as fit, at least one row."""

WINDOW_ROWS = 1024
"""Heights of windows are multiples of this if possible, so that no tile of a file is decoded twice."""

COPIES = 5
"""Most windows in memory for a thread: decoded, projected, in order, and as counted integers."""

CELLS_IN_SIGHT = 2.0
"""Images narrower than this many cells are reported as too small."""

RESCALED = (0.25, 4.0)
"""Smallest and largest usual factor between the pixel sizes of image and model; others are reported."""


@dataclass(frozen=True)
class Finding:
    """A problem or an unusual property of a file.

    Parameters
    ----------
    path : str
        The file as given, with its region and series if these were selected.
    code : str
        Kind of the finding, in snake case.
    message : str
        One line for the user.
    """

    path: str
    code: str
    message: str


@dataclass(frozen=True)
class Channels:
    """Channels of an image that are looked at.

    Parameters
    ----------
    numbers : tuple of int
        Their places in the file.
    names : tuple of str
        Their names that tell a picture (`unetbio.io.grey_pictures.picture_names`).
    total : int
        Channels of the image; a grey picture stored as colours has one.
    """

    numbers: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    total: int = 0

    @classmethod
    def of(cls, image: Image, numbers: Sequence[int]) -> "Channels":
        """Channels of an image by their numbers."""
        names = picture_names(image)
        return cls(tuple(numbers), tuple(names[number] for number in numbers), image.size("C"))

    def where(self, number: int) -> str:
        """Start of a message about a channel: ``channel 1: ``; nothing where there is only one."""
        return f"channel {number}: " if self.total > 1 else ""


@dataclass(frozen=True)
class FileReport:
    """Statistics and findings of one input.

    Parameters
    ----------
    item : Item
        The input.
    stats : ImageStats, optional
        None if it cannot be read.
    is_readable : bool
        Whether all images of the file can be read to their last pixel.
    channels : Channels
        The selected ones; all of them, without an opaque alpha, if none are selected; none if the selected are missing.
    of_models : dict
        Channels that each model would get; those that are looked at without a model if the image does not fit it.
    findings : tuple of Finding
        Problems of this file alone, without comparisons.
    """

    item: Item
    stats: ImageStats | None = None
    is_readable: bool = False
    channels: Channels = Channels()
    of_models: Mapping[str, Channels] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def path(self) -> str:
        """The input as findings name it."""
        return self.item.title

    @property
    def levels(self) -> tuple[GreyLevels, ...]:
        """Grey values of each channel as they are segmented; none if the file cannot be read."""
        return () if self.stats is None else _as_segmented(self.stats, self.item.settings)


def report_file(
    item: Item, models: Mapping[str, "ModelInfo"], budget: MemoryBudget, cache: CheckCache | None = None
) -> FileReport:
    """Read a file to its last pixel and compare it with what the models take.

    Parameters
    ----------
    item : Item
        The input.
    models : dict
        Name of each model in messages, and its description.
    budget : MemoryBudget
        Memory limit of all threads.
    cache : CheckCache, optional
        Results of earlier checks: unchanged files are not decoded again.

    Returns
    -------
    FileReport
        Errors of the file are findings.
    """
    found: list[tuple[str, str]] = []
    stats, is_readable = None, False
    try:
        stats = cache.find(item) if cache is not None else None
        if stats is None:
            image = item.read()
            stamps = stamps_of(image.files)
            stats = _scan(image, item.settings, budget)
            if cache is not None:
                cache.add(item, stamps, stats)
        is_readable = True
    except EnvironmentStoppedError:
        raise
    except Exception as error:
        found.append(_reason(error))
    compared, of_models = Channels(), {}
    if stats is not None:
        found += _content(stats)
        image = stats.image(item.source, item.read)
        try:
            image = with_channel_names(image, item.settings.channel_names)
            channels = compared = _selected(image, item.settings)
        except ImageError as error:
            found.append(_reason(error))
            # Other images have the selected channels: none of these is compared with them.
            channels = _all(image)
        fits = {name: _fit(image, item.settings, info, channels) for name, info in models.items()}
        of_models = {name: seen for name, (seen, _) in fits.items()}
        found += describe_for_models({name: unfit for name, (_, unfit) in fits.items()})
        found += _grey_values(stats, of_models, channels, item.settings)
    result = FileReport(item, stats, is_readable, compared, of_models)
    return replace(result, findings=tuple(Finding(result.path, code, message) for code, message in found))


def describe_for_models(found: Mapping[str, Sequence[tuple[str, str]]]) -> list[tuple[str, str]]:
    """Codes and messages of all models; a message that does not hold for all of them names its model."""
    return [
        (code, message if all((code, message) in others for others in found.values()) else f"with {name}: {message}")
        for name, own in found.items()
        for code, message in own
    ]


def _reason(error: Exception) -> tuple[str, str]:
    if isinstance(error, ImageError):
        return error.reason, str(error)
    if isinstance(error, MemoryError):
        return "out_of_memory", "it does not fit into memory"
    # An internal error is a finding of this file only.
    return "internal", f"internal error ({' '.join(f'{type(error).__name__}: {error}'.split())})"


def _as_segmented(stats: ImageStats, settings: Settings) -> tuple[GreyLevels, ...]:
    return tuple(each.filled for each in stats.levels) if settings.nan == "fill" else stats.levels


def _selected(image: Image, settings: Settings) -> Channels:
    if settings.channel:
        return Channels.of(image, [select_channel(image, channel) for channel in settings.channel])
    return _all(image)


def _all(image: Image) -> Channels:
    """All channels; an opaque alpha is none, as for a model."""
    is_opaque = picture_names(image)[-1:] == (ALPHA,) and getattr(image.pixels, "is_opaque", False)
    return Channels.of(image, range(image.size("C") - is_opaque))


def _scan(image: Image, settings: Settings, budget: MemoryBudget) -> ImageStats:
    """Decode and hash all pixels; count the grey values of those that will be segmented."""
    times, sections = _chosen(image.size("T"), settings.t), _chosen(image.size("Z"), settings.z)
    projects = settings.z == "max"
    pixels = len(times) * (1 if projects else len(sections)) * image.size("Y") * image.size("X")
    counters = [LevelCounter(image.dtype, pixels) for _ in range(image.size("C"))]
    little = image.dtype.newbyteorder("<")
    digest = hashlib.sha256(f"{image.shape}{little.str}".encode())

    def count(window: NDArray[Any]) -> None:
        for counter, channel in zip(counters, window, strict=True):
            counter.add(channel)

    is_grey = is_opaque = "C" in image.axes
    with _acquired(budget, image):
        for t, rows in _bands(image):
            brightest = None
            for z in range(image.size("Z")):
                window = _read(image, t, z, rows)
                is_grey = is_grey and is_grey_window(window, image.channel_names)
                is_opaque = is_opaque and is_opaque_window(window, image.channel_names)
                for channel in window:
                    digest.update(np.ascontiguousarray(channel, little).reshape(-1).view(np.uint8).data)
                if t not in times or z not in sections:
                    continue
                if projects:
                    brightest = window if brightest is None else np.maximum(brightest, window, out=brightest)
                else:
                    count(window)
            if brightest is not None:
                count(brightest)
    return ImageStats(
        image.axes,
        image.shape,
        str(image.dtype),
        image.pixel_size_um,
        image.pixel_size_trusted,
        image.series_count,
        digest.hexdigest(),
        tuple(counter.result() for counter in counters),
        image.channel_names,
        str(image.not_stored or ""),
        is_grey,
        is_opaque,
        image.levels[1:],
    )


def _chosen(size: int, index: int | str | None) -> range:
    """The selected time or section; all if none is selected or it is missing."""
    return range(index, index + 1) if isinstance(index, int) and index < size else range(size)


@contextlib.contextmanager
def _acquired(budget: MemoryBudget, image: Image) -> Iterator[None]:
    """Acquire the memory for the windows of an image."""
    whole = image.nbytes if FORMATS[image.format].is_decoded_whole else 0
    size = whole + COPIES * min(image.nbytes, _window_rows(image) * _row_bytes(image))
    budget.acquire(size)
    try:
        yield
    finally:
        budget.release(size)


def _row_bytes(image: Image) -> int:
    return max(1, image.size("C") * image.size("X") * image.dtype.itemsize)


def _window_rows(image: Image) -> int:
    rows = max(1, WINDOW_BYTES // _row_bytes(image))
    return rows // WINDOW_ROWS * WINDOW_ROWS or rows


def _bands(image: Image) -> Iterator[tuple[int, slice]]:
    """Each time and range of rows. Ranges depend on shape and dtype only, so that equal pixels hash equally."""
    height, rows = image.size("Y"), _window_rows(image)
    for t in range(image.size("T")):
        for start in range(0, height, rows):
            yield t, slice(start, min(height, start + rows))


def _read(image: Image, t: int, z: int, rows: slice) -> NDArray[Any]:
    """Pixels ``(C, rows, X)``."""
    window = image.read(t=t, z=z, y=rows)
    return window if "C" in image.axes else window[np.newaxis]


def _content(stats: ImageStats) -> Iterator[tuple[str, str]]:
    if stats.not_stored:
        yield "not_stored", stats.not_stored


def _grey_values(
    stats: ImageStats, of_models: Mapping[str, Channels], channels: Channels, settings: Settings
) -> list[tuple[str, str]]:
    """What is said of the channels that each model gets, or of the selected ones without a model."""
    if not of_models:
        return list(_odd_values(stats, channels, settings))
    odd = {name: list(_odd_values(stats, seen, settings)) for name, seen in of_models.items()}
    return list(dict.fromkeys(describe_for_models(odd)))


def _odd_values(stats: ImageStats, channels: Channels, settings: Settings) -> Iterator[tuple[str, str]]:
    known = _as_segmented(stats, settings)
    levels = [(channel, known[channel]) for channel in channels.numbers]
    bad = sum(level.not_finite for _, level in levels)
    if bad and settings.nan == "refuse":
        yield "not_finite", f"{bad} pixels are NaN or infinite: replace them with grey values, or give --nan fill"
    is_glass = has_bright_ground([level for _, level in levels], channels.names)
    for channel, level in levels:
        where = channels.where(channel)
        if level.is_constant:
            yield "constant", f"{where}one grey value everywhere ({level.highest:g}): nothing to see"
        elif level.is_saturated and not is_glass:
            share = 100 * level.at_highest / level.pixels
            yield "saturated", f"{where}{share:.1f} % of the pixels have the largest grey value {level.highest:g}"


def _fit(
    image: Image, settings: Settings, info: "ModelInfo", otherwise: Channels
) -> tuple[Channels, list[tuple[str, str]]]:
    """The channels that a model gets, and reasons why the image does not fit it."""
    ndim = info.network_parameters()["ndim"]
    try:
        opened = open_image(image, settings, info, ndim)
    except Exception as error:
        return otherwise, [_reason(error)]
    return Channels.of(opened.image, opened.channels), list(_scale(opened, info))


def _scale(opened: ImageSelection, info: "ModelInfo") -> Iterator[tuple[str, str]]:
    factor = max(opened.zoom, key=lambda zoom: abs(math.log(zoom)))
    # A diameter that is given stands above the pixel size.
    is_told = isinstance(opened.settings.diameter_px, (int, float)) and info.cell_diameter_px is not None
    if not is_told and not RESCALED[0] <= factor <= RESCALED[1]:
        yield (
            "odd_pixel_size",
            f"would be rescaled by {factor:.3g} to the model's pixels: is its pixel size right (--pixel-size UM)?",
        )
    # Only the plane counts, since stacks are often thin.
    narrowest = min(opened.grid[-2:])
    if info.cell_diameter_px is not None and narrowest < CELLS_IN_SIGHT * info.cell_diameter_px:
        yield (
            "too_small",
            f"{narrowest} pixels wide at the model's scale, where a cell is {info.cell_diameter_px:.0f} pixels wide",
        )
