"""Objects of QuPath: GeoJSON.

Source of the fields: qupath.lib.io.QuPathTypeAdapters. A file is a FeatureCollection, one feature, or a list of
features, as older versions write them.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unetbio.annotations.json_stream import ARRAY, members_of
from unetbio.annotations.outlines import Polygons, Ring, as_ring, count_of
from unetbio.annotations.regions import Region, Sheet, as_id
from unetbio.errors import ImageError

__all__ = ["read_geojson"]

NO_AREA = {"Point": "point", "MultiPoint": "point", "LineString": "line", "MultiLineString": "line"}


def read_geojson(path: Path) -> Sheet:
    """Read the objects of a file.

    Raises
    ------
    ImageError
        ``bad_json``, ``bad_outline``.
    """
    sheet = Sheet()
    for number, feature in enumerate(_features(path), start=1):
        what = f"feature {number}"
        if not isinstance(feature, Mapping):
            raise ImageError("bad_json", f"{what} is no object; export it from QuPath again")
        _add(sheet, feature, what)
    return sheet


def _features(path: Path) -> Iterator[Any]:
    single: dict[str, Any] = {}
    for name, value in members_of(path):
        if value is ARRAY:
            continue
        if name in ("", "features"):
            yield value
        else:
            single[name] = value
    if single.get("type") == "Feature":
        yield single


def _add(sheet: Sheet, feature: Mapping[str, Any], what: str) -> None:
    properties = feature.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    geometry = feature.get("geometry")
    if not isinstance(geometry, Mapping):
        sheet.left_out["object without outline"] += 1
        return
    parts, without = _parts(geometry, what)
    for kind in without:
        sheet.left_out[kind] += 1
    if not parts:
        return
    if feature.get("nucleusGeometry") or properties.get("nucleusGeometry"):
        sheet.left_out["outline of a nucleus within its cell"] += 1
    plane = geometry.get("plane")
    plane = plane if isinstance(plane, Mapping) else {}
    name = properties.get("name")
    sheet.regions.append(
        Region(
            Polygons(parts),
            as_id(name) if isinstance(name, str) else None,
            _class_of(properties),
            t=count_of(plane["t"], f"{what}: t") if "t" in plane else None,
            z=count_of(plane["z"], f"{what}: z") if "z" in plane else None,
        )
    )


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
