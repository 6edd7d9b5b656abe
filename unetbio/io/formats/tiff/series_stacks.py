"""Stacks of the dialects without OME-XML, as tifffile finds them: plain, ImageJ, SVS, LSM."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tifffile

from unetbio.errors import ImageError
from unetbio.io.formats.ome import size_in_um
from unetbio.io.formats.tiff.pages import Page, check_layout, make_page
from unetbio.io.formats.tiff.stacks import Stack, inner_axes, refuse_empty, smaller_levels, variant_name

__all__ = ["series_stacks"]


def series_stacks(tif: tifffile.TiffFile, path: Path) -> Iterator[Stack]:
    """Stacks of a file.

    Raises
    ------
    ImageError
        As `unetbio.io.formats.tiff.reader.read_tiff`.
    """
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


def _tifffile_stack(tif: tifffile.TiffFile, path: Path, size: int, kind: str, series: tifffile.TiffPageSeries) -> Stack:
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
    pages = _pages(tif, path, size, series, page_total)
    stack = Stack(series.name, pages, tuple(others), roles, variant_name(kind, is_pyramid=len(series.levels) > 1))
    smaller = smaller_levels(stack, ([(path, page) for page in level] for level in series.levels[1:]))
    stack = dataclasses.replace(stack, smaller=smaller)
    return dataclasses.replace(stack, **_dialect(tif, layout, kind, stack))


def _pages(
    tif: tifffile.TiffFile, path: Path, size: int, series: tifffile.TiffPageSeries, wanted: int
) -> list[Page | None]:
    layout = series.keyframe
    # ImageJ and tifffile may write one page and all the planes behind its first.
    if wanted > 1 and (series.is_truncated or len(series._pages) == 1) and layout.is_final:
        start, step = layout.dataoffsets[0], layout.nbytes
        ends = [start + (i + 1) * step for i in range(wanted)]
        pages = [Page(path, layout, [end - step], [step], {}) if end <= size else None for end in ends]
        refuse_empty(pages)
        return pages
    found = [page for page in series if page is not None]
    if len(found) != wanted:
        raise ImageError(
            "inconsistent", f"{wanted} planes are claimed, the file holds {len(found)}; write or copy it again"
        )
    return [make_page(path, page, size) for page in found]


def _imagej_stack(tif: tifffile.TiffFile, path: Path, size: int, claim: dict[str, int]) -> Stack:
    """Pages of an ImageJ file that claims more planes than it holds; the last of them are missing."""
    layout = tif.pages.first
    check_layout(layout, size)
    inner, roles = inner_axes(layout)
    held = [make_page(path, page, size) for page in tif.pages]
    if any(page.layout.shaped != layout.shaped for page in held):
        raise ImageError("inconsistent", "the pages of one ImageJ stack differ in size: save the file again")
    outer = [(letter, claim[key]) for letter, key in (("T", "frames"), ("Z", "slices"), ("C", "channels"))]
    dims = [(letter, n) for letter, n in outer if n > 1]
    pages = [*held, *[None] * (math.prod(n for _, n in dims) - len(held))]
    refuse_empty(pages)
    stack = Stack(tif.series[0].name, pages, tuple(dims + inner), roles, variant_name("imagej", is_pyramid=False))
    return dataclasses.replace(stack, **_dialect(tif, layout, "imagej", stack))


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
