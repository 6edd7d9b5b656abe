"""The size that a compressed picture claims, read before its decoder takes memory for it, and its scans.

Tiles of TIFF and CZI files can be whole pictures (JPEG, JPEG 2000, JPEG XL, JPEG XR, LERC, PNG, WebP) with a size of
their own: in a broken or hostile file that of one tile may be larger than any memory.
"""

import struct
from collections.abc import Callable

from unetbio.errors import ImageError

__all__ = ["check_scans", "picture_size"]

MAX_SCANS = 100
"""Largest number of scans of a JPEG picture; programs write about 10. Each costs as much time as the whole picture."""

_JPEG_STANDALONE = (0x00, 0x01, *range(0xD0, 0xD9))
# The last is that of JPEG-LS.
_JPEG_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_JPEG_XL_BITS = (9, 13, 18, 30)
_JPEG_XL_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_JPEG_XR_WIDTH, _JPEG_XR_HEIGHT = 0xBC80, 0xBC81

Size = tuple[int, int, int]


def picture_size(data: bytes) -> Size | None:
    """Height, width and samples a pixel that the header of a picture claims.

    Parameters
    ----------
    data : bytes
        The whole picture.

    Returns
    -------
    tuple of int or None
        1 sample where the header does not say how many, up to 4; None for other data and for headers that are cut.
    """
    for signature, read in _READERS.items():
        if data.startswith(signature):
            try:
                return read(data)
            except (struct.error, IndexError):
                return None
    return None


def check_scans(data: bytes) -> None:
    """Refuse a JPEG picture that refines its pixels more often than any program writes.

    A file of 1 MB can hold thousands of scans of a large picture, which take minutes.

    Raises
    ------
    ImageError
        ``inconsistent``.
    """
    # Within the pixels no byte of ones is followed by such a byte.
    scans = data.count(b"\xff\xda") if data.startswith(b"\xff\xd8") else 0
    if scans > MAX_SCANS:
        raise ImageError(
            "inconsistent", f"a JPEG picture of {scans} scans, at most {MAX_SCANS} are decoded: save it as PNG or TIFF"
        )


def _jpeg(data: bytes) -> Size | None:
    position = 2
    while (position := data.find(b"\xff", position)) >= 0:
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _JPEG_STANDALONE:
            position += 2
        elif marker in _JPEG_FRAMES:
            height, width, samples = struct.unpack_from(">HHB", data, position + 5)
            return height, width, samples
        else:
            position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    return None


def _jpeg_2000(data: bytes) -> Size | None:
    # The decoder takes memory for the code stream, whatever the box around it says.
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    return bottom - top, right - left, struct.unpack_from(">H", data, start + 40)[0]


def _jpeg_xl_boxes(data: bytes) -> Size | None:
    start = data.find(b"\xff\x0a", 12)
    return None if start < 0 else _jpeg_xl(data[start:])


def _jpeg_xl(data: bytes) -> Size | None:
    """``SizeHeader`` of ISO/IEC 18181-1: bits from the lowest of each byte on."""
    bits, place = int.from_bytes(data[2:18], "little"), 0

    def take(count: int) -> int:
        nonlocal place
        place += count
        return bits >> (place - count) & ((1 << count) - 1)

    is_small = take(1)

    def length() -> int:
        return 8 * (take(5) + 1) if is_small else take(_JPEG_XL_BITS[take(2)]) + 1

    height = length()
    ratio = take(3)
    if not ratio:
        return height, length(), 1
    across, down = _JPEG_XL_RATIOS[ratio - 1]
    return height, height * across // down, 1


def _jpeg_xr(data: bytes) -> Size | None:
    (offset,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, offset)
    found = {}
    for i in range(count):
        tag, kind, _, value = struct.unpack_from("<HHII", data, offset + 2 + 12 * i)
        found[tag] = value & 0xFFFF if kind == 3 else value
    return found.get(_JPEG_XR_HEIGHT, 0), found.get(_JPEG_XR_WIDTH, 0), 1


def _lerc(data: bytes) -> Size | None:
    (version,) = struct.unpack_from("<i", data, 6)
    # Behind the version stands a checksum since version 3, and the samples of a pixel since version 4.
    fields = struct.unpack_from("<3i", data, 10 if version < 3 else 14)
    return fields[0], fields[1], fields[2] if version >= 4 else 1


def _lerc_1(data: bytes) -> Size | None:
    height, width = struct.unpack_from("<2i", data, 18)
    return height, width, 1


def _png(data: bytes) -> Size | None:
    width, height = struct.unpack_from(">2I", data, 16)
    return height, width, 1


def _webp(data: bytes) -> Size | None:
    if data[12:16] == b"VP8X":
        return int.from_bytes(data[27:30], "little") + 1, int.from_bytes(data[24:27], "little") + 1, 1
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1, 1
    width, height = struct.unpack_from("<HH", data, 26)
    return height & 0x3FFF, width & 0x3FFF, 1


_READERS: dict[bytes, Callable[[bytes], Size | None]] = {
    b"\xff\xd8": _jpeg,
    b"\xff\x4f\xff\x51": _jpeg_2000,
    b"\0\0\0\x0cjP  ": _jpeg_2000,
    b"\xff\x0a": _jpeg_xl,
    b"\0\0\0\x0cJXL ": _jpeg_xl_boxes,
    b"II\xbc": _jpeg_xr,
    b"Lerc2 ": _lerc,
    b"CntZImage ": _lerc_1,
    b"\x89PNG": _png,
    b"RIFF": _webp,
}
