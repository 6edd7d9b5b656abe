"""Zeiss CZI: read windows of a mosaic of tiles.

A file is a chain of segments, of which three kinds matter here: the directory, which holds the position of each tile
(*subblock*) in the image and in the file; the tiles; and the metadata, which are XML. The structures are read here:
the library czifile knows neither zstd nor pyramids, and trusts sizes claimed by a file.

Sources: the layout of the segments as in czifile (C. Gohlke, BSD-3); the header of zstd1 and its byte order as in
Zeiss' libCZI (``decoder_zstd.cpp``).
"""

import dataclasses
import functools
import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.files import open_regular
from unetbio.io.formats.axes import Layout, colour_names, name_axes
from unetbio.io.formats.picture_size import picture_size
from unetbio.io.formats.refusals import broken, check_series, refuse_broken
from unetbio.io.formats.units import size_in_um
from unetbio.io.image import Image
from unetbio.io.missing import MissingPlanes

__all__ = ["read_czi"]

SEGMENT = struct.Struct("<16sqq")
HEADER = struct.Struct("<iiii16s16siqqiq")
DIRECTORY = struct.Struct("<i124x")
ENTRY = struct.Struct("<2siqiiB5xi")
DIMENSION = struct.Struct("<4siifi")
TILE = struct.Struct("<iiq")
METADATA = struct.Struct("<i252x")
# An entry is padded to this many bytes where a tile begins.
TILE_ENTRY_BYTES = 240

PIXELS = {
    0: ("<u1", 1),
    1: ("<u2", 1),
    2: ("<f4", 1),
    3: ("<u1", 3),
    4: ("<u2", 3),
    8: ("<f4", 3),
    9: ("<u1", 4),
    12: ("<i4", 1),
}
"""Type of a sample and samples a pixel, by the file's number of the pixel type; colours are stored blue first."""

PLAIN, LZW, JPEG_XR, ZSTD0, ZSTD1 = 0, 2, 4, 5, 6
READ_COMPRESSIONS = (PLAIN, LZW, JPEG_XR, ZSTD0, ZSTD1)
OTHER_COMPRESSIONS = {1: "JPEG"}

SMALL_BYTES = 1 << 28
"""Tiles and planes up to this size are read from files of any size, since blank images compress without limit."""

TILE_RATIO = 100_000
"""Largest believable compression of one tile."""

GAP_RATIO = 64
"""Larger planes of which the tiles cover less than one part in this many are a broken file, not a mosaic with gaps."""


@dataclasses.dataclass(frozen=True)
class _Entry:
    """Entry of a tile in the directory: start, size and stored size by the letter of the axis."""

    position: int
    part: int
    pixel_type: int
    compression: int
    start: dict[str, int]
    size: dict[str, int]
    stored: dict[str, int]

    @property
    def is_base(self) -> bool:
        """Whether the tile is stored at full size, not reduced for a pyramid."""
        return all(self.stored[axis] == self.size[axis] for axis in "YX")


@dataclasses.dataclass(frozen=True)
class _Tile:
    """Where a tile lies in its plane and in the file."""

    position: int
    compression: int
    top: int
    left: int
    height: int
    width: int


def read_czi(path: Path, *, axes: str | None = None, series: int = 0) -> Image:
    """Open a Zeiss CZI file.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    axes : str, optional
        Names of the stored axes that are longer than one, slowest first, colour samples left out or called C; for files
        with phases, illuminations, rotations or views.
    series : int, optional
        Which scene.

    Returns
    -------
    Image
        A scene is one image: the smallest rectangle around its tiles, zero where there is no tile; where tiles overlap,
        the one with the highest mosaic number. Of a pyramid the base level is read. Blue, green, red become channels
        red, green, blue.

    Raises
    ------
    ImageError
        ``unreadable``, ``truncated``, ``inconsistent``, ``unsupported_type``, ``unsupported_format``,
        ``missing_companion``, ``unknown_axes``, ``no_such_series``; when pixels are read also ``missing_plane``.
    """
    try:
        with open_regular(path) as stream:
            size = stream.seek(0, 2)
            entries, xml = _entries_and_metadata(stream, size)
        metadata = _Metadata(xml)
        return _image(path, size, entries, metadata, axes, series)
    except (ImageError, OSError):
        raise
    except (struct.error, ValueError, ElementTree.ParseError, OverflowError) as error:
        raise broken("CZI", error) from error


def _cut(what: str, size: int) -> ImageError:
    return ImageError("truncated", f"{what} lies behind the end of the file of {size} bytes: copy it again")


def _without_directory(found: str) -> ImageError:
    return ImageError(
        "truncated",
        f"{found}; without it --partial cannot take what is there, since it says where planes lie and whether "
        "they are whole: copy the file again, or save it anew in ZEN",
    )


# The file's structures ----------------------------------------------------------------------------------------------


def _read_struct(stream: BinaryIO, position: int, layout: struct.Struct, size: int, what: str) -> tuple[Any, ...]:
    if position < 0 or position + layout.size > size:
        raise _cut(what, size)
    stream.seek(position)
    return layout.unpack(stream.read(layout.size))


def _segment(stream: BinaryIO, position: int, name: bytes, size: int, what: str) -> int:
    """Byte at which the content of a segment begins."""
    found, _, _ = _read_struct(stream, position, SEGMENT, size, what)
    if found.rstrip(b"\0") != name:
        raise broken("CZI", f"{what} is not where it should be")
    return position + SEGMENT.size


def _entries_and_metadata(stream: BinaryIO, size: int) -> tuple[list[_Entry], bytes]:
    start = _segment(stream, 0, b"ZISRAWFILE", size, "the header")
    *_, part, directory, metadata, _, _ = _read_struct(stream, start, HEADER, size, "the header")
    if part != 0:
        raise ImageError("missing_companion", f"piece {part} of an image that several files hold: join them in ZEN")
    if directory == 0:
        raise _without_directory("no directory: the file was not finished")
    if directory + SEGMENT.size + DIRECTORY.size > size:
        raise _without_directory(f"the directory lies behind the end of the file of {size} bytes, which was cut")
    start = _segment(stream, directory, b"ZISRAWDIRECTORY", size, "the directory")
    (count,) = _read_struct(stream, start, DIRECTORY, size, "the directory")
    start += DIRECTORY.size
    if count < 0 or start + count * ENTRY.size > size:
        raise _without_directory(f"the directory of {count} tiles ends behind the file of {size} bytes, which was cut")
    stream.seek(start)
    # An entry has no more than 40 dimensions, checked below.
    content = stream.read(min(size - start, count * (ENTRY.size + 40 * DIMENSION.size)))
    return _entries(content, count, size), _metadata(stream, metadata, size)


def _entries(content: bytes, count: int, size: int) -> list[_Entry]:
    entries, offset = [], 0
    for number in range(count):
        entry, offset = _entry(content, offset, f"entry {number} of the directory", size)
        entries.append(entry)
    return entries


def _entry(content: bytes, offset: int, what: str, size: int) -> tuple[_Entry, int]:
    if offset + ENTRY.size > len(content):
        raise _cut(what, size)
    schema, pixel_type, position, part, compression, _, dimensions = ENTRY.unpack_from(content, offset)
    offset += ENTRY.size
    if schema != b"DV" or not 0 <= dimensions <= 40:
        raise broken("CZI", f"{what} is none")
    end = offset + dimensions * DIMENSION.size
    if end > len(content):
        raise _cut(what, size)
    start, length, stored = {}, {}, {}
    for name, first, count, _, held in DIMENSION.iter_unpack(content[offset:end]):
        axis = name.rstrip(b"\0").decode("ascii", "replace")
        start[axis], length[axis], stored[axis] = first, count, held or count
    if not {"X", "Y"} <= length.keys() or min(length.values()) < 1 or min(stored.values()) < 1:
        raise broken("CZI", f"{what} has no size")
    return _Entry(position, part, pixel_type, compression, start, length, stored), end


def _metadata(stream: BinaryIO, position: int, size: int) -> bytes:
    if position == 0:
        return b""
    start = _segment(stream, position, b"ZISRAWMETADATA", size, "the metadata")
    (length,) = _read_struct(stream, start, METADATA, size, "the metadata")
    if length < 0 or start + METADATA.size + length > size:
        raise _cut("the metadata", size)
    stream.seek(start + METADATA.size)
    return stream.read(length)


# Metadata -----------------------------------------------------------------------------------------------------------


class _Metadata:
    """Fields of the XML, each of which may be missing."""

    def __init__(self, xml: bytes) -> None:
        self.root = ElementTree.fromstring(xml.rstrip(b"\0")) if xml.strip(b"\0 \r\n") else ElementTree.Element("none")

    def pixel_size_um(self) -> dict[str, float]:
        """Micrometres by axis; empty when rows or columns have none."""
        sizes = {}
        for distance in self.root.iterfind(".//Metadata/Scaling/Items/Distance"):
            try:
                size = size_in_um(float(distance.findtext("Value", "nan")), "m")
            except ValueError:
                continue
            if size is not None and distance.get("Id") in ("X", "Y", "Z"):
                sizes[distance.get("Id", "")] = size
        return {axis: sizes[axis] for axis in "ZYX" if axis in sizes} if {"X", "Y"} <= sizes.keys() else {}

    def channel_names(self, count: int) -> tuple[str, ...]:
        """Names of the first ``count`` channels, empty where there is none."""
        for place in (".//Information/Image/Dimensions/Channels/Channel", ".//DisplaySetting/Channels/Channel"):
            names = [channel.get("Name", "") for channel in self.root.iterfind(place)]
            if any(names) and len(names) >= count:
                return tuple(names[:count])
        return ("",) * count

    def scene_name(self, number: int) -> str:
        """Name of a scene, by its number in the file."""
        for scene in self.root.iterfind(".//Information/Image/Dimensions/S/Scenes/Scene"):
            if scene.get("Index") == str(number):
                return scene.get("Name", "")
        return ""


# From tiles to an image ---------------------------------------------------------------------------------------------


def _image(path: Path, size: int, entries: list[_Entry], metadata: _Metadata, axes: str | None, series: int) -> Image:
    if not entries:
        raise ImageError("truncated", "the directory lists no tile: the file was not finished; write or copy it again")
    base = [entry for entry in entries if entry.is_base]
    if not base:
        raise ImageError("unsupported_format", "only reduced copies of the image are stored: save it again in ZEN")
    scenes = sorted({entry.start.get("S", 0) for entry in base})
    check_series(series, len(scenes))
    scene = [entry for entry in base if entry.start.get("S", 0) == scenes[series]]
    kind = _checked(scene, size)
    top, left = (min(entry.start[axis] for entry in scene) for axis in "YX")
    height, width = (
        max(entry.start[axis] + entry.size[axis] for entry in scene) - first
        for axis, first in zip("YX", (top, left), strict=True)
    )
    letters, starts, stored = _outer_axes(scene)
    dtype, samples = np.dtype(PIXELS[kind][0]), PIXELS[kind][1]
    layout = name_axes([*stored, ("S", samples), ("Y", height), ("X", width)], axes)
    planes = _planes(scene, letters, starts, top, left)
    _check_claim(height, width, dtype.itemsize * samples, planes)
    longer = [i for i, (_, n) in enumerate(stored) if n > 1]
    pixel_size = metadata.pixel_size_um()
    channels = dict(stored).get("C", 1)
    names = colour_names(metadata.channel_names(channels), samples)
    return Image(
        axes=layout.axes,
        shape=layout.shape,
        dtype=dtype.newbyteorder("="),
        pixel_size_um=pixel_size,
        pixel_size_trusted=bool(pixel_size),
        channel_names=names if len(names) == layout.size("C") else ("",) * layout.size("C"),
        source=path,
        pixels=_CziPixels(path, layout, planes, len(stored), tuple(longer), kind),
        series=series,
        series_count=len(scenes),
        name=metadata.scene_name(scenes[series]),
        format="czi",
    )


def _checked(scene: list[_Entry], size: int) -> int:
    """The one pixel type of a scene, each of whose tiles can be read and lies within the file."""
    kinds = sorted({entry.pixel_type for entry in scene})
    if len(kinds) > 1 or kinds[0] not in PIXELS:
        raise ImageError(
            "unsupported_type", f"pixels of the CZI types {kinds}: one type is needed, grey or colour, not complex"
        )
    for entry in scene:
        if entry.part != 0:
            raise ImageError("missing_companion", f"tiles lie in another file, part {entry.part}: join them in ZEN")
        if entry.compression not in READ_COMPRESSIONS:
            name = OTHER_COMPRESSIONS.get(entry.compression, f"number {entry.compression}, a camera's own")
            raise ImageError(
                "unsupported_format", f"tiles are compressed ({name}): save as zstd or uncompressed in ZEN"
            )
        needed = _tile_bytes(entry.size["Y"], entry.size["X"], kinds[0]) if entry.compression == PLAIN else 1
        if entry.position < 0 or entry.position + SEGMENT.size + TILE.size + TILE_ENTRY_BYTES + needed > size:
            raise _cut("a tile", size)
    return kinds[0]


def _tile_bytes(height: int, width: int, kind: int) -> int:
    dtype, samples = PIXELS[kind]
    return height * width * samples * np.dtype(dtype).itemsize


def _outer_axes(scene: list[_Entry]) -> tuple[list[str], dict[str, int], list[tuple[str, int]]]:
    """Axes beside rows, columns, scene and mosaic: their letters, first positions and lengths, slowest first."""
    found = {axis for entry in scene for axis in entry.start} - set("XYSM")
    letters = sorted(found, key=lambda axis: ("VIHRBTCZ".find(axis), axis))
    starts = {axis: min(entry.start.get(axis, 0) for entry in scene) for axis in letters}
    stored = [(axis, max(entry.start.get(axis, 0) for entry in scene) - starts[axis] + 1) for axis in letters]
    if any(entry.size.get(axis, 1) != 1 for entry in scene for axis in letters):
        raise ImageError("unsupported_format", "tiles of more than one plane: save the file again in ZEN")
    if math.prod(n for _, n in stored) > 100 * len(scene) + 1000:
        listed = " ".join(f"{axis}={n}" for axis, n in stored)
        raise ImageError("inconsistent", f"{listed} are claimed, {len(scene)} tiles are there: write the file again")
    return letters, starts, stored


def _planes(
    scene: list[_Entry], letters: list[str], starts: dict[str, int], top: int, left: int
) -> dict[tuple[int, ...], tuple[_Tile, ...]]:
    """Tiles of each plane, by its index along each outer axis; the lowest in the mosaic first."""
    grouped: dict[tuple[int, ...], list[_Tile]] = {}
    for entry in sorted(scene, key=lambda entry: entry.start.get("M", 0)):
        key = tuple(entry.start.get(axis, 0) - starts[axis] for axis in letters)
        tile = _Tile(
            entry.position,
            entry.compression,
            entry.start["Y"] - top,
            entry.start["X"] - left,
            entry.size["Y"],
            entry.size["X"],
        )
        grouped.setdefault(key, []).append(tile)
    return {key: tuple(tiles) for key, tiles in grouped.items()}


def _check_claim(height: int, width: int, itemsize: int, planes: dict[tuple[int, ...], tuple[_Tile, ...]]) -> None:
    covered = max(sum(tile.height * tile.width for tile in tiles) for tiles in planes.values())
    if height * width * itemsize > SMALL_BYTES and height * width > GAP_RATIO * covered:
        raise ImageError(
            "inconsistent", f"a plane of {width} x {height} pixels is claimed, its tiles hold {covered} of them"
        )


# Pixels -------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _CziPixels:
    """Decodes the tiles that touch the window; holds no open file.

    ``longer``: which of the ``outer`` axes of ``planes``' keys are axes of the layout, the others have length one.
    """

    path: Path
    layout: Layout
    planes: dict[tuple[int, ...], tuple[_Tile, ...]]
    outer: int
    longer: tuple[int, ...]
    kind: int

    def read(self, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        """Return a window ``(len(channels), Y, X)``."""
        samples = PIXELS[self.kind][1]
        dtype = np.dtype(PIXELS[self.kind][0]).newbyteorder("=")
        out = np.zeros((len(channels), y.stop - y.start, x.stop - x.start), dtype)
        places: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        for i, channel in enumerate(channels):
            index = self.layout.indices(t, z, channel)
            sample = index[len(self.longer)] if samples > 1 else 0
            places.setdefault(self._key(index), []).append((i, sample))
        with open_regular(self.path) as stream:
            for key, wanted in places.items():
                for tile in self.planes[key]:
                    self._place(out, stream, tile, wanted, y, x)
        return out

    @functools.cached_property
    def missing(self) -> MissingPlanes | None:
        """Planes that were never written."""
        shape = tuple(self.layout.size(axis) for axis in "TCZ")
        present = np.zeros(shape, bool)
        for t, c, z in np.ndindex(*shape):
            present[t, c, z] = self._key(self.layout.indices(t, z, c)) in self.planes
        return MissingPlanes.of(present)

    def _key(self, index: tuple[int, ...]) -> tuple[int, ...]:
        """Key of a plane, from its index along the stored axes."""
        outer = dict(zip(self.longer, index, strict=False))
        return tuple(outer.get(place, 0) for place in range(self.outer))

    def _place(
        self, out: NDArray[Any], stream: BinaryIO, tile: _Tile, wanted: list[tuple[int, int]], y: slice, x: slice
    ) -> None:
        y0, y1 = max(tile.top, y.start), min(tile.top + tile.height, y.stop)
        x0, x1 = max(tile.left, x.start), min(tile.left + tile.width, x.stop)
        if y0 >= y1 or x0 >= x1:
            return
        rows = _decode(stream, tile, self.kind, y0 - tile.top, y1 - tile.top)
        for i, sample in wanted:
            out[i, y0 - y.start : y1 - y.start, x0 - x.start : x1 - x.start] = rows[
                :, x0 - tile.left : x1 - tile.left, sample
            ]


def _decode(stream: BinaryIO, tile: _Tile, kind: int, first: int, last: int) -> NDArray[Any]:
    """Rows ``first`` to ``last`` of a tile, ``(rows, X, samples)``, colours as red, green, blue."""
    dtype, samples = np.dtype(PIXELS[kind][0]), PIXELS[kind][1]
    size = stream.seek(0, 2)
    start = _segment(stream, tile.position, b"ZISRAWSUBBLOCK", size, "a tile")
    metadata_bytes, _, held = _read_struct(stream, start, TILE, size, "a tile")
    start += TILE.size
    (*_, dimensions) = _read_struct(stream, start, ENTRY, size, "a tile")
    start += max(TILE_ENTRY_BYTES, ENTRY.size + dimensions * DIMENSION.size) + metadata_bytes
    needed = _tile_bytes(tile.height, tile.width, kind)
    if metadata_bytes < 0 or dimensions < 0 or held < 0 or start + held > size:
        raise _cut("a tile", size)
    if tile.compression == PLAIN:
        if held < needed:
            raise ImageError("truncated", f"a tile of {needed} bytes holds {held}: write the file again")
        row = needed // tile.height
        stream.seek(start + first * row)
        block = np.frombuffer(stream.read((last - first) * row), dtype).reshape(last - first, tile.width, samples)
        return _rgb(block)
    if needed > SMALL_BYTES and needed > TILE_RATIO * held:
        raise ImageError("inconsistent", f"a tile of {needed} bytes is claimed by {held}: a broken file")
    stream.seek(start)
    data = stream.read(held)
    with refuse_broken("CZI"):
        unpacked = _unpack(data, tile, dtype, samples)
    # The decoder returns JPEG XR of 8 bits as red, green, blue, but that of 16 bits as blue, green, red.
    decoded = tile.compression == JPEG_XR and dtype.itemsize == 1
    return unpacked[first:last] if decoded else _rgb(unpacked[first:last])


def _rgb(block: NDArray[Any]) -> NDArray[Any]:
    return block[..., [2, 1, 0, 3][: block.shape[-1]]] if block.shape[-1] > 1 else block


def _unpack(data: bytes, tile: _Tile, dtype: np.dtype[Any], samples: int) -> NDArray[Any]:
    shape = (tile.height, tile.width, samples)
    if tile.compression == JPEG_XR:
        if picture_size(data) != (tile.height, tile.width, 1):
            raise broken("CZI", f"a JPEG XR tile that is not of {tile.width} x {tile.height} pixels")
        picture = np.asarray(imagecodecs.jpegxr_decode(data))
        if picture.dtype != dtype:
            raise broken("CZI", f"a JPEG XR tile of {picture.dtype} in an image of {dtype}")
        return picture.reshape(shape)
    needed = math.prod(shape) * dtype.itemsize
    interleaved = False
    if tile.compression == ZSTD1:
        header, interleaved = _zstd1_header(data)
        data = data[header:]
    decode = imagecodecs.lzw_decode if tile.compression == LZW else imagecodecs.zstd_decode
    content = decode(data, out=needed)
    if len(content) != needed:
        raise ImageError("truncated", f"a tile of {needed} bytes unpacks to {len(content)}: write the file again")
    flat = np.frombuffer(content, np.uint8)
    if interleaved and dtype.itemsize == 2:
        # All low bytes stand before all high ones.
        flat = np.ascontiguousarray(flat.reshape(2, -1).T).reshape(-1)
    return flat.view(dtype).reshape(shape)


def _zstd1_header(data: bytes) -> tuple[int, bool]:
    """Length of the header, and whether low and high bytes are stored apart."""
    if data[:1] == b"\1":
        return 1, False
    if data[:2] == b"\3\1" and len(data) > 2:
        return 3, bool(data[2] & 1)
    raise broken("CZI", "the header of a zstd1 tile")
