"""Detections for QuPath: a GeoJSON file for each image.

Source of the fields: QuPath's own writer, qupath.lib.io.QuPathTypeAdapters (0.4 and later), which names the kind of an
object ``objectType``, takes measurements as an object of numbers and names planes other than the first in ``plane``
beside the coordinates. Coordinates are pixels from the upper left corner of the file at its full resolution, also where
a region or another resolution of it was segmented.
"""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.export.cells import ExportImage, Plane
from unetbio.export.shapes import CellShape, Ring, cell_shapes
from unetbio.files import atomic_path
from unetbio.output_layout import geojson_name
from unetbio.provenance import PartRecord

__all__ = ["GeoJsonWriter"]


class GeoJsonWriter:
    """Write ``x_cells.geojson`` for each image.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the files, which have the paths of the label images.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> "GeoJsonWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing to do: every file is complete."""

    def add(self, image: ExportImage) -> int:
        """Write the file of an image; returns the number of outlines."""
        count = 0
        path = self.folder / geojson_name(image.name)
        with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:
            stream.write('{"type":"FeatureCollection","features":[')
            for feature in _features(image):
                stream.write(",\n" if count else "\n")
                stream.write(json.dumps(feature, separators=(",", ":"), ensure_ascii=False, allow_nan=False))
                count += 1
            stream.write("\n]}\n")
        return count


def _features(image: ExportImage) -> Iterator[dict[str, Any]]:
    for plane in image.planes():
        for shape in cell_shapes(plane.label_image):
            yield _feature(image, plane, shape)


def _feature(image: ExportImage, plane: Plane, shape: CellShape) -> dict[str, Any]:
    values = plane.measurements.get(shape.label, {})
    properties: dict[str, Any] = {
        "objectType": "detection",
        "name": str(shape.label),
        # Only numbers: QuPath does not read booleans here.
        "measurements": {
            "label": shape.label,
            **{name: _number(value) for name, value in values.items() if not isinstance(value, str)},
        },
    }
    if name := values.get("class"):
        properties["classification"] = {"name": name}
    if image.entry.columns:
        properties["metadata"] = dict(image.entry.columns)
    return {
        "type": "Feature",
        "id": _identity(image, plane, shape),
        "geometry": _geometry(image, plane, shape),
        "properties": properties,
    }


def _number(value: float) -> float:
    return int(value) if isinstance(value, bool) else value


def _identity(image: ExportImage, plane: Plane, shape: CellShape) -> str:
    """A UUID that is the same for each export of the same label image."""
    words = (image.entry.output, image.label_hash, plane.t, plane.z, shape.label)
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(map(str, words))))


def _geometry(image: ExportImage, plane: Plane, shape: CellShape) -> dict[str, Any]:
    polygons = [[_closed(_in_file(ring, image.part)) for ring in polygon] for polygon in shape.polygons]
    geometry: dict[str, Any] = (
        {"type": "Polygon", "coordinates": polygons[0]}
        if len(polygons) == 1
        else {"type": "MultiPolygon", "coordinates": polygons}
    )
    if plane.t is not None or plane.z is not None:
        geometry["plane"] = {"c": -1, "z": plane.z or 0, "t": plane.t or 0}
    return geometry


def _in_file(ring: Ring, part: PartRecord | None) -> NDArray[Any]:
    """Corners in pixels of the file's full resolution, where the label image is a part of it."""
    if part is None:
        return ring
    moved: NDArray[np.float64] = (ring + np.array([part.columns[0], part.rows[0]])) * np.array(part.scale[::-1])
    whole = np.rint(moved).astype(np.int64)
    return whole if np.array_equal(whole, moved) else moved.round(2)


def _closed(ring: NDArray[Any]) -> list[list[float]]:
    corners: list[list[float]] = ring.tolist()
    return [*corners, corners[0]]
