"""Regions of CVAT for images (version 1.1): an XML file for many images.

Source: the format's page in the documentation of CVAT. Masks are run lengths within their box, row by row.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from unetbio.annotations.outlines import Ellipse, Pixels, Polygons, Shape, as_ring
from unetbio.annotations.regions import Region, Sheet
from unetbio.annotations.xml_files import decimal, elements_of
from unetbio.errors import ImageError

__all__ = ["read_cvat"]

NO_AREA = {"points": "point", "polyline": "line", "cuboid": "cuboid", "skeleton": "skeleton"}

MAX_MASK_PIXELS = 1 << 28


def read_cvat(path: Path) -> list[Sheet]:
    """Read the images of a file, each with its regions.

    Raises
    ------
    ImageError
        ``bad_xml``, ``bad_outline``; ``unsupported_format``: annotations of a video.
    """
    sheets = []
    for element in elements_of(path, ("image", "track")):
        if element.tag == "track":
            raise ImageError(
                "unsupported_format", "tracks of a video: export the task as CVAT for images 1.1, or as COCO 1.0"
            )
        sheets.append(_sheet(element))
    return sheets


def _sheet(image: ElementTree.Element) -> Sheet:
    name = image.get("name", "")
    height, width = (round(decimal(image, side, name)) for side in ("height", "width"))
    sheet = Sheet(name, (height, width))
    for number, element in enumerate(image, start=1):
        what = f"region {number} of {name}"
        shape = _shape(element, what)
        if isinstance(shape, str):
            sheet.left_out[shape] += 1
        elif shape is not None:
            sheet.regions.append(Region(shape, kind=element.get("label", "")))
    return sheet


def _shape(element: ElementTree.Element, what: str) -> Shape | str | None:
    """Shape of a region, in words what has no area, or None for what is no region, such as a tag of the image."""
    if element.tag in NO_AREA:
        return NO_AREA[element.tag]
    if element.tag == "polygon":
        corners = [pair.split(",") for pair in element.get("points", "").split(";")]
        try:
            return Polygons([[as_ring([[float(value) for value in pair] for pair in corners], what)]])
        except ValueError as error:
            raise ImageError("bad_outline", f"{what}: a corner is no pair of numbers; export the file again") from error
    if element.tag == "box":
        return _box(element, what)
    if element.tag == "ellipse":
        x, y, half_width, half_height = (decimal(element, name, what) for name in ("cx", "cy", "rx", "ry"))
        return Ellipse(x, y, half_width, half_height, math.radians(decimal(element, "rotation", what, 0.0)))
    return _mask(element.attrib, what) if element.tag == "mask" else None


def _box(element: ElementTree.Element, what: str) -> Shape:
    """A box, which may be turned around its centre, in degrees."""
    left, top, right, bottom = (decimal(element, name, what) for name in ("xtl", "ytl", "xbr", "ybr"))
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    angle = math.radians(decimal(element, "rotation", what, 0.0))
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    centre = corners.mean(axis=0)
    return Polygons([[corners if not angle else (corners - centre) @ turn + centre]])


def _mask(given: Mapping[str, str], what: str) -> Shape:
    try:
        counts = np.array([int(count) for count in given["rle"].split(",")], np.int64)
        left, top, width, height = (int(given[name]) for name in ("left", "top", "width", "height"))
    except (KeyError, ValueError) as error:
        raise ImageError(
            "bad_outline", f"{what}: a mask without its numbers ({error}); export the file again"
        ) from error
    size = height * width
    if min(counts.min(), left, top, height, width) < 0 or size > MAX_MASK_PIXELS or sum(counts.tolist()) > size:
        raise ImageError("bad_outline", f"{what}: run lengths go beyond the {width} x {height} pixels; export it again")
    covered = np.zeros(size, np.bool_)
    runs = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    covered[: len(runs)] = runs
    return Pixels(top, left, covered.reshape(height, width))
