"""OME-Zarr 0.4 and 0.5: folders with an image in chunks, and several sizes of it; the largest is read.

The zarr package unpacks the chunks, after `unetbio.io.formats.zarr.chunks` has compared the metadata with the files. A
missing chunk holds the fill value if its writer can have left it out, and is an error if not.
`unetbio.io.Image.not_stored` counts the chunks that were left out, so that black regions are reported.
"""

import functools
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.io.formats.zarr.chunks import ChunkFiles
from unetbio.io.formats.zarr.metadata import Multiscale, check_copy, find_images, find_label_image
from unetbio.io.image import AXES, Image, NotStored

__all__ = ["read_zarr", "read_zarr_labels"]

SLAB_BYTES = 1 << 27
"""Sections that lie in the same chunks are unpacked together, up to this size."""


def read_zarr(path: Path, *, axes: str | None = None, series: int = 0) -> Image:
    """Open an image of an OME-Zarr folder.

    Parameters
    ----------
    path : pathlib.Path
        A folder with an image, a collection of images (bioformats2raw), a plate or a well.
    axes : str, optional
        Letters for the stored axes, slowest first, where the metadata errs; lengths of one may be left out.
    series : int, optional
        Which image of a collection, or field of a plate, from 0. Label images within an image are not counted.

    Returns
    -------
    Image
        Of the array with the full resolution; the pixel size is known, and trusted, where the axes have units.

    Raises
    ------
    ImageError
        ``missing_library``, ``unsupported_format``, ``unsupported_type``, ``unreadable``, ``truncated`` (also where a
        chunk is missing), ``inconsistent``, ``too_large``, ``unknown_axes``, ``no_such_series``.
    """
    found, count = find_images(path, series)
    return _open(path, found, axes, series, count)


def read_zarr_labels(path: Path, *, axes: str | None = None, series: int = 0) -> Image:
    """Open the label image of an OME-Zarr folder: itself, or the only one in its ``labels`` group.

    Parameters and errors are those of `read_zarr`; ``ambiguous_labels`` where there are several.
    """
    found, count = find_label_image(path, series)
    return _open(path, found, axes, series, count)


def _open(path: Path, found: Multiscale, axes: str | None, series: int, count: int) -> Image:
    array = _open_array(found.array, found.array_name)
    check_copy(path, found)
    shape = tuple(int(size) for size in array.shape)
    if not shape or min(shape) < 1:
        raise ImageError("inconsistent", f"an array of shape {shape}: write the image again")
    letters = _letters(shape, axes, found.axes)
    files = ChunkFiles(found.array, found.array_name, array, _next_smaller(found, shape))
    files.check_present()
    files.check_window([range(1)] * len(shape))
    kept = [axis for axis in AXES if axis in "YX" or (axis in letters and shape[letters.index(axis)] > 1)]
    sizes = dict(zip(letters, shape, strict=True))
    channels = sizes.get("C", 1)
    names = found.channel_names if len(found.channel_names) == channels else ("",) * channels
    # The size of an axis that was given another letter is no size of that letter.
    own = {letter for letter, named in zip(letters, found.axes, strict=False) if letter == named}
    is_plane = {"Y", "X"} <= own
    known = {axis: size for axis, size in found.pixel_size_um.items() if axis in own.intersection(kept) and is_plane}
    dtype = np.dtype(np.uint8) if array.dtype.kind == "b" else array.dtype.newbyteorder("=")
    return Image(
        axes="".join(kept),
        shape=tuple(sizes[axis] for axis in kept),
        dtype=dtype,
        pixel_size_um=known,
        pixel_size_trusted=bool(known),
        channel_names=names,
        source=path,
        pixels=_ZarrPixels(array, files, letters, dtype, found.levels),
        series=series,
        series_count=count,
        name=found.name,
        format="zarr",
    )


def _open_array(folder: Path, name: str) -> Any:
    """Open an array of grey values by its own metadata; an error of the zarr package becomes one line."""
    import zarr

    version: Any = 3 if (folder / "zarr.json").is_file() else 2
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array = zarr.open_array(folder, mode="r", zarr_format=version)
            dict(array.attrs)  # raises where they are no mapping
    except MemoryError:
        raise
    except Exception as error:  # broken metadata raise many kinds of exceptions
        raise ImageError("unreadable", f"the array {name} cannot be opened ({_short(error)}): copy it again") from error
    if array.dtype.kind not in "buif":
        raise ImageError("unsupported_type", f"pixels of type {array.dtype}: grey values are needed")
    return array


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]


def _letters(shape: tuple[int, ...], asked: str | None, named: str) -> str:
    """One letter of ``TCZYX`` for each stored axis."""
    stored = " x ".join(str(size) for size in shape)
    if asked is None:
        # Version 0.2 and earlier had five axes, always the same.
        letters = named or (AXES if len(shape) == len(AXES) else "")
        if len(letters) != len(shape):
            raise ImageError("inconsistent", f"{len(letters)} axes are named for an array of {stored}: say --axes")
        return letters
    letters = asked.upper().replace("S", "C")
    if len(letters) != len(shape):
        letters = _spread(letters, shape)
    if len(letters) != len(shape) or len(set(letters)) != len(letters) or not set("YX") <= set(letters) <= set(AXES):
        raise ImageError("unknown_axes", f"--axes {asked} does not fit an array of {stored}: slowest first, TCZYX")
    return letters


def _spread(letters: str, shape: tuple[int, ...]) -> str:
    """Letters for all axes where those of length one were left out."""
    if len(letters) != sum(size > 1 for size in shape):
        return ""
    given = iter(letters)
    spare = iter(axis for axis in AXES if axis not in letters)
    return "".join(next(given) if size > 1 else next(spare, "?") for size in shape)


def _next_smaller(found: Multiscale, shape: tuple[int, ...]) -> ChunkFiles | None:
    """The next smaller array, if any; refuses an image whose first array is not its largest."""
    for folder in found.levels[:1]:
        array = _open_array(folder, folder.name)
        other = tuple(array.shape)
        if len(other) != len(shape) or any(small > large for small, large in zip(other, shape, strict=True)):
            raise ImageError(
                "inconsistent",
                f"the array with the full resolution, {found.array_name}, has the shape {shape}, the next {other}: "
                "write the image again",
            )
        return ChunkFiles(folder, folder.name, array)
    return None


class _ZarrPixels:
    """Pixels of one array."""

    def __init__(
        self, array: Any, files: ChunkFiles, letters: str, dtype: np.dtype[Any], smaller: Sequence[Path] = ()
    ) -> None:
        self._array, self._files, self._letters, self._dtype = array, files, letters, dtype
        self._folders = smaller
        self._lock = threading.Lock()
        self._slab: tuple[Any, NDArray[Any]] | None = None

    def read(self, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        """Return a window ``(len(channels), Y, X)``."""
        rows, columns = range(y.start, y.stop), range(x.start, x.stop)
        sections = self._sections(z, len(channels) * len(rows) * len(columns))
        key = (t, sections, tuple(channels), rows, columns)
        with self._lock:
            if self._slab is None or self._slab[0] != key:
                self._slab = key, self._read(t, sections, channels, rows, columns)
            window = self._slab[1][:, z - sections.start]
            if len(sections) == 1:
                self._slab = None
        return window

    @functools.cached_property
    def _smaller(self) -> list[tuple[Any, ChunkFiles]]:
        """Arrays of the smaller resolutions and their files."""
        found: list[tuple[Any, ChunkFiles]] = []
        for folder, array in reversed(list(self._smaller_arrays())):
            found.insert(0, (array, ChunkFiles(folder, folder.name, array, found[0][1] if found else None)))
        return found

    def _smaller_arrays(self) -> Iterator[tuple[Path, Any]]:
        """Arrays up to the first that is broken, or is smaller along another axis than Y and X too."""
        for folder in self._folders:
            try:
                array = _open_array(folder, folder.name)
                ChunkFiles(folder, folder.name, array)  # raises where its chunks are refused
            except ImageError:
                return
            if not self._is_like(array):
                return
            yield folder, array

    def _is_like(self, array: Any) -> bool:
        """Whether an array can be a smaller resolution of this one."""
        if len(array.shape) != len(self._letters) or array.dtype != self._array.dtype:
            return False
        sizes = zip(self._letters, array.shape, self._array.shape, strict=True)
        return all(small <= large and (letter in "YX" or small == large) for letter, small, large in sizes)

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of each smaller resolution."""
        rows, columns = self._letters.index("Y"), self._letters.index("X")
        return tuple((files.shape[rows], files.shape[columns]) for _, files in self._smaller)

    def at_level(self, level: int) -> "_ZarrPixels":
        """Pixels of a smaller resolution, from 1."""
        array, files = self._smaller[level - 1]
        files.check_present()
        return _ZarrPixels(array, files, self._letters, self._dtype)

    @property
    def not_stored(self) -> NotStored | None:
        """As `unetbio.io.Image.not_stored`."""
        return self._files.not_stored

    def _sections(self, z: int, pixels: int) -> range:
        """Sections that are unpacked with this one."""
        if "Z" not in self._letters:
            return range(1)
        axis = self._letters.index("Z")
        depth = self._files.decoded[axis]
        fitting = max(1, SLAB_BYTES // max(1, pixels * self._dtype.itemsize))
        if depth > fitting:
            return range(z, z + 1)
        return range(z // depth * depth, min(z // depth * depth + depth, self._array.shape[axis]))

    def _read(self, t: int, sections: range, channels: Sequence[int], rows: range, columns: range) -> NDArray[Any]:
        """``(C, Z, Y, X)``."""
        if "C" in self._letters and self._files.decoded[self._letters.index("C")] == 1:
            alone = [range(channel, channel + 1) for channel in channels]
            return np.concatenate([self._read_run(t, sections, run, rows, columns) for run in alone])
        # Channels that share chunks are unpacked once.
        run = range(min(channels), max(channels) + 1)
        return self._read_run(t, sections, run, rows, columns)[[channel - run.start for channel in channels]]

    def _read_run(self, t: int, sections: range, channels: range, rows: range, columns: range) -> NDArray[Any]:
        wanted = {"T": range(t, t + 1), "C": channels, "Z": sections, "Y": rows, "X": columns}
        window = [wanted[letter] for letter in self._letters]
        self._files.check_window(window)
        try:
            pixels = np.asarray(self._array[tuple(slice(part.start, part.stop) for part in window)])
        except MemoryError:
            raise
        except Exception as error:  # broken chunks raise many kinds of exceptions
            raise ImageError(
                "unreadable", f"a chunk of {self._files.name} cannot be unpacked ({_short(error)}): copy it again"
            ) from error
        order = [self._letters.index(letter) for letter in AXES if letter in self._letters]
        shape = [len(wanted[letter]) if letter in self._letters else 1 for letter in AXES]
        # (T, C, Z, Y, X) with one time
        ordered = pixels.transpose(order).reshape(shape)[0]
        return np.asarray(ordered, self._dtype)
