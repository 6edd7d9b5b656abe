"""Check a page of a TIFF file against its tags, and read windows of its pixels.

tifffile parses the tags and decodes. The tags are checked here first, since tifffile reads many broken files without
an error: truncated pages, missing tags, sizes beyond any memory.

A file that was cut, by a crash or while it was copied, holds the pages whose tags and pixels all lie before its end.
"""

import contextlib
import dataclasses
import io
import logging
import math
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.files import open_regular
from unetbio.io.formats.picture_size import check_scans, picture_size
from unetbio.io.formats.refusals import refuse_broken
from unetbio.io.formats.tiff.sets import IMAGE_DESCRIPTION

__all__ = ["JPEG", "Page", "PageChain", "check_layout", "decode_window", "follow_pages", "make_page", "open_pages"]

# tifffile logs warnings, which would be printed unless logging is configured; important ones are errors here.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

SMALL_BYTES = 1 << 28
"""Images up to this size are read from files of any size, since blank images compress without limit."""

RATIO = {1: 1000, 5: 3000, 8: 1100, 32773: 130, 32946: 1100}
"""Largest believable compression by TIFF code (none, with left-out tiles; LZW; deflate; PackBits; old deflate)."""

OTHER_RATIO = 100_000
"""The same for the other codecs, some of which spend a few bytes on any number of equal pixels."""

SMALL_SAMPLES = 1 << 24
"""Samples that a picture in a tile may have, however small the tile."""

JPEG = (6, 7, 34892, 33007)
_PICTURES = {*tifffile.TIFF.IMAGE_COMPRESSIONS, 34887}
"""Compressions whose strips and tiles are pictures with a size of their own; tifffile does not count LERC."""

BILEVEL = (2, 3, 4)
"""Compressions of pictures with one bit a pixel: CCITT RLE, fax group 3 and 4."""

HEADER_BYTES = 8

PRIVATE_TAGS = 32768
IMAGEJ_TAGS = (50838, 50839)
_TAG_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


@dataclasses.dataclass(frozen=True)
class Page:
    """Where the segments (strips or tiles) of one page are; ``layout`` is the page that says how to decode them."""

    path: Path
    layout: tifffile.TiffPage
    offsets: Sequence[int]
    counts: Sequence[int]
    jpeg: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class PageChain:
    """Pages of a file up to the first that is cut.

    Parameters
    ----------
    count : int
        Number of pages before the cut, or of all.
    broken_link : (int, int), optional
        First byte of the link to the page that is cut, and the one after its last; None for a file that is whole.
    lacks_description : bool
        Whether the description of the first page, such as OME-XML, lies beyond the end of the file.
    """

    count: int
    broken_link: tuple[int, int] | None = None
    lacks_description: bool = False

    @property
    def is_cut(self) -> bool:
        """Whether something is lost."""
        return self.broken_link is not None or self.lacks_description


def follow_pages(path: Path, size: int) -> PageChain:
    """Count the pages by following their links; tifffile stops at the first broken link as if the file ended there.

    Raises
    ------
    ImageError
        ``truncated``: the first page is cut; ``unreadable``.
    """
    with open_regular(path) as stream:
        header = stream.read(16)
        order = {b"II": "<", b"MM": ">"}.get(header[:2], "")
        big = bool(order) and len(header) >= 8 and struct.unpack(order + "H", header[2:4])[0] == 43
        if not order or len(header) < (16 if big else 8):
            raise ImageError("truncated", f"only a TIFF header: the file ends after {size} bytes; copy it again")
        link = struct.Struct(order + ("Q" if big else "I"))
        at = 8 if big else 4
        offset = link.unpack(header[at : at + link.size])[0]
        seen: set[int] = set()
        lacks_description = False
        while offset:
            if offset in seen:
                raise ImageError("unreadable", f"page {len(seen)} leads back to an earlier page: write the file again")
            tags = _check_tags(stream, order, big, offset, size)
            if tags is None or (tags.lacks_description and seen):
                return _cut_chain(len(seen), offset, size, (at, at + link.size), lacks_description=lacks_description)
            lacks_description |= tags.lacks_description
            seen.add(offset)
            at = tags.end
            stream.seek(at)
            following = stream.read(link.size)
            offset = link.unpack(following)[0] if len(following) == link.size else 0
    if not seen:
        raise ImageError("truncated", f"no page: the file of {size} bytes was not finished; write or copy it again")
    return PageChain(len(seen), None, lacks_description)


def _cut_chain(
    count: int, offset: int, size: int, broken_link: tuple[int, int], *, lacks_description: bool
) -> PageChain:
    """Pages before the cut; a file whose first page is cut holds nothing that can be read."""
    if not count:
        raise ImageError(
            "truncated",
            f"page 0 starts at byte {offset} and is cut: the file has {size} bytes; without the list of its pages "
            "--partial cannot take what is there; copy it again",
        )
    return PageChain(count, broken_link, lacks_description)


@dataclasses.dataclass(frozen=True)
class _Tags:
    """Byte after a page's tags, and whether the text of the tag for the description is lost."""

    end: int
    lacks_description: bool


def _check_tags(stream: BinaryIO, order: str, big: bool, offset: int, size: int) -> _Tags | None:
    """Look at a page's tags; None when the page or the value of a tag lies behind the end of the file.

    tifffile leaves out a tag whose value it cannot find, and three samples of 8 bits become one of one bit. Private
    tags may point anywhere. A description says what the pages are, and nothing about how they are stored.
    """
    count = struct.Struct(order + ("Q" if big else "H"))
    entry = struct.Struct(order + ("HHQQ" if big else "HHII"))
    if offset > size:
        return None
    stream.seek(offset)
    head = stream.read(count.size)
    entries = count.unpack(head)[0] if len(head) == count.size else 0
    end = offset + count.size + entries * entry.size
    if entries == 0 or end > size:
        return None
    lacks_description = False
    for tag, kind, values, place in entry.iter_unpack(stream.read(entries * entry.size)):
        length = values * _TAG_BYTES.get(kind, 0)
        if (tag < PRIVATE_TAGS or tag in IMAGEJ_TAGS) and length > (8 if big else 4) and place + length > size:
            if tag != IMAGE_DESCRIPTION:
                return None
            lacks_description = True
    return _Tags(int(end), lacks_description)


@contextlib.contextmanager
def open_pages(path: Path, chain: PageChain) -> Iterator[tifffile.TiffFile]:
    """Open a file with the pages of its chain alone, without those that are cut."""
    if chain.broken_link is None:
        with tifffile.TiffFile(path) as tif:
            yield tif
        return
    with (
        open_regular(path) as whole,
        io.BufferedReader(_Unlinked(whole, chain.broken_link)) as stream,
        tifffile.TiffFile(stream, name=path.name) as tif,
    ):
        yield tif


class _Unlinked(io.RawIOBase):
    """A file in which the bytes of a link to a page are zero: the page before is the last."""

    def __init__(self, whole: BinaryIO, link: tuple[int, int]) -> None:
        self._whole, self._link = whole, link

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._whole.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        start = self._whole.tell()
        read = bytearray(self._whole.read(len(buffer)))
        first, last = (min(max(place - start, 0), len(read)) for place in self._link)
        read[first:last] = bytes(last - first)
        buffer[: len(read)] = read
        return len(read)


def make_page(path: Path, page: Any, size: int) -> Page:
    """Collect the fields to read a page later, without an open file, and check them against the file size."""
    layout = page.keyframe
    jpeg = {}
    if layout.compression in JPEG:
        jpeg = {"jpegtables": page.jpegtables, "jpegheader": layout.jpegheader}
    made = Page(path, layout, page.dataoffsets, page.databytecounts, jpeg)
    _ = layout.decode  # made and kept by tifffile while the file is open: it reads tags
    _check_segments(made, size)
    return made


def check_layout(layout: tifffile.TiffPage, size: int) -> None:
    """Refuse pages that cannot be decoded, and sizes that a file of ``size`` bytes cannot hold."""
    if layout.dtype is None or layout._dtype is None:
        raise ImageError("unsupported_type", f"{layout.bitspersample} bits a sample of an unknown kind cannot be read")
    if 0 in layout.shaped:
        raise ImageError(
            "unreadable", f"a TIFF page of {layout.imagewidth} x {layout.imagelength} pixels; write it again"
        )
    if layout.dtype.kind not in "buif":
        raise ImageError(
            "unsupported_type", f"pixels of type {layout.dtype}: integers or real numbers are needed; save one part"
        )
    if int(layout.compression) in BILEVEL and layout.bitspersample != 1:
        raise ImageError(
            "inconsistent",
            f"a fax compression (CCITT) of {layout.bitspersample} bits a sample, which has one: write the file again",
        )
    limit = max(SMALL_BYTES, size * RATIO.get(int(layout.compression), OTHER_RATIO))
    segment = math.prod(layout.chunks) * layout.dtype.itemsize
    if max(layout.nbytes, min(segment, layout.nbytes) if not layout.is_tiled else segment) > limit:
        raise ImageError(
            "inconsistent",
            f"a page of {layout.imagewidth} x {layout.imagelength} pixels ({layout.nbytes / 1e9:.1f} GB) is claimed by "
            f"a file of {size} bytes: a broken file; write or copy it again",
        )


def _check_segments(page: Page, size: int) -> None:
    layout = page.layout
    expected = math.prod(layout.chunked)
    if len(page.offsets) < expected or len(page.counts) < expected:
        raise ImageError(
            "truncated",
            f"{expected} strips or tiles are needed, {len(page.offsets)} are listed; write or copy it again",
        )
    offsets = np.asarray(page.offsets[:expected], dtype=np.float64)
    counts = np.asarray(page.counts[:expected], dtype=np.float64)
    present = counts > 0
    if not layout.is_tiled and not present.all():
        raise ImageError("truncated", f"{int((~present).sum())} of {expected} strips are empty; write or copy it again")
    if (present & (offsets < HEADER_BYTES)).any():
        raise ImageError(
            "inconsistent", "pixels are claimed at the start of the file, where its header is: write or copy it again"
        )
    beyond = present & (offsets + counts > size)
    if beyond.any():
        end = int((offsets + counts).max())
        raise ImageError(
            "truncated", f"pixels up to byte {end} are claimed, the file has {size} bytes; write or copy it again"
        )
    if layout.compression == 1:
        needed = _plain_bytes(layout)
        held = float(counts.sum())
        if present.all() and held < needed:
            raise ImageError(
                "truncated", f"{needed} bytes of pixels are needed, the page has {int(held)}; write or copy it again"
            )


def _plain_bytes(layout: tifffile.TiffPage) -> int:
    bits = layout.bitspersample if isinstance(layout.bitspersample, int) else sum(layout.bitspersample)
    samples = layout.shaped[4] if isinstance(layout.bitspersample, int) else 1
    row = (layout.shaped[3] * samples * bits + 7) // 8
    return int(row * layout.shaped[0] * layout.shaped[1] * layout.shaped[2])


def decode_window(page: Page, y: slice, x: slice) -> NDArray[Any]:
    """Window of one page, ``(separate samples, sections, Y, X, interleaved samples)``, native byte order."""
    layout = page.layout
    samples, depth, _, _, interleaved = layout.shaped
    with refuse_broken("TIFF"):
        if layout.is_final and len(page.offsets) == 1 and layout.bitspersample == layout.dtype.itemsize * 8:
            return _plain(page, y, x)
        out = np.zeros((samples, depth, y.stop - y.start, x.stop - x.start, interleaved), layout.dtype)
        with open_regular(page.path) as stream:
            for index in _segments(layout, y, x):
                _place(out, page, stream, index, y, x)
    return out


def _plain(page: Page, y: slice, x: slice) -> NDArray[Any]:
    """Pixels stored in one run: only the rows asked for are read."""
    layout = page.layout
    samples, depth, height, width, interleaved = layout.shaped
    stored = layout.dtype.newbyteorder(layout.parent.byteorder)
    row = width * interleaved * stored.itemsize
    rows = y.stop - y.start
    out = np.empty((samples, depth, rows, x.stop - x.start, interleaved), layout.dtype.newbyteorder("="))
    with open_regular(page.path) as stream:
        for sample in range(samples):
            for section in range(depth):
                stream.seek(page.offsets[0] + ((sample * depth + section) * height + y.start) * row)
                data = stream.read(rows * row)
                if len(data) < rows * row:
                    raise ImageError("truncated", "the file is shorter than its pixels; copy it again")
                block = np.frombuffer(data, stored).reshape(rows, width, interleaved)
                out[sample, section] = block[:, x]
    return out


def _segments(layout: tifffile.TiffPage, y: slice, x: slice) -> Iterator[int]:
    """Numbers of the strips or tiles that touch the window, in the order they are stored."""
    samples, depth, height, width, _ = layout.shaped
    tile_depth, tile_height, tile_width = _segment_shape(layout)
    across, down, deep = math.ceil(width / tile_width), math.ceil(height / tile_height), math.ceil(depth / tile_depth)
    for outer in range(samples * deep):
        for row in range(y.start // tile_height, math.ceil(y.stop / tile_height)):
            for column in range(x.start // tile_width, math.ceil(x.stop / tile_width)):
                yield (outer * down + row) * across + column


def _segment_shape(layout: tifffile.TiffPage) -> tuple[int, int, int]:
    if layout.is_tiled:
        return layout.tiledepth, layout.tilelength, layout.tilewidth
    return 1, layout.rowsperstrip, layout.imagewidth


def _place(out: NDArray[Any], page: Page, stream: Any, index: int, y: slice, x: slice) -> None:
    layout = page.layout
    if page.counts[index] == 0:
        return  # a tile that was left out: all zero
    stream.seek(page.offsets[index])
    data = stream.read(page.counts[index])
    if len(data) < page.counts[index]:
        raise ImageError("truncated", "the file is shorter than its pixels; copy it again")
    _check_picture(layout, data)
    block, (sample, section, top, left, _), _ = layout.decode(data, index, **page.jpeg)
    depth = min(block.shape[0], out.shape[1] - section)
    bottom, right = top + block.shape[1], left + block.shape[2]
    y0, y1, x0, x1 = max(top, y.start), min(bottom, y.stop), max(left, x.start), min(right, x.stop)
    if y0 < y1 and x0 < x1:
        out[sample, section : section + depth, y0 - y.start : y1 - y.start, x0 - x.start : x1 - x.start] = block[
            :depth, y0 - top : y1 - top, x0 - left : x1 - left
        ]


def _check_picture(layout: tifffile.TiffPage, data: bytes) -> None:
    """Refuse a strip or tile that is a picture much larger than itself, or of very many scans."""
    if layout.compression not in _PICTURES:
        return
    check_scans(data)
    size = picture_size(data)
    if size is not None and math.prod(size) > max(SMALL_SAMPLES, math.prod(layout.chunks)):
        height, width, _ = size
        raise ImageError(
            "inconsistent",
            f"a strip or tile of {math.prod(layout.chunks)} samples claims {width} x {height} pixels: a broken file; "
            "write or copy it again",
        )
