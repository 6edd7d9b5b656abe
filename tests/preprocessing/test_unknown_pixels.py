"""Pixels without a grey value: filled for the network, background in the mask where too many lie together."""

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

import unetbio
from unetbio.cli.main import main
from unetbio.errors import ImageError, UsageError
from unetbio.io import read_labels
from unetbio.preprocessing.unknown_pixels import fill
from unetbio.segmentation.unknown_pixels import without_unknown
from unetbio.settings.segmentation import Settings
from unetbio.targets.base import Finished

NAN = np.nan


def test_single_pixels_take_the_value_of_the_nearest() -> None:
    image = np.arange(36, dtype=np.float32).reshape(1, 6, 6)
    image[0, 2, 2] = NAN
    image[0, 3, 4] = np.inf
    filled, unknown = fill(image)
    assert unknown is not None
    assert (unknown.filled, unknown.unknown) == (2, 0)
    assert filled[0, 2, 2] in (8, 13, 15, 20)
    assert filled[0, 3, 4] in (16, 21, 23, 28)
    known = np.isfinite(image)
    np.testing.assert_array_equal(filled[known], image[known])


def test_a_strip_at_the_border_and_a_large_part_stay_unknown() -> None:
    image = np.ones((1, 12, 12), np.float32)
    image[0, :, 0] = NAN
    image[0, 4:8, 4:8] = NAN
    image[0, 10, 10] = NAN
    filled, unknown = fill(image)
    assert unknown is not None
    expected = np.isnan(image[0])
    expected[10, 10] = False
    np.testing.assert_array_equal(unknown.mask, expected)
    assert unknown.filled == 1
    assert (filled == 1).all()


def test_a_pixel_is_unknown_where_one_channel_is() -> None:
    image = np.ones((2, 5, 5), np.float64)
    image[1] = NAN
    filled, unknown = fill(image)
    assert unknown is not None
    assert unknown.mask.all()
    assert not filled[1].any()


def test_sections_that_are_segmented_one_by_one_have_holes_of_their_own() -> None:
    # A dead pixel of the camera in all sections, and a section without grey values.
    image = np.arange(12 * 36, dtype=np.float32).reshape(1, 12, 6, 6)
    image[0, :, 3, 3] = NAN
    image[0, 5] = NAN
    filled, unknown = fill(image, in_sections=True)
    assert unknown is not None
    assert (unknown.filled, unknown.unknown) == (11, 36)
    for z in (0, 4, 11):
        alone, of_section = fill(image[:, z])
        assert of_section is not None
        np.testing.assert_array_equal(unknown.mask[z], of_section.mask)
        np.testing.assert_array_equal(filled[:, z], alone)
    assert np.isin(filled[0, 5][np.arange(36).reshape(6, 6) != 21], image[0, [4, 6]]).all()


def test_a_dead_pixel_is_the_same_in_a_stack_as_in_a_section(discs: np.ndarray, tiny_model: Path) -> None:
    stack = np.stack([discs] * 12).astype(np.float32)
    stack[:, 45, 30] = NAN
    options = {"axes": "ZYX", "nan": "fill", "normalize": "0,200", "device": "cpu"}
    labels, info = unetbio.segment(stack, tiny_model, z="each", **options)
    alone, of_section = unetbio.segment(stack, tiny_model, z=3, **options)
    assert "filled:1" in of_section["frames"][0]["warnings"]
    assert "filled:12" in info["frames"][0]["warnings"]
    np.testing.assert_array_equal(labels[3] > 0, alone > 0)


def test_cells_of_which_too_little_is_known_are_dropped(images: Path, tiny_model: Path) -> None:
    options = {"nan": "fill", "device": "cpu"}
    cut, info = unetbio.segment(images / "broken.tif", tiny_model, **options)
    assert info["n_cells"] == 3
    areas = np.bincount(cut.ravel())[1:]
    assert (areas < 30).tolist() == [False, True, False]
    labels, info = unetbio.segment(images / "broken.tif", tiny_model, min_area=30, **options)
    assert info["n_cells"] == 2
    np.testing.assert_array_equal(labels, np.array([0, 1, 0, 2])[cut])
    # In each section too, and a cell of exactly so many pixels is kept.
    stack = np.stack([tifffile.imread(images / "broken.tif")] * 2)
    for least, cells in ((areas.min(), 6), (areas.min() + 1, 4)):
        _, info = unetbio.segment(stack, tiny_model, axes="ZYX", z="each", min_area=least, **options)
        assert info["n_cells"] == cells


@pytest.mark.parametrize("image", [np.ones((1, 3, 3), np.float32), np.ones((1, 3, 3), np.uint16)])
def test_images_without_such_pixels_are_untouched(image: np.ndarray) -> None:
    assert fill(image) == (image, None) or fill(image)[0] is image


def test_objects_that_are_gone_leave_their_table() -> None:
    labels = np.array([[1, 1, 0, 2, 0, 3]], np.uint16)
    unknown = np.array([[True, True, True, False, False, False]])
    objects = {"label": np.array([1, 2, 3]), "score": np.array([0.5, 0.6, 0.7])}
    found = without_unknown(Finished(labels, objects), unknown, are_cells=True)
    assert found.labels.tolist() == [[0, 0, 0, 1, 0, 2]]
    assert found.objects is not None
    assert found.objects["label"].tolist() == [1, 2]
    assert found.objects["score"].tolist() == [0.6, 0.7]
    classes = without_unknown(Finished(labels.astype(np.uint8)), unknown, are_cells=False)
    assert classes.labels.tolist() == [[0, 0, 0, 2, 0, 3]]


@pytest.fixture
def images(tmp_path: Path, discs: np.ndarray) -> Path:
    """An image with a strip of NaN over a cell and a dead pixel, as registration leaves them."""
    folder = tmp_path / "images"
    folder.mkdir()
    tifffile.imwrite(folder / "whole.tif", discs.astype(np.float32))
    broken = discs.astype(np.float32)
    broken[:, :20] = NAN
    broken[40, 50] = NAN
    tifffile.imwrite(folder / "broken.tif", broken)
    return folder


def test_a_run_fills_when_asked_and_says_so_in_the_row(images: Path, tmp_path: Path, tiny_model: Path) -> None:
    out = tmp_path / "out"
    line = ["segment", str(images), "-o", str(out), "--model", str(tiny_model), "--device", "cpu"]
    refused = CliRunner().invoke(main, line)
    assert refused.exit_code == 3
    assert (
        "pixels are NaN or infinite: replace them with grey values, for example zeros, or give --nan fill"
        in refused.stderr
    )
    result = CliRunner().invoke(main, [*line, "--nan", "fill"])
    assert result.exit_code == 0, result.output
    with open(out / "summary.csv", newline="") as stream:
        warnings = {row["path"]: row["warnings"] for row in csv.DictReader(stream)}
    broken = tifffile.imread(images / "broken.tif")
    assert f"unknown:{len(broken) * 20}" in warnings["broken.tif"]
    assert "filled:1" in warnings["broken.tif"]
    assert f"{len(broken) * 20} pixels are NaN or infinite, and background in the mask [unknown]" in result.stderr
    whole, found = (read_labels(out / f"{name}_labels.ome.tif", allow_binary=True) for name in ("whole", "broken"))
    assert not found[:, :20].any()
    np.testing.assert_array_equal(found[:, 24:] > 0, whole[:, 24:] > 0)
    assert sorted(np.unique(found)) == list(range(found.max() + 1))
    before = (out / "cells.csv").read_text()
    assert CliRunner().invoke(main, ["measure", str(out), "--overwrite"]).exit_code == 0
    assert (out / "cells.csv").read_text() == before


def test_results_of_whole_images_do_not_depend_on_the_option(discs: np.ndarray, tiny_model: Path) -> None:
    _, refused = unetbio.segment(discs, tiny_model)
    assert "nan" not in refused["settings"]
    _, filled = unetbio.segment(discs, tiny_model, nan="fill")
    assert filled["label_hash"] == refused["label_hash"]
    with pytest.raises(UsageError, match="nan 'drop' must be refuse or fill"):
        Settings(nan="drop")  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="or give --nan fill"):
        unetbio.segment(np.full((32, 32), NAN, np.float32), tiny_model)


def test_check_finds_such_pixels_unless_they_are_filled(images: Path) -> None:
    line = ["check", str(images), "--no-model"]
    assert "not_finite" in CliRunner().invoke(main, line).stdout
    assert "not_finite" not in CliRunner().invoke(main, [*line, "--nan", "fill"]).stdout
