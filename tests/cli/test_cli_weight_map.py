"""The command that writes and draws weight maps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from unetbio.cli.main import main
from unetbio.io import read_image, write_labels
from unetbio.supervision.class_weights import class_weights
from unetbio.supervision.weight_maps import weight_map


@pytest.fixture
def label_image() -> NDArray[np.uint16]:
    label_image = np.zeros((40, 50), np.uint16)
    label_image[5:20, 5:25] = 1
    label_image[5:20, 25:40] = 2  # touches 1
    label_image[24:36, 10:30] = 3
    return label_image


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["weight-map", *(str(argument) for argument in arguments)])


def written(path: Path) -> NDArray[Any]:
    return read_image(path).read()


def test_a_label_image_becomes_a_map_and_a_picture(tmp_path: Path, label_image: NDArray[np.uint16]) -> None:
    write_labels(tmp_path / "zelle ü.ome.tif", label_image)
    result = run(tmp_path / "zelle ü.ome.tif", "-o", tmp_path / "out", "--class-weights", "1,2", "--border-sigma", 3)
    assert result.stdout == f"1 weight map, 0 failed: {tmp_path / 'out'}\n"
    weights = written(tmp_path / "out" / "zelle ü_weights.tif")
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights, weight_map(label_image, class_weights=(1, 2), border_sigma=3))
    assert (tmp_path / "out" / "zelle ü_weights.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_automatic_class_weights_count_all_files(tmp_path: Path, label_image: NDArray[np.uint16]) -> None:
    write_labels(tmp_path / "in" / "a.tif", label_image)
    write_labels(tmp_path / "in" / "b.tif", np.zeros_like(label_image))
    result = run(tmp_path / "in", "-o", tmp_path / "out", "--border-weight", 0)
    cells = np.count_nonzero(label_image) - 15  # the gap between 1 and 2
    background, cell = class_weights([2 * label_image.size - cells, cells])
    assert np.unique(written(tmp_path / "out" / "a_weights.tif")) == pytest.approx([background, cell])
    assert np.unique(written(tmp_path / "out" / "b_weights.tif")) == pytest.approx([background])
    assert f"background {background:.3f}, cells {cell:.3f}" in result.stderr


def test_what_is_not_annotated_makes_no_mask_of_foreground(tmp_path: Path) -> None:
    label_image = np.zeros((40, 50), np.uint8)
    label_image[30:] = 255
    write_labels(tmp_path / "x.tif", label_image)
    result = run(tmp_path / "x.tif", "-o", tmp_path, "--ignore-label", 255, "--class-weights", "1,1")
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(written(tmp_path / "x_weights.tif"), label_image == 0)


def test_pixels_that_are_not_annotated_weigh_nothing(tmp_path: Path, label_image: NDArray[np.uint16]) -> None:
    label_image[30:] = 255
    write_labels(tmp_path / "x.tif", label_image)
    run(tmp_path / "x.tif", "-o", tmp_path, "--ignore-label", 255, "--class-weights", "1,1")
    weights = written(tmp_path / "x_weights.tif")
    assert (weights[30:] == 0).all()
    assert (weights[:30] >= 1).all()


def test_masks_are_split_when_asked_for(tmp_path: Path) -> None:
    mask = np.zeros((30, 30), np.uint8)
    mask[5:12, 5:25] = mask[14:25, 5:25] = 255
    write_labels(tmp_path / "x.tif", mask)
    refused = run(tmp_path / "x.tif", "-o", tmp_path)
    assert refused.exit_code == 3
    assert "0 weight maps, 1 failed" in refused.stdout
    run(tmp_path / "x.tif", "-o", tmp_path, "--split-components")
    assert written(tmp_path / "x_weights.tif")[13, 15] > 5


@pytest.mark.parametrize("is_colour", [False, True])
def test_spacing_comes_from_the_file_or_the_option(tmp_path: Path, is_colour: bool) -> None:
    """Also of a label image that was saved as a grey picture with three colours."""
    stack = np.zeros((5, 20, 20), np.uint16)
    stack[0, 5:15, 5:15], stack[4, 5:15, 5:15] = 1, 2
    write_labels(tmp_path / "x.ome.tif", stack, pixel_size_um={"Z": 0.6, "Y": 0.3, "X": 0.3})
    if is_colour:
        sizes = {"PhysicalSizeZ": 0.6, "PhysicalSizeY": 0.3, "PhysicalSizeX": 0.3}
        colours = np.stack([stack.astype(np.uint8)] * 3, axis=-1)
        tifffile.imwrite(tmp_path / "x.ome.tif", colours, photometric="rgb", metadata={"axes": "ZYXS", **sizes})
    options = ("-o", tmp_path, "--overwrite", "--class-weights", "1,1")
    run(tmp_path / "x.ome.tif", *options)
    np.testing.assert_array_equal(written(tmp_path / "x_weights.tif"), weight_map(stack, spacing=(2, 1, 1)))
    run(tmp_path / "x.ome.tif", *options, "--spacing", "6,2,2")
    np.testing.assert_array_equal(written(tmp_path / "x_weights.tif"), weight_map(stack, spacing=(3, 1, 1)))


def test_time_points_are_no_neighbours(tmp_path: Path, label_image: NDArray[np.uint16]) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.stack([label_image, label_image.T.reshape(label_image.shape)]))
    run(tmp_path / "x.tif", "-o", tmp_path, "--class-weights", "1,1", "--axes", "TYX")
    weights = written(tmp_path / "x_weights.tif")
    np.testing.assert_array_equal(weights[0], weight_map(label_image))


def test_one_broken_file_fails_alone(tmp_path: Path, label_image: NDArray[np.uint16]) -> None:
    (tmp_path / "a.tif").write_bytes(b"no image")
    write_labels(tmp_path / "b.tif", label_image)
    result = run(tmp_path / "a.tif", tmp_path / "b.tif", "-o", tmp_path / "out")
    assert result.exit_code == 3
    assert result.stdout == f"1 weight map, 1 failed: {tmp_path / 'out'}\n"
    assert result.stderr.splitlines()[1].startswith(f"unetbio: error: {tmp_path / 'a.tif'}: ")


def test_an_image_in_place_of_its_labels_fails_alone(tmp_path: Path, label_image: NDArray[np.uint16]) -> None:
    (tmp_path / "in").mkdir()
    write_labels(tmp_path / "in" / "good.tif", label_image)
    noise = np.random.default_rng(0).poisson(100, (64, 64)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "in" / "image.tif", noise)
    result = run(str(tmp_path / "in"), "-o", str(tmp_path / "out"))
    assert result.exit_code == 3
    assert "image.tif: the label image looks like an image, not like labels" in result.stderr
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["good_weights.png", "good_weights.tif"]


def test_nothing_is_replaced_unasked(tmp_path: Path, label_image: NDArray[np.uint16]) -> None:
    write_labels(tmp_path / "x.tif", label_image)
    assert run(tmp_path / "x.tif", "-o", tmp_path).exit_code == 0
    again = run(tmp_path / "x.tif", "-o", tmp_path)
    assert again.exit_code == 2
    assert "x_weights.tif exists already: choose another output folder, or --overwrite it" in again.stderr
    assert run(tmp_path / "x.tif", "-o", tmp_path, "--overwrite").exit_code == 0


@pytest.mark.parametrize("text", ["1;1", "nan,1", "1,inf"])
def test_numbers_that_are_none(tmp_path: Path, label_image: NDArray[np.uint16], text: str) -> None:
    write_labels(tmp_path / "x.tif", label_image)
    result = run(tmp_path / "x.tif", "-o", tmp_path, "--spacing", text)
    assert result.exit_code == 2
    assert "needs finite numbers with commas between them" in result.stderr
