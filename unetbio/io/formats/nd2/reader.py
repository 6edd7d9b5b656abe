"""Nikon ND2: frames that hold the rows of all channels, one chunk of the file each.

The library nd2 reads the metadata. The map of the chunks and the pixels are read here: the library gives zeros for
frames that are not there, and takes as much memory as a chunk claims.
"""

import dataclasses
import functools
import math
import re
import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.files import open_regular
from unetbio.io.formats.axes import Layout, colour_names, name_axes
from unetbio.io.formats.refusals import broken, check_series, refuse_broken
from unetbio.io.formats.units import size_in_um
from unetbio.io.image import Image
from unetbio.io.missing import MissingPlanes

__all__ = ["read_nd2"]

CHUNK = struct.Struct("<IIQ")
MAGIC = 0x0ABECEDA
MAP_NAME = b"ND2 FILEMAP SIGNATURE NAME 0001!"
MAP_END = b"ND2 CHUNK MAP SIGNATURE 0000001!"
TAIL = struct.Struct("<32sQ")
FRAME_NAME = re.compile(rb"ImageDataSeq\|(\d{1,9})!")
TIME_BYTES = 8
"""A frame begins with the time of its acquisition."""

LOOPS = {"TimeLoop": "T", "NETimeLoop": "T", "ZStackLoop": "Z", "XYPosLoop": "P"}
SAMPLE_KINDS = {"unsigned": "u", "float": "f", "signed": "i"}
BLUE_FIRST = (2, 1, 0, 3)
"""Place of red, green, blue and alpha among the samples of a pixel."""

MAX_FRAMES = 10_000_000


@dataclasses.dataclass(frozen=True)
class _Facts:
    """Metadata read by the library: loops, slowest first, sizes of a frame, names."""

    loops: tuple[tuple[str, int], ...]
    positions: tuple[str, ...]
    height: int
    width: int
    row_bytes: int
    channels: int
    samples: int
    dtype: np.dtype[Any]
    compressed: bool
    channel_names: tuple[str, ...]
    pixel_size_um: dict[str, float]

    @property
    def frame_bytes(self) -> int:
        """Bytes of the rows of a frame."""
        return self.height * self.row_bytes


def read_nd2(path: Path, *, axes: str | None = None, series: int = 0) -> Image:
    """Open a Nikon ND2 file.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    axes : str, optional
        Names of the stored axes that are longer than one, slowest first, colour samples left out or called C; for files
        with loops of an unknown kind.
    series : int, optional
        Which stage position.

    Returns
    -------
    Image
        Colours stored as blue, green, red become red, green, blue.

    Raises
    ------
    ImageError
        ``unreadable``, ``truncated``, ``inconsistent``, ``unsupported_type``,
        ``unsupported_format``, ``unknown_axes``, ``no_such_series``; when pixels are read also ``missing_plane``.
    """
    import nd2

    with refuse_broken("ND2"):
        with open_regular(path) as stream:
            frames = _frames(stream, stream.seek(0, 2))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with nd2.ND2File(path) as file:
                facts = _facts(file)
        return _image(path, facts, frames, axes, series)


# The map of the chunks ----------------------------------------------------------------------------------------------


def _frames(stream: BinaryIO, size: int) -> dict[int, tuple[int, int]]:
    """First byte and length of the content of each frame; every chunk is held against the file's size."""
    if size < TAIL.size:
        raise ImageError("truncated", f"the file ends after {size} bytes: copy it again")
    stream.seek(size - TAIL.size)
    name, position = TAIL.unpack(stream.read(TAIL.size))
    if name != MAP_END:
        raise ImageError(
            "truncated",
            "no map of the chunks at the end: the file was cut or not finished; without it --partial cannot "
            "take what is there, since it says where planes lie and what they are: copy the file again, or save it "
            "anew in NIS-Elements",
        )
    start, length = _chunk(stream, position, MAP_NAME, size)
    stream.seek(start)
    content = stream.read(length)
    frames: dict[int, tuple[int, int]] = {}
    offset = 0
    while True:
        end = content.find(b"!", offset) + 1
        if end == 0 or end + 16 > len(content):
            raise broken("ND2", "the map of the chunks has no end")
        name = content[offset:end]
        if name == MAP_END:
            return frames
        (position,) = struct.unpack_from("<Q", content, end)
        place = _chunk(stream, position, name, size)
        frame = FRAME_NAME.fullmatch(name)
        if frame:
            frames[int(frame[1])] = place
        offset = end + 16


def _chunk(stream: BinaryIO, position: int, name: bytes, size: int) -> tuple[int, int]:
    """First byte and length of a chunk's content."""
    if position + CHUNK.size > size:
        raise ImageError("truncated", f"a chunk lies behind the end of the file of {size} bytes: copy it again")
    stream.seek(position)
    magic, name_length, length = CHUNK.unpack(stream.read(CHUNK.size))
    start = position + CHUNK.size + name_length
    if magic != MAGIC or stream.read(min(len(name), name_length)) != name:
        raise broken("ND2", f"the chunk {name.decode('ascii', 'replace')} is not where it should be")
    if start + length > size:
        raise ImageError("truncated", f"a chunk ends behind the end of the file of {size} bytes: copy it again")
    return start, length


# Metadata -----------------------------------------------------------------------------------------------------------


def _facts(file: Any) -> _Facts:
    if file.is_legacy:
        raise ImageError("unsupported_format", "an ND2 file of the old kind (JPEG 2000): save it again in NIS-Elements")
    attributes = file.attributes
    if attributes.tileWidthPx not in (None, attributes.widthPx):
        raise ImageError("unsupported_format", "frames stored in tiles: save the file again in NIS-Elements")
    if attributes.compressionType not in (None, "none", "lossless"):
        raise ImageError(
            "unsupported_format", f"frames are compressed ({attributes.compressionType}): save it without loss"
        )
    kind = SAMPLE_KINDS.get(attributes.pixelDataType or "unsigned", "?")
    bits = attributes.bitsPerComponentInMemory
    if f"{kind}{bits}" not in ("u8", "u16", "u32", "i16", "i32", "f32", "f64"):
        raise ImageError(
            "unsupported_type", f"samples of {bits} bits, {attributes.pixelDataType}: grey values are needed"
        )
    channels = attributes.channelCount or 1
    samples = attributes.componentCount // channels
    if samples not in (1, 3, 4):
        channels, samples = attributes.componentCount, 1
    sizes = (attributes.heightPx, attributes.widthPx or 0, channels, samples)
    if min(sizes) < 1:
        raise broken("ND2", f"a frame of {sizes}")
    itemsize = bits // 8
    row_bytes = attributes.widthBytes or 0
    if row_bytes % itemsize or row_bytes < math.prod(sizes[1:]) * itemsize:
        raise broken("ND2", f"rows of {row_bytes} bytes for {attributes.widthPx} pixels")
    loops = tuple((LOOPS.get(loop.type, "U"), int(loop.count)) for loop in file.experiment)
    places = (loop.parameters.points for loop in file.experiment if loop.type == "XYPosLoop")
    positions: Sequence[Any] = next(places, [])
    metadata = file.metadata
    held = (metadata.channels or []) if metadata else []
    names = [str(channel.channel.name or "") for channel in held]
    return _Facts(
        loops=loops,
        positions=tuple(str(point.name or "") for point in positions),
        height=sizes[0],
        width=sizes[1],
        row_bytes=row_bytes,
        channels=channels,
        samples=samples,
        dtype=np.dtype(f"<{kind}{itemsize}"),
        compressed=attributes.compressionType == "lossless",
        channel_names=tuple(names) if len(names) == channels else ("",) * channels,
        pixel_size_um=_pixel_size(held, file.experiment),
    )


def _pixel_size(channels: Sequence[Any], experiment: Sequence[Any]) -> dict[str, float]:
    if not channels:
        return {}
    volume = channels[0].volume
    calibrated = zip("XYZ", volume.axesCalibration, volume.axesCalibrated, strict=False)
    sizes = {axis: size_in_um(float(size), "um") for axis, size, known in calibrated if known}
    for loop in experiment:
        if loop.type == "ZStackLoop":
            sizes["Z"] = size_in_um(abs(float(loop.parameters.stepUm)), "um")
    found = {axis: size for axis in "ZYX" if (size := sizes.get(axis)) is not None}
    return found if {"Y", "X"} <= found.keys() else {}


def _image(path: Path, facts: _Facts, frames: dict[int, tuple[int, int]], axes: str | None, series: int) -> Image:
    total = math.prod(n for _, n in facts.loops)
    if min((n for _, n in facts.loops), default=1) < 1 or total > MAX_FRAMES:
        raise ImageError("inconsistent", f"{total} frames are claimed, which no file holds")
    if not frames:
        raise ImageError("truncated", "no frame: the file was not finished; write or copy it again")
    for start, length in frames.values():
        if not facts.compressed and length < TIME_BYTES + facts.frame_bytes:
            raise ImageError(
                "truncated", f"a frame of {facts.frame_bytes} bytes is claimed, {length} are there: copy it again"
            )
        if facts.frame_bytes > 1100 * length:  # no deflate stream unpacks to more
            raise ImageError("inconsistent", f"a frame of {facts.frame_bytes} bytes is claimed by {length} at {start}")
    count = math.prod(n for letter, n in facts.loops if letter == "P")
    check_series(series, count)
    stored = [(letter, n) for letter, n in facts.loops if letter != "P"]
    inside = [("C", facts.channels), ("S", facts.samples)]
    layout = name_axes([*stored, *inside, ("Y", facts.height), ("X", facts.width)], axes)
    names = colour_names(facts.channel_names, facts.samples)
    return Image(
        axes=layout.axes,
        shape=layout.shape,
        dtype=facts.dtype.newbyteorder("="),
        pixel_size_um=facts.pixel_size_um,
        pixel_size_trusted=bool(facts.pixel_size_um),
        channel_names=names if len(names) == layout.size("C") else ("",) * layout.size("C"),
        source=path,
        pixels=_Nd2Pixels(path, layout, facts, frames, series),
        series=series,
        series_count=count,
        name=facts.positions[series] if series < len(facts.positions) else "",
        format="nd2",
    )


# Pixels -------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Nd2Pixels:
    """Reads the rows of the window; holds no open file."""

    path: Path
    layout: Layout
    facts: _Facts
    frames: dict[int, tuple[int, int]]
    position: int

    def read(self, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        """Return a window ``(len(channels), Y, X)``."""
        out = np.empty((len(channels), y.stop - y.start, x.stop - x.start), self.facts.dtype.newbyteorder("="))
        rows: dict[int, NDArray[Any]] = {}
        with open_regular(self.path) as stream:
            for i, channel in enumerate(channels):
                frame, place = self._find(t, z, channel)
                if frame not in rows:
                    rows[frame] = self._rows(stream, frame, y)
                out[i] = rows[frame][:, x, place]
        return out

    @functools.cached_property
    def missing(self) -> MissingPlanes | None:
        """Planes of frames that were never recorded."""
        shape = tuple(self.layout.size(axis) for axis in "TCZ")
        present = np.zeros(shape, bool)
        for t, c, z in np.ndindex(*shape):
            present[t, c, z] = self._find(t, z, c)[0] in self.frames
        return MissingPlanes.of(present)

    def _find(self, t: int, z: int, channel: int) -> tuple[int, int]:
        """Frame, and place among the samples of a pixel."""
        indices = iter(self.layout.indices(t, z, channel))
        frame = 0
        for letter, length in self.facts.loops:
            index = self.position if letter == "P" else next(indices) if length > 1 else 0
            frame = frame * length + index
        inside = [next(indices) if length > 1 else 0 for length in (self.facts.channels, self.facts.samples)]
        # Colours are stored blue first (Bio-Formats issue 3761, where NIS-Elements was compared).
        sample = BLUE_FIRST[inside[1]] if self.facts.samples > 1 else 0
        return frame, inside[0] * self.facts.samples + sample

    def _rows(self, stream: BinaryIO, frame: int, y: slice) -> NDArray[Any]:
        """``(rows, X, samples of all channels)``."""
        facts, (start, length) = self.facts, self.frames[frame]
        needed = (y.stop - y.start) * facts.row_bytes
        if facts.compressed:
            stream.seek(start + TIME_BYTES)
            try:
                content = zlib.decompressobj().decompress(stream.read(length - TIME_BYTES), facts.frame_bytes)
            except zlib.error as error:
                raise broken("ND2", error) from error
            content = content[y.start * facts.row_bytes : y.stop * facts.row_bytes]
        else:
            stream.seek(start + TIME_BYTES + y.start * facts.row_bytes)
            content = stream.read(needed)
        if len(content) < needed:
            raise ImageError("truncated", f"frame {frame} is cut: copy the file again")
        samples = facts.channels * facts.samples
        table = np.frombuffer(content, facts.dtype).reshape(y.stop - y.start, -1)
        return table[:, : facts.width * samples].reshape(-1, facts.width, samples)
