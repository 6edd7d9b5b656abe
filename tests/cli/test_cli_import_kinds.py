"""Annotations in the less usual forms of their programs: what becomes of each, and what is said."""

import io
import json
import unicodedata
import zipfile
from pathlib import Path
from typing import Any, Literal

import imagecodecs
import numpy as np
import pytest
import roifile
import tifffile
from annotation_files import cells, coco, corners, geojson, imported, rois, run, write_images

from unetbio.annotations.masks import read_mask_folder
from unetbio.annotations.sources import FORMATS
from unetbio.errors import ImageError
from unetbio.io import read_labels
from unetbio.io.cell_classes import read_cell_classes
from unetbio.settings.options import options_of
from unetbio.settings.runs import ImportRun

RING = [[10, 10], [20, 10], [20, 20], [10, 20], [10, 10]]
OTHER = [[40, 10], [55, 10], [55, 20], [40, 20], [40, 10]]


def test_every_format_that_is_read_can_be_chosen() -> None:
    assert options_of(ImportRun)["format"].words == tuple(FORMATS)


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
    "VIA 3: a polygon, a box and a circle": (
        "x.json",
        json.dumps(
            {
                "project": {"pname": "x"},
                "attribute": {"1": {"aname": "class", "options": {"0": "tumour"}}},
                "file": {"1": {"fname": "a/f0.tif"}},
                "metadata": {
                    "1_a": {"vid": "1", "z": [], "xy": [7, 10, 10, 20, 10, 20, 20, 10, 20], "av": {"1": "0"}},
                    "1_b": {"vid": "1", "z": [], "xy": [2, 40, 10, 15, 10], "av": {}},
                    "1_c": {"vid": "1", "z": [], "xy": [3, 40, 30, 5.5], "av": {}},
                    "1_d": {"vid": "1", "z": [], "xy": [], "av": {"1": "0"}},
                },
                "view": {"1": {"fid_list": ["1"]}},
            }
        ),
        [100, 150, 88],
    ),
    "CVAT: a polygon, a turned box, an ellipse, a mask and a line": (
        "annotations.xml",
        '<?xml version="1.0"?><annotations><version>1.1</version><image id="0" name="a/f0.png" width="80" height="60">'
        '<polygon label="n" points="10.0,10.0;20.0,10.0;20.0,20.0;10.0,20.0"/>'
        '<box label="n" xtl="40" ytl="10" xbr="60" ybr="20" rotation="90"/><ellipse label="n" cx="40" cy="40" rx="5.5" '
        'ry="5.5"/><mask label="n" rle="5, 5, 5, 5" left="60" top="40" width="5" height="4"/><polyline label="n" '
        'points="1,1;2,2"/><tag label="blurred"/></image></annotations>',
        [100, 200, 88, 10],
    ),
    "ImageScope: a region, an ellipse, a ruler and one to leave out": (
        "f0.xml",
        '<Annotations MicronsPerPixel="0.25"><Annotation Id="1"><Regions><Region Type="0"><Vertices><Vertex X="10" '
        'Y="10" Z="0"/><Vertex X="20" Y="10"/><Vertex X="20" Y="20"/><Vertex X="10" Y="20"/></Vertices></Region>'
        '<Region Type="2"><Vertices><Vertex X="35" Y="35"/><Vertex X="46" Y="46"/></Vertices></Region><Region Type="4">'
        '<Vertices><Vertex X="1" Y="1"/><Vertex X="9" Y="1"/></Vertices></Region><Region Type="0" NegativeROA="1">'
        "<Vertices/></Region></Regions></Annotation></Annotations>",
        [100, 97],
    ),
    "Label Studio: a hash before the name": (
        "x.json",
        json.dumps(coco(file_name="a\\3a5b7c9d-f0.tif")),
        [300] * 6,
    ),
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


@pytest.mark.parametrize(
    "name",
    [
        "Count Masks of f0",
        "Mask of f0",
        "LblImg_f0",
        "segmentation of f0",
        "f0-lbl",
        "f0_Object Identities",
        "f0_instances",
        "f0.stardist",
        "mask_f0",
    ],
)
def test_names_that_programs_give_their_masks(tmp_path: Path, name: str) -> None:
    tifffile.imwrite(write_images(tmp_path) / "a" / "f01.tif", cells())
    path = tmp_path / "drawn" / "a" / f"{name}.tif"
    path.parent.mkdir(parents=True)
    tifffile.imwrite(path, cells())
    result = run("import", tmp_path / "drawn", "--images", tmp_path / "images", "-o", tmp_path / "masks")
    assert result.exit_code == 0, result.stderr
    np.testing.assert_array_equal(read_labels(tmp_path / "masks" / "a" / "f0_labels.ome.tif"), cells())


def test_crowds_of_coco_are_said(tmp_path: Path, images: Path) -> None:
    drawn = coco()
    drawn["annotations"][0]["iscrowd"] = 1
    result = imported(tmp_path, images, "x.json", json.dumps(drawn))
    assert "x.json: 1 annotations are marked as crowds (iscrowd), which may hold several cells" in result.stderr


def test_rims_of_pascal_voc_are_background(tmp_path: Path, images: Path) -> None:
    mask = cells().astype(np.uint8)
    mask[(mask > 0) & (np.roll(mask, 2, axis=1) != mask)] = 255
    result = imported(tmp_path, images, "f0.png", imagecodecs.png_encode(mask))
    assert "255 stands in parts far from each other, as the rims of objects in Pascal VOC" in result.stderr
    found = read_labels(tmp_path / "masks" / "a" / "f0_labels.ome.tif")
    np.testing.assert_array_equal(found > 0, (mask > 0) & (mask < 255))
    assert found.max() == 6


def test_rims_of_pascal_voc_are_not_split_into_cells(tmp_path: Path, images: Path) -> None:
    mask = np.where(cells() > 3, 2, cells() > 0).astype(np.uint8)
    mask[(mask > 0) & (np.roll(cells(), 2, axis=1) != cells())] = 255
    result = imported(tmp_path, images, "f0.png", imagecodecs.png_encode(mask), "--split-components")
    assert "255 beside numbers of classes is that of rims, as in Pascal VOC: background here" in result.stderr
    found = read_labels(tmp_path / "masks" / "a" / "f0_labels.ome.tif")
    np.testing.assert_array_equal(found > 0, (mask > 0) & (mask < 255))
    assert found.max() == 6
    # Two classes, spread over the grey values.
    mask = np.where(cells() > 3, 255, np.where(cells() > 0, 127, 0)).astype(np.uint8)
    result = imported(tmp_path, images, "f0.png", imagecodecs.png_encode(mask), "--split-components", "--overwrite")
    found = read_labels(tmp_path / "masks" / "a" / "f0_labels.ome.tif")
    np.testing.assert_array_equal(found > 0, mask > 0)


def test_ellipses_of_imagescope_lie_on_the_part_that_was_segmented(tmp_path: Path, tiny_model: Path) -> None:
    slide = np.full((96, 128), 10, np.uint8)
    (tmp_path / "images").mkdir()
    with tifffile.TiffWriter(tmp_path / "images" / "s.ome.tif", ome=True) as writer:
        writer.write(slide, subifds=1, metadata={"axes": "YX"})
        writer.write(slide[::2, ::2], subfiletype=1)
    out = tmp_path / "out"
    given = ("-m", tiny_model, "--level", "1", "--region", "40,20,40,40", "--overlays", "none", "--diameter", "model")
    assert run("segment", tmp_path / "images", "-o", out, *given).exit_code == 0
    mask = next(path for path in out.iterdir() if path.name.endswith("_labels.ome.tif"))
    ends = [((60, 30), (76, 42)), ((2, 2), (12, 12))]
    vertices = ["".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in each) for each in ends]
    regions = "".join(f'<Region Type="2"><Vertices>{each}</Vertices></Region>' for each in vertices)
    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn" / mask.name.replace("_labels.ome.tif", ".xml")).write_text(
        f"<Annotations><Annotation><Regions>{regions}</Regions></Annotation></Annotations>"
    )
    result = run("import", tmp_path / "drawn", "--into", out)
    assert result.exit_code == 0, result.stderr
    assert "regions lost, since they have no pixel in the image: 1" in result.stderr
    rows, columns = np.nonzero(read_labels(mask, allow_binary=True))
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (5, 11, 10, 18)
    assert len(rows) == pytest.approx(np.pi * 4 * 3, abs=3)


@pytest.mark.parametrize("options", [(), ("--split-components",)])
def test_classes_with_a_numbered_background_are_refused(tmp_path: Path, images: Path, options: tuple[str, ...]) -> None:
    # As ilastik's Simple Segmentation: 1 and 2, and no 0.
    mask = imagecodecs.png_encode(np.where(cells(), 1, 2).astype(np.uint8))
    result = imported(tmp_path, images, "f0_Simple Segmentation.png", mask, *options)
    assert result.exit_code == 3
    assert "no pixel is 0, and number 2 covers 62% of the mask, around all others" in result.stderr


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


@pytest.mark.parametrize("here", ["NFC", "NFD"])
@pytest.mark.parametrize("name", ["a/zellen_\u00fc.tif", "\u00e4/f0.tif", "a/ZELLEN_\u00dc.tif"])
def test_accents_apart_from_their_letters_are_the_same_name(
    tmp_path: Path, here: Literal["NFC", "NFD"], name: str
) -> None:
    """Names of macOS have them apart."""
    for one in (name.lower(), "b/f0.tif", "\u00f6/f0.tif"):
        path = tmp_path / "images" / unicodedata.normalize(here, one)
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, (cells() > 0).astype(np.uint8))
    there = unicodedata.normalize("NFD" if here == "NFC" else "NFC", name)
    (tmp_path / "coco.json").write_text(json.dumps(coco(file_name=there)))
    result = run("import", tmp_path / "coco.json", "--images", tmp_path / "images", "-o", tmp_path / "masks")
    assert result.exit_code == 0, result.stderr
    written = tmp_path / "masks" / unicodedata.normalize(here, name.lower().replace(".tif", "_labels.ome.tif"))
    np.testing.assert_array_equal(read_labels(written), cells())


@pytest.mark.parametrize("cell", [255, 0])
def test_pictures_of_cells_where_white_is_zero(tmp_path: Path, images: Path, cell: int) -> None:
    """Fiji stores cells as 255, with an inverting lookup table, others as 0; macOS puts hidden files beside them."""
    folder = tmp_path / "drawn" / "a" / "f0"
    folder.mkdir(parents=True)
    for label in range(1, 7):
        picture = np.where(cells() == label, cell, 255 - cell).astype(np.uint8)
        tifffile.imwrite(folder / f"{label}.tif", picture, photometric="miniswhite")
        (folder / f"._{label}.tif").write_bytes(b"\0\5\x16\7")
    result = run("import", tmp_path / "drawn", "--images", images, "-o", tmp_path / "masks")
    assert result.exit_code == 0, result.stderr
    np.testing.assert_array_equal(read_labels(tmp_path / "masks" / "a" / "f0_labels.ome.tif"), cells())


@pytest.mark.parametrize("cell", [255, 0])
def test_a_large_cell_where_white_is_zero_is_refused(tmp_path: Path, cell: int) -> None:
    """It fills most of the picture, but not its corners."""
    picture = np.full((20, 20), 255 - cell, np.uint8)
    picture[1:19, 1:19] = cell
    tifffile.imwrite(tmp_path / "1.tif", picture, photometric="miniswhite")
    with pytest.raises(ImageError, match=r"1\.tif: white is zero in this file") as error:
        read_mask_folder(tmp_path)
    assert error.value.reason == "not_labels"
    tifffile.imwrite(tmp_path / "1.tif", np.where(picture == cell, 255, 0).astype(np.uint8))
    assert np.count_nonzero(read_mask_folder(tmp_path).label_image) == 18 * 18


@pytest.mark.parametrize(
    ("first", "second", "written"),
    [
        ({"file_name": "a/f0.tif"}, {"file_name": "b/f0.tif"}, {"a/f0": (60, 80), "b/f0": (60, 80)}),
        ({"series": 0}, {"series": 1}, {"s_s00": (60, 80), "s_s01": (60, 80)}),
        ({"file_name": "t.ome.tif", "t": 0}, {"file_name": "t.ome.tif", "t": 1}, {"t": (2, 60, 80)}),
        ({"file_name": "z.ome.tif", "z": 0}, {"file_name": "z.ome.tif", "z": 1}, {"z": (2, 60, 80)}),
    ],
    ids=["folder", "series", "t", "z"],
)
def test_entries_of_one_name_say_what_they_are_of(
    tmp_path: Path, images: Path, first: dict[str, Any], second: dict[str, Any], written: dict[str, tuple[int, ...]]
) -> None:
    """By each of what the message of two entries of one name asks for."""
    for axis in "TZ":
        pixels = np.zeros((2, 60, 80), np.uint8)
        tifffile.imwrite(images / f"{axis.lower()}.ome.tif", pixels, metadata={"axes": f"{axis}YX"})
    with tifffile.TiffWriter(images / "s.ome.tif", ome=True) as writer:
        for plane in pixels:
            writer.write(plane, metadata={"axes": "YX"}, photometric="minisblack")
    value = coco(**{"file_name": "s.ome.tif"} | first)
    value["images"].append({**value["images"][0], "id": 5} | second)
    value["annotations"].append({**value["annotations"][0], "id": 99, "image_id": 5})
    (tmp_path / "two.json").write_text(json.dumps(value))
    result = run("import", tmp_path / "two.json", "--images", images, "-o", tmp_path / "masks")
    assert result.exit_code == 0, result.stderr
    masks = {name: read_labels(tmp_path / "masks" / f"{name}_labels.ome.tif") for name in written}
    assert {name: mask.shape for name, mask in masks.items()} == written
