"""NIfTI masks whose voxels stand in another order than those of their image: all commands see the same places."""

import json
import os
import shutil
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import polars as pl
import pytest
from annotation_files import done, run
from numpy.typing import NDArray

from unetbio.results.corrections import find_masks_of_run
from unetbio.viewer.document import Document
from unetbio.viewer.edits import delete

Array = NDArray[Any]
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

MIRRORED = [[0, -1], [1, 1], [2, 1]]
TRANSPOSED = [[1, 1], [0, -1], [2, 1]]


@pytest.fixture
def out(tmp_path: Path, tiny_model: Path, discs: Array) -> Path:
    """A run over a volume of three sections."""
    (tmp_path / "images").mkdir()
    volume = np.stack([discs, discs, discs]).transpose(2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([0.5, 0.5, 2, 1])), tmp_path / "images" / "v.nii.gz")
    segment(tmp_path / "images", tmp_path / "out", tiny_model)
    return tmp_path / "out"


def segment(images: Path, out: Path, model: Path, *more: str) -> None:
    given = ("-m", model, "--z", "each", "--link", "0.25", "--diameter", "model", "--workers", "1", *more)
    done("segment", images, "-o", out, *given, "--overlays", "none")


def mask_of(out: Path) -> Path:
    return out / "v_labels.nii.gz"


def voxels(path: Path) -> Array:
    """``(X, Y, Z)``."""
    return np.asarray(nibabel.load(path).dataobj).astype(np.uint16)


def save_in_another_order(source: Path, target: Path, turns: list[list[int]]) -> Array:
    """Save a mask without its first cell, with other axes; returns it in the order that it had."""
    mask = nibabel.load(source)
    right = voxels(source)
    right[right == 1] = 0
    turned = nibabel.Nifti1Image(right, mask.affine).as_reoriented(np.array(turns))
    assert not np.array_equal(np.asarray(turned.dataobj), right)
    nibabel.save(turned, target)
    return right


@pytest.mark.parametrize("turns", [MIRRORED, TRANSPOSED], ids=["mirrored", "transposed"])
def test_imported_masks_lie_on_their_image(out: Path, tmp_path: Path, turns: list[list[int]]) -> None:
    (tmp_path / "masks").mkdir()
    right = save_in_another_order(mask_of(out), tmp_path / "masks" / "v.nii.gz", turns)
    done("import", tmp_path / "masks", "--images", tmp_path / "images", "-o", tmp_path / "imported")
    done("import", tmp_path / "masks", "--into", out)
    for folder in (out, tmp_path / "imported"):
        np.testing.assert_array_equal(voxels(mask_of(folder)), right)
        np.testing.assert_allclose(nibabel.load(mask_of(folder)).affine, np.diag([0.5, 0.5, 2, 1]), atol=1e-6)


def test_masks_imported_into_a_run_lie_on_an_image_whose_name_ends_in_capitals(
    out: Path, tmp_path: Path, tiny_model: Path
) -> None:
    (tmp_path / "images" / "v.nii.gz").rename(tmp_path / "images" / "v.NII.GZ")
    shutil.rmtree(out)
    segment(tmp_path / "images", out, tiny_model)
    (tmp_path / "masks").mkdir()
    right = save_in_another_order(mask_of(out), tmp_path / "masks" / "v.nii.gz", MIRRORED)
    done("import", tmp_path / "masks", "--into", out)
    np.testing.assert_array_equal(voxels(mask_of(out)), right)


def test_masks_imported_into_a_run_of_a_region_lie_on_it(tmp_path: Path, out: Path, tiny_model: Path) -> None:
    segment(tmp_path / "images", tmp_path / "part", tiny_model, "--region", "6,8,70,50")
    (own,) = (tmp_path / "part").glob("*_labels.nii.gz")
    (tmp_path / "masks").mkdir()
    right = save_in_another_order(own, tmp_path / "masks" / own.name, MIRRORED)
    done("import", tmp_path / "masks", "--into", tmp_path / "part")
    np.testing.assert_array_equal(voxels(own), right)


@pytest.mark.parametrize("gone", ["images/v.nii.gz", "out/v_labels.json"])
def test_masks_imported_into_a_run_without_its_image_lie_on_its_mask(
    out: Path, tmp_path: Path, tiny_model: Path, gone: str
) -> None:
    (tmp_path / "masks").mkdir()
    right = save_in_another_order(mask_of(out), tmp_path / "masks" / "v.nii.gz", MIRRORED)
    (tmp_path / gone).unlink()
    result = done("import", tmp_path / "masks", "--into", out)
    np.testing.assert_array_equal(voxels(mask_of(out)), right)
    assert "says where its voxels lie" not in result.stderr


def test_an_import_into_a_run_says_where_nothing_places_its_masks(tmp_path: Path, out: Path, tiny_model: Path) -> None:
    (tmp_path / "masks").mkdir()
    save_in_another_order(mask_of(out), tmp_path / "masks" / "v.nii.gz", MIRRORED)
    # OME-TIFF does not hold the place of a volume.
    segment(tmp_path / "images", tmp_path / "tiff", tiny_model, "--format", "ome-tiff")
    (tmp_path / "images" / "v.nii.gz").unlink()
    result = done("import", tmp_path / "masks", "--into", tmp_path / "tiff")
    assert result.stderr.count("v.nii.gz: neither image nor mask says where its voxels lie") == 1


def test_a_mask_of_another_place_is_refused(out: Path, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    moved = np.diag([0.5, 0.5, 2, 1])
    moved[0, 3] = 5
    nibabel.save(nibabel.Nifti1Image(voxels(mask_of(out)), moved), tmp_path / "masks" / "v.nii.gz")
    result = run("import", tmp_path / "masks", "--images", tmp_path / "images", "-o", tmp_path / "imported")
    assert result.exit_code == 3
    assert "its voxels are not those of the image: they begin at voxel 10, 0, 0" in result.stderr
    nibabel.save(nibabel.Nifti1Image(voxels(mask_of(out))[::-1], moved), mask_of(out))
    result = run("export", out, "--to", "coco")
    assert result.exit_code == 3
    assert "v_labels.nii.gz: its voxels are not those of the image" in result.stderr


def test_a_copied_mask_is_made_again_where_its_image_has_another_place_now(
    out: Path, tmp_path: Path, tiny_model: Path
) -> None:
    """A copy has another time, and no work by hand that a run would keep."""
    os.utime(mask_of(out), (0, 0))
    path = tmp_path / "images" / "v.nii.gz"
    moved = np.diag([0.5, 0.5, 2, 1])
    moved[0, 3] = 5
    nibabel.save(nibabel.Nifti1Image(voxels(path).astype(np.uint8), moved), path)
    segment(tmp_path / "images", out, tiny_model)
    np.testing.assert_allclose(nibabel.load(mask_of(out)).affine, moved, atol=1e-6)


def test_a_mask_that_lost_its_place_alone_is_as_its_run_wrote_it(out: Path) -> None:
    right = voxels(mask_of(out))
    nibabel.save(nibabel.Nifti1Image(right, np.diag([-1, 1, 1, 1])), mask_of(out))
    document = Document(out, find_masks_of_run(out)[0])
    assert not document.is_edited
    document.correct(2, document.version, lambda volume, z, largest: delete(volume, [2]))
    np.testing.assert_array_equal(voxels(mask_of(out)), np.where(right == 2, 0, right))
    np.testing.assert_allclose(nibabel.load(mask_of(out)).affine, np.diag([0.5, 0.5, 2, 1]), atol=1e-6)


@pytest.mark.parametrize("turns", [MIRRORED, TRANSPOSED], ids=["mirrored", "transposed"])
def test_outlines_of_edited_masks_lie_on_their_image(out: Path, tmp_path: Path, turns: list[list[int]]) -> None:
    right = save_in_another_order(mask_of(out), mask_of(out), turns)
    result = done("export", out, "--to", "coco")
    assert result.stderr.count("its voxels are turned into the order of v.nii.gz") == 1
    found = json.loads((out / "coco.json").read_text())["annotations"]
    boxes = {each["label"]: each["bbox"][:2] for each in found}
    assert boxes == {cell: np.argwhere(right == cell).min(axis=0)[:2].tolist() for cell in (2, 3)}


def test_edited_masks_are_seen_and_corrected_on_their_image(out: Path) -> None:
    right = save_in_another_order(mask_of(out), mask_of(out), MIRRORED)
    document = Document(out, find_masks_of_run(out)[0])
    tile = np.frombuffer(zlib.decompress(document.label_tile(2, 0, 0, 0)), "<u4")
    np.testing.assert_array_equal(tile.reshape(right.shape[1::-1]), right[..., 2].T)
    document.correct(2, document.version, lambda volume, z, largest: delete(volume, [2]))
    saved = nibabel.as_closest_canonical(nibabel.load(mask_of(out)))
    np.testing.assert_array_equal(np.asarray(saved.dataobj), np.where(right == 2, 0, right))


def test_nuclei_and_cells_of_other_orders_are_related(out: Path, tmp_path: Path, tiny_model: Path) -> None:
    segment(tmp_path / "images", tmp_path / "cells", tiny_model)
    save_in_another_order(mask_of(out), mask_of(out), MIRRORED)
    done("relate", out, tmp_path / "cells", "-o", tmp_path / "related")
    parents = pl.read_csv(tmp_path / "related" / "parents.csv")
    assert parents.select("label", "parent", "overlap").rows() == [(2, 2, 1), (3, 3, 1)]
