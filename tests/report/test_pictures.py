"""Pictures with axes: that they show what they were given."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from unetbio.errors import UsageError
from unetbio.report.overlays import PALETTE
from unetbio.report.pictures import draw_weight_map


def test_cells_ignored_pixels_and_weights_are_drawn(tmp_path: Path) -> None:
    label_image = np.zeros((60, 80), np.int64)
    label_image[10:30, 10:30], label_image[10:30, 30:60], label_image[50:] = 7, 9, -1
    weights = np.where(label_image == 0, 3.0, 1.0)
    draw_weight_map(label_image, weights, tmp_path / "x.png")
    picture = imagecodecs.imread(tmp_path / "x.png")[..., :3]
    left = {tuple(int(value) for value in pixel) for pixel in picture[:, : picture.shape[1] // 2].reshape(-1, 3)}
    colours = {tuple(int(value) for value in colour) for colour in PALETTE} & left
    assert len(colours) == 2  # neighbours differ
    assert {(0, 0, 0), (110, 110, 110)} <= left
    assert list(tmp_path.iterdir()) == [tmp_path / "x.png"]


def test_of_a_stack_the_plane_with_most_weight_is_drawn(tmp_path: Path) -> None:
    label_image = np.zeros((2, 3, 50, 50), np.uint16)
    weights = np.ones(label_image.shape, np.float32)
    weights[1, 2, 10:40, 10:40] = 8
    draw_weight_map(label_image, weights, tmp_path / "stack.png")
    draw_weight_map(label_image[1, 2], weights[1, 2], tmp_path / "plane.png")
    stack, plane = (imagecodecs.imread(tmp_path / f"{name}.png") for name in ("stack", "plane"))
    below_titles = stack.shape[0] // 10
    np.testing.assert_array_equal(stack[below_titles:], plane[below_titles:])


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (1500, 20)])
def test_any_size_can_be_drawn(tmp_path: Path, shape: tuple[int, int]) -> None:
    draw_weight_map(np.ones(shape, np.uint16), np.ones(shape), tmp_path / "x.png")
    assert max(imagecodecs.imread(tmp_path / "x.png").shape) < 3000


def test_shapes_that_differ(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"labels of shape \(4, 4\) beside weights of shape \(4, 5\)"):
        draw_weight_map(np.zeros((4, 4), int), np.zeros((4, 5)), tmp_path / "x.png")
