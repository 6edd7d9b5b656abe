"""Which pixels are cut out of layers, without a window."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tiny_model import write_tiny_model

import unetbio
from napari_unetbio.parts import cut
from unetbio.errors import ImageError
from unetbio.models.model_file import load_model
from unetbio.settings.normalization import Normalization


@dataclass
class _Layer:
    data: Any
    name: str = "image"
    rgb: bool = False
    multiscale: bool = False


STACK = np.arange(2 * 5 * 6).reshape(2, 5, 6)


def test_the_shown_plane() -> None:
    part = cut([_Layer(STACK)], "shown", (1, 3, 3), None)
    assert (part.pixels == STACK[1]).all()
    assert (part.axes, part.corner, part.options) == ("YX", (1, 0, 0), {})


def test_a_box_is_clipped_to_the_image() -> None:
    part = cut([_Layer(STACK)], "shown", (0,), (slice(-3, 2), slice(4, 99)))
    assert (part.pixels == STACK[0, :2, 4:]).all()
    assert part.corner == (0, 0, 4)


@pytest.mark.parametrize(
    ("planes", "axes", "options"), [("sections", "ZYX", {"z": "each"}), ("volume", "ZYX", {}), ("times", "TYX", {})]
)
def test_stacks(planes: Any, axes: str, options: dict[str, Any]) -> None:
    part = cut([_Layer(STACK)], planes, (1,), (slice(1, 3), slice(2, 4)))
    assert (part.pixels == STACK[:, 1:3, 2:4]).all()
    assert (part.axes, part.corner, part.options) == (axes, (0, 1, 2), options)


def test_channels_are_stacked_and_colours_are_kept() -> None:
    part = cut([_Layer(STACK), _Layer(-STACK)], "shown", (0,), None)
    assert (part.pixels == np.stack([STACK[0], -STACK[0]])).all()
    assert part.axes == "CYX"
    picture = np.zeros((5, 6, 3), np.uint8)
    part = cut([_Layer(picture, rgb=True)], "shown", (), None)
    assert (part.pixels.shape, part.axes, part.corner) == ((5, 6, 3), "YXC", (0, 0))


@pytest.mark.parametrize("names", [("red", "green", "blue"), ("red", "green", "blue", "alpha")])
def test_colours_are_scaled_as_those_of_a_file(tmp_path: Path, names: tuple[str, ...]) -> None:
    """By their range, not by percentiles: the picture has no black and no white."""
    picture = np.full((64, 72, len(names)), 100, np.uint8)
    picture[20:30, 20:30] = 150
    picture[..., 3:] = 255
    part = cut([_Layer(picture, rgb=True)], "shown", (), None)
    assert part.options == {"channel_names": names}
    normalization = Normalization("percentile", 1.0, 99.8)
    model = load_model(write_tiny_model(tmp_path / "tissue.safetensors", names[:3], normalization))
    tifffile.imwrite(tmp_path / "picture.tif", picture, photometric="rgb")
    labels, _ = unetbio.segment(part.pixels, model, axes=part.axes, device="cpu", **part.options)
    of_file, _ = unetbio.segment(tmp_path / "picture.tif", model, device="cpu")
    assert labels[25, 25] > 0
    assert np.array_equal(labels, of_file)


def test_the_full_resolution_of_a_pyramid_is_used() -> None:
    part = cut([_Layer([STACK[0], STACK[0, ::2, ::2]], multiscale=True)], "shown", (), None)
    assert (part.pixels == STACK[0]).all()


def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(ImageError, match="choose channels of one image"):
        cut([_Layer(STACK), _Layer(STACK[:, :4])], "shown", (0,), None)
    with pytest.raises(ImageError, match="has 2 axes"):
        cut([_Layer(STACK[0])], "times", (), None)
    with pytest.raises(ImageError, match="move it over the image"):
        cut([_Layer(STACK)], "shown", (0,), (slice(50, 60), slice(0, 5)))
    with pytest.raises(ImageError, match="choose it alone"):
        cut([_Layer(np.zeros((5, 6, 3)), rgb=True), _Layer(STACK[0])], "shown", (), None)
