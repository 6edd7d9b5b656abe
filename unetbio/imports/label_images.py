"""From annotations to the label image of an image, and the classes of its cells."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.annotations.challenge import missing_times, read_times
from unetbio.annotations.formats.labkit import BACKGROUND
from unetbio.annotations.masks import VOID, has_colours, is_mask_folder, read_mask, read_mask_folder
from unetbio.annotations.outlines import Ellipse, Polygons
from unetbio.annotations.painting import Painting, paint
from unetbio.annotations.parts import find_parts
from unetbio.annotations.regions import Grid, Region, Sheet
from unetbio.annotations.sources import CHALLENGE, GEOJSON, IMAGESCOPE, MASKS, Source
from unetbio.errors import ImageError
from unetbio.imports.places import NamedClasses, Place
from unetbio.output_layout import objects_name
from unetbio.provenance import PartRecord
from unetbio.settings.runs import ImportRun

__all__ = ["read_label_image"]

logger = logging.getLogger(__name__)

HELD = f"{objects_name('x')} beside the mask holds their classes"
LEFT_OUT = "classes are left out, as the model of the run has none: give -o, or import with --images, to have them"

SHOWN = 5
"""Number of times or sections that a message names."""


def read_label_image(
    source: Source, sheet: Sheet | None, place: Place, name: str, run: ImportRun
) -> tuple[NDArray[Any], NamedClasses]:
    """Read the annotation of one image as a label image with the classes of its cells.

    Parameters
    ----------
    source : Source
        The annotation.
    sheet : Sheet, optional
        What it holds of the image, if it is a file of many.
    place : Place
        The pixels of the image.
    name : str
        Name of the image, for warnings.
    run : ImportRun
        Options.

    Raises
    ------
    ImageError
        Naming the annotation that cannot be read, or does not fit the image or the options.
    """
    path, grid = source.paths[0], place.grid
    if source.format in (MASKS, CHALLENGE) and run.kinds:
        raise ImageError("no_classes", f"{source.name}: masks have no classes; leave --class out")
    if run.split_components and (source.format != MASKS or is_mask_folder(path)):
        raise ImageError("no_mask", f"{source.name}: --split-components is for masks of one value; leave it out")
    try:
        if source.format == CHALLENGE:
            label_image = read_times(source.paths, grid, place.read_before)
            _say_missing(source, place, name)
            # Cells have the numbers of their tracks.
            left = missing_times(source.paths, grid) if place.read_before else ()
            return label_image, NamedClasses(named=frozenset(), kept_times=frozenset(left))
        if source.format == MASKS and not is_mask_folder(path):
            split = run.split_components
            label_image = read_mask(path, grid, split_components=split, series=place.series, image=place.image)
            label_image = _look_at_parts(label_image, grid, name)
            return label_image, NamedClasses(named=frozenset() if split or has_colours(path, grid) else None)
        if source.format == MASKS:
            painting, named = read_mask_folder(path, grid), frozenset[int]()
        else:
            read = sheet or source.read()[0]
            grid.check(read)
            regions = _chosen(read, name, run, has_classes=place.has_classes)
            _say_first(regions, grid, name)
            if place.part is not None and source.format in (GEOJSON, IMAGESCOPE):
                regions = [_in_part(region, place.part) for region in regions]
            painting, named = paint(regions, grid), frozenset(region.number for region in regions if region.number)
            # Of a part of a slide, all regions may lie in others.
            if regions and painting.outside == len(regions) and place.part is None:
                raise ImageError(
                    "outside",
                    f"no region has a pixel in the image of {grid.width} x {grid.height}: are they in micrometres, or "
                    "of another image?",
                )
            # Of a new mask, an image without a region on the chosen planes has no cells there.
            if regions and painting.elsewhere == len(regions) and (place.read_before or regions[0].index is not None):
                _refuse_elsewhere(regions, grid)
    except ImageError as error:
        raise ImageError(error.reason, f"{source.name}: {error}") from error
    except OSError as error:
        raise ImageError("unreadable", f"{source.name} cannot be read: {error.strerror or error}") from error
    _say(painting, name)
    return painting.label_image, NamedClasses(painting.classes, named)


def _refuse_elsewhere(regions: Sequence[Region], grid: Grid) -> None:
    """Refuse regions of which none lies in the image: an empty mask would say that there are no cells."""
    t, z = grid.place_of(regions[0])
    name, drawn, there = next(
        (name, drawn, there)
        for name, drawn, there in (("times", t, grid.times), ("sections", z, grid.sections))
        if drawn is not None and not {None, drawn} & set(there)
    )
    # The axis may be the other one.
    unnamed = ", by an axis that the file does not name" if regions[0].index is not None else ""
    shown = ", ".join(map(str, there[:SHOWN])) + (" ..." if len(there) > SHOWN else "")
    raise ImageError(
        "wrong_planes",
        f"all regions lie in {name} that were left out, such as {drawn}{unnamed}; the mask has {shown}: give "
        "regions drawn there, or the --t or --z that was annotated",
    )


def _say_missing(source: Source, place: Place, name: str) -> None:
    """Say what becomes of times without a file."""
    times = place.grid.times
    missing = len(missing_times(source.paths, place.grid))
    if missing and place.read_before:
        logger.info("%s: %d of %d times have no file: their cells stay as they were", name, missing, len(times))
    elif missing:
        logger.warning(
            "%s: %d of %d times have no file, and get no cells: give one for each time, or --into RESULTS, which keeps "
            "the cells of a run",
            name,
            missing,
            len(times),
        )


def _look_at_parts(label_image: NDArray[Any], grid: Grid, name: str) -> NDArray[Any]:
    """Say that numbers, or colours, stand for several cells each, as in a mask of classes.

    The number of what is no object in masks of Pascal VOC, the rims of all objects, becomes background.
    """
    if len(grid.times) > 1:
        return label_image
    parts = find_parts(label_image)
    if VOID in parts.far and label_image.max() == VOID and not (label_image == VOID - 1).any():
        logger.warning(
            "%s: %d stands in parts far from each other, as the rims of objects in Pascal VOC: background here",
            name,
            VOID,
        )
        label_image = np.where(label_image == VOID, 0, label_image)
        parts = find_parts(label_image)
    if parts.is_reused:
        logger.warning(
            "%s: %d of %d numbers or colours stand in parts that are far from each other, as in a mask of classes, or "
            "of 8 bits with more than 255 cells: each is one cell now; --split-components makes each part a cell",
            name,
            len(parts.far),
            parts.ids,
        )
    return label_image


def _chosen(sheet: Sheet, name: str, run: ImportRun, *, has_classes: bool) -> list[Region]:
    """Regions of the classes that are asked for."""
    _refuse_without_area(sheet)
    for what, count in sorted(sheet.left_out.items()):
        logger.warning("%s: left out: %d x %s", name, count, what)
    kinds = {region.kind for region in sheet.regions}
    if not run.kinds:
        if len(kinds) > 1:
            listed = ", ".join(sorted(kind or "without class" for kind in kinds))
            logger.warning(
                "%s: regions of several classes are cells: %s; %s, and --class NAME takes one alone",
                name,
                listed,
                HELD if has_classes else LEFT_OUT,
            )
        return sheet.regions
    if kinds == {""}:
        raise ImageError("no_classes", "no region has a class: give them their classes, or leave --class out")
    if missing := set(run.kinds) - kinds:
        logger.warning("%s: no region of the class %s", name, ", ".join(sorted(missing)))
    return [region for region in sheet.regions if region.kind in run.kinds]


def _say_first(regions: Sequence[Region], grid: Grid, name: str) -> None:
    """Say where regions lie of a file that states no plane."""
    count, others = sum(region.is_first for region in regions), len(grid.times) * len(grid.sections) - 1
    if count and others:
        logger.warning(
            "%s: %d regions without a plane, which lie in the first one as in QuPath; the other planes, which get no "
            "cells: %d",
            name,
            count,
            others,
        )


def _refuse_without_area(sheet: Sheet) -> None:
    """Refuse annotations that mark cells, and outline none: a mask without cells would say that there are none."""
    marks = {what: count for what, count in sheet.left_out.items() if what != BACKGROUND}
    if marks and not sheet.regions:
        listed = ", ".join(f"{count} x {what}" for what, count in sorted(marks.items()))
        raise ImageError("no_area", f"no annotation encloses an area ({listed}): draw the outline of each cell")


def _in_part(region: Region, part: PartRecord) -> Region:
    """A region in pixels of the mask; QuPath and ImageScope know those of the file, also where a part was segmented."""
    if not isinstance(region.shape, Polygons | Ellipse):
        return region
    return replace(region, shape=region.shape.seen_from((part.rows[0], part.columns[0]), part.scale))


def _say(painting: Painting, name: str) -> None:
    """Say which regions are not whole in the mask."""
    for count, what in (
        (painting.overlapping, "pixels of several regions, which belong to the smallest"),
        (painting.hidden, "regions lost, since smaller ones cover all their pixels"),
        (painting.outside, "regions lost, since they have no pixel in the image"),
        (painting.elsewhere, "regions left out, since they lie in other times or sections"),
        (
            painting.holding,
            "regions that hold several others, and are cells like them; if they outline the tissue, "
            "remove them, or take a class with --class",
        ),
    ):
        if count:
            logger.warning("%s: %s: %d", name, what, count)
