"""Regions of the VGG Image Annotator (versions 1 and 2): a JSON file for many images, or a project."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unetbio.annotations.json_stream import ARRAY, members_of
from unetbio.annotations.outlines import Ellipse, Polygons, Shape, as_ring, number_of
from unetbio.annotations.regions import Region, Sheet
from unetbio.errors import ImageError

__all__ = ["PROJECT", "PROJECT_3", "read_via"]

PROJECT = "_via_img_metadata"

PROJECT_3 = frozenset({"project", "file", "metadata", "view"})
"""Members of a project of version 3, which has another format."""

NO_AREA = {"point": "point", "polyline": "line"}

CLASS_NAMES = ("class", "type", "label", "name", "category")
"""What users call the attribute that holds the class, in small letters."""


def read_via(path: Path) -> list[Sheet]:
    """Read the images of a file, each with its regions.

    Raises
    ------
    ImageError
        ``bad_json``, ``bad_outline``.
    """
    sheets = []
    for name, value in members_of(path):
        if value is ARRAY or not isinstance(value, Mapping):
            continue
        images = value.values() if name == PROJECT else [value]
        sheets += [_sheet(image) for image in images if isinstance(image, Mapping) and "filename" in image]
    return sheets


def _sheet(image: Mapping[str, Any]) -> Sheet:
    name = str(image["filename"])
    sheet = Sheet(name)
    regions: Any = image.get("regions") or []
    # Version 1 has an object of regions by number.
    listed: Iterable[Any] = regions.values() if isinstance(regions, Mapping) else regions
    for number, region in enumerate(listed, start=1):
        what = f"region {number} of {name}"
        attributes = region.get("shape_attributes") if isinstance(region, Mapping) else None
        if not isinstance(attributes, Mapping):
            raise ImageError("bad_json", f"{what} has no shape_attributes; save the file again")
        shape = _shape(attributes, what)
        if isinstance(shape, str):
            sheet.left_out[shape] += 1
        else:
            sheet.regions.append(Region(shape, kind=_class_of(region.get("region_attributes"))))
    return sheet


def _class_of(attributes: Any) -> str:
    """The value of the only attribute of a region, or of the one that is called like a class; users name them."""
    if not isinstance(attributes, Mapping):
        return ""
    named = [name for name in attributes if str(name).casefold() in CLASS_NAMES]
    value = attributes[named[0]] if named else next(iter(attributes.values()), "") if len(attributes) == 1 else ""
    if isinstance(value, Mapping):
        # Of boxes that can be ticked, those that are.
        value = ", ".join(str(name) for name, is_ticked in value.items() if is_ticked)
    return str(value).strip()


def _shape(given: Mapping[str, Any], what: str) -> Shape | str:
    kind = str(given.get("name"))
    if kind in NO_AREA:
        return NO_AREA[kind]
    if kind in ("polygon", "polygon "):
        x, y = given.get("all_points_x"), given.get("all_points_y")
        if not isinstance(x, list) or not isinstance(y, list) or len(x) != len(y):
            raise ImageError("bad_outline", f"{what}: as many all_points_x as all_points_y are needed; save it again")
        return Polygons([[as_ring(list(zip(x, y, strict=True)), what)]])

    def number(name: str) -> float:
        return number_of(given.get(name), f"{what}: {name}")

    if kind == "rect":
        left, top = number("x"), number("y")
        right, bottom = left + number("width"), top + number("height")
        return Polygons([[np.array([(left, top), (right, top), (right, bottom), (left, bottom)])]])
    if kind == "circle":
        return Ellipse(number("cx"), number("cy"), number("r"), number("r"))
    if kind == "ellipse":
        angle = number("theta") if "theta" in given else 0.0
        return Ellipse(number("cx"), number("cy"), number("rx"), number("ry"), angle)
    raise ImageError("bad_outline", f"{what} is of the unknown type {kind[:40]!r}; save it again")
