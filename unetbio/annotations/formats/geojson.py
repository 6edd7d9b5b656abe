"""Objects of QuPath: GeoJSON.

Source of the fields: qupath.lib.io.QuPathTypeAdapters. A file is a FeatureCollection, one feature, a list of features,
as older versions write them, or a geometry alone.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unetbio.annotations.json_stream import ARRAY, members_of
from unetbio.annotations.outlines import Polygons, Ring, as_ring, count_of
from unetbio.annotations.regions import Region, Sheet, as_id
from unetbio.errors import ImageError

__all__ = ["GEOMETRIES", "Annotation", "read_annotations", "read_geojson"]

NOT_DRAWN = ("detection", "cell", "tile", "root")
"""Types of objects, without the words that QuPath 0.2 wrote around them, that are no annotations."""

GEOMETRIES = {"Polygon": "coordinates", "MultiPolygon": "coordinates", "GeometryCollection": "geometries"}
"""Geometries with an area, and the member that holds their parts."""

NO_AREA = {"Point": "point", "MultiPoint": "point", "LineString": "line", "MultiLineString": "line"}


@dataclass(frozen=True)
class Annotation:
    """An area that was drawn in a plane.

    Parameters
    ----------
    parts : sequence of sequence of Ring
        As of `Polygons`.
    name, kind : str
        Name and class, empty where it has none.
    what : str
        As messages call it.
    """

    parts: Sequence[Sequence[Ring]]
    name: str
    kind: str
    what: str


def read_annotations(path: Path) -> tuple[list[Annotation], Counter[str]]:
    """Read the areas that were drawn, without detections.

    Returns
    -------
    annotations : list of Annotation
        In the order of the file.
    left_out : Counter
        Numbers of other objects, by what they are.

    Raises
    ------
    ImageError
        ``bad_json``, ``bad_outline``; ``wrong_planes``: drawn on a later time or section.
    """
    found: list[Annotation] = []
    left_out: Counter[str] = Counter()
    for feature, what in _objects(path):
        properties = _properties(feature)
        kind = _type_of(feature, properties)
        if kind in NOT_DRAWN:
            left_out[kind] += 1
            continue
        parts, without = _outline(feature, what)
        left_out.update(without)
        if parts:
            _refuse_other_planes(feature["geometry"], what)
            found.append(Annotation(parts, str(properties.get("name") or ""), _class_of(properties), what))
    return found, left_out


def _type_of(feature: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    """``annotation``, ``detection`` ...: QuPath 0.2 wrote ``PathDetectionObject`` as the id."""
    stated = properties.get("objectType") or properties.get("object_type") or feature.get("id")
    return str(stated).removeprefix("Path").removesuffix("Object").lower()


def _refuse_other_planes(geometry: Mapping[str, Any], what: str) -> None:
    for index, name in zip(_plane_of(geometry, what) or (), ("time", "section"), strict=False):
        if index:
            raise ImageError(
                "wrong_planes", f"{what} is drawn on {name} {index}, and regions hold for all: draw it on the first one"
            )


def _plane_of(geometry: Mapping[str, Any], what: str) -> tuple[int, int] | None:
    """Time and section of an object, from 0; None if the file states none."""
    plane = _mapping(geometry.get("plane"))
    if not {"t", "z"} & set(plane):
        return None
    return count_of(plane.get("t", 0), f"{what}: t"), count_of(plane.get("z", 0), f"{what}: z")


def read_geojson(path: Path) -> Sheet:
    """Read the objects of a file.

    QuPath leaves out the plane of objects in the first one. A file without any plane may as well be drawn on a picture
    of the one plane that was annotated.

    Raises
    ------
    ImageError
        ``bad_json``, ``bad_outline``.
    """
    sheet = Sheet()
    for feature, what in _objects(path):
        _add(sheet, feature, what)
    if any(not region.is_first for region in sheet.regions):
        sheet.regions = [replace(one, t=0, z=0, is_first=False) if one.is_first else one for one in sheet.regions]
    return sheet


def _objects(path: Path) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The objects of a file, and what messages call them."""
    for number, feature in enumerate(_features(path), start=1):
        what = f"feature {number}"
        if not isinstance(feature, Mapping):
            raise ImageError("bad_json", f"{what} is no object; export it from QuPath again")
        yield feature, what


def _features(path: Path) -> Iterator[Any]:
    single: dict[str, Any] = {}
    arrays: dict[str, list[Any]] = {}
    for name, value in members_of(path):
        if value is ARRAY:
            arrays[name] = []
        elif name in ("", "features"):
            yield value
        elif name in GEOMETRIES.values():
            arrays[name].append(value)
        else:
            single[name] = value
    if single.get("type") == "Feature":
        yield single
    elif single.get("type") in GEOMETRIES:
        yield {"geometry": {**single, **arrays}}


def _add(sheet: Sheet, feature: Mapping[str, Any], what: str) -> None:
    properties = _properties(feature)
    parts, without = _outline(feature, what)
    sheet.left_out.update(without)
    if not parts:
        return
    if feature.get("nucleusGeometry") or properties.get("nucleusGeometry"):
        sheet.left_out["outline of a nucleus within its cell"] += 1
    plane = _plane_of(feature["geometry"], what)
    t, z = plane or (None, None)
    name = properties.get("name")
    sheet.regions.append(
        Region(
            Polygons(parts),
            as_id(name) if isinstance(name, str) else None,
            _class_of(properties),
            t=t,
            z=z,
            is_first=plane is None,
        )
    )


def _properties(feature: Mapping[str, Any]) -> Mapping[str, Any]:
    return _mapping(feature.get("properties"))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _outline(feature: Mapping[str, Any], what: str) -> tuple[list[list[Ring]], list[str]]:
    """Polygons of an object, and what of it has no area."""
    geometry = feature.get("geometry")
    return _parts(geometry, what) if isinstance(geometry, Mapping) else ([], ["object without outline"])


def _parts(geometry: Mapping[str, Any], what: str) -> tuple[list[list[Ring]], list[str]]:
    """Polygons of a geometry, and what of it has no area."""
    kind = str(geometry.get("type"))
    if kind == "GeometryCollection":
        inner = [_parts(one, what) for one in _list(geometry.get("geometries"), what) if isinstance(one, Mapping)]
        return [part for parts, _ in inner for part in parts], [name for _, names in inner for name in names]
    if kind in NO_AREA:
        return [], [NO_AREA[kind]]
    coordinates = _list(geometry.get("coordinates"), what)
    if kind == "Polygon":
        return [[as_ring(ring, what) for ring in coordinates]], []
    if kind == "MultiPolygon":
        return [[as_ring(ring, what) for ring in _list(part, what)] for part in coordinates], []
    raise ImageError("bad_json", f"{what} is of the unknown type {kind[:40]!r}; export it from QuPath again")


def _list(value: Any, what: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise ImageError("bad_json", f"{what} has no list of coordinates; export it from QuPath again")
    return value


def _class_of(properties: Mapping[str, Any]) -> str:
    found = properties.get("classification")
    name = found.get("name") or found.get("names") if isinstance(found, Mapping) else found
    return ": ".join(map(str, name)) if isinstance(name, list) else str(name or "")
