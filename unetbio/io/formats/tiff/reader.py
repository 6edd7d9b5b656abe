"""TIFF in all its dialects: plain, OME, ImageJ, tiled and pyramidal, read by the tile or strip.

tifffile finds the pages. The metadata are compared with them here, since tifffile reads missing planes as zeros.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable
from pathlib import Path

import tifffile

from unetbio.errors import ImageError
from unetbio.io.formats.refusals import check_series, refuse_broken
from unetbio.io.formats.tiff.colour import Colour
from unetbio.io.formats.tiff.format import COMPANION
from unetbio.io.formats.tiff.ome_stacks import companion_stacks, ome_stacks
from unetbio.io.formats.tiff.pages import PageChain, follow_pages, open_pages
from unetbio.io.formats.tiff.pixels import TiffPixels
from unetbio.io.formats.tiff.series_stacks import series_stacks
from unetbio.io.formats.tiff.stacks import CUT, Stack
from unetbio.io.grey_pictures import ALPHA, COLOURS
from unetbio.io.image import AXES, Image

__all__ = ["read_tiff", "read_tiff_labels"]

ALPHAS = ((1,), (2,))
"""Tag ExtraSamples of pages with one more sample, which is an alpha, multiplied into the others or not."""


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
    return _read(path, axes, series, Colour.of)


def read_tiff_labels(path: Path, *, axes: str | None = None, series: int = 0) -> Image:
    """Open a TIFF file that holds labels: the numbers are those stored.

    Parameters and errors are those of `read_tiff`. Neither white-is-zero nor a palette that begins with black changes
    what a number means: ImageJ writes both with masks, for the display.
    """
    return _read(path, axes, series, Colour.of_labels)


def _read(path: Path, axes: str | None, series: int, find_colour: Callable[[tifffile.TiffPage, str], Colour]) -> Image:
    if path.name.lower().endswith(COMPANION):
        with refuse_broken("TIFF"):
            stacks = companion_stacks(path)
        return _finish(path, stacks, axes, series, lambda layout: find_colour(layout, "ome"))
    size = path.stat().st_size
    chain = follow_pages(path, size)
    if chain.lacks_description and axes is None:
        raise ImageError(
            "truncated",
            f"{CUT}: its description at the end, such as OME-XML, is lost; {chain.count} pages are listed before: "
            "segment --partial with --axes, such as TYX, takes what is there, without a pixel size; or copy it again",
        )
    with refuse_broken("TIFF"), open_pages(path, chain) as tif:
        stacks = [_known_as_cut(stack, chain) for stack in _stacks(tif, path, chain)]
        written_by = "ome" if tif.ome_metadata else "imagej" if tif.is_imagej else "tifffile" if tif.is_shaped else ""
        return _finish(path, stacks, axes, series, lambda layout: find_colour(layout, written_by))


def _known_as_cut(stack: Stack | ImageError, chain: PageChain) -> Stack | ImageError:
    """A stack of a file whose description is lost, although all of its pages may be whole."""
    if isinstance(stack, ImageError) or stack.cut or not chain.lacks_description:
        return stack
    return dataclasses.replace(stack, cut=CUT)


def _finish(
    path: Path,
    stacks: list[Stack | ImageError],
    axes: str | None,
    series: int,
    find_colour: Callable[[tifffile.TiffPage], Colour],
) -> Image:
    if not stacks:
        raise ImageError("bad_metadata", "the metadata describe no image: convert the file again")
    check_series(series, len(stacks))
    stack = stacks[series]
    if isinstance(stack, ImageError):
        raise stack
    image = _image(path, stack, axes, find_colour(stack.layout))
    return dataclasses.replace(image, series=series, series_count=len(stacks), name=stack.name)


def _stacks(tif: tifffile.TiffFile, path: Path, chain: PageChain) -> Iterable[Stack | ImageError]:
    if len(tif.pages) != chain.count:
        raise ImageError(
            "truncated", f"{chain.count} pages are linked, {len(tif.pages)} can be read; write or copy it again"
        )
    xml = tif.ome_metadata
    return series_stacks(tif, path, chain) if xml is None else ome_stacks(tif, path, xml, chain)


def _image(path: Path, stack: Stack, axes: str | None, colour: Colour) -> Image:
    layout = stack.layout
    dims = _rename(stack, axes, layout)
    sizes = {axis: math.prod(n for a, n in dims if a == axis) for axis in "TCZ"}
    if colour.palette is not None:
        sizes["C"] *= 3
    sizes |= {"Y": layout.shaped[2], "X": layout.shaped[3]}
    kept = [axis for axis in AXES if axis in "YX" or sizes[axis] > 1]
    names = stack.channel_names if len(stack.channel_names) == sizes["C"] else ()
    if not names:
        names = _sample_names(layout, colour, sizes["C"])
    lost = (stack.missing_files, stack.cut)
    smaller = [TiffPixels(tuple(pages), dims, stack.roles, colour, *lost) for pages in stack.smaller]
    return Image(
        axes="".join(kept),
        shape=tuple(sizes[axis] for axis in kept),
        dtype=colour.dtype,
        pixel_size_um=dict(stack.pixel_size_um),
        pixel_size_trusted=bool(stack.pixel_size_um),
        channel_names=names,
        source=path,
        variant=stack.variant,
        pixels=TiffPixels(tuple(stack.pages), dims, stack.roles, colour, *lost, tuple(smaller)),
    )


def _sample_names(layout: tifffile.TiffPage, colour: "Colour", channels: int) -> tuple[str, ...]:
    samples = layout.shaped[0] * layout.shaped[4]
    if colour.palette is not None and channels == 3:
        return COLOURS
    if int(layout.photometric) in (2, 6) and channels == samples and samples >= 3:
        return (*COLOURS, ALPHA)[:channels] + ("",) * (channels - 4)
    if int(layout.photometric) == 1 and channels == samples == 2 and layout.extrasamples in ALPHAS:
        return ("", ALPHA)
    return ("",) * channels


def _rename(stack: Stack, axes: str | None, layout: tifffile.TiffPage) -> tuple[tuple[str, int], ...]:
    """Give every stored axis a letter of T, C, Z; samples are channels."""
    held = [("C" if letter == "S" else letter, n) for letter, n in stack.dims]
    height, width = layout.shaped[2], layout.shaped[3]
    if axes is not None:
        return _named(stack, axes.upper(), height, width)
    unknown = [(letter, n) for letter, n in held if letter not in "TCZ"]
    repeated = [letter for letter in "TZ" if sum(letter == a for a, _ in held) > 1]
    if unknown or repeated:
        planes = math.prod(n for _, n in held[: len(held) - len(stack.roles)])
        if stack.cut:
            whole = len(stack.pages) - stack.pages.count(None)
            raise ImageError(
                "truncated",
                f"{stack.cut}: {whole} of {planes} pages of {height} x {width} pixels are whole, and no word says what "
                "they are: segment --partial with --axes ZYX, TYX or CYX takes them; or copy it again",
            )
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


def _named(stack: Stack, axes: str, height: int, width: int) -> tuple[tuple[str, int], ...]:
    outer = len(stack.dims) - len(stack.roles)
    samples = [i for i, (letter, _) in enumerate(stack.dims) if i >= outer and letter in "SC"]
    stored = " ".join(f"{letter}={n}" for letter, n in (*stack.dims, ("Y", height), ("X", width)))
    letters = axes.replace("S", "C")
    text = f"--axes {axes} does not fit the stored axes {stored}: one letter of TCZYX each, slowest first"
    wrong = ImageError("truncated", f"{stack.cut}: {text}") if stack.cut else ImageError("unknown_axes", text)
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
