"""Annotations of six squares as other programs write them, and the command that imports them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import roifile
import tifffile
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from unetbio.cli.main import main

__all__ = ["HEIGHT", "WIDTH", "cells", "coco", "corners", "done", "geojson", "imported", "rois", "run", "write_images"]

Array = NDArray[Any]

HEIGHT, WIDTH = 60, 80


def run(*line: object) -> Result:
    """Run unetbio."""
    return CliRunner().invoke(main, [str(word) for word in line])


def done(*line: object) -> Result:
    """Run unetbio, which succeeds."""
    result = run(*line)
    assert result.exit_code == 0, result.stderr
    return result


def cells() -> Array:
    """Six squares, and the corners of each are whole numbers."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint16)
    for index, (top, left) in enumerate((top, left) for top in (5, 35) for left in (5, 30, 55)):
        labels[top : top + 20, left : left + 15] = index + 1
    return labels


def corners() -> list[list[list[int]]]:
    """Corners ``(x, y)`` of each."""
    boxes = ((top, left) for top in (5, 35) for left in (5, 30, 55))
    return [[[left, top], [left + 15, top], [left + 15, top + 20], [left, top + 20]] for top, left in boxes]


def geojson(name: str | None = None) -> str:
    """The outlines as QuPath writes them."""
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
            "properties": {"objectType": "annotation", "classification": {"name": name or "Nucleus"}},
        }
        for ring in corners()
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})


def rois(path: Path, **extra: Any) -> None:
    """Write the outlines as regions of ImageJ."""
    regions = [roifile.ImagejRoi.frompoints(np.array(ring), **extra) for ring in corners()]
    roifile.roiwrite(path, regions, mode="w")


def coco(**image: Any) -> dict[str, Any]:
    """The outlines as COCO holds them."""
    return {
        "images": [{"id": 4, "file_name": "a/f0.tif", "height": HEIGHT, "width": WIDTH, **image}],
        "categories": [{"id": 1, "name": "nucleus"}],
        "annotations": [
            {"id": n, "image_id": 4, "category_id": 1, "segmentation": [[v for p in ring for v in p]], "iscrowd": 0}
            for n, ring in enumerate(corners())
        ],
    }


def imported(tmp_path: Path, images: Path, name: str, content: str | bytes, *options: object) -> Result:
    """Import one file of annotations."""
    path = tmp_path / "drawn" / "a" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return run("import", tmp_path / "drawn", "--images", images, "-o", tmp_path / "masks", *options)


def write_images(tmp_path: Path) -> Path:
    """Write images/a/f0.tif and images/b/f0.tif, with a pixel size."""
    for folder in ("a", "b"):
        path = tmp_path / "images" / folder / "f0.tif"
        path.parent.mkdir(parents=True)
        grey = (cells() > 0).astype(np.uint8) * 200
        tifffile.imwrite(path, grey, imagej=True, resolution=(2, 2), metadata={"unit": "um"})
    return tmp_path / "images"
