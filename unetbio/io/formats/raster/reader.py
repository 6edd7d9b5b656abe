"""PNG and JPEG: the size from the header, pixels decoded on reading."""

import functools
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.files import open_regular, read_bytes
from unetbio.io.formats.picture_size import check_scans
from unetbio.io.formats.refusals import check_series
from unetbio.io.image import Image

__all__ = ["read_raster", "read_raster_labels"]

PNG_START = b"\x89PNG\r\n\x1a\n"

SMALL_BYTES = 1 << 28
RATIO = 3000
"""No PNG or JPEG unpacks to more than about this many times its size (deflate 1032; JPEG spends bits on each block)."""

_NAMES = {1: ("",), 2: ("", "alpha"), 3: ("red", "green", "blue"), 4: ("red", "green", "blue", "alpha")}
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_PNG_DEPTHS = (1, 2, 4, 8, 16)


def read_raster(path: Path, *, axes: str | None = None, series: int = 0) -> Image:
    """Open a PNG or JPEG picture.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    axes : str, optional
        ``YX`` or ``CYX``, which the file says itself: anything else is refused.
    series : int, optional
        0.

    Returns
    -------
    Image
        Grey values as stored (1, 2 and 4 bits spread to 0 to 255), palettes as red, green, blue; no pixel size, since
        these formats know the resolution of printers only.

    Raises
    ------
    ImageError
        ``unreadable``, ``truncated``, ``inconsistent``, ``unsupported_colour``, ``unknown_axes``, ``no_such_series``.
    """
    check_series(series, 1)
    with open_regular(path) as stream:
        is_png = stream.read(1) == PNG_START[:1]
    height, width, channels, dtype = _png_header(path) if is_png else _jpeg_header(path)
    kept = "CYX" if channels > 1 else "YX"
    if axes is not None and axes.upper() != kept:
        raise ImageError("unknown_axes", f"--axes {axes} does not fit a picture, which has {kept}")
    claimed, size = height * width * channels * dtype.itemsize, path.stat().st_size
    if claimed > max(SMALL_BYTES, size * RATIO):
        raise ImageError(
            "inconsistent",
            f"{width} x {height} pixels ({claimed / 1e9:.1f} GB) are claimed by a file of {size} bytes: a broken file",
        )
    return Image(
        axes=kept,
        shape=(channels, height, width)[-len(kept) :],
        dtype=dtype,
        pixel_size_um={},
        pixel_size_trusted=False,
        channel_names=_NAMES[channels],
        source=path,
        pixels=_RasterPixels(path, is_png, (height, width, channels)),
        format="png" if is_png else "jpeg",
    )


def read_raster_labels(path: Path, *, axes: str | None = None, series: int = 0) -> Image:
    """Open a picture that holds labels; parameters and errors are those of `read_raster`.

    The numbers of a palette that begins with black are the labels. Palettes in another order, as programs write that
    make pictures smaller, are colours.
    """
    depth = _depth_of_labels(path)
    if not depth:
        return read_raster(path, axes=axes, series=series)
    image = read_raster(path, series=series)
    if axes is not None and axes.upper() != "YX":
        raise ImageError("unknown_axes", f"--axes {axes} does not fit a picture of labels, which has YX")
    shape = image.size("Y"), image.size("X")
    pixels = _PaletteNumbers(path, (*shape, 1), depth)
    return replace(image, axes="YX", shape=shape, channel_names=("",), pixels=pixels)


class _RasterPixels:
    """The decoded picture, kept after the first read."""

    def __init__(self, path: Path, is_png: bool, shape: tuple[int, int, int]) -> None:
        self.path, self.is_png, self.shape = path, is_png, shape

    @functools.cached_property
    def _picture(self) -> NDArray[Any]:
        """``(Y, X, C)``."""
        content = self._encoded()
        try:
            picture = (imagecodecs.png_decode if self.is_png else imagecodecs.jpeg8_decode)(content)
        except MemoryError:
            raise
        except Exception as error:  # the codecs' errors share no class
            name = "PNG" if self.is_png else "JPEG"
            raise ImageError("unreadable", f"a broken {name} picture: write or copy it again") from error
        if picture.size != math.prod(self.shape):
            raise ImageError("unreadable", f"decodes to shape {picture.shape}, the header claims {self.shape}")
        return picture.reshape(self.shape)

    def _encoded(self) -> bytes:
        return read_bytes(self.path)

    def read(self, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        """Return a window ``(len(channels), Y, X)``."""
        return np.moveaxis(self._picture[y, x][..., list(channels)], -1, 0)


class _PaletteNumbers(_RasterPixels):
    """The numbers of a PNG picture with a palette of so many bits: decoded as the grey values of the same file."""

    def __init__(self, path: Path, shape: tuple[int, int, int], depth: int) -> None:
        super().__init__(path, True, shape)
        # Decoders spread grey values of fewer bits to 0 to 255.
        self.step = 255 // ((1 << depth) - 1)

    def _encoded(self) -> bytes:
        with open_regular(self.path) as stream:
            chunks = [(kind, content) for kind, content in _png_chunks(stream) if kind in (b"IHDR", b"IDAT", b"IEND")]
        grey = [(kind, content[:9] + b"\0" + content[10:] if kind == b"IHDR" else content) for kind, content in chunks]
        return PNG_START + b"".join(
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
            for kind, content in grey
        )

    def read(self, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        """See `_RasterPixels`."""
        return super().read(t, z, channels, y, x) // self.step


def _depth_of_labels(path: Path) -> int:
    """Bits a pixel of a picture with a palette that begins with black; 0 for other pictures."""
    with open_regular(path) as stream:
        for kind, content in _png_chunks(stream):
            if kind == b"IHDR" and content[9:10] != b"\x03":
                return 0
            if kind == b"IHDR":
                depth = content[8]
            if kind == b"PLTE":
                return depth if content[:3] == b"\0\0\0" else 0
    return 0


def _cut(path: Path) -> ImageError:
    return ImageError("truncated", f"the picture is cut off after {path.stat().st_size} bytes: copy it again")


def _png_header(path: Path) -> tuple[int, int, int, np.dtype[Any]]:
    """Height, width, channels, type; a missing end and wrong checksums are refused, which decoders do not do."""
    header, transparent, complete = b"", False, False
    with open_regular(path) as stream:
        for kind, content in _png_chunks(stream):
            header = content if kind == b"IHDR" else header
            transparent |= kind == b"tRNS"
            complete |= kind == b"IEND"
            if kind == b"acTL" and len(content) >= 4 and int.from_bytes(content[:4], "big") > 1:
                count = int.from_bytes(content[:4], "big")
                raise ImageError("unsupported_format", f"an animation of {count} pictures: save each alone")
    if len(header) < 10 or not complete:
        raise _cut(path)
    width, height, depth, colour = struct.unpack(">IIBB", header[:10])
    if colour not in _PNG_CHANNELS or depth not in _PNG_DEPTHS or not width or not height:
        raise ImageError("unreadable", "a broken PNG picture: write or copy it again")
    channels = _PNG_CHANNELS[colour]
    if transparent and colour in (0, 2, 3):
        channels += 1
    return height, width, channels, np.dtype(np.uint16 if depth == 16 else np.uint8)


def _png_chunks(stream: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each whole chunk."""
    size, position = stream.seek(0, 2), 8
    while position + 12 <= size:
        stream.seek(position)
        length, kind = struct.unpack(">I4s", stream.read(8))
        if position + 12 + length > size:
            return
        content = stream.read(length)
        if zlib.crc32(kind + content) != int.from_bytes(stream.read(4), "big"):
            raise ImageError("unreadable", f"a broken PNG picture (checksum at byte {position}): copy it again")
        yield kind, content
        position += 12 + length


def _jpeg_header(path: Path) -> tuple[int, int, int, np.dtype[Any]]:
    """Height, width, channels, type; a scan without an end marker is refused, which decoders fill with grey."""
    content = read_bytes(path)
    position, frame = 2, b""
    while True:
        position = content.find(b"\xff", position)
        if position < 0 or position + 4 > len(content):
            raise _cut(path)
        marker = content[position + 1]
        if marker in (0x00, 0xFF, 0x01) or 0xD0 <= marker <= 0xD8:
            position += 1 if marker == 0xFF else 2
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = content[position + 4 : position + 10]
        if marker == 0xDA:
            break
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    check_scans(content)
    if len(frame) < 6 or content.find(b"\xff\xd9", position) < 0:
        raise _cut(path)
    depth, height, width, channels = struct.unpack(">BHHB", frame)
    if channels == 4:
        raise ImageError("unsupported_colour", "colours are stored as CMYK: save it as grey or RGB")
    if depth != 8 or channels not in (1, 3) or not height or not width:
        raise ImageError(
            "unreadable", f"a JPEG picture of {depth} bits and {channels} channels: save it as PNG or TIFF"
        )
    return height, width, channels, np.dtype(np.uint8)
