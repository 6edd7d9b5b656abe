"""Stacks of the dialects without OME-XML, as tifffile finds them: plain, ImageJ, SVS, LSM."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tifffile

from unetbio.errors import ImageError
from unetbio.io.formats.tiff.pages import Page, PageChain, check_layout
from unetbio.io.formats.tiff.stacks import (
    CUT,
    Stack,
    inner_axes,
    refuse_empty,
    smaller_levels,
    variant_name,
    whole_page,
)
from unetbio.io.formats.units import size_in_um

__all__ = ["series_stacks"]


def series_stacks(tif: tifffile.TiffFile, path: Path, chain: PageChain) -> Iterator[Stack | ImageError]:
    """Stacks of a file; of one that was cut, an error in place of those that followed.

    Raises
    ------
    ImageError
        As `unetbio.io.formats.tiff.reader.read_tiff`.
    """
    size = path.stat().st_size
    is_cut = chain.broken_link is not None
    if tif.is_imagej and any(series.kind != "imagej" for series in tif.series):
        claim = {key: int(tif.imagej_metadata.get(key, 1)) for key in ("channels", "slices", "frames")}
        if math.prod(claim.values()) <= len(tif.pages):
            text = ", ".join(f"{value} {key}" for key, value in claim.items())
            raise ImageError("inconsistent", f"ImageJ's header claims {text}, which the file does not hold: save again")
        yield _imagej_stack(tif, path, size, claim, is_cut=is_cut)
        return
    *before, last = _listed(tif, path, size, is_cut=is_cut)
    yield from before
    if not is_cut or isinstance(last, ImageError) or last.cut:
        yield last
    elif not before and len(last.dims) - len(last.roles) <= 1 and not tif.is_shaped:
        # One more plane at least, of a stack or of something else: the pages do not say.
        yield _with_lost_page(last)
    else:
        yield last
        yield ImageError("truncated", f"{CUT}: what followed the images before is lost; copy it again")


def _listed(tif: tifffile.TiffFile, path: Path, size: int, *, is_cut: bool) -> Iterator[Stack | ImageError]:
    """Stacks that tifffile finds; the error of one of several does not prevent the others."""
    count = len(tif.series)
    for number, series in enumerate(tif.series):
        is_cut_here = is_cut and number == count - 1
        try:
            if is_cut_here and series.kind == "shaped" and not series.is_truncated:
                yield _cut_array(tif, path, size, series)
            else:
                yield _tifffile_stack(tif, path, size, series, is_cut=is_cut_here)
        except ImageError as error:
            if count == 1:
                raise
            yield error


def _cut_array(tif: tifffile.TiffFile, path: Path, size: int, series: tifffile.TiffPageSeries) -> Stack:
    """The last array of a file that tifffile wrote, with the pages that it claims; tifffile takes its first alone."""
    layout, claim = series.keyframe, tif.shaped_metadata[-1]
    check_layout(layout, size)
    shape, letters = claim["shape"], claim.get("axes", "")
    inner, roles = inner_axes(layout)
    # Axes before those of a page.
    count = next(n for n in range(len(shape) + 1) if math.prod(shape[n:]) <= math.prod(layout.shaped))
    outer = zip(letters if len(letters) == len(shape) else "Q" * len(shape), shape[:count], strict=False)
    dims = (*((letter, n) for letter, n in outer if n > 1), *inner)
    stack = Stack(series.name, [], dims, roles, variant_name(series.kind, is_pyramid=False))
    padded = _padded(stack, path, tif.pages[layout.index :], layout)
    return dataclasses.replace(padded, cut=CUT if None in padded.pages else "")


def _padded(stack: Stack, path: Path, held: Sequence[Any], layout: tifffile.TiffPage) -> Stack:
    """A stack with these pages at its start; the last of them are missing."""
    errors: list[ImageError] = []
    wanted = math.prod(n for _, n in stack.dims[: len(stack.dims) - len(stack.roles)])
    pages = [whole_page(path, page, errors) for page in held[:wanted]]
    if any(page is not None and page.layout.shaped != layout.shaped for page in pages):
        raise ImageError("inconsistent", "the pages of one stack differ in size: save the file again")
    pages += [None] * (wanted - len(pages))
    refuse_empty(pages, cut=errors)
    return dataclasses.replace(stack, pages=pages, cut=CUT if errors else "")


def _with_lost_page(stack: Stack) -> Stack:
    """A stack of pages of which at least one more followed."""
    outer = stack.dims[: len(stack.dims) - len(stack.roles)] or (("Q", 1),)
    dims = ((outer[0][0], outer[0][1] + 1), *stack.dims[len(stack.dims) - len(stack.roles) :])
    return dataclasses.replace(stack, pages=[*stack.pages, None], dims=dims, cut=f"{CUT}, and more may have followed")


def _tifffile_stack(
    tif: tifffile.TiffFile, path: Path, size: int, series: tifffile.TiffPageSeries, *, is_cut: bool
) -> Stack:
    layout = series.keyframe
    check_layout(layout, size)
    inner, roles = inner_axes(layout)
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
    pages, cut = _pages(path, size, series, page_total, is_cut=is_cut)
    variant = variant_name(series.kind, is_pyramid=len(series.levels) > 1)
    stack = Stack(series.name, pages, tuple(others), roles, variant, cut=cut)
    smaller = smaller_levels(stack, ([(path, page) for page in level] for level in series.levels[1:]))
    stack = dataclasses.replace(stack, smaller=smaller)
    return dataclasses.replace(stack, **_dialect(tif, layout, series.kind, stack))


def _pages(
    path: Path, size: int, series: tifffile.TiffPageSeries, wanted: int, *, is_cut: bool
) -> tuple[list[Page | None], str]:
    """Pages of a series, and what happened to the file if some are not whole."""
    layout = series.keyframe
    # ImageJ and tifffile may write one page and all the planes behind its first.
    if wanted > 1 and (series.is_truncated or len(series._pages) == 1) and layout.is_final:
        pages = _planes_behind(path, layout, size, wanted)
        return pages, CUT if is_cut else ""
    found = [page for page in series if page is not None]
    is_short = len(found) < wanted and is_cut
    if len(found) != wanted and not is_short:
        raise ImageError(
            "inconsistent", f"{wanted} planes are claimed, the file holds {len(found)}; write or copy it again"
        )
    errors: list[ImageError] = []
    pages = [whole_page(path, page, errors) for page in found] + [None] * (wanted - len(found))
    refuse_empty(pages, cut=errors)
    return pages, CUT if errors or is_short else ""


def _planes_behind(path: Path, layout: tifffile.TiffPage, size: int, wanted: int) -> list[Page | None]:
    """Planes that lie one behind another from the first page on."""
    start, step = layout.dataoffsets[0], layout.nbytes
    ends = [start + (i + 1) * step for i in range(wanted)]
    pages = [Page(path, layout, [end - step], [step], {}) if end <= size else None for end in ends]
    if ends[0] > size:
        raise ImageError(
            "truncated", f"pixels up to byte {ends[-1]} are claimed, the file has {size} bytes; write or copy it again"
        )
    refuse_empty(pages)
    return pages


def _imagej_stack(tif: tifffile.TiffFile, path: Path, size: int, claim: dict[str, int], *, is_cut: bool) -> Stack:
    """Pages of an ImageJ file that claims more planes than it holds; the last of them are missing."""
    layout = tif.pages.first
    check_layout(layout, size)
    inner, roles = inner_axes(layout)
    if layout.shaped[0] * layout.shaped[4] == claim["channels"]:
        claim = claim | {"channels": 1}  # they are the samples of each page
    outer = [(letter, claim[key]) for letter, key in (("T", "frames"), ("Z", "slices"), ("C", "channels"))]
    dims = tuple((letter, n) for letter, n in outer if n > 1) + tuple(inner)
    stack = Stack(tif.series[0].name, [], dims, roles, variant_name("imagej", is_pyramid=False))
    if _lie_behind(tif, layout, is_cut=is_cut):
        pages = _planes_behind(path, layout, size, math.prod(n for _, n in outer))
        stack = dataclasses.replace(stack, pages=pages)
    else:
        stack = _padded(stack, path, tif.pages, layout)
    if is_cut and None in stack.pages:
        stack = dataclasses.replace(stack, cut=CUT)
    return dataclasses.replace(stack, **_dialect(tif, layout, "imagej", stack))


def _lie_behind(tif: tifffile.TiffFile, layout: tifffile.TiffPage, *, is_cut: bool) -> bool:
    """Whether the planes of an ImageJ file lie one behind another, also those whose pages are not listed."""
    if not layout.is_final or len(tif.pages) == 1:
        return bool(layout.is_final)
    following = tif.pages[1].aspage()
    return is_cut and int(following.dataoffsets[0]) == int(layout.dataoffsets[0]) + int(layout.nbytes)


def _dialect(tif: tifffile.TiffFile, layout: tifffile.TiffPage, kind: str, stack: Stack) -> dict[str, Any]:
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


def _imagej(tif: tifffile.TiffFile, layout: tifffile.TiffPage, stack: Stack) -> dict[str, Any]:
    metadata = tif.imagej_metadata or {}
    # The header has the unit of x, and those of y and z where they differ from it.
    unit = str(metadata.get("unit", ""))
    units = {"X": unit, "Y": str(metadata.get("yunit", unit)), "Z": str(metadata.get("zunit", unit))}
    # ImageJ takes inch and cm from a printing resolution when it knows nothing better.
    sizes: dict[str, float] = {}
    if unit not in ("inch", "cm"):
        for axis, tag in (("Y", "YResolution"), ("X", "XResolution")):
            number = layout.tags.valueof(tag)
            if number and number[0]:
                size = size_in_um(number[1] / number[0], units[axis])
                if size:
                    sizes[axis] = size
        spacing = metadata.get("spacing")
        if isinstance(spacing, int | float) and len(sizes) == 2:
            size = size_in_um(abs(float(spacing)), units["Z"])
            if size and any(axis == "Z" for axis, _ in stack.dims):
                sizes["Z"] = size
    labels = metadata.get("Labels")
    channels = math.prod(n for axis, n in stack.dims if axis in "CS")
    names = tuple(labels) if isinstance(labels, list) and len(labels) == channels == len(stack.pages) else ()
    return {"pixel_size_um": sizes if len(sizes) >= 2 else {}, "channel_names": names}
