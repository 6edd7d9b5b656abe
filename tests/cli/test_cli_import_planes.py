"""``unetbio import``: regions and masks of stacks and time-lapses go to the planes that they were drawn on."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import roifile
import tifffile
from annotation_files import done, run
from numpy.typing import NDArray

from unetbio.io import read_image, read_labels, write_labels

Array = NDArray[Any]
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

HEIGHT, WIDTH = 40, 50
RING = [[5, 5], [15, 5], [15, 15], [5, 15]]
OTHER = [[25, 20], [35, 20], [35, 30], [25, 30]]


def stack(tmp_path: Path, axes: str, *shape: int) -> Path:
    path = tmp_path / "images" / "x.tif"
    path.parent.mkdir(exist_ok=True)
    grey = np.zeros((*shape, HEIGHT, WIDTH), np.uint8)
    tifffile.imwrite(path, grey, imagej=True, metadata={"axes": axes})
    return path.parent


def drawn(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / "drawn" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path.parent


def planes_of(path: Path) -> list[list[int]]:
    """Cells of each plane of a label image."""
    labels = read_labels(path, allow_binary=True)
    return [np.unique(plane[plane > 0]).tolist() for plane in labels.reshape(-1, *labels.shape[-2:])]


def imported(tmp_path: Path, folder: Path, images: Path, *options: object) -> list[list[int]]:
    done("import", folder, "--images", images, "-o", tmp_path / "masks", "--overwrite", *options)
    return planes_of(tmp_path / "masks" / "x_labels.ome.tif")


# --- QuPath -----------------------------------------------------------------------------------------------------------


def feature(ring: Any, **plane: int) -> dict[str, Any]:
    geometry: dict[str, Any] = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    if plane:
        geometry["plane"] = {"c": -1, **plane}
    return {"type": "Feature", "geometry": geometry, "properties": {"objectType": "annotation"}}


def qupath(*features: dict[str, Any]) -> str:
    return json.dumps({"type": "FeatureCollection", "features": features})


@pytest.mark.parametrize("axes", ["TYX", "ZYX"])
def test_qupath_leaves_out_the_first_plane(tmp_path: Path, axes: str) -> None:
    images = stack(tmp_path, axes, 3)
    later = {"t": 1, "z": 0} if axes == "TYX" else {"t": 0, "z": 1}
    folder = drawn(tmp_path, "x.geojson", qupath(feature(RING), feature(OTHER, **later)))
    assert imported(tmp_path, folder, images) == [[1], [2], []]
    # Of one plane, only its own regions.
    assert imported(tmp_path, folder, images, f"--{axes[0].lower()}", "1") == [[2]]
    drawn(tmp_path, "x.geojson", qupath(feature(RING)))
    result = done("import", folder, "--images", images, "-o", tmp_path / "masks", "--overwrite")
    assert (
        "x.tif: 1 regions without a plane, which lie in the first one as in QuPath; the other planes, which get no "
        "cells: 2" in result.stderr
    )
    assert planes_of(tmp_path / "masks" / "x_labels.ome.tif") == [[1], [], []]
    # A picture of one plane, which QuPath calls the first.
    assert imported(tmp_path, folder, images, f"--{axes[0].lower()}", "1") == [[1]]


# --- napari and Labkit ------------------------------------------------------------------------------------------------


def napari(*shapes: tuple[int, Any]) -> str:
    rows = [
        f"{number},polygon,{corner},{plane},{y - 0.5},{x - 0.5}"
        for number, (plane, ring) in enumerate(shapes)
        for corner, (x, y) in enumerate(ring)
    ]
    return "\n".join(["index,shape-type,vertex-index,axis-0,axis-1,axis-2", *rows, ""])


def labkit(*labels: tuple[int, Any]) -> str:
    pixels = {str(n): [[x, y, plane] for x, y in ring] for n, (plane, ring) in enumerate(labels, start=1)}
    return json.dumps({"interval": {"min": [0, 0, 0], "max": [WIDTH - 1, HEIGHT - 1, 2]}, "labels": pixels})


@pytest.mark.parametrize(("name", "write"), [("x.csv", napari), ("x.labeling", labkit)], ids=["napari", "labkit"])
@pytest.mark.parametrize("axes", ["TYX", "ZYX"])
def test_an_axis_without_name_is_that_of_the_image(tmp_path: Path, name: str, write: Any, axes: str) -> None:
    images = stack(tmp_path, axes, 3)
    folder = drawn(tmp_path, name, write((1, RING), (1, OTHER)))
    assert imported(tmp_path, folder, images) == [[], [1, 2], []]
    drawn(tmp_path, name, write((0, RING), (2, OTHER)))
    assert imported(tmp_path, folder, images) == [[1], [], [2]]
    assert imported(tmp_path, folder, images, f"--{axes[0].lower()}", "2") == [[2]]


@pytest.mark.parametrize(("name", "write"), [("x.csv", napari), ("x.labeling", labkit)], ids=["napari", "labkit"])
def test_an_axis_without_name_is_that_of_the_sections_if_there_are_times_too(
    tmp_path: Path, name: str, write: Any
) -> None:
    images = stack(tmp_path, "TZYX", 2, 2)
    folder = drawn(tmp_path, name, write((1, RING)))
    assert imported(tmp_path, folder, images) == [[], [1], [], [1]]
    assert imported(tmp_path, folder, images, "--z", "0") == [[], [1]]
    # With one section left, the axis is that of the times; an empty mask would say that there are no cells.
    drawn(tmp_path, name, write((5, RING)))
    result = run("import", folder, "--images", images, "-o", tmp_path / "more", "--z", "0")
    assert result.exit_code == 3
    assert "all regions lie in times that were left out, such as 5, by an axis that the file does not" in result.stderr


def test_an_axis_that_the_image_lacks_is_refused_with_a_remedy(tmp_path: Path) -> None:
    images = stack(tmp_path, "YX")
    folder = drawn(tmp_path, "x.csv", napari((0, RING), (1, OTHER)))
    result = run("import", folder, "--images", images, "-o", tmp_path / "masks")
    assert result.exit_code == 3
    assert (
        "drawn on 2 planes, the image has none; say --axes, such as TYX, with --images [wrong_planes]" in result.stderr
    )
    tifffile.imwrite(images / "x.tif", np.zeros((2, HEIGHT, WIDTH), np.uint8), photometric="minisblack")
    assert imported(tmp_path, folder, images, "--axes", "TYX") == [[1], [2]]


@pytest.mark.parametrize("name", ["x.geojson", "x.csv"], ids=["QuPath", "napari"])
def test_sections_that_a_run_projected_lie_on_its_plane(
    tmp_path: Path, tiny_model: Path, discs: Array, name: str
) -> None:
    (tmp_path / "images").mkdir()
    sections = np.stack([discs] * 4)
    tifffile.imwrite(tmp_path / "images" / "x.tif", sections, imagej=True, metadata={"axes": "ZYX"})
    out = tmp_path / "out"
    done("segment", tmp_path / "images", "-o", out, "-m", tiny_model, "--z", "max", "--overlays", "none")
    regions = qupath(feature(RING, z=1), feature(OTHER, z=2))
    text = regions if name == "x.geojson" else napari((1, RING), (2, OTHER))
    done("import", drawn(tmp_path, name, text), "--into", out)
    assert planes_of(out / "x_labels.ome.tif") == [[1, 2]]


# --- ImageJ: a stack of colour pictures -------------------------------------------------------------------------------


def test_the_colours_of_a_stack_are_one_plane_in_imagej(tmp_path: Path, tiny_model: Path, discs: Array) -> None:
    images = tmp_path / "images"
    images.mkdir()
    sections = np.stack([discs, np.roll(discs, 5, axis=1), discs[::-1]])
    # The colours differ: equal ones are read as grey.
    picture = np.stack([sections, sections // 2, sections], axis=-1)
    tifffile.imwrite(images / "x.tif", picture, photometric="rgb", imagej=True, metadata={"axes": "ZYXS"})
    assert read_image(images / "x.tif").axes == "CZYX"
    (tmp_path / "drawn").mkdir()
    region = roifile.ImagejRoi.frompoints(np.array(RING))
    region.position = 3
    roifile.roiwrite(tmp_path / "drawn" / "x_RoiSet.zip", [region], mode="w")
    assert imported(tmp_path, tmp_path / "drawn", images) == [[], [], [1]]
    out = tmp_path / "out"
    given = ["--z", "each", "--channel", "0", "--workers", "1", "--overlays", "none"]
    done("segment", images, "-o", out, "-m", tiny_model, *given)
    labels = read_labels(out / "x_labels.ome.tif")
    done("export", out, "--to", "imagej", "-o", tmp_path / "exported")
    regions = roifile.roiread(tmp_path / "exported" / "x_RoiSet.zip")
    assert {(one.position, one.z_position, one.t_position) for one in regions} == {(n, 0, 0) for n in (1, 2, 3)}
    write_labels(out / "x_labels.ome.tif", np.zeros_like(labels), axes="ZYX")
    done("import", tmp_path / "exported", "--into", out)
    np.testing.assert_array_equal(read_labels(out / "x_labels.ome.tif"), labels)


@pytest.mark.parametrize("axes", ["TYX", "ZYX"])
def test_regions_of_imagej_come_back_to_a_mask_without_provenance(
    tmp_path: Path, tiny_model: Path, discs: Array, axes: str
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    planes = np.stack([discs, np.roll(discs, 5, axis=1), discs[::-1]])
    tifffile.imwrite(images / "x.tif", planes, imagej=True, metadata={"axes": axes})
    out = tmp_path / "out"
    given = ["--z", "each"] if axes == "ZYX" else []
    done("segment", images, "-o", out, "-m", tiny_model, *given, "--workers", "1", "--overlays", "none")
    labels = read_labels(out / "x_labels.ome.tif")
    (out / "x_labels.json").unlink()
    done("export", out, "--to", "imagej", "-o", tmp_path / "exported")
    write_labels(out / "x_labels.ome.tif", np.zeros_like(labels), axes=axes)
    done("import", tmp_path / "exported", "--into", out)
    np.testing.assert_array_equal(read_labels(out / "x_labels.ome.tif"), labels)


# --- Planes that were left out ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.geojson", "x_RoiSet.zip"])
@pytest.mark.parametrize(("axes", "places"), [("TYX", "times"), ("ZYX", "sections")])
def test_regions_of_planes_that_were_left_out_empty_no_mask(
    tmp_path: Path, tiny_model: Path, discs: Array, axes: str, places: str, name: str
) -> None:
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "x.tif", np.stack([discs] * 4), imagej=True, metadata={"axes": axes})
    out = tmp_path / "out"
    given = [f"--{axes[0].lower()}", "1", "--workers", "1", "--overlays", "none"]
    done("segment", tmp_path / "images", "-o", out, "-m", tiny_model, *given)
    before = (out / "x_labels.ome.tif").read_bytes()
    later = {"t": 3, "z": 0} if axes == "TYX" else {"t": 0, "z": 3}
    folder = drawn(tmp_path, name, qupath(feature(RING, **later), feature(OTHER, **later)))
    if name.endswith(".zip"):
        region = roifile.ImagejRoi.frompoints(np.array(RING))
        region.position = 4
        roifile.roiwrite(folder / name, [region], mode="w")
    result = run("import", folder, "--into", out)
    assert result.exit_code == 3
    assert f"all regions lie in {places} that were left out, such as 3; the mask has 1: give regions" in result.stderr
    assert "[wrong_planes]" in result.stderr
    assert (out / "x_labels.ome.tif").read_bytes() == before


def test_an_image_may_have_no_cell_on_the_chosen_plane(tmp_path: Path) -> None:
    """A new mask takes no work by hand away."""
    images = stack(tmp_path, "ZYX", 4)
    folder = drawn(tmp_path, "x.geojson", qupath(feature(RING, t=0, z=3)))
    assert imported(tmp_path, folder, images, "--z", "1") == [[]]


# --- Times are images of their own ------------------------------------------------------------------------------------


def lapse(tmp_path: Path, model: Path, discs: Array) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    frames = np.stack([discs, np.roll(discs, 5, axis=1), discs[::-1]])
    tifffile.imwrite(images / "x.tif", frames, imagej=True, metadata={"axes": "TYX"})
    out = tmp_path / "out"
    done("segment", images, "-o", out, "-m", model, "--workers", "1", "--overlays", "none")
    return out


def test_times_without_a_corrected_file_stay_in_a_run(tmp_path: Path, tiny_model: Path, discs: Array) -> None:
    out = lapse(tmp_path, tiny_model, discs)
    labels = read_labels(out / "x_labels.ome.tif")
    corrected = np.where(labels[1] == 1, 70_000, 0).astype(np.uint32)
    write_labels(tmp_path / "drawn" / "x_RES" / "mask001.tif", corrected)
    result = done("import", tmp_path / "drawn", "--into", out, "-o", tmp_path / "masks")
    assert "x.tif: 2 of 3 times have no file: their cells stay as they were" in result.stderr
    expected = np.stack([labels[0], corrected, labels[2]])
    np.testing.assert_array_equal(read_labels(out / "x_labels.ome.tif"), expected)
    np.testing.assert_array_equal(read_labels(tmp_path / "masks" / "x_labels.ome.tif"), expected)
    result = done("import", tmp_path / "drawn", "--images", tmp_path / "images", "-o", tmp_path / "new")
    assert "x.tif: 2 of 3 times have no file, and get no cells: give one for each time, or --into" in result.stderr
    assert planes_of(tmp_path / "new" / "x_labels.ome.tif") == [[], [70_000], []]
    assert imported(tmp_path, tmp_path / "drawn", tmp_path / "images", "--t", "1") == [[70_000]]


def test_parts_of_a_mask_are_not_joined_over_time(tmp_path: Path) -> None:
    """A cell that divides: two cells of the second time touch the one of the first."""
    images = stack(tmp_path, "TYX", 2)
    mask = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    mask[0, 5:15, 5:35] = mask[1, 5:15, 5:15] = mask[1, 5:15, 25:35] = 255
    (tmp_path / "drawn").mkdir()
    tifffile.imwrite(tmp_path / "drawn" / "x_mask.tif", mask, imagej=True, metadata={"axes": "TYX"})
    assert imported(tmp_path, tmp_path / "drawn", images, "--split-components") == [[1], [1, 2]]


# --- Volumes of NIfTI -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("z", "first"), [("each", 0), ("1", 1)])
def test_corrected_masks_of_nifti_lie_on_their_images(
    tmp_path: Path, tiny_model: Path, discs: Array, z: str, first: int
) -> None:
    volume = np.stack([discs, np.roll(discs, 3, axis=1), discs[::-1]], axis=-1).transpose(1, 0, 2)
    matrix = np.diag([-0.0005, 0.0005, 0.002, 1])
    matrix[:3, 3] = 1, 2, 3
    (tmp_path / "images").mkdir()
    nibabel.save(nibabel.Nifti1Image(volume.astype(np.uint8), matrix), tmp_path / "images" / "v.nii.gz")
    out = tmp_path / "out"
    given = ["--z", z, "--workers", "1", "--overlays", "none"]
    done("segment", tmp_path / "images", "-o", out, "-m", tiny_model, *given)
    matrix[2, 3] += 0.002 * first
    done("export", out, "--to", "coco", "-o", tmp_path / "drawn")
    done("import", tmp_path / "drawn", "--into", out, "-o", tmp_path / "masks")
    np.testing.assert_allclose(nibabel.load(tmp_path / "masks" / "v_labels.nii.gz").affine, matrix, atol=1e-6)
