"""``unetbio import``: annotations of other programs become label images, and what export wrote comes back."""

import base64
import json
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import polars as pl
import pytest
import roifile
import tifffile
from annotation_files import HEIGHT, WIDTH, cells, coco, corners, done, geojson, imported, rois, run, write_images
from numpy.typing import NDArray

from unetbio.io import read_image, read_labels, write_labels

Array = NDArray[Any]
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

EXPORTS = ("geojson", "imagej", "coco")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path)


def labelme() -> str:
    shapes = [{"label": "cell", "points": ring, "shape_type": "polygon", "group_id": None} for ring in corners()]
    return json.dumps({"shapes": shapes, "imagePath": "..\\f0.tif", "imageHeight": HEIGHT, "imageWidth": WIDTH})


def via(*, project: bool, version: int) -> str:
    regions: Any = [
        {
            "shape_attributes": {
                "name": "polygon",
                "all_points_x": [x for x, _ in ring],
                "all_points_y": [y for _, y in ring],
            }
        }
        for ring in corners()
    ]
    regions = {str(n): region for n, region in enumerate(regions)} if version == 1 else regions
    found = {"f0.tif123": {"filename": "a/f0.tif", "size": 123, "regions": regions}}
    return json.dumps({"_via_settings": {}, "_via_img_metadata": found} if project else found)


def labkit() -> str:
    labels = {str(n): [[x, y] for y, x in np.argwhere(cells() == n).tolist()] for n in np.unique(cells()).tolist() if n}
    return json.dumps({"interval": {"min": [0, 0], "max": [WIDTH - 1, HEIGHT - 1]}, "labels": labels})


def napari() -> str:
    rows = [f"{n},polygon,{v},{y - 0.5},{x - 0.5}" for n, ring in enumerate(corners()) for v, (x, y) in enumerate(ring)]
    return "\n".join(["index,shape-type,vertex-index,axis-0,axis-1", *rows, ""])


def outlines() -> str:
    """As Cellpose: the pixels on the rim."""
    lines = []
    for (left, top), _, (right, bottom), _ in corners():
        rim = [(x, y) for y in range(top, bottom) for x in range(left, right)]
        rim = [(x, y) for x, y in rim if x in (left, right - 1) or y in (top, bottom - 1)]
        middle = ((left + right - 1) / 2, (top + bottom - 1) / 2)
        rim.sort(key=lambda p: np.arctan2(p[1] - middle[1], p[0] - middle[0]))
        lines.append(",".join(f"{x},{y}" for x, y in rim))
    return "\n".join(lines)


TEXTS = {
    "geojson": ("f0.geojson", geojson()),
    "geojson of QuPath's export": ("f0.tif - Image0.geojson", geojson()),
    "geojson list": ("f0.json", json.dumps(json.loads(geojson())["features"])),
    "coco": ("instances.json", json.dumps(coco())),
    "coco on windows": ("instances.json", json.dumps(coco(file_name="C:\\data\\a\\f0.tif"))),
    "coco of pictures": ("instances.json", json.dumps(coco(file_name="a/f0.png"))),
    "labelme": ("f0.json", labelme()),
    "labelme by its path": ("renamed.json", labelme().replace("..", "a")),
    "via 1": ("via.json", via(project=False, version=1)),
    "via 2": ("via.json", via(project=False, version=2)),
    "via project": ("via.json", via(project=True, version=2)),
    "labkit": ("f0.tif.labeling", labkit()),
    "napari": ("f0_shapes.csv", napari()),
    "cellpose": ("f0_cp_outlines.txt", outlines()),
}


@pytest.mark.parametrize("case", TEXTS)
def test_outlines_of_every_program_become_the_same_cells(tmp_path: Path, images: Path, case: str) -> None:
    name, text = TEXTS[case]
    path = tmp_path / "drawn" / "a" / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    result = done("import", tmp_path / "drawn", "--images", images, "-o", tmp_path / "masks")
    assert result.stdout == f"1 image, 6 cells, 0 failed: {tmp_path / 'masks'}\n"
    assert "1 of 2 images have no annotations, such as b/f0.tif" in result.stderr
    written = tmp_path / "masks" / "a" / "f0_labels.ome.tif"
    np.testing.assert_array_equal(read_labels(written), cells())
    assert read_image(written).pixel_size_um == {"Y": 0.5, "X": 0.5}


def mask_file(path: Path, kind: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = cells()
    if kind == "float32":
        tifffile.imwrite(path.with_suffix(".tif"), labels.astype(np.float32), imagej=True)
    elif kind == "int64":
        tifffile.imwrite(path.with_suffix(".tif"), labels.astype(np.int64), compression="zlib")
    elif kind == "cellpose":
        path.with_name(f"{path.stem}_cp_masks.png").write_bytes(imagecodecs.png_encode(labels))
    elif kind.startswith("colour"):
        ground = 255 if kind == "colour on white" else 0
        colours = np.random.default_rng(1).permutation(200)[:21].reshape(7, 3).astype(np.uint8) + 20
        colours[0] = ground
        picture = colours[labels]
        if kind == "colour with alpha":
            picture = np.dstack([picture, np.full_like(labels, 255, np.uint8)])
        path.with_suffix(".png").write_bytes(imagecodecs.png_encode(picture))
    elif kind == "grey as colour":
        path.with_suffix(".png").write_bytes(imagecodecs.png_encode(np.dstack([labels.astype(np.uint8) * 30] * 3)))
    else:
        folder = path.with_suffix("") / "masks" if kind == "pictures in masks" else path.with_suffix("")
        folder.mkdir(parents=True)
        for label in range(1, 7):
            picture = (labels == label).astype(np.uint8) * 255
            (folder / f"{label:064x}.png").write_bytes(imagecodecs.png_encode(picture))


MASKS = [
    *("float32", "int64", "cellpose", "colour", "colour with alpha", "colour on white", "grey as colour"),
    *("pictures", "pictures in masks"),
]


@pytest.mark.parametrize("kind", MASKS)
def test_masks_of_other_programs_become_label_images(tmp_path: Path, images: Path, kind: str) -> None:
    mask_file(tmp_path / "drawn" / "a" / "f0.tif", kind)
    done("import", tmp_path / "drawn", "--images", images, "-o", tmp_path / "masks")
    labels = read_labels(tmp_path / "masks" / "a" / "f0_labels.ome.tif")
    np.testing.assert_array_equal(labels > 0, cells() > 0)
    assert len({(int(a), int(b)) for a, b in zip(labels.ravel(), cells().ravel(), strict=True)}) == 7


@pytest.mark.parametrize("name", ["f0_RoiSet.zip", "RoiSet_f0.zip", "f0.zip", "f0/RoiSet.zip", "f0.tif.zip"])
def test_regions_of_imagej_find_their_image(tmp_path: Path, images: Path, name: str) -> None:
    path = tmp_path / "drawn" / "b" / name
    path.parent.mkdir(parents=True)
    rois(path)
    done("import", tmp_path / "drawn", "--images", images, "-o", tmp_path / "masks")
    np.testing.assert_array_equal(read_labels(tmp_path / "masks" / "b" / "f0_labels.ome.tif"), cells())


def test_single_regions_lie_in_a_folder_named_like_their_image(tmp_path: Path, images: Path) -> None:
    folder = tmp_path / "drawn" / "a" / "f0"
    folder.mkdir(parents=True)
    for n, ring in enumerate(corners()):
        roifile.ImagejRoi.frompoints(np.array(ring)).tofile(folder / f"00{n}-0040.roi")
    done("import", tmp_path / "drawn", "--images", images, "-o", tmp_path / "one")
    done("import", folder, "--images", images / "a" / "f0.tif", "-o", tmp_path / "two")
    done("import", folder / "000-0040.roi", "--images", images / "a" / "f0.tif", "-o", tmp_path / "three")
    np.testing.assert_array_equal(read_labels(tmp_path / "one" / "a" / "f0_labels.ome.tif"), cells())
    np.testing.assert_array_equal(read_labels(tmp_path / "two" / "f0_labels.ome.tif"), cells())
    three = read_labels(tmp_path / "three" / "f0_labels.ome.tif", allow_binary=True)
    np.testing.assert_array_equal(three, cells() == 1)
    result = run("import", folder.rename(tmp_path / "mine"), "--images", images, "-o", tmp_path / "four")
    assert result.exit_code == 3
    assert "6 regions such as 000-0040.roi, and no name says of which image: put those of x.tif" in result.stderr


def test_a_name_of_several_images_is_refused_without_their_folder(tmp_path: Path, images: Path) -> None:
    (tmp_path / "f0.geojson").write_text(geojson())
    result = run("import", tmp_path / "f0.geojson", "--images", images, "-o", tmp_path / "masks")
    assert result.exit_code == 3
    assert "f0 may mean a/f0.tif, b/f0.tif: give it the folders of its image [several_images]" in result.stderr
    assert result.stdout.startswith("0 images, 0 cells, 1 failed")


# --- Public data sets as they are downloaded --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["beside", "kaggle", "ctc", "parts", "labels"])
def test_public_data_sets_are_read_as_they_lie_there(tmp_path: Path, name: str) -> None:
    grey = ((cells() > 0) * 200).astype(np.uint8)
    data = tmp_path / "data"

    def png(path: Path, picture: Array) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(imagecodecs.png_encode(picture))

    for k in range(2):
        if name == "beside":
            png(data / f"00{k}_img.png", grey)
            png(data / f"00{k}_masks.png", cells())
        elif name == "kaggle":
            png(data / f"{k}f1a9" / "images" / f"{k}f1a9.png", np.dstack([grey] * 3 + [np.full_like(grey, 255)]))
            for label in range(1, 7):
                png(data / f"{k}f1a9" / "masks" / f"{label:064x}.png", ((cells() == label) * 255).astype(np.uint8))
        elif name == "ctc":
            png(data / "01" / f"t00{k}.png", grey)
            png(data / "01_GT" / "SEG" / f"man_seg00{k}.png", cells())
        elif name == "parts":
            png(data / "train" / "images" / f"x{k}.png", grey)
            png(data / "train" / "masks" / f"x{k}.png", cells())
        else:
            png(data / "images" / f"x{k}.png", grey)
            png(data / "labels" / f"x{k}_label.png", cells())
    assert done("import", data, "-o", tmp_path / "masks").stdout.startswith("2 images, 12 cells, 0 failed")
    for path in (tmp_path / "masks").rglob("*_labels.ome.tif"):
        np.testing.assert_array_equal(read_labels(path), cells())


# --- What export wrote ------------------------------------------------------------------------------------------------


def segmented(tmp_path: Path, model: Path, name: str, image: Array, *options: object, **saved: Any) -> Path:
    path = tmp_path / "images" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, image, **saved)
    out = tmp_path / "out"
    done("segment", tmp_path / "images", "-o", out, "-m", model, "--workers", "1", "--overlays", "none", *options)
    return out


def crowded(side: int, count: int) -> Array:
    """Cells with holes and pieces: random blobs, and every cell loses and gains pixels anywhere."""
    rng = np.random.default_rng(3)
    step = int(side / np.sqrt(count))
    labels = np.zeros((side, side), np.uint32)
    for number, (top, left) in enumerate(
        (y, x) for y in range(0, side - step, step) for x in range(0, side - step, step)
    ):
        block = rng.random((step, step)) < 0.8
        labels[top : top + step, left : left + step][block] = number * 3 + 1
    where = rng.integers(0, side, (2, 60))
    labels[where[0], where[1]] = rng.integers(0, labels.max() + 1, 60)
    return labels


@pytest.mark.parametrize("target", EXPORTS)
def test_what_export_wrote_comes_back_pixel_by_pixel(tmp_path: Path, tiny_model: Path, target: str) -> None:
    labels = crowded(165, 550)
    assert len(np.unique(labels)) > 450
    out = segmented(tmp_path, tiny_model, "sub/x.tif", np.zeros(labels.shape, np.uint8))
    write_labels(out / "sub" / "x_labels.ome.tif", labels)
    done("export", out, "--to", target, "-o", tmp_path / "exported")
    done("import", tmp_path / "exported", "--images", tmp_path / "images", "-o", tmp_path / "masks")
    np.testing.assert_array_equal(read_labels(tmp_path / "masks" / "sub" / "x_labels.ome.tif"), labels)
    # Into the run: the mask is the one that is there, also where the import reads the output folder itself.
    done("export", out, "--to", target)
    result = done("import", out, "--into", out)
    assert "1 mask as before" in result.stderr
    (out / "sub" / "x_labels.ome.tif").unlink()
    write_labels(out / "sub" / "x_labels.ome.tif", np.zeros(labels.shape, np.uint16))
    done("import", out, "--into", out)
    np.testing.assert_array_equal(read_labels(out / "sub" / "x_labels.ome.tif"), labels)


@pytest.mark.slow
@pytest.mark.parametrize("target", EXPORTS)
def test_two_thousand_cells_come_back_pixel_by_pixel(tmp_path: Path, tiny_model: Path, target: str) -> None:
    labels = crowded(345, 2250)
    assert len(np.unique(labels)) > 2000
    out = segmented(tmp_path, tiny_model, "sub/x.tif", np.zeros(labels.shape, np.uint8))
    write_labels(out / "sub" / "x_labels.ome.tif", labels)
    done("export", out, "--to", target, "-o", tmp_path / "exported")
    done("import", tmp_path / "exported", "--images", tmp_path / "images", "-o", tmp_path / "masks")
    np.testing.assert_array_equal(read_labels(tmp_path / "masks" / "sub" / "x_labels.ome.tif"), labels)


@pytest.mark.parametrize("target", EXPORTS)
@pytest.mark.parametrize(
    ("axes", "options"),
    [("TYX", ()), ("ZYX", ("--z", "each")), ("ZYX", ("--z", "1")), ("TYX", ("--t", "1")), ("TCYX", ("--channel", "0"))],
    ids=["time-lapse", "sections", "one section", "one time", "channels"],
)
def test_planes_come_back_where_they_were(
    tmp_path: Path, tiny_model: Path, discs: Array, target: str, axes: str, options: tuple[str, ...]
) -> None:
    frames = np.stack([discs, np.roll(discs, 5, axis=1), discs[::-1]])
    frames = np.stack([frames, frames], axis=1) if axes == "TCYX" else frames
    out = segmented(tmp_path, tiny_model, "x.tif", frames, *options, imagej=True, metadata={"axes": axes})
    path = out / "x_labels.ome.tif"
    labels = read_labels(path)
    done("export", out, "--to", target, "-o", tmp_path / "exported")
    write_labels(path, np.where(labels == 1, 0, labels), axes={3: axes.replace("C", "")}.get(labels.ndim))
    done("import", tmp_path / "exported", "--into", out, "-o", tmp_path / "masks")
    np.testing.assert_array_equal(read_labels(path), labels)
    np.testing.assert_array_equal(read_labels(tmp_path / "masks" / "x_labels.ome.tif"), labels)
    chosen = [word for word in options if word not in ("--channel", "each")]
    chosen = chosen if len(chosen) == 2 and chosen[0] != "0" else []
    done("import", tmp_path / "exported", "--images", tmp_path / "images", "-o", tmp_path / "again", *chosen)
    np.testing.assert_array_equal(read_labels(tmp_path / "again" / "x_labels.ome.tif"), labels)


def test_imported_masks_are_the_corrected_ones_of_a_run(tmp_path: Path, tiny_model: Path, discs: Array) -> None:
    out = segmented(tmp_path, tiny_model, "x.tif", discs, imagej=True, resolution=(2, 2), metadata={"unit": "um"})
    ring = [[10, 30], [40, 30], [40, 60], [10, 60]]
    roifile.roiwrite(tmp_path / "x_RoiSet.zip", [roifile.ImagejRoi.frompoints(np.array(ring))], mode="w")
    result = done("import", tmp_path / "x_RoiSet.zip", "--into", out)
    assert f"unetbio measure {out} writes the tables of these masks" in result.stderr
    done("measure", out, "--workers", "1")
    assert pl.read_parquet(out / "cells.parquet")["area_px"].to_list() == [900]
    assert pl.read_csv(out / "summary.csv")["warnings"].to_list() == ["edited"]
    assert read_image(out / "x_labels.ome.tif").pixel_size_um == {"Y": 0.5, "X": 0.5}
    done("segment", tmp_path / "images", "-o", out, "-m", tiny_model, "--workers", "1", "--overwrite")
    assert (read_labels(out / "x_labels.ome.tif", allow_binary=True) > 0).sum() == 900


def test_masks_that_are_there_stay(tmp_path: Path, images: Path) -> None:
    assert imported(tmp_path, images, "f0.geojson", geojson()).exit_code == 0
    result = imported(tmp_path, images, "f0.geojson", geojson())
    assert (result.exit_code, "1 mask as before" in result.stderr) == (0, True)
    collection = json.loads(geojson())
    collection["features"].pop()
    result = imported(tmp_path, images, "f0.geojson", json.dumps(collection))
    assert result.exit_code == 3
    assert "exists: give another folder, or --overwrite [exists]" in result.stderr
    rois(tmp_path / "drawn" / "a" / "f0.zip")
    result = imported(tmp_path, images, "f0.geojson", geojson(), "--overwrite")
    assert "it has several annotations, a/f0.geojson and a/f0.zip: keep one, or choose with --from" in result.stderr
    assert imported(tmp_path, images, "f0.geojson", geojson(), "--overwrite", "--from", "geojson").exit_code == 0


def test_classes_corrected_by_hand_stay(tmp_path: Path, images: Path) -> None:
    table = tmp_path / "masks" / "a" / "f0_objects.csv"
    assert imported(tmp_path, images, "f0.geojson", geojson()).exit_code == 0
    first = table.read_text()
    table.write_text(first.replace("1,Nucleus", "1,Tumor"))
    assert imported(tmp_path, images, "f0.geojson", geojson()).exit_code == 0
    assert table.read_text() == first.replace("1,Nucleus", "1,Tumor") != first
    # A killed import can leave a mask without its table.
    table.unlink()
    assert imported(tmp_path, images, "f0.geojson", geojson()).exit_code == 0
    assert table.read_text() == first
    table.write_text(first.replace("1,Nucleus", "1,Tumor"))
    assert imported(tmp_path, images, "f0.geojson", geojson(), "--overwrite").exit_code == 0
    assert table.read_text() == first


def test_every_kind_of_shape(tmp_path: Path, images: Path) -> None:
    mask = imagecodecs.png_encode((np.ones((3, 4), np.uint8)) * 255)
    shapes = [
        {"label": "a", "shape_type": "rectangle", "points": [[1, 1], [5, 4]]},
        {"label": "b", "shape_type": "circle", "points": [[20, 20], [23, 20]]},
        {"label": "c", "shape_type": "mask", "points": [[40, 10], [44, 13]], "mask": base64.b64encode(mask).decode()},
        {"label": "d", "shape_type": "polygon", "points": [[50, 1], [52, 1], [52, 3], [50, 3]], "group_id": 1},
        {"label": "d", "shape_type": "polygon", "points": [[60, 1], [62, 1], [62, 3], [60, 3]], "group_id": 1},
        {"label": "e", "shape_type": "point", "points": [[9, 9]]},
    ]
    text = json.dumps({"shapes": shapes, "imagePath": "f0.tif"})
    assert imported(tmp_path, images, "f0.json", text).exit_code == 0
    labels = read_labels(tmp_path / "masks" / "a" / "f0_labels.ome.tif")
    assert np.bincount(labels.ravel())[1:].tolist() == [12, 32, 12, 8]
    regions = [
        {"name": "rect", "x": 1, "y": 1, "width": 4, "height": 3},
        {"name": "circle", "cx": 20, "cy": 20, "r": 3},
        {"name": "ellipse", "cx": 40, "cy": 30, "rx": 4, "ry": 2, "theta": 0.0},
        {"name": "polyline", "all_points_x": [1, 2], "all_points_y": [1, 2]},
    ]
    text = json.dumps({"f": {"filename": "a/f0.tif", "regions": [{"shape_attributes": one} for one in regions]}})
    (tmp_path / "drawn" / "a" / "f0.json").unlink()
    assert imported(tmp_path, images, "via.json", text, "--overwrite").exit_code == 0
    labels = read_labels(tmp_path / "masks" / "a" / "f0_labels.ome.tif")
    assert np.bincount(labels.ravel())[1:].tolist() == [12, 32, 28]


@pytest.mark.parametrize("name", ["drug_0.5uM_01", "Zelle ä 1.2 (3)", "x.y.z", "a%20b #2"])
@pytest.mark.parametrize("ending", ["_cp_masks.png", ".png", "_RoiSet.zip", ".geojson"])
def test_points_in_names_are_no_endings(tmp_path: Path, name: str, ending: str) -> None:
    grey = (cells() > 0).astype(np.uint8) * 200
    for image in (name, name[:-1] + "7"):
        (tmp_path / "images").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "images" / f"{image}.tif", grey)
    drawn = tmp_path / "drawn" / f"{name}{ending}"
    drawn.parent.mkdir()
    if ending.endswith(".png"):
        drawn.write_bytes(imagecodecs.png_encode(cells().astype(np.uint8)))
    elif ending.endswith(".zip"):
        rois(drawn)
    else:
        drawn.write_text(geojson())
    done("import", drawn.parent, "--images", tmp_path / "images", "-o", tmp_path / "masks")
    found = read_labels(tmp_path / "masks" / f"{name}_labels.ome.tif")
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, cells())


@pytest.mark.parametrize("target", [*EXPORTS, "masks"])
def test_images_of_one_file_come_back_one_by_one(tmp_path: Path, target: str) -> None:
    """What export writes for a file of several images names their numbers, ``f.1_s02_RoiSet.zip``."""
    images, drawn = tmp_path / "images", tmp_path / "drawn"
    for folder in (images, drawn):
        folder.mkdir()
    with tifffile.TiffWriter(images / "f.1.ome.tif", ome=True) as writer:
        for _ in range(3):
            writer.write(np.zeros((HEIGHT, WIDTH), np.uint8), metadata={"axes": "YX"}, photometric="minisblack")
    if target == "imagej":
        rois(drawn / "f.1_s02_RoiSet.zip")
    elif target == "geojson":
        (drawn / "f.1_s02_cells.geojson").write_text(geojson())
    elif target == "coco":
        (drawn / "coco.json").write_text(json.dumps(coco(file_name="f.1.ome.tif", series=2)))
    else:
        write_labels(drawn / "f.1_s02_labels.ome.tif", cells())
    done("import", drawn, "--images", images, "-o", tmp_path / "masks")
    assert [path.name for path in (tmp_path / "masks").glob("*.tif")] == ["f.1_s02_labels.ome.tif"]
    np.testing.assert_array_equal(read_labels(tmp_path / "masks" / "f.1_s02_labels.ome.tif"), cells())


def test_drawn_annotations_beside_their_images_need_no_option(tmp_path: Path, images: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a").mkdir()
    (tmp_path / "annotations" / "a" / "f0.geojson").write_text(geojson())
    done("import", tmp_path, "-o", tmp_path / "masks")
    np.testing.assert_array_equal(read_labels(tmp_path / "masks" / "images" / "a" / "f0_labels.ome.tif"), cells())


def test_classes_that_a_run_has_no_place_for_are_said(tmp_path: Path, images: Path, tiny_model: Path) -> None:
    out, path = tmp_path / "out", tmp_path / "drawn" / "a" / "f0.geojson"
    done("segment", images, "-o", out, "-m", tiny_model, "--overlays", "none", "--diameter", "model")
    drawn = json.loads(geojson())
    for number, each in enumerate(drawn["features"]):
        each["properties"]["classification"] = {"name": ("tumour", "stroma")[number % 2]}
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(drawn))
    said = "regions of several classes are cells: stroma, tumour; "
    result = done("import", tmp_path / "drawn", "--into", out)
    assert f"{said}classes are left out, as the model of the run has none: give -o" in result.stderr
    assert not list(out.rglob("*_objects.csv"))
    result = done("import", tmp_path / "drawn", "--into", out, "-o", tmp_path / "masks")
    assert f"{said}x_objects.csv beside the mask holds their classes" in result.stderr
    assert list((tmp_path / "masks").rglob("*_objects.csv"))


def test_one_colour_for_each_class_is_said(tmp_path: Path) -> None:
    """Cells of two classes, as CVAT writes them into SegmentationClass."""
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
    classes = np.zeros((160, 160), int)
    for top, left in np.ndindex(6, 6):
        classes[24 * top + 4 : 24 * top + 12, 24 * left + 4 : 24 * left + 12] = 1 + (top + left) % 2
    tifffile.imwrite(tmp_path / "f0.tif", (classes > 0).astype(np.uint8))
    (tmp_path / "f0.png").write_bytes(imagecodecs.png_encode(colours[classes]))
    given = ["import", tmp_path / "f0.png", "--images", tmp_path / "f0.tif", "-o", tmp_path / "masks"]
    result = done(*given)
    assert result.stdout.startswith("1 image, 2 cells")
    assert "2 of 2 numbers or colours stand in parts that are far from each other" in result.stderr
    result = done(*given, "--split-components", "--overwrite")
    assert result.stdout.startswith("1 image, 36 cells")
    assert "far from each other" not in result.stderr
