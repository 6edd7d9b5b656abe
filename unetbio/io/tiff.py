"""TIFF in all its dialects: plain, OME, ImageJ, tiled and pyramidal, read by the tile or strip.

tifffile parses the tags and decodes; what a file claims is checked here first, since tifffile reads many broken files
without a word: cut pages, planes that are not there, sizes that no memory holds.
"""

import dataclasses
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
from unetbio.io.image import AXES, Image
from unetbio.io.ome import OmeImage, companion_of, parse_ome, size_in_um

__all__ = ["read_companion", "read_tiff"]

# tifffile reports oddities through logging, which prints them where nobody has set logging up; those that matter are
# errors here.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

SMALL_BYTES = 1 << 28
"""Images up to this size are read whatever the file's size: compression of blank images knows no limit."""

RATIO = {1: 1000, 5: 3000, 8: 1100, 32773: 130, 32946: 1100}
"""Largest believable compression by TIFF code (none, with left-out tiles; LZW; deflate; PackBits; old deflate)."""

OTHER_RATIO = 100_000
"""The same for the other codecs, some of which spend a few bytes on any number of equal pixels."""

JPEG = (6, 7, 34892, 33007)
PRIVATE_TAGS = 32768
IMAGEJ_TAGS = (50838, 50839)
_TAG_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
COLOURS = ("red", "green", "blue")


@dataclasses.dataclass(frozen=True)
class _Page:
    """Where the segments (strips or tiles) of one page are; ``layout`` is the page that says how to decode them."""

    path: Path
    layout: tifffile.TiffPage
    offsets: Sequence[int]
    counts: Sequence[int]
    jpeg: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class _Stack:
    """Pages that belong together.

    ``dims``: letter and length of every axis longer than one that is not a row or column, slowest first; the last
    ``inner`` of them lie inside a page (separate samples, sections of a volume tile, interleaved samples).
    """

    name: str
    pages: list[_Page]
    dims: tuple[tuple[str, int], ...]
    roles: tuple[int, ...]
    channel_names: tuple[str, ...] = ()
    pixel_size_um: dict[str, float] = dataclasses.field(default_factory=dict)


def read_tiff(path: Path, *, axes: str | None = None, series: int = 0) -> Image:
    """Open a TIFF file.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    axes : str, optional
        Names of the stored axes that are longer than one, slowest first, colour samples left out or called C; instead
        of what the file says.
    series : int, optional
        Which image of the file.

    Returns
    -------
    Image
        White-is-zero grey values are inverted, palettes become red, green and blue (ImageJ's and OME's palettes are
        display settings and are left out), of a pyramid the base level is read.

    Raises
    ------
    ImageError
        ``unreadable``, ``truncated``, ``bad_metadata``, ``inconsistent``, ``missing_companion``, ``too_large``,
        ``unknown_axes``, ``unsupported_colour``, ``unsupported_type``, ``no_such_series``.
    """
    size = path.stat().st_size
    count = _check_chain(path, size)
    try:
        with tifffile.TiffFile(path) as tif:
            stacks = list(_stacks(tif, path, count))
            written_by = (
                "ome" if tif.ome_metadata else "imagej" if tif.is_imagej else "tifffile" if tif.is_shaped else ""
            )
            return _finish(path, stacks, axes, series, written_by)
    except (ImageError, OSError):
        raise
    except Exception as error:  # tifffile meets a broken file with any exception there is
        raise _unreadable(error) from error


def read_companion(path: Path, *, axes: str | None = None, series: int = 0) -> Image:
    """Open the set of TIFF files that a ``.companion.ome`` file describes; parameters and errors as `read_tiff`."""
    try:
        xml = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ImageError("unreadable", f"not OME-XML: {error}") from error
    stacks = [_ome_stack(ome, path, None, {}) for ome in parse_ome(xml, 0)]
    return _finish(path, stacks, axes, series, "ome")


def _finish(path: Path, stacks: list[_Stack], axes: str | None, series: int, written_by: str) -> Image:
    if not stacks:
        raise ImageError("bad_metadata", "the metadata describe no image: convert the file again")
    if not 0 <= series < len(stacks):
        held = "1 image" if len(stacks) == 1 else f"{len(stacks)} images"
        raise ImageError("no_such_series", f"no series {series}: the file holds {held}, counted from 0")
    image = _image(path, stacks[series], axes, written_by)
    return dataclasses.replace(image, series=series, series_count=len(stacks), name=stacks[series].name)


def _unreadable(error: Exception) -> ImageError:
    detail = " ".join(str(error).split()) or type(error).__name__
    return ImageError("unreadable", f"a broken TIFF file ({detail[:120]}): write or copy it again")


# The chain of pages -------------------------------------------------------------------------------------------------


def _check_chain(path: Path, size: int) -> int:
    """Count the pages by following their links; tifffile stops at the first broken link as if the file ended there."""
    with open(path, "rb") as stream:
        header = stream.read(16)
        order = {b"II": "<", b"MM": ">"}.get(header[:2], "")
        big = bool(order) and len(header) >= 8 and struct.unpack(order + "H", header[2:4])[0] == 43
        if not order or len(header) < (16 if big else 8):
            raise ImageError("truncated", f"only a TIFF header: the file ends after {size} bytes; copy it again")
        link = struct.Struct(order + ("Q" if big else "I"))
        offset = link.unpack(header[8:16] if big else header[4:8])[0]
        seen: set[int] = set()
        while offset:
            if offset in seen:
                raise ImageError("unreadable", f"page {len(seen)} leads back to an earlier page: write the file again")
            seen.add(offset)
            end = _check_tags(stream, order, big, offset, size)
            if end is None:
                raise ImageError(
                    "truncated",
                    f"page {len(seen) - 1} starts at byte {offset} and is cut: the file has {size} bytes; "
                    "copy it again",
                )
            stream.seek(end)
            following = stream.read(link.size)
            offset = link.unpack(following)[0] if len(following) == link.size else 0
    if not seen:
        raise ImageError("truncated", f"no page: the file of {size} bytes was not finished; write or copy it again")
    return len(seen)


def _check_tags(stream: BinaryIO, order: str, big: bool, offset: int, size: int) -> int | None:
    """Byte after a page's tags; None when the page or the value of a tag lies behind the end of the file.

    tifffile leaves out a tag whose value it cannot find, and three samples of 8 bits become one of one bit. Private
    tags may point anywhere.
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
    for tag, kind, values, place in entry.iter_unpack(stream.read(entries * entry.size)):
        length = values * _TAG_BYTES.get(kind, 0)
        if (tag < PRIVATE_TAGS or tag in IMAGEJ_TAGS) and length > (8 if big else 4) and place + length > size:
            return None
    return int(end)


# From files to stacks ------------------------------------------------------------------------------------------------


def _stacks(tif: tifffile.TiffFile, path: Path, page_count: int) -> Iterator[_Stack]:
    if len(tif.pages) != page_count:
        raise ImageError(
            "truncated", f"{page_count} pages are linked, {len(tif.pages)} can be read; write or copy it again"
        )
    xml = tif.ome_metadata
    if xml is not None:
        companion = companion_of(xml)
        if companion is not None:
            source = _beside(path, companion)
            if source is None:
                raise ImageError(
                    "missing_companion",
                    f"one piece of a set that {companion or 'another file'} describes, which is not in its folder",
                )
            xml = source.read_text("utf-8")
        files = {path.name: tif}
        uuid = _root_uuid(xml) if companion is None else None
        for ome in parse_ome(xml, page_count):
            yield _ome_stack(ome, path, uuid, files)
        return
    size = path.stat().st_size
    for kind, series in _series(tif):
        yield _tifffile_stack(tif, path, size, kind, series)


def _series(tif: tifffile.TiffFile) -> Iterator[tuple[str, tifffile.TiffPageSeries]]:
    for series in tif.series:
        if tif.is_imagej and series.kind != "imagej":
            claim = {key: tif.imagej_metadata.get(key, 1) for key in ("channels", "slices", "frames")}
            text = ", ".join(f"{value} {key}" for key, value in claim.items())
            raise ImageError("inconsistent", f"ImageJ's header claims {text}, which the file does not hold: save again")
        yield series.kind, series


def _tifffile_stack(
    tif: tifffile.TiffFile, path: Path, size: int, kind: str, series: tifffile.TiffPageSeries
) -> _Stack:
    layout = series.keyframe
    _check_layout(layout, size)
    inner, roles = _inner(layout)
    letters = series.get_axes(squeeze=False)
    lengths = series.get_shape(squeeze=False)
    named = [(a, n) for a, n in zip(letters, lengths, strict=True)]
    # The last two axes of a page are its rows and columns (before interleaved samples); the series may call them Q.
    rows = next((i for i in range(len(named) - 1, -1, -1) if named[i][0] == "Y"), None)
    columns = next((i for i in range(len(named) - 1, -1, -1) if named[i][0] == "X"), None)
    others = [pair for i, pair in enumerate(named) if i not in (rows, columns) and pair[1] != 1]
    if rows is None or columns is None:
        others = [pair for pair in others if pair[1] not in (layout.shaped[2], layout.shaped[3])]
    if [n for _, n in others[len(others) - len(inner) :]] != [n for _, n in inner]:
        others = others + inner
    page_total = math.prod(n for _, n in others[: len(others) - len(inner)])
    pages = _pages(tif, path, size, series, page_total)
    stack = _Stack(series.name, pages, tuple(others), roles)
    return dataclasses.replace(stack, **_dialect(tif, layout, kind, stack))


def _inner(layout: tifffile.TiffPage) -> tuple[list[tuple[str, int]], tuple[int, ...]]:
    """Axes longer than one inside a page besides rows and columns, and their places in ``shaped``."""
    places = [(place, letter) for place, letter in ((0, "S"), (1, "Z"), (4, "S")) if layout.shaped[place] > 1]
    return [(letter, layout.shaped[place]) for place, letter in places], tuple(place for place, _ in places)


def _pages(tif: tifffile.TiffFile, path: Path, size: int, series: tifffile.TiffPageSeries, wanted: int) -> list[_Page]:
    layout = series.keyframe
    # ImageJ and tifffile may write one page and all the planes behind its first.
    if wanted > 1 and (series.is_truncated or len(series._pages) == 1) and layout.is_final:
        start, step = layout.dataoffsets[0], layout.nbytes
        if start + wanted * step > size:
            held = max(0, (size - start) // max(step, 1))
            raise ImageError("truncated", f"{wanted} planes are claimed, the file holds {held}; write or copy it again")
        return [_Page(path, layout, [start + i * step], [step], {}) for i in range(wanted)]
    found = [page for page in series if page is not None]
    if len(found) != wanted:
        raise ImageError(
            "inconsistent", f"{wanted} planes are claimed, the file holds {len(found)}; write or copy it again"
        )
    return [_page(path, page, size) for page in found]


def _page(path: Path, page: Any, size: int) -> _Page:
    layout = page.keyframe
    jpeg = {}
    if layout.compression in JPEG:
        jpeg = {"jpegtables": page.jpegtables, "jpegheader": layout.jpegheader}
    made = _Page(path, layout, page.dataoffsets, page.databytecounts, jpeg)
    _ = layout.decode  # made and kept by tifffile while the file is open: it reads tags
    _check_segments(made, size)
    return made


# What a file claims, against what it holds --------------------------------------------------------------------------


def _check_layout(layout: tifffile.TiffPage, size: int) -> None:
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
    limit = max(SMALL_BYTES, size * RATIO.get(int(layout.compression), OTHER_RATIO))
    segment = math.prod(layout.chunks) * layout.dtype.itemsize
    if max(layout.nbytes, min(segment, layout.nbytes) if not layout.is_tiled else segment) > limit:
        raise ImageError(
            "inconsistent",
            f"a page of {layout.imagewidth} x {layout.imagelength} pixels ({layout.nbytes / 1e9:.1f} GB) is claimed by "
            f"a file of {size} bytes: a broken file; write or copy it again",
        )


def _check_segments(page: _Page, size: int) -> None:
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


# OME ----------------------------------------------------------------------------------------------------------------


def _root_uuid(xml: str) -> str | None:
    head = xml.find("<OME")
    start = xml.find('UUID="', head, xml.find(">", head))
    return xml[start + 6 : xml.find('"', start + 6)] if start > 0 else None


def _beside(path: Path, name: str) -> Path | None:
    """File ``name`` in the folder of ``path``, never outside it."""
    candidate = path.parent / Path(name.replace("\\", "/")).name
    return candidate if name and candidate.is_file() else None


def _ome_stack(ome: OmeImage, path: Path, uuid: str | None, files: dict[str, tifffile.TiffFile]) -> _Stack:
    """Look up every plane of an OME image; a plane that is missing or claimed twice is an error."""
    lengths = {"T": ome.size_t, "C": ome.size_c // ome.samples, "Z": ome.size_z}
    wanted = math.prod(lengths.values())
    if len(ome.planes) < wanted:
        raise ImageError(
            "inconsistent",
            f"the OME-XML claims {wanted} planes and places {len(ome.planes)} of them: write the file again",
        )
    places = [
        ome.planes[c, z, t] for t in range(lengths["T"]) for c in range(lengths["C"]) for z in range(lengths["Z"])
    ]
    named = {place.uuid for place in places}
    pages_by_file: dict[Path, list[_Page]] = {}
    pages = []
    seen: set[tuple[Path, int]] = set()
    for place in places:
        own = place.file_name is None or place.file_name == path.name or (place.uuid is not None and place.uuid == uuid)
        source = path if own else _beside(path, place.file_name or "")
        if source is None and len(named) == 1 and files:
            source = path  # a file that was renamed: the only file its OME-XML knows is itself
        if source is None:
            raise ImageError("missing_companion", f"the OME-XML needs {place.file_name}, which is not in the folder")
        if source not in pages_by_file:
            pages_by_file[source] = _pages_of(source, files.get(source.name) if source == path else None)
        held = pages_by_file[source]
        if place.page >= len(held) or (source, place.page) in seen:
            raise ImageError(
                "inconsistent",
                f"the OME-XML claims {wanted} planes, {source.name} holds {len(held)} pages: write the file again",
            )
        seen.add((source, place.page))
        pages.append(held[place.page])
    return _checked_ome(ome, lengths, pages)


def _pages_of(path: Path, tif: tifffile.TiffFile | None) -> list[_Page]:
    size = path.stat().st_size
    if tif is not None:
        return [_page_checked(path, page, size) for page in tif.pages]
    count = _check_chain(path, size)
    with tifffile.TiffFile(path) as other:
        if len(other.pages) != count:
            raise ImageError("truncated", f"{path.name} has {count} pages, {len(other.pages)} can be read")
        return [_page_checked(path, page, size) for page in other.pages]


def _page_checked(path: Path, page: Any, size: int) -> _Page:
    _check_layout(page.keyframe, size)
    return _page(path, page, size)


def _checked_ome(ome: OmeImage, lengths: dict[str, int], pages: list[_Page]) -> _Stack:
    layout = pages[0].layout
    inner, roles = _inner(layout)
    for page in pages:
        if page.layout.shaped != layout.shaped or page.layout.dtype != layout.dtype:
            raise ImageError("inconsistent", "the pages of one OME image differ in size or type: write the file again")
    if (layout.imagewidth, layout.imagelength) != (ome.size_x, ome.size_y):
        raise ImageError(
            "inconsistent",
            f"the OME-XML claims {ome.size_x} x {ome.size_y} pixels, the page has {layout.imagewidth} x "
            f"{layout.imagelength}: write the file again",
        )
    if layout.shaped[0] * layout.shaped[4] != ome.samples:
        raise ImageError(
            "inconsistent",
            f"the OME-XML claims {ome.samples} samples a pixel, the page has {layout.shaped[0] * layout.shaped[4]}: "
            "write the file again",
        )
    outer = [(axis, n) for axis, n in lengths.items() if n > 1]
    return _Stack(ome.name, pages, tuple(outer + inner), roles, ome.channel_names, ome.pixel_size_um)


# Pixel size and channel names of the other dialects -----------------------------------------------------------------


def _dialect(tif: tifffile.TiffFile, layout: tifffile.TiffPage, kind: str, stack: _Stack) -> dict[str, Any]:
    if kind == "imagej":
        return _imagej(tif, layout, stack)
    if kind == "svs":
        metadata = tifffile.tifffile.svs_description_metadata(layout.description)
        size = size_in_um(float(metadata.get("MPP", 0) or 0), "um")
        return {"pixel_size_um": {"Y": size, "X": size} if size else {}}
    if kind == "lsm":
        metadata = tif.lsm_metadata or {}
        sizes = {axis: size_in_um(float(metadata.get(f"VoxelSize{axis}", 0)), "m") for axis in "ZYX"}
        found = {axis: size for axis, size in sizes.items() if size}
        return {"pixel_size_um": found if {"Y", "X"} <= found.keys() else {}}
    return {}


def _imagej(tif: tifffile.TiffFile, layout: tifffile.TiffPage, stack: _Stack) -> dict[str, Any]:
    metadata = tif.imagej_metadata or {}
    unit = str(metadata.get("unit", ""))
    # ImageJ takes inch and cm from a printing resolution when it knows nothing better.
    sizes: dict[str, float] = {}
    if unit not in ("inch", "cm"):
        for axis, tag in (("Y", "YResolution"), ("X", "XResolution")):
            number = layout.tags.valueof(tag)
            if number and number[0]:
                size = size_in_um(number[1] / number[0], unit)
                if size:
                    sizes[axis] = size
        spacing = metadata.get("spacing")
        if isinstance(spacing, int | float) and len(sizes) == 2:
            size = size_in_um(abs(float(spacing)), unit)
            if size and any(axis == "Z" for axis, _ in stack.dims):
                sizes["Z"] = size
    labels = metadata.get("Labels")
    channels = math.prod(n for axis, n in stack.dims if axis in "CS")
    names = tuple(labels) if isinstance(labels, list) and len(labels) == channels == len(stack.pages) else ()
    return {"pixel_size_um": sizes if len(sizes) >= 2 else {}, "channel_names": names}


# From a stack to an image -------------------------------------------------------------------------------------------


def _image(path: Path, stack: _Stack, axes: str | None, written_by: str) -> Image:
    layout = stack.pages[0].layout
    dims = _rename(stack, axes, layout)
    colour = _Colour.of(layout, written_by)
    sizes = {axis: math.prod(n for a, n in dims if a == axis) for axis in "TCZ"}
    if colour.palette is not None:
        sizes["C"] *= 3
    sizes |= {"Y": layout.shaped[2], "X": layout.shaped[3]}
    kept = [axis for axis in AXES if axis in "YX" or sizes[axis] > 1]
    names = stack.channel_names if len(stack.channel_names) == sizes["C"] else ()
    if not names:
        names = _sample_names(layout, colour, sizes["C"])
    return Image(
        axes="".join(kept),
        shape=tuple(sizes[axis] for axis in kept),
        dtype=colour.dtype,
        pixel_size_um=dict(stack.pixel_size_um),
        pixel_size_trusted=bool(stack.pixel_size_um),
        channel_names=names,
        source=path,
        pixels=_TiffPixels(tuple(stack.pages), dims, stack.roles, colour),
    )


def _sample_names(layout: tifffile.TiffPage, colour: "_Colour", channels: int) -> tuple[str, ...]:
    samples = layout.shaped[0] * layout.shaped[4]
    if colour.palette is not None and channels == 3:
        return COLOURS
    if int(layout.photometric) in (2, 6) and channels == samples and samples >= 3:
        return (*COLOURS, "alpha")[:channels] + ("",) * (channels - 4)
    return ("",) * channels


def _rename(stack: _Stack, axes: str | None, layout: tifffile.TiffPage) -> tuple[tuple[str, int], ...]:
    """Give every stored axis a letter of T, C, Z; samples are channels."""
    held = [("C" if letter == "S" else letter, n) for letter, n in stack.dims]
    height, width = layout.shaped[2], layout.shaped[3]
    if axes is not None:
        return _named(stack, axes.upper(), height, width)
    unknown = [(letter, n) for letter, n in held if letter not in "TCZ"]
    repeated = [letter for letter in "TZ" if sum(letter == a for a, _ in held) > 1]
    if unknown or repeated:
        planes = math.prod(n for _, n in held[: len(held) - len(stack.roles)])
        if len(unknown) == len(held) - len(stack.roles) == 1:
            raise ImageError(
                "unknown_axes",
                f"{planes} pages of {height} x {width} pixels and no word what they are: say --axes ZYX, TYX or CYX",
            )
        stored = " ".join(f"{letter}={n}" for letter, n in stack.dims)
        raise ImageError(
            "unknown_axes",
            f"stored axes {stored} Y={height} X={width}: name them with --axes, slowest first, with letters of TCZYX",
        )
    return tuple(held)


def _named(stack: _Stack, axes: str, height: int, width: int) -> tuple[tuple[str, int], ...]:
    outer = len(stack.dims) - len(stack.roles)
    samples = [i for i, (letter, _) in enumerate(stack.dims) if i >= outer and letter in "SC"]
    stored = " ".join(f"{letter}={n}" for letter, n in (*stack.dims, ("Y", height), ("X", width)))
    letters = axes.replace("S", "C")
    wrong = ImageError(
        "unknown_axes", f"--axes {axes} does not fit the stored axes {stored}: one letter of TCZYX each, slowest first"
    )
    if set(letters) - set(AXES) or len(set(letters)) < len(letters):
        raise wrong
    rest = letters.replace("Y", "").replace("X", "")
    if "YX" not in letters:
        raise wrong
    if len(rest) == len(stack.dims):
        return tuple((letter, n) for letter, (_, n) in zip(rest, stack.dims, strict=True))
    if len(rest) == len(stack.dims) - len(samples) and "C" not in rest:
        left = iter(rest)
        return tuple(("C" if i in samples else next(left), n) for i, (_, n) in enumerate(stack.dims))
    raise wrong


@dataclasses.dataclass(frozen=True)
class _Colour:
    """What stored samples mean: as they are, inverted, or numbers of a palette."""

    dtype: np.dtype[Any]
    invert_from: int | None = None
    palette: NDArray[Any] | None = None

    @staticmethod
    def of(layout: tifffile.TiffPage, written_by: str) -> "_Colour":
        photometric = int(layout.photometric)
        stored = np.dtype(np.uint8) if layout.dtype.kind == "b" else layout.dtype.newbyteorder("=")
        if photometric == 3 and written_by not in ("ome", "imagej"):
            return _Colour._palette(layout, stored)
        # tifffile calls every array of truth values white-is-zero and stores True as 1.
        as_stored = photometric == 0 and layout.bitspersample == 1 and written_by in ("ome", "tifffile")
        if as_stored or photometric in (1, 2, 3) or (photometric == 6 and layout.compression in JPEG):
            return _Colour(stored)
        if photometric == 0:
            if stored.kind != "u" or not isinstance(layout.bitspersample, int):
                raise ImageError(
                    "unsupported_colour", f"white is zero, with pixels of type {stored}: save it as black-is-zero"
                )
            return _Colour(stored, invert_from=(1 << layout.bitspersample) - 1)
        name = {5: "CMYK", 6: "YCbCr", 8: "CIE L*a*b*", 32803: "a colour filter array"}.get(photometric)
        raise ImageError(
            "unsupported_colour",
            f"colours are stored as {name or f'TIFF photometric {photometric}'}: save it as grey or RGB",
        )

    @staticmethod
    def _palette(layout: tifffile.TiffPage, stored: np.dtype[Any]) -> "_Colour":
        table = layout.colormap
        if table is None or stored.kind != "u" or layout.shaped[0] * layout.shaped[4] != 1:
            raise ImageError("unsupported_colour", "a palette image without a usable palette: save it as grey or RGB")
        if table.shape[1] < 1 << int(layout.bitspersample):
            raise ImageError(
                "unreadable", f"a palette of {table.shape[1]} colours is too short: save it as grey or RGB"
            )
        # Palettes have 16 bits a colour, most often filled by repeating or shifting 8 bits.
        if (table % 257 == 0).all():
            table = (table // 257).astype(np.uint8)
        elif (table % 256 == 0).all():
            table = (table // 256).astype(np.uint8)
        return _Colour(table.dtype, palette=table)

    def apply(self, samples: NDArray[Any]) -> NDArray[Any]:
        """``(S, Y, X)`` stored samples to ``(C, Y, X)`` grey values."""
        if self.palette is not None:
            return self.palette[:, samples[0]]
        if samples.dtype.kind == "b":
            samples = samples.astype(np.uint8)
        if self.invert_from is not None:
            samples = self.dtype.type(self.invert_from) - samples
        return samples


# Pixels -------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _TiffPixels:
    """Decodes the strips or tiles of the window that is asked for; holds no open file."""

    pages: tuple[_Page, ...]
    dims: tuple[tuple[str, int], ...]
    roles: tuple[int, ...]
    colour: _Colour

    def read(self, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        if self.colour.palette is not None:
            planes = self.colour.apply(self._plane(t, z, [0], y, x))
            return planes[list(channels)]
        return self.colour.apply(self._plane(t, z, channels, y, x))

    def _plane(self, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        out: NDArray[Any] | None = None
        decoded: tuple[int, NDArray[Any]] | None = None
        for i, channel in enumerate(channels):
            page, place = self._find(t, z, channel)
            if decoded is None or decoded[0] != page:
                decoded = (page, _decode(self.pages[page], y, x))
            sample, depth, interleaved = place
            plane = decoded[1][sample, depth, :, :, interleaved]
            if out is None:
                out = np.empty((len(channels), *plane.shape), plane.dtype)
            out[i] = plane
        if out is None:
            raise ValueError("no channel asked for")
        return out

    def _find(self, t: int, z: int, channel: int) -> tuple[int, tuple[int, int, int]]:
        """Page and place in it (separate sample, section, interleaved sample) of one plane."""
        left = {"T": t, "Z": z, "C": channel}
        indices = [0] * len(self.dims)
        for i in range(len(self.dims) - 1, -1, -1):
            letter, length = self.dims[i]
            left[letter], indices[i] = divmod(left[letter], length)
        outer = len(self.dims) - len(self.roles)
        page = 0
        for (_, length), index in zip(self.dims[:outer], indices[:outer], strict=True):
            page = page * length + index
        inside = dict(zip(self.roles, indices[outer:], strict=True))
        return page, (inside.get(0, 0), inside.get(1, 0), inside.get(4, 0))


def _decode(page: _Page, y: slice, x: slice) -> NDArray[Any]:
    """Window of one page, ``(separate samples, sections, Y, X, interleaved samples)``, native byte order."""
    layout = page.layout
    samples, depth, _, _, interleaved = layout.shaped
    try:
        if layout.is_final and len(page.offsets) == 1 and layout.bitspersample == layout.dtype.itemsize * 8:
            return _plain(page, y, x)
        out = np.zeros((samples, depth, y.stop - y.start, x.stop - x.start, interleaved), layout.dtype)
        with open(page.path, "rb") as stream:
            for index in _segments(layout, y, x):
                _place(out, page, stream, index, y, x)
    except (ImageError, OSError, MemoryError):
        raise
    except Exception as error:  # codecs meet broken data with any exception there is
        raise _unreadable(error) from error
    return out


def _plain(page: _Page, y: slice, x: slice) -> NDArray[Any]:
    """Pixels stored in one run: only the rows asked for are read."""
    layout = page.layout
    samples, depth, height, width, interleaved = layout.shaped
    stored = layout.dtype.newbyteorder(layout.parent.byteorder)
    row = width * interleaved * stored.itemsize
    rows = y.stop - y.start
    out = np.empty((samples, depth, rows, x.stop - x.start, interleaved), layout.dtype.newbyteorder("="))
    with open(page.path, "rb") as stream:
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


def _place(out: NDArray[Any], page: _Page, stream: Any, index: int, y: slice, x: slice) -> None:
    layout = page.layout
    if page.counts[index] == 0:
        return  # a tile that was left out: all zero
    stream.seek(page.offsets[index])
    data = stream.read(page.counts[index])
    if len(data) < page.counts[index]:
        raise ImageError("truncated", "the file is shorter than its pixels; copy it again")
    block, (sample, section, top, left, _), _ = layout.decode(data, index, **page.jpeg)
    depth = min(block.shape[0], out.shape[1] - section)
    bottom, right = top + block.shape[1], left + block.shape[2]
    y0, y1, x0, x1 = max(top, y.start), min(bottom, y.stop), max(left, x.start), min(right, x.stop)
    if y0 < y1 and x0 < x1:
        out[sample, section : section + depth, y0 - y.start : y1 - y.start, x0 - x.start : x1 - x.start] = block[
            :depth, y0 - top : y1 - top, x0 - left : x1 - left
        ]
