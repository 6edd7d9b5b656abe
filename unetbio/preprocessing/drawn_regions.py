"""Regions that were drawn in another program, each as the text of a region."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from unetbio.annotations.formats.geojson import Annotation, read_annotations
from unetbio.annotations.outlines import Ring
from unetbio.errors import ImageError, UsageError
from unetbio.files import public_address, utf8_text
from unetbio.io.remote import local_path
from unetbio.settings.regions import Region, is_region_file, parse_region, region_of_outline

__all__ = ["GivenRegion", "read_regions"]

logger = logging.getLogger(__name__)

Corners = tuple[tuple[float, float], ...]
"""Of a ring, x before y; the first is not repeated."""


@dataclass(frozen=True)
class GivenRegion:
    """A region, and what its annotation says of it: columns of all tables."""

    region: Region
    columns: Mapping[str, str] = field(default_factory=dict)


def read_regions(given: Sequence[str]) -> list[GivenRegion]:
    """The regions that are given as text, and those in files, in their order.

    Raises
    ------
    UsageError
        When a file cannot be read, or holds no area.
    """
    return [found for text in given for found in _read(text)]


def _read(text: str) -> list[GivenRegion]:
    if not is_region_file(text):
        return [GivenRegion(parse_region(text))]
    path = public_address(text.strip())
    try:
        annotations, left_out = read_annotations(local_path(text.strip()))
    except OSError as error:
        raise UsageError(f"region {path} cannot be read: {error.strerror or error}") from error
    except ImageError as error:
        raise UsageError(f"region {path}: {error}") from error
    drawn_as: dict[Region, list[Annotation]] = {}
    for annotation in annotations:
        region = _region(annotation)
        if region is None:
            left_out["annotation without area"] += 1
        else:
            drawn_as.setdefault(region, []).append(annotation)
    if left_out:
        listed = ", ".join(f"{count} {what}" for what, count in sorted(left_out.items()))
        logger.warning("%s: left out, since they are no areas that were drawn: %s", path, listed)
    for alike in drawn_as.values():
        if len(alike) > 1:
            listed = " and ".join(map(_title, alike))
            logger.warning(
                "%s: %s are the same pixels: they are segmented once, with the name of the first", path, listed
            )
    if not drawn_as:
        raise UsageError(f"region {path} holds no area: draw annotations in QuPath, and export them as GeoJSON")
    return [GivenRegion(region, _columns(alike[0])) for region, alike in drawn_as.items()]


def _title(annotation: Annotation) -> str:
    name = utf8_text(annotation.name)
    return f"{annotation.what} ({name})" if name else annotation.what


def _columns(annotation: Annotation) -> dict[str, str]:
    named = {"region_name": annotation.name, "region_class": annotation.kind}
    return {column: utf8_text(value) for column, value in named.items() if value}


def _region(annotation: Annotation) -> Region | None:
    """The region of an annotation; None where it has no area, as after a click."""
    outline = tuple(polygon for rings in annotation.parts if (polygon := _polygon(rings)))
    region = region_of_outline(outline) if outline else None
    return region and (_as_box(region) or region)


def _polygon(rings: Sequence[Ring]) -> tuple[Corners, ...]:
    """The outer ring and those of holes, without those that have no area; none where the outer one has none."""
    outer, *holes = map(_corners, rings)
    return (outer, *filter(_has_area, holes)) if _has_area(outer) else ()


def _has_area(corners: Corners) -> bool:
    """Whether the corners do not lie on one line."""
    return len(corners) > 2 and int(np.linalg.matrix_rank(np.subtract(corners, corners[0]))) == 2


def _corners(ring: Ring) -> Corners:
    # As the text of an outline has them.
    corners = [(float(f"{x:.12g}"), float(f"{y:.12g}")) for x, y in ring.tolist()]
    return tuple(corners[:-1] if corners[:1] == corners[-1:] else corners)


def _as_box(region: Region) -> Region | None:
    """The pixels of an upright rectangle, as `unetbio.annotations.outlines` counts them; None for other outlines."""
    if len(region.outline) != 1 or len(region.outline[0]) != 1 or len(ring := region.outline[0][0]) != 4:
        return None
    xs, ys = ({corner[axis] for corner in ring} for axis in (0, 1))
    turns = all(
        (one[0] == other[0]) != (one[1] == other[1]) for one, other in zip(ring, ring[1:] + ring[:1], strict=True)
    )
    if len(xs) != 2 or len(ys) != 2 or not turns:
        return None
    x, right = (math.floor(number + 0.5) for number in sorted(xs))
    y, bottom = (math.ceil(number - 0.5) for number in sorted(ys))
    is_box = min(x, y) >= 0 and right > x and bottom > y
    return Region(x, y, right - x, bottom - y) if is_box else None
