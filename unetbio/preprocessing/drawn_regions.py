"""Regions that were drawn in another program, each as the text of a region."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unetbio.annotations.formats.geojson import Annotation, read_annotations
from unetbio.annotations.outlines import Ring
from unetbio.errors import ImageError, UsageError
from unetbio.settings.regions import Region, is_region_file, parse_region, region_of_outline

__all__ = ["GivenRegion", "read_regions"]

logger = logging.getLogger(__name__)


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
    path = Path(text.strip())
    try:
        annotations, left_out = read_annotations(path)
    except OSError as error:
        raise UsageError(f"region {path} cannot be read: {error.strerror or error}") from error
    except ImageError as error:
        raise UsageError(f"region {path}: {error}") from error
    found = [(_region(each), _columns(each)) for each in annotations]
    regions = [GivenRegion(region, columns) for region, columns in found if region]
    if len(regions) < len(found):
        left_out["annotation without area"] = len(found) - len(regions)
    if left_out:
        listed = ", ".join(f"{count} {what}" for what, count in sorted(left_out.items()))
        logger.warning("%s: left out, since they are no areas that were drawn: %s", path, listed)
    if not regions:
        raise UsageError(f"region {path} holds no area: draw annotations in QuPath, and export them as GeoJSON")
    return regions


def _columns(annotation: Annotation) -> dict[str, str]:
    named = {"region_name": annotation.name, "region_class": annotation.kind}
    return {column: value for column, value in named.items() if value}


def _region(annotation: Annotation) -> Region | None:
    """The region of an annotation; None where it has no area, as after a click."""
    polygons = [tuple(map(_corners, filter(_has_area, rings))) for rings in annotation.parts]
    outline = tuple(rings for rings in polygons if rings)
    region = region_of_outline(outline) if outline else None
    return region and (_as_box(region) or region)


def _has_area(ring: Ring) -> bool:
    return len(ring) > 2 and bool((ring.min(axis=0) < ring.max(axis=0)).all())


def _corners(ring: Ring) -> tuple[tuple[float, float], ...]:
    # As the text of an outline has them.
    corners = [(float(f"{x:.12g}"), float(f"{y:.12g}")) for x, y in ring.tolist()]
    return tuple(corners[:-1] if corners[0] == corners[-1] else corners)


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
