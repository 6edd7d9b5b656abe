"""Annotations in the less usual forms of their programs: what becomes of each, and what is said."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import roifile
import tifffile
from annotation_files import cells, coco, corners, geojson, imported, rois, run, write_images

from unetbio.io import read_labels
from unetbio.io.cell_classes import read_cell_classes

RING = [[10, 10], [20, 10], [20, 20], [10, 20], [10, 10]]
OTHER = [[40, 10], [55, 10], [55, 20], [40, 20], [40, 10]]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path)


def feature(ring: Any = RING, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": properties}


def collection(*features: Any) -> str:
    return json.dumps({"type": "FeatureCollection", "features": features})


def archive(**contents: roifile.ImagejRoi | bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        for name, content in contents.items():
            opened.writestr(f"{name}.roi", content if isinstance(content, bytes) else content.tobytes())
    return stream.getvalue()


def roi(ring: Any = RING, **attributes: Any) -> roifile.ImagejRoi:
    made = roifile.ImagejRoi.frompoints(np.array(ring[:-1], float))
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def via(*regions: tuple[dict[str, Any], dict[str, Any]]) -> str:
    listed = [{"shape_attributes": shape, "region_attributes": attributes} for shape, attributes in regions]
    return json.dumps({"f": {"filename": "a/f0.tif", "size": 1, "regions": listed, "file_attributes": {}}})


def labelme(*shapes: dict[str, Any]) -> str:
    return json.dumps({"shapes": shapes, "imagePath": "f0.tif", "imageData": None})


TURNED = [[20, 14], [50, 34], [44, 43], [14, 23], [20, 14]]
"""A rectangle that is turned: 36.06 x 10.8 pixels."""

BOX = {"name": "rect", "x": 10, "y": 10, "width": 10, "height": 10}
CIRCLE = {"name": "circle", "cx": 40.0, "cy": 30.0, "r": 5.5}

TAKEN: dict[str, tuple[str, str | bytes, list[int]]] = {
    "QuPath: measurements that are not finite": (
        "f0.geojson",
        collection(feature(objectType="detection", measurements={"Area": float("nan"), "Ratio": float("inf")})),
        [100],
    ),
    "QuPath: a locked annotation with a colour": (
        "f0.geojson",
        collection(feature(isLocked=True, color=[1, 2, 3])),
        [100],
    ),
    "QuPath: one feature": ("f0.geojson", json.dumps(feature()), [100]),
    "QuPath: one geometry": ("f0.geojson", json.dumps(feature()["geometry"]), [100]),
    "QuPath: a geometry of two parts": (
        "f0.geojson",
        json.dumps({"type": "MultiPolygon", "coordinates": [[RING], [OTHER]]}),
        [250],
    ),
    "QuPath: a collection of geometries": (
        "f0.geojson",
        json.dumps({"type": "GeometryCollection", "geometries": [feature()["geometry"], feature(OTHER)["geometry"]]}),
        [250],
    ),
    "QuPath: no objects": ("f0.geojson", collection(), []),
    "QuPath: with a byte order mark": ("f0.geojson", b"\xef\xbb\xbf" + geojson().encode(), [300] * 6),
    "COCO: ids as text and as numbers": (
        "x.json",
        json.dumps({**coco(), "images": [{**coco()["images"][0], "id": "4"}]}),
        [300] * 6,
    ),
    "COCO: images without a size": (
        "x.json",
        json.dumps({**coco(), "images": [{"id": 4, "file_name": "a/f0.tif"}]}),
        [300] * 6,
    ),
    "COCO: a size of zero, and run lengths": (
        "x.json",
        json.dumps(
            {
                **coco(width=0, height=0),
                "annotations": [{"id": 1, "image_id": 4, "segmentation": {"size": [60, 80], "counts": [600, 120]}}],
            }
        ),
        [120],
    ),
    "ImageJ: a turned rectangle": (
        "f0.zip",
        archive(a=roi(TURNED, roitype=roifile.ROI_TYPE.FREEHAND, subtype=roifile.ROI_SUBTYPE.ROTATED_RECT)),
        [390],
    ),
    "ImageJ: in folders of the archive": ("f0.zip", archive(**{"sub/1": roi(), "sub/2": roi(OTHER)}), [100, 150]),
    "ImageJ: what macOS adds": ("f0.zip", archive(**{"1": roi(), "__MACOSX/._1": b"Mac OS X"}), [100]),
    "ImageJ: names that are numbers and the same": (
        "f0.zip",
        archive(**{"1": roi(), "sub/01": roi(OTHER)}),
        [100, 150],
    ),
    "labelme: a turned rectangle": (
        "f0.json",
        labelme({"label": "x", "shape_type": "rotation", "points": TURNED[:-1]}),
        [390],
    ),
    "labelme: no type of shape": ("f0.json", labelme({"label": "x", "shape_type": None, "points": RING[:-1]}), [100]),
    "VIA: a box and a circle": ("x.json", via((BOX, {}), (CIRCLE, {})), [100, 88]),
    "capital letters in the name": ("F0.GeoJSON", geojson(), [300] * 6),
}


@pytest.mark.parametrize("case", TAKEN)
def test_unusual_forms_are_taken(tmp_path: Path, images: Path, case: str) -> None:
    name, content, areas = TAKEN[case]
    result = imported(tmp_path, images, name, content)
    assert result.exit_code == 0, result.stderr
    found = read_labels(tmp_path / "masks" / "a" / "f0_labels.ome.tif", allow_binary=True)
    np.testing.assert_allclose(np.bincount(found.ravel())[1:], areas, atol=1)


def test_an_annotation_around_the_tissue_is_said(tmp_path: Path, images: Path) -> None:
    tissue = feature([[0, 0], [80, 0], [80, 60], [0, 60], [0, 0]], objectType="annotation")
    inside = [feature(RING, objectType="detection"), feature(OTHER, objectType="detection")]
    result = imported(tmp_path, images, "f0.geojson", collection(tissue, *inside))
    assert "a/f0.tif: regions that hold several others, and are cells like them" in result.stderr
    # A cell with its nucleus is no tissue.
    result = imported(tmp_path, images, "f0.geojson", collection(tissue, inside[0]), "--overwrite")
    assert "hold several" not in result.stderr


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"type": "tumour"}, "tumour"),
        ({"anything": "tumour"}, "tumour"),
        ({"note": "blurred", "Class": "tumour"}, "tumour"),
        ({"type": {"tumour": True, "other": False}}, "tumour"),
        ({"note": "blurred", "grade": "2"}, ""),
        ({}, ""),
    ],
)
def test_classes_of_via(tmp_path: Path, images: Path, attributes: dict[str, Any], name: str) -> None:
    assert imported(tmp_path, images, "x.json", via((BOX, attributes))).exit_code == 0
    table = tmp_path / "masks" / "a" / "f0_objects.csv"
    assert (read_cell_classes(table)[None] if table.exists() else {}) == ({1: name} if name else {})


def test_files_that_cellpose_writes_beside_its_masks(tmp_path: Path, images: Path) -> None:
    folder = tmp_path / "drawn" / "a"
    folder.mkdir(parents=True)
    (folder / "f0_cp_masks.png").write_bytes(imagecodecs.png_encode(cells()))
    (folder / "f0_cp_outlines.txt").write_text("1,1,9,1,9,9\n")
    (folder / "f0_seg.npy").write_bytes(b"\x93NUMPY")
    tifffile.imwrite(folder / "f0_flows.tif", np.zeros((60, 80, 3), np.uint8))
    result = run("import", tmp_path / "drawn", "--images", images, "-o", tmp_path / "masks")
    assert result.exit_code == 0, result.stderr
    assert "3 other files of Cellpose left out, such as" in result.stderr
    np.testing.assert_array_equal(read_labels(tmp_path / "masks" / "a" / "f0_labels.ome.tif"), cells())
    # Without the masks, the outlines count, and the pickle is refused.
    (folder / "f0_cp_masks.png").unlink()
    result = run("import", tmp_path / "drawn", "--images", images, "-o", tmp_path / "other")
    assert "pickled Python objects" in result.stderr
    assert (tmp_path / "other" / "a" / "f0_labels.ome.tif").exists()


def test_files_of_other_kinds_are_named(tmp_path: Path, images: Path) -> None:
    result = imported(tmp_path, images, "f0.bmp", b"BM")
    assert result.exit_code == 2
    assert f"1 other file left out, such as {tmp_path / 'drawn' / 'a' / 'f0.bmp'}" in result.stderr
    rois(tmp_path / "drawn" / "a" / "f0.zip")
    assert imported(tmp_path, images, "f0.bmp", b"BM").exit_code == 0
    assert len(corners()) == 6
