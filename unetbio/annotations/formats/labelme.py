"""Shapes of labelme: a JSON file for each image."""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from unetbio.annotations.json_stream import ARRAY, members_of
from unetbio.annotations.outlines import Ellipse, Pixels, Polygons, Ring, Several, Shape, as_ring, count_of
from unetbio.annotations.regions import Region, Sheet
from unetbio.errors import ImageError

__all__ = ["read_labelme"]

POLYGONS = ("polygon", "rotation")
"""The second are turned rectangles of X-AnyLabeling, by their corners."""

NO_AREA = {"point": "point", "points": "point", "line": "line", "linestrip": "line", "lines": "line"}
MAX_MASK_PIXELS = 1 << 28


def read_labelme(path: Path) -> Sheet:
    """Read the shapes of a file; those of one label and group are one region.

    Raises
    ------
    ImageError
        ``bad_json``, ``bad_outline``.
    """
    sheet, height, width = Sheet(), None, None
    groups: dict[tuple[str, Any], list[Shape]] = {}
    count = 0
    for name, value in members_of(path):
        if name == "imagePath":
            sheet.image = str(value or "")
        elif name == "imageHeight" and value is not None:
            height = count_of(value, name)
        elif name == "imageWidth" and value is not None:
            width = count_of(value, name)
        elif name == "shapes" and value is not ARRAY:
            count += 1
            what = f"shape {count}"
            if not isinstance(value, Mapping):
                raise ImageError("bad_json", f"{what} is no object; save the file again")
            shape = _shape(value, what)
            if isinstance(shape, str):
                sheet.left_out[shape] += 1
            else:
                group = value.get("group_id")
                key = str(value.get("label") or ""), count * 1j if group is None else str(group)
                groups.setdefault(key, []).append(shape)
    sheet.size = None if height is None or width is None else (height, width)
    sheet.regions = [Region(Several(shapes), kind=label) for (label, _), shapes in groups.items()]
    return sheet


def _shape(shape: Mapping[str, Any], what: str) -> Shape | str:
    kind = str(shape.get("shape_type") or "polygon")
    if kind in NO_AREA:
        return NO_AREA[kind]
    points = as_ring(shape.get("points"), what)
    if kind in POLYGONS:
        return Polygons([[points]])
    if kind not in ("rectangle", "circle", "mask") or len(points) < 2:
        raise ImageError("bad_outline", f"{what} is of the unknown type {kind[:40]!r}, or lacks points; save it again")
    if kind == "circle":
        radius = float(np.hypot(*(points[1] - points[0])))
        return Ellipse(float(points[0, 0]), float(points[0, 1]), radius, radius)
    if kind == "mask":
        return _mask(shape.get("mask"), points, what)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return Polygons([[np.array([(left, top), (right, top), (right, bottom), (left, bottom)])]])


def _mask(text: Any, points: Ring, what: str) -> Pixels:
    """A mask is a PNG in base64, whose first pixel is the first point."""
    try:
        content = base64.b64decode(text, validate=True)
        height, width = (int.from_bytes(content[at : at + 4], "big") for at in (20, 16))
        if height * width > MAX_MASK_PIXELS:
            raise ValueError(f"{width} x {height} pixels")
        mask = imagecodecs.png_decode(content)
    except (TypeError, ValueError, binascii.Error, imagecodecs.PngError) as error:
        raise ImageError("bad_outline", f"{what}: its mask is no PNG picture in base64; save it again") from error
    left, top = np.floor(points[0]).astype(int).tolist()
    covered = np.asarray(mask) > 0
    return Pixels(top, left, covered if covered.ndim == 2 else np.any(covered, axis=2, keepdims=True)[..., 0])
