"""An image of any format: named axes, lazy pixels, pixel size and whether to trust it."""

import dataclasses
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.io.damage import first_damaged, is_damage
from unetbio.io.missing import MissingPlanes
from unetbio.io.namings import SPLIT_PATTERN

__all__ = [
    "AXES",
    "Image",
    "NotStored",
    "Part",
    "PlaneSource",
    "WrappedPixels",
    "list_channels",
    "select_channel",
    "with_channel_names",
]

AXES = "TCZYX"
"""Every axis an image can have, in the order that arrays have them."""


class PlaneSource(Protocol):
    """Source of the pixels of an image, with one reader a format.

    Those of pyramids have also ``levels``, rows and columns of each smaller resolution, and ``at_level(number)``. Those
    that unpack a window without the rest of its plane say so: ``windows_apart``.
    """

    def read(self, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        """Return a window ``(len(channels), Y, X)`` of one time point and one section."""
        ...


@dataclasses.dataclass(frozen=True)
class NotStored:
    """Chunks of an array that are in no file: their writer left them out, or they were lost.

    Parameters
    ----------
    chunks, total : int
        Number of chunks that are not stored, and of all chunks.
    fill : str
        Grey value of missing chunks.
    """

    chunks: int
    total: int
    fill: str

    def __str__(self) -> str:
        """Summary in one line for users."""
        return (
            f"{self.chunks} of {self.total} chunks are not stored; read as {self.fill}; "
            "if they were lost, copy the file again"
        )


@dataclasses.dataclass(frozen=True)
class Part:
    """What an image shows of its file, where that is not all of it at full resolution.

    Parameters
    ----------
    level : int
        Resolution of the pyramid; 0 is the full one.
    scale : (float, float)
        Pixels of the full resolution for one of the image, along Y and X.
    rows, columns : (int, int)
        Place in the plane of the level: first pixel, and the one after the last.
    """

    level: int
    scale: tuple[float, float]
    rows: tuple[int, int]
    columns: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Image:
    """An image whose pixels are read on demand.

    Attributes
    ----------
    axes : str
        Letters of ``TCZYX`` in that order; Y and X are always there, the others when they are longer than one.
    shape : tuple of int
        One length an axis.
    dtype : numpy.dtype
        As stored, in native byte order (1-bit images are uint8 with values 0 and 1).
    pixel_size_um : dict
        Micrometres a pixel by axis letter (``Z``, ``Y``, ``X``); empty when unknown.
    pixel_size_trusted : bool
        True when the size comes from a field made for it (OME, ImageJ with a metric unit, NIfTI, the vendor), never
        from a printing resolution.
    channel_names : tuple of str
        One a channel; empty strings where the file names none.
    source : pathlib.Path
        The file.
    pixels : PlaneSource
        The reader behind `read`.
    series, series_count : int
        Which image of the file this is, and of how many.
    name : str
        The file's own name for the series, if any.
    format : str
        One of `unetbio.io.formats.FORMATS`: ``"tiff"``, ``"png"``, ``"czi"`` ...
    variant : str
        Which kind of its format the file is, where there are several: ``"OME-TIFF"``, ``"ImageJ TIFF pyramid"`` ...
    affine : numpy.ndarray or None
        NIfTI: voxel indices (x, y, z) to world coordinates, ``(4, 4)``.
    affine_trusted : bool
        Whether the file states its place in space; otherwise the affine follows from the voxel size alone.
    affine_unit_um : float or None
        Micrometres in the unit of the affine; None where the file names no unit.
    part : Part or None
        Which part of the file it is, where that is not all of it.
    stored_names : tuple of str
        Names of the channels in the file, where others were given; empty otherwise.
    """

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pixel_size_um: dict[str, float]
    pixel_size_trusted: bool
    channel_names: tuple[str, ...]
    source: Path
    pixels: PlaneSource = dataclasses.field(repr=False)
    series: int = 0
    series_count: int = 1
    name: str = ""
    format: str = "tiff"
    variant: str = ""
    affine: NDArray[np.float64] | None = dataclasses.field(default=None, repr=False, compare=False)
    affine_trusted: bool = False
    affine_unit_um: float | None = None
    part: Part | None = None
    stored_names: tuple[str, ...] = ()

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of each resolution of the file: its own, then those of smaller copies."""
        return ((self.size("Y"), self.size("X")), *getattr(self.pixels, "levels", ()))

    def at_level(self, level: int) -> "Image":
        """The image in a resolution of its pyramid; 0 is the full one.

        Raises
        ------
        ImageError
            ``no_such_level``.
        """
        if level >= len(self.levels):
            listed = ", ".join(f"{i}: {columns} x {rows}" for i, (rows, columns) in enumerate(self.levels))
            raise ImageError("no_such_level", f"no level {level}: the image has {listed} pixels")
        if not level:
            return self
        rows, columns = self.levels[level]
        scale = _scale(self.size("Y"), rows), _scale(self.size("X"), columns)
        factors = dict(zip("YX", scale, strict=True))
        return dataclasses.replace(
            self._resized(rows, columns),
            pixel_size_um={axis: size * factors.get(axis, 1.0) for axis, size in self.pixel_size_um.items()},
            pixels=getattr(self.pixels, "at_level")(level),  # noqa: B009 -- of readers of pyramids alone
            part=Part(level, scale, (0, rows), (0, columns)),
        )

    def crop(self, rows: slice, columns: slice) -> "Image":
        """The image with these rows and columns alone."""
        whole = self.part or Part(0, (1.0, 1.0), (0, self.size("Y")), (0, self.size("X")))
        affine = self.affine
        if affine is not None:
            affine = affine @ _moved(columns.start, rows.start, 0)
        return dataclasses.replace(
            self._resized(rows.stop - rows.start, columns.stop - columns.start),
            pixels=_Box(self.pixels, rows.start, columns.start),
            affine=affine,
            part=dataclasses.replace(
                whole,
                rows=(whole.rows[0] + rows.start, whole.rows[0] + rows.stop),
                columns=(whole.columns[0] + columns.start, whole.columns[0] + columns.stop),
            ),
        )

    @property
    def start(self) -> tuple[int, int]:
        """Row and column of the first pixel in the plane of its resolution."""
        return (0, 0) if self.part is None else (self.part.rows[0], self.part.columns[0])

    def _resized(self, rows: int, columns: int) -> "Image":
        return dataclasses.replace(self, shape=(*self.shape[:-2], rows, columns))

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that the image is made of, the source first."""
        return tuple(dict.fromkeys((self.source, *getattr(self.pixels, "files", ()))))

    @property
    def not_stored(self) -> NotStored | None:
        """Chunks of the whole image that are read as the fill value without being in any file; None without one."""
        return getattr(self.pixels, "not_stored", None)

    @property
    def missing(self) -> MissingPlanes | None:
        """Planes that the metadata name and that cannot be read because they are not there; None without one."""
        return getattr(self.pixels, "missing", None)

    def crop_sections(self, start: int, stop: int) -> "Image":
        """The image with these sections alone; the axis Z is left out if it is one section."""
        sizes = {axis: self.size(axis) for axis in AXES} | {"Z": stop - start}
        kept = [axis for axis in AXES if axis in self.axes and (axis in "YX" or sizes[axis] > 1)]
        return dataclasses.replace(
            self,
            axes="".join(kept),
            shape=tuple(sizes[axis] for axis in kept),
            pixels=_Sections(self.pixels, start, stop),
            affine=self.affine_from(start),
        )

    def affine_from(self, section: int) -> NDArray[np.float64] | None:
        """The affine of the image without the sections before this one."""
        return None if self.affine is None else self.affine @ _moved(0, 0, section)

    def size(self, axis: str) -> int:
        """Length of an axis of ``TCZYX``; 1 where the image does not have it."""
        return self.shape[self.axes.index(axis)] if axis in self.axes else 1

    @property
    def nbytes(self) -> int:
        """Bytes of the whole image in memory."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    def read(
        self,
        *,
        t: int | slice | None = None,
        c: int | slice | None = None,
        z: int | slice | None = None,
        y: slice | None = None,
        x: slice | None = None,
    ) -> NDArray[Any]:
        """Read the pixels, or some of them.

        Parameters
        ----------
        t, c, z : int or slice, optional
            A number picks one and drops the axis, a slice (step 1) keeps it; everything by default. The number 0 and
            the full slice are also accepted for an axis that the image does not have.
        y, x : slice, optional
            Window (step 1), clipped to the image as numpy does.

        Returns
        -------
        numpy.ndarray
            The axes left over in the order ``TCZYX``, grey values as stored.

        Raises
        ------
        ImageError
            ``no_such_index``: outside the image; ``unreadable``, ``truncated``: the pixels cannot be decoded;
            ``missing_plane``: they are not there; ``too_large``: they do not fit into memory.
        """
        ranges = {axis: self._range(axis, index) for axis, index in zip(AXES, (t, c, z, y, x), strict=True)}
        rows, columns = (slice(ranges[axis].start, ranges[axis].stop) for axis in "YX")
        try:
            out = np.empty([len(ranges[axis]) for axis in AXES], self.dtype)
            if out.size:
                if self.missing and not self.missing.holds(*(list(ranges[axis]) for axis in "TCZ")):
                    raise self.missing.error()
                for i, time in enumerate(ranges["T"]):
                    for k, section in enumerate(ranges["Z"]):
                        out[i, :, k] = self._read_plane(time, section, ranges["C"], rows, columns)
        except MemoryError as error:
            raise ImageError("too_large", f"{self.describe()} does not fit into memory: read a window of it") from error
        kept = {"T": t, "C": c, "Z": z}
        dropped = [n for n, axis in enumerate("TCZ") if axis not in self.axes or not _keeps_axis(kept[axis])]
        return out.squeeze(axis=tuple(dropped))

    def _read_plane(self, t: int, z: int, channels: range, y: slice, x: slice) -> NDArray[Any]:
        """Read a window of a plane; an error names the place of the damage, where other parts are whole."""
        try:
            return self.pixels.read(t, z, channels, y, x)
        except ImageError as error:
            part = is_damage(error) and first_damaged(lambda *of: self.pixels.read(t, z, channels, *of), y, x)
            if not part:
                raise
            named = [f"{axis.lower()} {at}, " for axis, at in (("T", t), ("Z", z)) if self.size(axis) > 1]
            place = part.within(self.start)
            text = f"{''.join(named)}{place} cannot be decoded: {part.error}"
            raise ImageError(part.error.reason, text) from part.error.__cause__

    def describe(self) -> str:
        """Axes with their lengths and the dtype, for messages: ``C=3 Y=512 X=512 uint16``."""
        sizes = " ".join(f"{axis}={size}" for axis, size in zip(self.axes, self.shape, strict=True))
        return f"{sizes} {self.dtype}"

    def _range(self, axis: str, index: int | slice | None) -> range:
        size = self.size(axis)
        if index is None:
            return range(size)
        if isinstance(index, slice):
            if index.step not in (None, 1):
                raise ValueError(f"a slice of {axis} must have step 1, not {index.step}")
            return range(*index.indices(size))
        index = operator.index(index)
        if not 0 <= index < size:
            raise ImageError(
                "no_such_index", f"no {axis.lower()} {index}: the image has {self.describe()}, counted from 0"
            )
        return range(index, index + 1)


def _scale(full: int, small: int) -> float:
    """Factor between two resolutions: a whole number where their sizes are those of one, rounded."""
    factor = round(full / small)
    return float(factor) if small in (full // factor, -(-full // factor)) else full / small


def _moved(x: int, y: int, z: int) -> NDArray[np.float64]:
    """Voxel indices (x, y, z) of a part to those of the whole."""
    matrix = np.eye(4)
    matrix[:3, 3] = x, y, z
    return matrix


@dataclasses.dataclass(frozen=True)
class WrappedPixels:
    """Pixels of an image that another source reads."""

    whole: PlaneSource

    @property
    def files(self) -> tuple[Path, ...]:
        """See `Image.files`."""
        files: tuple[Path, ...] = getattr(self.whole, "files", ())
        return files

    @property
    def not_stored(self) -> NotStored | None:
        """See `Image.not_stored`."""
        return getattr(self.whole, "not_stored", None)

    @property
    def missing(self) -> MissingPlanes | None:
        """See `Image.missing`."""
        missing: MissingPlanes | None = getattr(self.whole, "missing", None)
        return missing

    @property
    def windows_apart(self) -> bool:
        """See `PlaneSource`."""
        return getattr(self.whole, "windows_apart", False)


@dataclasses.dataclass(frozen=True)
class _Box(WrappedPixels):
    """A box of the plane of an image."""

    top: int
    left: int

    def read(self, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        rows = slice(self.top + y.start, self.top + y.stop)
        return self.whole.read(t, z, channels, rows, slice(self.left + x.start, self.left + x.stop))


@dataclasses.dataclass(frozen=True)
class _Sections(WrappedPixels):
    """A range of the sections of an image."""

    start: int
    stop: int

    @property
    def missing(self) -> MissingPlanes | None:
        missing = super().missing
        return missing and missing.sections(self.start, self.stop)

    def read(self, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        return self.whole.read(t, self.start + z, channels, y, x)


def select_channel(image: Image, channel: str | int) -> int:
    """Find a channel by its name or its number.

    Parameters
    ----------
    image : Image
        The image.
    channel : str or int
        Number from 0, or a name (upper and lower case agree when that is unambiguous); digits in a string are a number
        unless a channel has exactly that name.

    Returns
    -------
    int
        The number of the channel.

    Raises
    ------
    ImageError
        ``wrong_channels``: there is no such channel, or several of that name; the message lists the channels.
    """
    names = image.channel_names
    count = image.size("C")
    if isinstance(channel, str):
        for candidates in (
            [i for i, name in enumerate(names) if name == channel],
            [i for i, name in enumerate(names) if name.casefold() == channel.strip().casefold()],
        ):
            if len(candidates) == 1:
                return candidates[0]
            if candidates:
                raise ImageError(
                    "wrong_channels", f"several channels are called {channel!r} ({list_channels(image)}): give a number"
                )
    number = int(channel) if not isinstance(channel, str) or channel.strip().isdecimal() else -1
    if not 0 <= number < count:
        raise ImageError(
            "wrong_channels",
            f"no channel {channel!r}; this image has {list_channels(image)}: "
            + ("give one by its number" if count > 1 else "give --channel 0, or leave it out")
            + _hint_of_name(image, channel),
        )
    return number


def _hint_of_name(image: Image, channel: str | int) -> str:
    """How files with a channel each are joined, where the name of a file shows that it is one of them."""
    is_word = isinstance(channel, str) and not channel.strip().isdecimal()
    if image.size("C") > 1 or not is_word or str(channel).casefold() not in image.source.name.casefold():
        return ""
    return f"; segment, check and suggest join files with a channel each: --group '{SPLIT_PATTERN}' (docs/plates.md)"


def with_channel_names(image: Image, names: Sequence[str]) -> Image:
    """Name the channels of an image; no names leave those of the file.

    Raises
    ------
    ImageError
        ``wrong_channels``: the image has another number of channels.
    """
    if names and len(names) != image.size("C"):
        raise ImageError(
            "wrong_channels",
            f"{len(names)} channel name{'' if len(names) == 1 else 's'} ({', '.join(names)}), and the image has "
            f"{list_channels(image)}: name each",
        )
    stored = image.stored_names or image.channel_names
    return dataclasses.replace(image, channel_names=tuple(names), stored_names=stored) if names else image


def list_channels(image: Image) -> str:
    """Name the channels of an image for messages: ``0: DAPI, 1: (no name), 2: GFP (missing)``."""
    names = image.channel_names or ("",)
    held = range(len(names)) if image.missing is None else image.missing.held_channels()
    return ", ".join(f"{i}: {name or '(no name)'}{'' if i in held else ' (missing)'}" for i, name in enumerate(names))


def _keeps_axis(index: int | slice | None) -> bool:
    return index is None or isinstance(index, slice)
