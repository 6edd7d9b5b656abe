"""TIFF in all its dialects: plain, OME, ImageJ, tiled and pyramidal, read by the tile or strip.

tifffile finds the pages. The metadata are compared with them here, since tifffile reads missing planes as zeros.
"""

import contextlib
import dataclasses
import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.files import read_bytes
from unetbio.io.formats.ome import OmeImage, OmePlane, companion_of, parse_ome, size_in_um
from unetbio.io.formats.refusals import check_series, refuse_broken
from unetbio.io.formats.tiff.colour import Colour
from unetbio.io.formats.tiff.format import COMPANION
from unetbio.io.formats.tiff.pages import Page, check_chain, check_layout, decode_window, make_page
from unetbio.io.image import AXES, Image
from unetbio.io.missing import MissingPlanes

__all__ = ["read_tiff"]

COLOURS = ("red", "green", "blue")
MOST_MISSING = 1000
"""An image with fewer than one in so many of its planes does not have the size that it claims."""

VARIANTS = {"ome": "OME-TIFF", "imagej": "ImageJ TIFF", "svs": "Aperio SVS", "lsm": "Zeiss LSM"}
"""Names of dialects for users, by the names of tifffile."""


@dataclasses.dataclass(frozen=True)
class _Stack:
    """Pages that belong together.

    ``dims``: letter and length of every axis longer than one that is not a row or column, slowest first; the last
    ``inner`` of them lie inside a page (separate samples, sections of a volume tile, interleaved samples). ``smaller``:
    pages of each smaller resolution.
    """

    name: str
    pages: list[Page | None]
    dims: tuple[tuple[str, int], ...]
    roles: tuple[int, ...]
    variant: str
    channel_names: tuple[str, ...] = ()
    pixel_size_um: dict[str, float] = dataclasses.field(default_factory=dict)
    missing_files: tuple[str, ...] = ()
    smaller: tuple[list[Page | None], ...] = ()

    @property
    def layout(self) -> tifffile.TiffPage:
        """How the pages are stored."""
        return next(page.layout for page in self.pages if page is not None)


def read_tiff(path: Path, *, axes: str | None = None, series: int = 0) -> Image:
    """Open a TIFF file, or the set of TIFF files that a ``.companion.ome`` file describes.

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
    if path.name.endswith(COMPANION):
        return _read_companion(path, axes, series)
    size = path.stat().st_size
    count = check_chain(path, size)
    with refuse_broken("TIFF"), tifffile.TiffFile(path) as tif:
        stacks = list(_stacks(tif, path, count))
        written_by = "ome" if tif.ome_metadata else "imagej" if tif.is_imagej else "tifffile" if tif.is_shaped else ""
        return _finish(path, stacks, axes, series, written_by)


def _read_companion(path: Path, axes: str | None, series: int) -> Image:
    try:
        xml = read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ImageError("unreadable", f"not OME-XML: {error}") from error
    with refuse_broken("TIFF"), _OmeFiles(path, None, None) as files:
        stacks = [_ome_stack(ome, files) for ome in parse_ome(xml, 0)]
    return _finish(path, stacks, axes, series, "ome")


def _finish(path: Path, stacks: list[_Stack], axes: str | None, series: int, written_by: str) -> Image:
    if not stacks:
        raise ImageError("bad_metadata", "the metadata describe no image: convert the file again")
    check_series(series, len(stacks))
    image = _image(path, stacks[series], axes, written_by)
    return dataclasses.replace(image, series=series, series_count=len(stacks), name=stacks[series].name)


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
            xml = _description(source)
        with _OmeFiles(path, tif, _root_uuid(xml) if companion is None else None) as files:
            images = parse_ome(xml, page_count)
            # Of a set in which each file describes all, a file holds the images that begin in it; a piece stands for
            # the whole set.
            own = [ome for ome in images if companion is None and files.begins(ome)]
            for ome in own or images:
                yield _ome_stack(ome, files)
        return
    size = path.stat().st_size
    if tif.is_imagej and any(series.kind != "imagej" for series in tif.series):
        claim = {key: int(tif.imagej_metadata.get(key, 1)) for key in ("channels", "slices", "frames")}
        if math.prod(claim.values()) <= len(tif.pages):
            text = ", ".join(f"{value} {key}" for key, value in claim.items())
            raise ImageError("inconsistent", f"ImageJ's header claims {text}, which the file does not hold: save again")
        yield _imagej_stack(tif, path, size, claim)
        return
    for series in tif.series:
        yield _tifffile_stack(tif, path, size, series.kind, series)


def _tifffile_stack(
    tif: tifffile.TiffFile, path: Path, size: int, kind: str, series: tifffile.TiffPageSeries
) -> _Stack:
    layout = series.keyframe
    check_layout(layout, size)
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
    stack = _Stack(series.name, pages, tuple(others), roles, _variant(kind, len(series.levels) > 1))
    smaller = _smaller(stack, ([(path, page) for page in level] for level in series.levels[1:]))
    stack = dataclasses.replace(stack, smaller=smaller)
    return dataclasses.replace(stack, **_dialect(tif, layout, kind, stack))


def _smaller(stack: _Stack, levels: Iterable[Sequence[tuple[Path, Any] | None]]) -> tuple[list[Page | None], ...]:
    """Pages of the smaller resolutions, up to the first that is broken or is stored as another kind of image."""
    found: list[list[Page | None]] = []
    for level in levels:
        try:
            pages = [None if place is None else _checked_page(*place) for place in level]
        except ImageError:
            break
        if not _is_like(pages, stack):
            break
        found.append(pages)
    return tuple(found)


def _is_like(pages: Sequence[Page | None], stack: _Stack) -> bool:
    """Whether pages can be a smaller resolution of a stack."""
    if [page is None for page in pages] != [page is None for page in stack.pages]:
        return False
    own = stack.layout.shaped
    layouts = [page.layout for page in pages if page is not None]
    return all(
        layout.shaped == layouts[0].shaped
        and layout.dtype == stack.layout.dtype
        and (*layout.shaped[:2], layout.shaped[4]) == (*own[:2], own[4])
        and all(small <= large for small, large in zip(layout.shaped[2:4], own[2:4], strict=True))
        for layout in layouts
    )


def _inner(layout: tifffile.TiffPage) -> tuple[list[tuple[str, int]], tuple[int, ...]]:
    """Axes longer than one inside a page besides rows and columns, and their places in ``shaped``."""
    places = [(place, letter) for place, letter in ((0, "S"), (1, "Z"), (4, "S")) if layout.shaped[place] > 1]
    return [(letter, layout.shaped[place]) for place, letter in places], tuple(place for place, _ in places)


def _pages(
    tif: tifffile.TiffFile, path: Path, size: int, series: tifffile.TiffPageSeries, wanted: int
) -> list[Page | None]:
    layout = series.keyframe
    # ImageJ and tifffile may write one page and all the planes behind its first.
    if wanted > 1 and (series.is_truncated or len(series._pages) == 1) and layout.is_final:
        start, step = layout.dataoffsets[0], layout.nbytes
        ends = [start + (i + 1) * step for i in range(wanted)]
        pages = [Page(path, layout, [end - step], [step], {}) if end <= size else None for end in ends]
        _refuse_empty(pages)
        return pages
    found = [page for page in series if page is not None]
    if len(found) != wanted:
        raise ImageError(
            "inconsistent", f"{wanted} planes are claimed, the file holds {len(found)}; write or copy it again"
        )
    return [make_page(path, page, size) for page in found]


def _imagej_stack(tif: tifffile.TiffFile, path: Path, size: int, claim: dict[str, int]) -> _Stack:
    """Pages of an ImageJ file that claims more planes than it holds; the last of them are missing."""
    layout = tif.pages.first
    check_layout(layout, size)
    inner, roles = _inner(layout)
    held = [make_page(path, page, size) for page in tif.pages]
    if any(page.layout.shaped != layout.shaped for page in held):
        raise ImageError("inconsistent", "the pages of one ImageJ stack differ in size: save the file again")
    outer = [(letter, claim[key]) for letter, key in (("T", "frames"), ("Z", "slices"), ("C", "channels"))]
    dims = [(letter, n) for letter, n in outer if n > 1]
    pages = [*held, *[None] * (math.prod(n for _, n in dims) - len(held))]
    _refuse_empty(pages)
    stack = _Stack(tif.series[0].name, pages, tuple(dims + inner), roles, VARIANTS["imagej"])
    return dataclasses.replace(stack, **_dialect(tif, layout, "imagej", stack))


# OME ----------------------------------------------------------------------------------------------------------------


def _description(source: Path) -> str:
    """OME-XML of a companion; where a TIFF file describes the set, the message names it."""
    try:
        return read_bytes(source).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ImageError(
            "unsupported_format", f"one piece of a set that {source.name} describes: give that file instead"
        ) from error


def _root_uuid(xml: str) -> str | None:
    head = xml.find("<OME")
    start = xml.find('UUID="', head, xml.find(">", head))
    return xml[start + 6 : xml.find('"', start + 6)] if start > 0 else None


def _beside(path: Path, name: str) -> Path | None:
    """File ``name`` in the folder of ``path``, never outside it."""
    candidate = path.parent / Path(name.replace("\\", "/")).name
    return candidate if name and candidate.is_file() else None


class _OmeFiles(contextlib.ExitStack):
    """The files that an OME-XML block speaks of, opened when a plane of theirs is asked for."""

    def __init__(self, path: Path, tif: tifffile.TiffFile | None, uuid: str | None) -> None:
        super().__init__()
        self.path, self.uuid = path, uuid
        self.opened: dict[Path, tifffile.TiffFile] = {} if tif is None else {path: tif}

    def find(self, plane: OmePlane, only_one: bool) -> Path | None:
        """The file of a plane; a block that knows one file alone means its own, which may have been renamed."""
        named_own = plane.file_name is None or plane.file_name == self.path.name
        if self.path in self.opened and (named_own or (plane.uuid is not None and plane.uuid == self.uuid)):
            return self.path
        found = _beside(self.path, plane.file_name or "")
        return self.path if found is None and only_one and self.path in self.opened else found

    def begins(self, ome: OmeImage) -> bool:
        """Whether an image belongs to the file with the block, as `unetbio.io.formats.tiff.sets` says."""
        first = next(iter(ome.planes.values()), None)
        if first is None or first.file_name in (None, self.path.name) or first.uuid == self.uuid:
            return True
        return _beside(self.path, first.file_name or "") is None

    def pages(self, path: Path) -> tifffile.TiffPages:
        """Pages of a file."""
        if path not in self.opened:
            count = check_chain(path, path.stat().st_size)
            self.opened[path] = self.enter_context(tifffile.TiffFile(path))
            if len(self.opened[path].pages) != count:
                raise ImageError("truncated", f"{path.name} has {count} pages, not all of which can be read")
        return self.opened[path].pages


def _ome_stack(ome: OmeImage, files: _OmeFiles) -> _Stack:
    """Look up every plane of an OME image; a plane that is claimed twice is an error, one that is missing is None."""
    lengths = {"T": ome.size_t, "C": ome.size_c // ome.samples, "Z": ome.size_z}
    only_one = len({plane.uuid for plane in ome.planes.values()}) == 1
    pages: list[Page | None] = []
    taken: set[tuple[Path, int]] = set()
    lost: list[str] = []
    places: list[tuple[Path, Any] | None] = []
    for t, c, z in itertools.product(*map(range, lengths.values())):
        plane = ome.planes.get((c, z, t))
        path = None if plane is None else files.find(plane, only_one)
        if plane is None or path is None:
            lost += [plane.file_name] if plane and plane.file_name else []
            pages.append(None)
            places.append(None)
            continue
        held = files.pages(path)
        if (path, plane.page) in taken:
            raise ImageError(
                "inconsistent", f"the OME-XML gives a page of {path.name} two planes: write the file again"
            )
        taken.add((path, plane.page))
        places.append((path, held[plane.page]) if plane.page < len(held) else None)
        pages.append(_checked_page(*places[-1]) if places[-1] else None)
    _refuse_empty(pages, lost)
    stack = _checked_ome(ome, lengths, pages)
    smaller = _smaller(stack, _levels(places)) if stack.layout.subifds else ()
    return dataclasses.replace(stack, missing_files=tuple(dict.fromkeys(lost)), smaller=smaller)


def _levels(places: Sequence[tuple[Path, Any] | None]) -> Iterator[list[tuple[Path, Any] | None]]:
    """Smaller copies of the pages of an OME image, which lie below each page."""
    below = [None if place is None else (place[0], place[1].aspage().pages or ()) for place in places]
    for level in range(min(len(copies[1]) for copies in below if copies is not None)):
        yield [None if copies is None else (copies[0], copies[1][level]) for copies in below]


def _refuse_empty(pages: Sequence[Page | None], lost: Sequence[str] = ()) -> None:
    """Refuse an image without a page, or with so few of many that its size must be wrong."""
    held = sum(page is not None for page in pages)
    if not held and lost:
        raise ImageError("missing_companion", f"the OME-XML needs {lost[0]}, which is not in the folder")
    if not held or held * MOST_MISSING < len(pages):
        raise ImageError(
            "inconsistent", f"the metadata claim {len(pages)} planes, the file holds {held}: write the file again"
        )


def _checked_page(path: Path, page: Any) -> Page:
    size = path.stat().st_size
    check_layout(page.keyframe, size)
    return make_page(path, page, size)


def _checked_ome(ome: OmeImage, lengths: dict[str, int], pages: list[Page | None]) -> _Stack:
    layout = next(page.layout for page in pages if page is not None)
    inner, roles = _inner(layout)
    for page in filter(None, pages):
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
    if ome.dtype and not _holds(np.dtype(ome.dtype), layout):
        raise ImageError(
            "inconsistent",
            f"the OME-XML claims pixels of type {ome.dtype}, the page has {layout.dtype}: write the file again",
        )
    outer = [(axis, n) for axis, n in lengths.items() if n > 1]
    variant = _variant("ome", bool(layout.subifds))
    return _Stack(ome.name, pages, tuple(outer + inner), roles, variant, ome.channel_names, ome.pixel_size_um)


def _holds(claimed: np.dtype[Any], layout: tifffile.TiffPage) -> bool:
    """Whether a page can be of a type; of whole numbers the sign does not count, which some programs write wrongly."""
    if claimed.kind == "b" or layout.bitspersample == 1:
        return layout.bitspersample in (1, 8)
    stored: np.dtype[Any] = layout.dtype
    return claimed.itemsize == stored.itemsize and (claimed.kind == "f") == (stored.kind == "f")


def _variant(kind: str, is_pyramid: bool) -> str:
    return VARIANTS.get(kind, "TIFF") + (" pyramid" if is_pyramid else "")


# Pixel size and channel names of the other dialects -----------------------------------------------------------------


def _dialect(tif: tifffile.TiffFile, layout: tifffile.TiffPage, kind: str, stack: _Stack) -> dict[str, Any]:
    if kind == "imagej":
        return _imagej(tif, layout, stack)
    if kind == "svs" and stack.name == "Baseline":  # the thumbnail repeats the size of the full image's pixels
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
    layout = stack.layout
    dims = _rename(stack, axes, layout)
    colour = Colour.of(layout, written_by)
    sizes = {axis: math.prod(n for a, n in dims if a == axis) for axis in "TCZ"}
    if colour.palette is not None:
        sizes["C"] *= 3
    sizes |= {"Y": layout.shaped[2], "X": layout.shaped[3]}
    kept = [axis for axis in AXES if axis in "YX" or sizes[axis] > 1]
    names = stack.channel_names if len(stack.channel_names) == sizes["C"] else ()
    if not names:
        names = _sample_names(layout, colour, sizes["C"])
    smaller = [_TiffPixels(tuple(pages), dims, stack.roles, colour, stack.missing_files) for pages in stack.smaller]
    return Image(
        axes="".join(kept),
        shape=tuple(sizes[axis] for axis in kept),
        dtype=colour.dtype,
        pixel_size_um=dict(stack.pixel_size_um),
        pixel_size_trusted=bool(stack.pixel_size_um),
        channel_names=names,
        source=path,
        variant=stack.variant,
        pixels=_TiffPixels(tuple(stack.pages), dims, stack.roles, colour, stack.missing_files, tuple(smaller)),
    )


def _sample_names(layout: tifffile.TiffPage, colour: "Colour", channels: int) -> tuple[str, ...]:
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


# Pixels -------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _TiffPixels:
    """Decodes the strips or tiles of a window; holds no open file."""

    pages: tuple[Page | None, ...]
    dims: tuple[tuple[str, int], ...]
    roles: tuple[int, ...]
    colour: Colour
    missing_files: tuple[str, ...] = ()
    smaller: tuple["_TiffPixels", ...] = ()

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of each smaller resolution."""
        layouts = [next(page.layout for page in level.pages if page is not None) for level in self.smaller]
        return tuple((layout.shaped[2], layout.shaped[3]) for layout in layouts)

    def at_level(self, level: int) -> "_TiffPixels":
        """Pixels of a smaller resolution, from 1."""
        return self.smaller[level - 1]

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold the pixels."""
        return tuple(dict.fromkeys(page.path for page in self.pages if page is not None))

    @functools.cached_property
    def missing(self) -> MissingPlanes | None:
        """Planes that the metadata name and that are in no file."""
        if None not in self.pages:
            return None
        sizes = {axis: math.prod(n for letter, n in self.dims if letter == axis) for axis in "TCZ"}
        shape = (sizes["T"], sizes["C"], sizes["Z"])
        present = np.zeros(shape, bool)
        for t, c, z in np.ndindex(*shape):
            present[t, c, z] = self.pages[self._find(t, z, c)[0]] is not None
        return MissingPlanes.of(present, self.missing_files)

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
                decoded = (page, decode_window(self._page(page), y, x))
            sample, depth, interleaved = place
            plane = decoded[1][sample, depth, :, :, interleaved]
            if out is None:
                out = np.empty((len(channels), *plane.shape), plane.dtype)
            out[i] = plane
        if out is None:
            raise ValueError("no channel asked for")
        return out

    def _page(self, number: int) -> Page:
        page = self.pages[number]
        if page is None:
            raise ValueError("a missing plane was asked for")
        return page

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
