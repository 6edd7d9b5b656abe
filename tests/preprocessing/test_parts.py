"""Resolutions of pyramids and regions: the pixels, pixel size and place of the part that is segmented."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from unetbio.errors import ImageError, UsageError
from unetbio.io import read_image
from unetbio.io.arrays import image_of_array
from unetbio.io.decoding import decode_elsewhere
from unetbio.io.image import Image, Part
from unetbio.io.labels import write_labels
from unetbio.models.model_file import ModelInfo, load_model
from unetbio.preprocessing.parts import full_pixels, select_part
from unetbio.preprocessing.prepare import open_annotated, open_image
from unetbio.settings.segmentation import Settings

Array = NDArray[Any]

SHAPE = (3, 130, 250)


@pytest.fixture(scope="module")
def pixels() -> Array:
    return np.random.default_rng(0).integers(0, 4000, SHAPE).astype(np.uint16)


def halved(pixels: Array, times: int) -> Array:
    return pixels[..., :: 2**times, :: 2**times]


@pytest.fixture(scope="module")
def pyramid(pixels: Array, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OME-TIFF with three channels, each in three resolutions; .25 um a pixel."""
    path = tmp_path_factory.mktemp("parts") / "slide.ome.tif"
    metadata = {"axes": "CYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(pixels, subifds=2, tile=(32, 32), metadata=metadata)
        for times in (1, 2):
            file.write(halved(pixels, times), subfiletype=1, tile=(32, 32))
    return path


@pytest.fixture(scope="module")
def info(tiny_model: Path) -> ModelInfo:
    """Of a model for .5 um a pixel and cells of 12 pixels."""
    return load_model(tiny_model).info


def check(image: Image, expected: Array, size: float | None) -> None:
    np.testing.assert_array_equal(image.read(), expected)
    assert image.shape == expected.shape
    assert image.pixel_size_um == ({} if size is None else {"Y": size, "X": size})


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_resolutions_of_a_pyramid(pyramid: Path, pixels: Array, seconds: float) -> None:
    with decode_elsewhere(seconds):
        image = read_image(pyramid)
        assert image.levels == ((130, 250), (65, 125), (33, 63))
        for level in range(3):
            check(image.at_level(level), halved(pixels, level), 0.25 * 2**level)
        assert image.at_level(0).part is None
        # 33 rows are half of 65, rounded.
        assert image.at_level(2).part == Part(2, (4.0, 4.0), (0, 33), (0, 63))


def test_resolutions_of_zarr(pixels: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("zarr")
    monkeypatch.setattr("unetbio.io.formats.zarr.writer.SMALLEST", 64)
    write_labels(tmp_path / "x.ome.zarr", pixels[0], pixel_size_um={"Y": 0.25, "X": 0.25})
    image = read_image(tmp_path / "x.ome.zarr")
    assert image.levels == ((130, 250), (65, 125), (33, 63))
    for level in range(3):
        check(image.at_level(level), halved(pixels[0], level), 0.25 * 2**level)


def test_a_broken_resolution_is_left_out(pixels: Array, tmp_path: Path) -> None:
    path = tmp_path / "other.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(pixels[0], subifds=2, tile=(32, 32))
        file.write(halved(pixels[0], 1), subfiletype=1, tile=(32, 32))
        file.write(halved(pixels[0], 2).astype(np.uint8), subfiletype=1, tile=(32, 32))
    assert read_image(path).levels == ((130, 250), (65, 125))


def test_a_file_without_smaller_resolutions(pixels: Array) -> None:
    image = image_of_array(pixels, "CYX")
    assert image.levels == ((130, 250),)
    assert select_part(image, Settings(level="auto")) is image
    with pytest.raises(ImageError, match=r"no level 1: the image has 0: 250 x 130 pixels"):
        image.at_level(1)


def test_a_region_is_that_of_the_full_resolution(pyramid: Path, pixels: Array) -> None:
    image = read_image(pyramid)
    check(select_part(image, Settings(region="21,30,101,50")), pixels[:, 30:80, 21:122], 0.25)
    # Columns 21 to 122 touch pixels 10 to 61 of half the resolution.
    half = select_part(image, Settings(region="21,30,101,50", level=1))
    check(half, halved(pixels, 1)[:, 15:40, 10:61], 0.5)
    assert half.part == Part(1, (2.0, 2.0), (15, 40), (10, 61))
    assert full_pixels(half) == 2
    in_um = select_part(image, Settings(region="5,7.5,25,12.5um"))
    check(in_um, pixels[:, 30:80, 20:120], 0.25)


def test_a_region_of_a_volume_keeps_its_place_in_space(pixels: Array, tmp_path: Path) -> None:
    affine = np.diag([0.002, 0.003, 0.004, 1.0])
    write_labels(tmp_path / "x.nii", pixels, axes="ZYX", affine=affine)
    part = read_image(tmp_path / "x.nii").crop(slice(10, 20), slice(7, 9))
    assert part.affine is not None
    np.testing.assert_allclose(part.affine @ [0, 0, 0, 1], affine @ [7, 10, 0, 1])
    section = part.crop_sections(1, 2)
    assert section.affine is not None
    np.testing.assert_allclose(section.affine @ [0, 0, 0, 1], affine @ [7, 10, 1, 1])


@pytest.mark.parametrize(
    ("settings", "level"),
    [
        ({}, 1),  # .25 um in the file, .5 um in the model
        ({"pixel_size_um": 0.1}, 2),
        ({"diameter_px": 46}, 2),
        ({"diameter_px": 14}, 0),
    ],
)
def test_the_nearest_resolution(pyramid: Path, info: ModelInfo, settings: dict[str, Any], level: int) -> None:
    opened = open_image(pyramid, Settings(level="auto", channel=(0,), **settings), info, 2)
    assert (0 if opened.image.part is None else opened.image.part.level) == level


def test_diameters_are_those_of_the_full_resolution(pyramid: Path, info: ModelInfo) -> None:
    zooms = [open_image(pyramid, Settings(channel=(0,), diameter_px=24, level=level), info, 2).zoom for level in (0, 1)]
    assert zooms == [(0.5, 0.5), (1.0, 1.0)]


def test_where_no_resolution_is_nearest(pyramid: Path, info: ModelInfo) -> None:
    image = read_image(pyramid)
    unknown = info.model_copy(update={"pixel_size_um": None})
    with pytest.raises(ImageError, match=r"give --level INDEX, or --diameter PX of the full resolution"):
        select_part(image, Settings(level="auto"), unknown)
    with pytest.raises(ImageError, match=r"is the resolution nearest to a model's: give a number"):
        open_annotated(pyramid, Settings(level="auto"))


def test_parts_that_are_none(pyramid: Path) -> None:
    image = read_image(pyramid)
    with pytest.raises(UsageError, match=r"regions 0,0,9,9 and 1,1,9,9 are 2 images: give one"):
        select_part(image, Settings(region=("0,0,9,9", "1,1,9,9")))
    with pytest.raises(ImageError, match=r"no level 3: the image has 0: 250 x 130, 1: 125 x 65, 2: 63 x 33 pixels"):
        select_part(image, Settings(level=3))


def test_a_region_between_the_last_pixels(pixels: Array, tmp_path: Path) -> None:
    path = tmp_path / "odd.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(pixels[0, :, :249], subifds=1, tile=(32, 32))
        file.write(pixels[0, ::2, :248:2], subifds=0, subfiletype=1, tile=(32, 32))
    with pytest.raises(ImageError, match=r"region 248,0,1,9 has no pixel at level 1: take a larger one"):
        select_part(read_image(path), Settings(region="248,0,1,9", level=1))
