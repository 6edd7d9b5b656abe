"""Tissue of stained slides: what is glass, what is kept, and that nothing but glass is left out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from unetbio.errors import ImageError, UsageError
from unetbio.io import read_image
from unetbio.io.arrays import image_of_array
from unetbio.preprocessing import tissue
from unetbio.preprocessing.tissue import TissueArea, find_tissue
from unetbio.settings.segmentation import Settings

Array = NDArray[Any]


@pytest.fixture
def slide() -> Array:
    """Glass with a pale and a strong piece of tissue, and something dark; ``(200, 300, 3)`` uint8."""
    picture = np.random.default_rng(0).integers(236, 246, (200, 300, 3)).astype(np.uint8)
    picture[40:100, 50:150] = (225, 190, 215)
    picture[60:80, 80:110] = (120, 60, 150)
    picture[150:170, 200:230] = (90, 90, 90)
    return picture


def write(path: Path, picture: Array, levels: int = 0) -> Path:
    with tifffile.TiffWriter(path) as file:
        file.write(picture, photometric="rgb", tile=(64, 64), subifds=levels)
        for level in range(1, levels + 1):
            file.write(picture[:: 2**level, :: 2**level], photometric="rgb", tile=(64, 64), subfiletype=1)
    return path


def tissue_of(slide: Array) -> Array:
    found = np.zeros(slide.shape[:2], bool)
    found[40:100, 50:150] = found[150:170, 200:230] = True
    return found


def test_pale_strong_and_dark_tissue_is_found(slide: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tissue, "SQUARE", 1)
    found = find_tissue(read_image(write(tmp_path / "slide.tif", slide)))
    np.testing.assert_array_equal(found.mask, tissue_of(slide))
    assert found.threshold is not None
    assert 10 <= found.threshold <= tissue.GLASS_SATURATION


@pytest.mark.parametrize("margin", [0, 7])
def test_a_small_copy_leaves_no_tissue_out(
    slide: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, margin: int
) -> None:
    monkeypatch.setattr(tissue, "SQUARE", 6)
    monkeypatch.setattr(tissue, "PIXELS_AT_ONCE", 150 * 9)
    found = find_tissue(read_image(write(tmp_path / "slide.tif", slide, 1)))
    # Three pixels of half the resolution for one.
    assert (found.mask.shape, found.step) == ((34, 50), (6.0, 6.0))
    for level in range(2):
        shape = slide.shape[0] >> level, slide.shape[1] >> level
        scale = (2.0**level, 2.0**level)
        area = found.area(shape, scale, margin)
        rows, columns = np.nonzero(tissue_of(slide)[:: 2**level, :: 2**level][: shape[0], : shape[1]])
        inside = area(())
        for y, x in ((-margin, 0), (margin, 0), (0, -margin), (0, margin)):
            assert inside[np.clip(rows + y, 0, shape[0] - 1), np.clip(columns + x, 0, shape[1] - 1)].all()
        assert inside.mean() < 0.6


@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(0, 40)] * 4))
@settings(deadline=None, max_examples=40)
def test_windows_do_not_change_tissue(seed: int, window: tuple[int, int, int, int]) -> None:
    mask = np.random.default_rng(seed).random((6, 7)) < 0.5
    area = TissueArea(mask, (40, 50), (7.31, 7.53))
    top, bottom, left, right = (*sorted(window[:2]), *sorted(window[2:]))
    part = slice(top, bottom), slice(left, right)
    np.testing.assert_array_equal(area(part), area(())[part])
    np.testing.assert_array_equal(area.crop(*part)(()), area(())[part])
    assert area.scaled((40, 50)) is area
    np.testing.assert_array_equal(area.scaled((120, 150))(())[1::3, 1::3], area(()))


@pytest.mark.parametrize("colour", [(225, 190, 215), (60, 60, 60), (255, 255, 255)])
def test_a_slide_of_one_colour(slide: Array, tmp_path: Path, colour: tuple[int, int, int]) -> None:
    slide[:] = colour
    found = find_tissue(read_image(write(tmp_path / "slide.tif", slide)))
    # White is glass; where no glass is, all is tissue.
    assert found.mask.all() == (colour != (255, 255, 255))
    assert (found.threshold is None) == (colour != (255, 255, 255))
    assert found.mask.any() == found.mask.all()


def test_where_tissue_cannot_be_told_from_glass() -> None:
    with pytest.raises(
        ImageError, match=r"--tissue auto tells glass by its colour, and needs red, green and blue of 8"
    ):
        find_tissue(image_of_array(np.zeros((20, 30), np.uint8), "YX"))
    with pytest.raises(UsageError, match=r"--tissue auto looks for tissue on the whole slide: leave out --region"):
        Settings(tissue="auto", region="0,0,9,9")
    with pytest.raises(UsageError, match=r"tissue 'some' must be auto or none"):
        Settings(tissue="some")  # type: ignore[arg-type]


def test_tissue_of_a_real_slide(shared_data: Path) -> None:
    found = find_tissue(read_image(shared_data / "formats" / "CMU-1-Small-Region.svs"))
    assert found.step == (16, 16)
    assert 0.35 < found.mask.mean() < 0.45
