"""``unetbio import`` of annotations that are not whole, damaged or hostile: what is said, and what is refused."""

import io
import json
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import roifile
import tifffile
from annotation_files import HEIGHT, WIDTH, cells, coco, corners, done, geojson, imported, run, write_images

from unetbio.io import read_labels, write_labels

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path)


def test_overlaps_lost_regions_and_lines_are_said(tmp_path: Path, images: Path) -> None:
    collection = json.loads(geojson())
    features = collection["features"]
    around = [[0, 0], [80, 0], [80, 60], [0, 60], [0, 0]]
    features.append({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [around]}, "properties": None})
    features.append(features[0])
    outside = [[200, 200], [210, 200], [210, 210], [200, 200]]
    features.append({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [outside]}})
    features.append({"type": "Feature", "geometry": {"type": "Point", "coordinates": [3, 3]}})
    features.append({"type": "Feature", "geometry": {"type": "LineString", "coordinates": [[3, 3], [4, 4]]}})
    result = imported(tmp_path, images, "f0.geojson", json.dumps(collection))
    assert result.exit_code == 0
    said = result.stderr
    assert "a/f0.tif: left out: 1 x line" in said
    assert "a/f0.tif: left out: 1 x point" in said
    assert "a/f0.tif: regions of several classes are cells: Nucleus, without class; x_objects.csv beside" in said
    assert "a/f0.tif: pixels of several regions, which belong to the smallest: 1800" in said
    assert "a/f0.tif: regions lost, since smaller ones cover all their pixels: 1" in said
    assert "a/f0.tif: regions lost, since they have no pixel in the image: 1" in said
    labels = read_labels(tmp_path / "masks" / "a" / "f0_labels.ome.tif")
    np.testing.assert_array_equal(np.where(labels == 7, 0, labels), cells())
    assert (labels == 7).sum() == HEIGHT * WIDTH - 1800
    again = imported(tmp_path, images, "f0.geojson", json.dumps(collection), "--class", "Nucleus", "--overwrite")
    assert again.exit_code == 0
    np.testing.assert_array_equal(read_labels(tmp_path / "masks" / "a" / "f0_labels.ome.tif"), cells())
    other = imported(tmp_path, images, "f0.geojson", json.dumps(collection), "--class", "Tumor", "--overwrite")
    assert "no region of the class Tumor" in other.stderr


def bomb(entries: int, size: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(entries):
            archive.writestr(f"{number}.roi", b"Iout" + bytes(size))
    return stream.getvalue()


def archive(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        opened.writestr(name, content)
    return stream.getvalue()


def roi(**changes: Any) -> bytes:
    made = roifile.ImagejRoi.frompoints(np.array(corners()[0]))
    for name, value in changes.items():
        setattr(made, name, value)
    return bytes(made.tobytes())


def one_feature(geometry: Any) -> str:
    return json.dumps({"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": geometry}]})


def one_annotation(**annotation: Any) -> str:
    return json.dumps({**coco(), "annotations": [{"id": 1, "image_id": 4, **annotation}]})


def one_shape(**shape: Any) -> str:
    return json.dumps({"shapes": [shape], "imagePath": "f0.tif"})


def one_region(**attributes: Any) -> str:
    region = {"shape_attributes": attributes}
    return json.dumps({"f0.tif1": {"filename": "a/f0.tif", "regions": [region]}})


def tiff(array: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, photometric="minisblack")
    return stream.getvalue()


REFUSED: dict[str, tuple[str, str | bytes, str]] = {
    "numbers as text": (
        "f0.geojson",
        one_feature({"type": "Polygon", "coordinates": [[["1", "2"]] * 4]}),
        "no pairs of numbers",
    ),
    "NaN": (
        "f0.geojson",
        '{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[NaN, 1]]]}}]}',
        "a corner is infinite, NaN or far outside",
    ),
    "far away": (
        "f0.geojson",
        one_feature({"type": "Polygon", "coordinates": [[[1e12, 0], [1, 1], [2, 2]]]}),
        "far outside",
    ),
    "unknown geometry": ("f0.geojson", one_feature({"type": "__class__"}), "no list of coordinates"),
    "unknown type": ("f0.geojson", one_feature({"type": "Sphere", "coordinates": []}), "unknown type 'Sphere'"),
    "not a feature": ("f0.geojson", '{"features": [3]}', "feature 1 is no object"),
    "cut off": ("f0.geojson", geojson()[:200], "is no JSON"),
    "nested": ("f0.geojson", '{"features": ' + "[" * 100_000, "nested too deeply"),
    "planes": (
        "f0.geojson",
        one_feature({"type": "Polygon", "coordinates": [[[1, 1], [2, 1], [2, 2]]], "plane": {"z": -3}}),
        "not a whole number from 0",
    ),
    "no image": ("x.json", json.dumps(coco(file_name="../../etc/passwd.tif")), "no image has a name like"),
    "no id": ("x.json", '{"images": [{"file_name": "f0.tif"}]}', "images 1 has no id"),
    "no size": ("x.json", json.dumps(coco(height="tall")), "image 4: height is 'tall', not a number"),
    "other size": ("x.json", json.dumps(coco(height=7)), "drawn on 80 x 7 pixels, the image has 80 x 60"),
    "unlisted": (
        "x.json",
        json.dumps({**coco(), "images": []}),
        "annotations of an image 4 that the file does not list",
    ),
    "odd polygon": ("x.json", one_annotation(segmentation=[[1, 2, 3]]), "no list of x and y in turn"),
    "text polygon": ("x.json", one_annotation(segmentation=["abc"]), "no list of x and y in turn"),
    "no counts": ("x.json", one_annotation(segmentation={"size": [60, 80]}), "run lengths without counts"),
    "no run size": ("x.json", one_annotation(segmentation={"counts": [1]}), "run lengths without a size"),
    "long runs": (
        "x.json",
        one_annotation(segmentation={"size": [60, 80], "counts": [9, 10**7]}),
        "beyond the 60 x 80",
    ),
    "huge runs": (
        "x.json",
        one_annotation(segmentation={"size": [10**7, 10**7], "counts": [0, 10**6]}),
        "run lengths of",
    ),
    "runs of another size": (
        "x.json",
        json.dumps(
            {
                **coco(height=None, width=None),
                "annotations": [{"id": 1, "image_id": 4, "segmentation": {"size": [50, 80], "counts": [9, 9]}}],
            }
        ),
        "drawn on 80 x 50 pixels, the image has 80 x 60",
    ),
    "bad code": ("x.json", one_annotation(segmentation={"size": [60, 80], "counts": "é"}), "in compressed run lengths"),
    "long code": (
        "x.json",
        one_annotation(segmentation={"size": [60, 80], "counts": "o" * 99}),
        "in compressed run lengths",
    ),
    "cut code": ("x.json", one_annotation(segmentation={"size": [60, 80], "counts": "o"}), "are cut off"),
    "negative runs": ("x.json", one_annotation(segmentation={"size": [60, 80], "counts": "O"}), "beyond the 60 x 80"),
    "unknown shape": ("f0.json", one_shape(shape_type="blob", points=[[1, 1]]), "of the unknown type 'blob'"),
    "no picture": (
        "f0.json",
        one_shape(shape_type="mask", points=[[1, 1], [2, 2]], mask="!"),
        "no PNG picture in base64",
    ),
    "no attributes": ("x.json", '{"f": {"filename": "a/f0.tif", "regions": [1]}}', "has no shape_attributes"),
    "uneven": ("x.json", one_region(name="polygon", all_points_x=[1], all_points_y=[]), "as many all_points_x"),
    "no number": ("x.json", one_region(name="circle", cx="1", cy=2, r=3), "cx is '1', not a number"),
    "unknown region": ("x.json", one_region(name="cube"), "of the unknown type 'cube'"),
    "no labels": ("f0.labeling", "{}", "holds no labels"),
    "bad labels": ("f0.labeling", '{"labels": {"1": [[0.5, 1]]}}', "no lists of x, y and z"),
    "far labels": ("f0.labeling", '{"labels": {"1": [[0, 0], [90000000, 90000000]]}}', "spans 90000001 x 90000001"),
    "no axes": ("f0.csv", "index,shape-type,vertex-index\n", "no columns axis-0 and axis-1"),
    "short row": ("f0.csv", "index,shape-type,vertex-index,axis-0,axis-1\n0,polygon\n", "has 2 columns, not 5"),
    "no float": ("f0.csv", "index,shape-type,vertex-index,axis-0,axis-1\n0,polygon,0,a,1\n", "'a' is no number"),
    "odd outline": ("f0_cp_outlines.txt", "1,2,3", "has 3 numbers"),
    "infinite outline": ("f0_cp_outlines.txt", "1,2,inf,4,5,6", "infinite, NaN or far outside"),
    "pickle": ("f0_seg.npy", b"\x93NUMPY", "choose File > Save masks as PNG/tif"),
    "array": ("f0.npy", b"\x93NUMPY", "save it as TIFF"),
    "imaris": ("f0.ims", b"\x89HDF", "export its labels as TIFF"),
    "cvat": ("f0.xml", "<!DOCTYPE lolz>", "export COCO instead"),
    "other archive": ("f0.zip", archive("instances.json", b"{}"), "unpack it, and give the folder"),
    "no archive": ("f0.zip", b"PK\x03\x04 torn", "an archive without regions of ImageJ"),
    "no region": ("f0.zip", archive("../../x.roi", b"hello"), "x is no region of ImageJ"),
    "cut region": ("f0.zip", archive("x.roi", roi()[:50]), "the region x is cut off"),
    "cut corners": ("f0.zip", archive("x.roi", roi()[:70]), "the region x is cut off"),
    "many corners": ("f0.zip", archive("x.roi", roi()[:16] + b"\xff\xff" + roi()[18:]), "the region x is cut off"),
    "unknown kind": ("f0.zip", archive("x.roi", roi()[:6] + b"\x63" + roi()[7:]), "of the unknown type 99"),
    "composite": (
        "f0.zip",
        archive("x.roi", roi()[:36] + struct.pack(">i", 3) + roi()[40:64] + struct.pack(">3f", 9, 9, 9)),
        "a damaged composite",
    ),
    "nan region": (
        "f0.zip",
        archive("x.roi", roi()[:36] + struct.pack(">i", 3) + roi()[40:64] + struct.pack(">3f", 0, float("nan"), 9)),
        "infinite, NaN or far away",
    ),
    "fractions": ("f0.tif", b"", "with fractions, NaN or infinity"),
    "points alone": (
        "f0.geojson",
        one_feature({"type": "MultiPoint", "coordinates": [[1, 1], [2, 2]]}),
        "no annotation encloses an area (1 x point)",
    ),
    "boxes alone": (
        "x.json",
        one_annotation(bbox=[1, 1, 5, 5]),
        "no annotation encloses an area (1 x box without outline)",
    ),
    "micrometres": (
        "f0.geojson",
        one_feature({"type": "Polygon", "coordinates": [[[900, 900], [950, 900], [950, 950]]]}),
        "no region has a pixel in the image of 80 x 60",
    ),
    "COCO results": ("x.json", json.dumps([{"image_id": 4, "segmentation": [[1, 1, 9, 1, 9, 9]]}]), "COCO results"),
    "VIA 3": (
        "x.json",
        json.dumps({"project": {}, "file": {"1": {"fname": "a/f0.tif"}}, "metadata": {"a": {"vid": "9"}}, "view": {}}),
        "a damaged project of VIA 3",
    ),
    "a video of CVAT": ("x.xml", "<annotations><track/></annotations>", "tracks of a video"),
    "cut XML": ("x.xml", "<annotations><image ", "is no XML"),
    "CVAT without a size": ("x.xml", '<annotations><image name="a/f0.tif"/></annotations>', "height is 'None', not a"),
    "CVAT without corners": (
        "x.xml",
        '<annotations><image name="a/f0.tif" width="80" height="60"><polygon points="1"/></image></annotations>',
        "region 1 of a/f0.tif",
    ),
    "CVAT run lengths": (
        "x.xml",
        '<annotations><image name="a/f0.tif" width="80" height="60"><mask rle="1,99" left="0" top="0" width="5" '
        'height="5"/></image></annotations>',
        "run lengths go beyond the 5 x 5 pixels",
    ),
    "ImageScope without a number": (
        "f0.xml",
        '<Annotations><Annotation><Regions><Region><Vertices><Vertex X="1"/><Vertex/><Vertex/></Vertices></Region>'
        "</Regions></Annotation></Annotations>",
        "region 1: Y is 'None', not a number",
    ),
    "a numbered background": (
        "f0_masks.tif",
        tiff((cells() + 1).astype(np.uint16)),
        "no pixel is 0, and number 1 covers",
    ),
    "a page for each cell": ("f0.tif", tiff(np.stack([cells() == n for n in (1, 2, 3, 4)])), "a picture for each cell"),
    "255 as background": ("f0.tif", tiff(np.where(cells(), cells(), 255).astype(np.uint8)), "-1 stored without its"),
    "NaN as background": (
        "f0.tif",
        tiff(np.where(cells(), cells(), np.nan).astype(np.float32)),
        "labels[np.isnan(labels)] = 0",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_damaged_and_hostile_files_are_refused_in_one_line(tmp_path: Path, images: Path, case: str) -> None:
    name, content, message = REFUSED[case]
    if case == "fractions":
        stream = io.BytesIO()
        tifffile.imwrite(stream, cells() * 0.5)
        content = stream.getvalue()
    result = imported(tmp_path, images, name, content)
    assert result.exit_code == 3, result.stderr
    errors = [line for line in result.stderr.splitlines() if "error:" in line]
    assert len(errors) == 1
    assert message in errors[0]
    assert len(errors[0]) < 600
    assert not list(tmp_path.rglob("*_labels*"))


def test_archives_that_unpack_to_too_much_are_refused(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unetbio.annotations.formats import imagej

    monkeypatch.setattr(imagej, "MAX_ROI_BYTES", 1 << 16)
    result = imported(tmp_path, images, "f0.zip", bomb(1, 1 << 20))
    assert "0.roi unpacks to more than 0 MiB; save it again" in result.stderr
    monkeypatch.setattr(imagej, "MAX_ARCHIVE_BYTES", 1 << 17)
    result = imported(tmp_path, images, "f0.zip", bomb(5, 50_000))
    assert "no region" in result.stderr or "unpacks to more than" in result.stderr
    monkeypatch.setattr(imagej, "MAX_ENTRIES", 3)
    result = imported(tmp_path, images, "f0.zip", bomb(5, 10))
    assert "an archive of 5 regions; at most 3 are read" in result.stderr


def test_negative_labels_and_colours_of_pictures_are_refused_with_a_remedy(tmp_path: Path, images: Path) -> None:
    stream = io.BytesIO()
    tifffile.imwrite(stream, cells().astype(np.int16) - 1)
    result = imported(tmp_path, images, "f0.tif", stream.getvalue())
    assert "labels down to -1" in result.stderr
    assert "labels[labels < 0] = 0" in result.stderr
    (tmp_path / "drawn" / "a" / "f0.tif").unlink()
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    result = imported(tmp_path, images, "f0.png", imagecodecs.png_encode(noise))
    assert "looks like an image, not like labels" in result.stderr
    one_colour = np.dstack([(cells() > 0) * np.uint8(200)] * 3)
    result = imported(tmp_path, images, "f0.png", imagecodecs.png_encode(one_colour))
    assert "one colour on its background: touching cells cannot be separated" in result.stderr
    result = imported(tmp_path, images, "f0.png", imagecodecs.png_encode(one_colour), "--split-components")
    assert result.exit_code == 0, result.stderr
    np.testing.assert_array_equal(read_labels(tmp_path / "masks" / "a" / "f0_labels.ome.tif"), cells())


@pytest.mark.parametrize("ending", ["json", "geojson", "csv", "roi", "zip", "labeling", "tif"])
@pytest.mark.parametrize("kind", ["pipe", "broken link"])
def test_pipes_and_broken_links_are_refused_without_waiting(
    tmp_path: Path, images: Path, ending: str, kind: str
) -> None:
    path = tmp_path / "drawn" / "a" / f"f0.{ending}"
    path.parent.mkdir(parents=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "gone")
    result = run("import", tmp_path / "drawn", "--images", images, "-o", tmp_path / "masks")
    assert result.exit_code == 3, result.stderr
    assert sum("error:" in line for line in result.stderr.splitlines()) == 1


def test_options_without_a_meaning_are_refused(tmp_path: Path, images: Path) -> None:
    result = imported(tmp_path, images, "f0.geojson", geojson(), "--split-components")
    assert "a/f0.geojson: --split-components is for masks of one value; leave it out [no_mask]" in result.stderr
    (tmp_path / "drawn" / "a" / "f0.geojson").unlink()
    result = imported(tmp_path, images, "f0.png", imagecodecs.png_encode(cells()), "--class", "Nucleus")
    assert "a/f0.png: masks have no classes; leave --class out [no_classes]" in result.stderr
    (tmp_path / "drawn" / "a" / "f0.png").unlink()
    result = imported(tmp_path, images, "f0_cp_outlines.txt", "5,5,19,5,19,24,5,24\n", "--class", "Nucleus")
    assert "a/f0_cp_outlines.txt: no region has a class: give them their classes, or leave --class out" in result.stderr
    assert not (tmp_path / "masks").exists()
    (tmp_path / "drawn" / "a" / "f0_cp_outlines.txt").unlink()
    (images / "a" / "f0.png").write_bytes(imagecodecs.png_encode(cells()))
    result = imported(tmp_path, images, "f0.png", imagecodecs.png_encode(cells()))
    assert result.exit_code == 2
    assert "would both be written as a/f0" in result.stderr


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (("drawn",), "give -o FOLDER for the masks, --into RESULTS"),
        (("drawn", "-o", "masks"), "no annotations in drawn: looked for regions of ImageJ"),
        (("nothing", "-o", "masks", "--images", "images"), "nothing does not exist: give files or folders"),
        (("drawn", "--into", "images"), "images holds no label images of unetbio segment"),
        (("drawn", "--into", "images", "--images", "images"), "--into knows the images of its run"),
        (("drawn", "-o", "masks", "--images", "images", "--z", "max"), "--z max: annotations lie in sections"),
        (("drawn", "--into", "images", "--z", "1"), "--into reads images as its run did"),
    ],
)
def test_what_cannot_be_done_is_2(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch, line: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("drawn").mkdir()
    tifffile.imwrite("drawn/f0.tif", cells())
    result = run("import", *line)
    assert result.exit_code == 2
    assert message in result.stderr


def test_annotations_of_images_that_a_file_does_not_list_are_left_out(tmp_path: Path, images: Path) -> None:
    value = coco()
    value["annotations"].append({**value["annotations"][0], "id": 99, "image_id": 77})
    (tmp_path / "cut.json").write_text(json.dumps(value))
    result = done("import", tmp_path / "cut.json", "--images", images, "-o", tmp_path / "masks")
    assert "the annotations of 1 image that the file does not list are left out, such as image_id 77" in result.stderr
    np.testing.assert_array_equal(read_labels(tmp_path / "masks" / "a" / "f0_labels.ome.tif"), cells())


def test_two_images_of_a_file_that_are_one_here_are_refused(tmp_path: Path, images: Path) -> None:
    value = coco()
    value["images"].append({**value["images"][0], "id": 5, "file_name": "elsewhere/a/f0.tif"})
    (tmp_path / "two.json").write_text(json.dumps(value))
    result = run("import", tmp_path / "two.json", "--images", images, "-o", tmp_path / "masks")
    assert result.exit_code == 3
    assert "two.json lists it 2 times, as a/f0.tif and elsewhere/a/f0.tif: keep one entry, or" in result.stderr


def test_two_files_of_one_name_are_not_made_one(tmp_path: Path, images: Path) -> None:
    """As programs write them that leave the folders out."""
    value = coco()
    value["images"].append({**value["images"][0], "id": 5})
    (tmp_path / "two.json").write_text(json.dumps(value))
    given = ("import", tmp_path / "two.json", "--images", images, "-o", tmp_path / "masks")
    assert done(*given).stdout.startswith("1 image, 6 cells"), "an entry without annotations"
    value["annotations"].append({**value["annotations"][0], "id": 99, "image_id": 5})
    (tmp_path / "two.json").write_text(json.dumps(value))
    result = run(*given, "--overwrite")
    assert result.exit_code == 3
    assert "two.json lists it 2 times, as a/f0.tif: keep one entry, or give each the folder" in result.stderr


def test_a_table_of_via_is_refused_with_a_remedy(tmp_path: Path, images: Path) -> None:
    (tmp_path / "via.csv").write_text("filename,file_size,file_attributes,region_count\n")
    result = run("import", tmp_path / "via.csv", "--images", images, "-o", tmp_path / "masks")
    assert result.exit_code == 3
    assert "a table of the VGG Image Annotator: export the annotations as JSON" in result.stderr


def test_a_background_of_minus_one_without_its_sign_is_refused(tmp_path: Path, images: Path) -> None:
    tifffile.imwrite(tmp_path / "f0.tif", np.where(cells() == 0, np.uint16(65535), cells()))
    result = run("import", tmp_path / "f0.tif", "--images", images / "a", "-o", tmp_path / "masks")
    assert result.exit_code == 3
    assert "the largest number is 65535, which is -1 stored without its sign: set it to 0" in result.stderr


def test_an_image_that_is_not_there_is_one_failure_of_its_file(tmp_path: Path, images: Path) -> None:
    value = coco()
    for number, name in ((5, "gone/g0.tif"), (6, "f0.tif")):
        value["images"].append({**value["images"][0], "id": number, "file_name": name})
        value["annotations"].append({**value["annotations"][0], "id": 90 + number, "image_id": number})
    (tmp_path / "coco.json").write_text(json.dumps(value))
    result = run("import", tmp_path / "coco.json", "--images", images, "-o", tmp_path / "masks")
    assert result.exit_code == 3
    assert result.stdout.startswith("1 image, 6 cells, 2 failed")
    why = "no image has a name like gone/g0.tif; there are a/f0.tif, b/f0.tif [no_image]"
    assert f"coco.json, gone/g0.tif: {why}" in result.stderr
    assert "f0.tif may mean a/f0.tif, b/f0.tif: give it the folders of its image [several_images]" in result.stderr
    np.testing.assert_array_equal(read_labels(tmp_path / "masks" / "a" / "f0_labels.ome.tif"), cells())


def test_a_mask_of_several_images_is_one_failure_of_its_folder(tmp_path: Path, images: Path) -> None:
    (tmp_path / "drawn" / "a").mkdir(parents=True)
    for name in ("f0.png", "a/f0.png"):
        (tmp_path / "drawn" / name).write_bytes(imagecodecs.png_encode(cells()))
    result = run("import", tmp_path / "drawn", "--images", images, "-o", tmp_path / "masks")
    assert result.exit_code == 3
    assert result.stdout.startswith("1 image, 6 cells, 1 failed")
    assert "f0.png: f0 may mean a/f0.tif, b/f0.tif: give it the folders of its image" in result.stderr


def test_times_without_an_image_are_failures_of_their_own(tmp_path: Path) -> None:
    for number in range(3):
        write_labels(tmp_path / "drawn" / "x_RES" / f"mask00{number}.tif", cells())
    (tmp_path / "images").mkdir()
    for number in range(2):
        tifffile.imwrite(tmp_path / "images" / f"x_t00{number}.tif", (cells() > 0).astype(np.uint8))
    result = run("import", tmp_path / "drawn", "--images", tmp_path / "images", "-o", tmp_path / "masks")
    assert result.exit_code == 3
    assert result.stdout.startswith("2 images, 12 cells, 1 failed")
    assert "x/mask002.tif: no image has a name like x, x/t002 or x_t002; there are" in result.stderr
    for folder in ("a", "b"):
        (tmp_path / "images" / folder).mkdir()
        tifffile.imwrite(tmp_path / "images" / folder / "x_t002.tif", (cells() > 0).astype(np.uint8))
    result = run("import", tmp_path / "drawn", "--images", tmp_path / "images", "-o", tmp_path / "more")
    assert result.stdout.startswith("2 images, 12 cells, 1 failed")
    assert "x/mask002.tif: x, time 2 may mean a/x_t002.tif, b/x_t002.tif" in result.stderr


def test_annotations_say_which_of_several_images_they_are_of(tmp_path: Path) -> None:
    """QuPath names its files after the images in a file, whose numbers it does not know."""
    images, drawn = tmp_path / "images", tmp_path / "drawn"
    for folder in (images, drawn):
        folder.mkdir()
    with tifffile.TiffWriter(images / "f.ome.tif", ome=True) as writer:
        for name in ("macro image", "left", "right"):
            size = (HEIGHT, WIDTH) if name != "macro image" else (HEIGHT // 2, WIDTH // 2)
            writer.write(np.zeros(size, np.uint8), metadata={"axes": "YX", "Name": name}, photometric="minisblack")
    for name in ("left", "right"):
        (drawn / f"f.ome.tif - {name}.geojson").write_text(geojson())
    given = ("import", drawn / "f.ome.tif - left.geojson", "--images", images, "-o", tmp_path / "masks")
    for line in (given, ("import", drawn, *given[2:])):
        result = run(*line)
        assert result.exit_code == 3
        assert "f.ome.tif: it holds 2 images, and nothing says which one was annotated: " in result.stderr
        assert "call the annotations f_s01 (left), f_s02 (right), or give --series" in result.stderr
        assert not (tmp_path / "masks").exists()
    done(*given, "--series", "left")
    np.testing.assert_array_equal(read_labels(tmp_path / "masks" / "f_s01_labels.ome.tif"), cells())


def test_the_slide_is_annotated_and_not_a_picture_beside_it(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "f.ome.tif", ome=True) as writer:
        for name, size in (("macro image", (HEIGHT // 2, WIDTH // 2)), ("slide", (HEIGHT, WIDTH))):
            writer.write(np.zeros(size, np.uint8), metadata={"axes": "YX", "Name": name}, photometric="minisblack")
    (tmp_path / "f.geojson").write_text(geojson())
    done("import", tmp_path / "f.geojson", "--images", tmp_path / "f.ome.tif", "-o", tmp_path / "masks")
    np.testing.assert_array_equal(read_labels(tmp_path / "masks" / "f_labels.ome.tif"), cells())
