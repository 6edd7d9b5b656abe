"""TIFF files of instruments and tools."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from unetbio.io import Image, read_image


def formats(shared_data: Path) -> Path:
    return shared_data / "formats"


EXPECTED: dict[str, tuple[str, tuple[int, ...], str]] = {
    "12bit.cropped.tiff": ("YX", (64, 64), "uint16"),
    "BigTIFFMotorola.tif": ("CYX", (3, 64, 64), "uint8"),
    "CMU-1-Small-Region.svs": ("CYX", (3, 2967, 2220), "uint8"),
    "FOV7_HV110_P0500510000.ome.tiff": ("YX", (512, 512), "uint8"),
    "blobs.tif": ("YX", (254, 256), "uint8"),
    "companion/multifile-Z3.ome.tiff": ("ZYX", (5, 24, 18), "uint8"),
    "companion/multifile.companion.ome": ("ZYX", (5, 24, 18), "uint8"),
    "gradient-1c-32b-float.tiff": ("YX", (1, 256), "float32"),
    "hela-cells.tif": ("CYX", (3, 512, 672), "uint16"),
    "int16.tif": ("YX", (64, 64), "int16"),
    "minisblack-1c-16b.tiff": ("YX", (151, 157), "uint16"),
    "miniswhite-1c-1b.tiff": ("YX", (151, 157), "uint8"),
    "multi-channel-z-series.ome.tif": ("CZYX", (3, 5, 167, 439), "int8"),
    "multi-channel.ome.tif": ("CYX", (3, 167, 439), "int8"),
    "palette-1c-8b.tiff": ("CYX", (3, 151, 157), "uint16"),
    "shapes_lzw_tiled_planar.tif": ("CYX", (3, 72, 128), "uint8"),
    "shapes_uncompressed_half.tif": ("CYX", (3, 36, 64), "uint8"),
    "shapes_zstd.tif": ("CYX", (3, 72, 128), "uint8"),
    "time-series.ome.tif": ("TYX", (7, 167, 439), "int8"),
}


def plain(image: Image) -> np.ndarray:
    """What tifffile reads, in the order of axes of `image`."""
    with tifffile.TiffFile(image.source) as tif:
        series = tif.series[0]
        axes = series.axes.replace("S", "C")
        return series.asarray().transpose([axes.index(a) for a in image.axes])


@pytest.mark.parametrize("name", EXPECTED)
def test_files_of_instruments_and_tools(shared_data: Path, name: str) -> None:
    axes, shape, dtype = EXPECTED[name]
    image = read_image(formats(shared_data) / name)
    assert (image.axes, image.shape, image.dtype.name) == (axes, shape, dtype)
    pixels = image.read()
    assert (pixels.shape, pixels.dtype.name) == (shape, dtype)
    assert len(image.channel_names) == image.size("C")
    if not name.startswith(("companion", "minisw", "palette")):  # where tifffile gives raw samples or one piece
        np.testing.assert_array_equal(pixels, plain(image))


def test_what_is_known_about_some_of_them(shared_data: Path) -> None:
    folder = formats(shared_data)
    hela = read_image(folder / "hela-cells.tif")
    assert hela.pixel_size_um == pytest.approx({"Y": 0.0514931, "X": 0.0514931}, rel=1e-4)
    slide = read_image(folder / "CMU-1-Small-Region.svs")
    assert (slide.pixel_size_um, slide.series_count) == ({"Y": 0.499, "X": 0.499}, 4)
    with tifffile.TiffFile(folder / "miniswhite-1c-1b.tiff") as tif:
        np.testing.assert_array_equal(read_image(folder / "miniswhite-1c-1b.tiff").read(), ~tif.asarray())
    with tifffile.TiffFile(folder / "palette-1c-8b.tiff") as tif:
        table = tif.pages[0].colormap
        np.testing.assert_array_equal(read_image(folder / "palette-1c-8b.tiff").read(), table[:, tif.asarray()])
