"""Regions of the VGG Image Annotator (versions 1 to 3): a JSON file for many images, or a project."""

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

SHAPES_3 = {
    1: ("point", ()),
    2: ("rect", ("x", "y", "width", "height")),
    3: ("circle", ("cx", "cy", "r")),
    4: ("ellipse", ("cx", "cy", "rx", "ry")),
    5: ("polyline", ()),
    6: ("polyline", ()),
    7: ("polygon", ()),
}
"""Shapes of version 3: their numbers, and the names that version 2 has for them and for their lengths."""

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
    project: dict[str, Mapping[str, Any]] = {}
    for name, value in members_of(path):
        if value is ARRAY or not isinstance(value, Mapping):
            continue
        if name in PROJECT_3 or name == "attribute":
            project[name] = value
        images = value.values() if name == PROJECT else [value]
        sheets += [_sheet(image) for image in images if isinstance(image, Mapping) and "filename" in image]
    return [_sheet(image) for image in _images_of(project)] if set(project) >= PROJECT_3 else sheets


def _images_of(project: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The images of a project of version 3, as version 2 has them."""
    try:
        files = {key: str(file["fname"]) for key, file in project["file"].items()}
        shown = {key: [str(number) for number in view["fid_list"]] for key, view in project["view"].items()}
        regions: dict[str, list[Mapping[str, Any]]] = {key: [] for key in files}
        for metadata in project["metadata"].values():
            # Of a view of several images nothing says on which one a region was drawn; without a shape, it is a note.
            if metadata["xy"] and len(shown[str(metadata["vid"])]) == 1:
                regions[shown[str(metadata["vid"])][0]].append(_region_of(metadata, project.get("attribute", {})))
    except (KeyError, TypeError, AttributeError) as error:
        raise ImageError("bad_json", f"a damaged project of VIA 3 ({error}); save the file again") from error
    return [{"filename": name, "regions": regions[key]} for key, name in files.items()]


def _region_of(metadata: Mapping[str, Any], attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """A region of version 3, a number for its shape and coordinates, as version 2 has it."""
    kind, *values = metadata["xy"]
    name, lengths = SHAPES_3.get(kind, (f"shape {kind}", ()))
    shape = {"name": name, "all_points_x": values[0::2], "all_points_y": values[1::2]}
    named = {}
    for key, value in (metadata.get("av") or {}).items():
        attribute = attributes.get(key, {})
        named[str(attribute.get("aname", key))] = (attribute.get("options") or {}).get(value, value)
    return {"shape_attributes": shape | dict(zip(lengths, values, strict=False)), "region_attributes": named}


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
