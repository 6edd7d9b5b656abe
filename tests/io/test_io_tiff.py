"""Reading TIFF: the same pixels as were written, whatever the dialect."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiff_files import ramp, refused, write_by_hand

from unetbio.errors import ImageError
from unetbio.io import read_image


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8"])
def test_types_and_byte_orders_are_read_as_stored(tmp_path: Path, dtype: str, byteorder: str) -> None:
    expected = ramp(9, 14, dtype=dtype)
    tifffile.imwrite(tmp_path / "x.tif", expected, byteorder=byteorder)
    image = read_image(tmp_path / "x.tif")
    assert (image.axes, image.shape, image.dtype) == ("YX", (9, 14), np.dtype(dtype))
    pixels = image.read()
    assert pixels.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(pixels, expected)


STORAGES = [
    {},
    {"rowsperstrip": 7},
    {"tile": (16, 32)},
    {"compression": "deflate"},
    {"compression": "deflate", "predictor": True, "rowsperstrip": 5},
    {"compression": "lzw", "tile": (32, 16)},
    {"compression": "lzw", "predictor": True, "tile": (16, 16), "byteorder": ">"},
    {"compression": "zstd", "tile": (16, 16), "predictor": True},
    {"compression": "packbits", "rowsperstrip": 3},
    {"tile": (16, 16), "bigtiff": True},
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    storage=st.sampled_from(STORAGES),
    samples=st.sampled_from([None, "contig", "separate"]),
    start=st.tuples(st.integers(0, 60), st.integers(0, 90)),
    length=st.tuples(st.integers(0, 70), st.integers(0, 100)),
)
def test_a_window_holds_the_pixels_of_the_whole(
    tmp_path: Path, storage: dict[str, Any], samples: str | None, start: tuple[int, int], length: tuple[int, int]
) -> None:
    path = tmp_path / "x.tif"
    shape = {None: (61, 91), "contig": (61, 91, 3), "separate": (3, 61, 91)}[samples]
    stored = ramp(*shape)
    options = {} if samples is None else {"photometric": "rgb", "planarconfig": samples}
    tifffile.imwrite(path, stored, **storage, **options)
    whole = np.moveaxis(stored, -1, 0) if samples == "contig" else stored
    window = tuple(slice(a, a + n) for a, n in zip(start, length, strict=True))
    image = read_image(path)
    np.testing.assert_array_equal(image.read(y=window[0], x=window[1]), whole[..., window[0], window[1]])
    if samples is not None:
        assert (image.axes, image.channel_names) == ("CYX", ("red", "green", "blue"))
        np.testing.assert_array_equal(image.read(c=1, y=window[0], x=window[1]), whole[1, window[0], window[1]])


def test_a_small_window_of_a_tiled_page_decodes_its_own_tiles_only(tmp_path: Path) -> None:
    # All tiles but the one asked for are overwritten with bytes that cannot be decoded.
    path = tmp_path / "x.tif"
    expected = ramp(64, 64)
    tifffile.imwrite(path, expected, tile=(16, 16), compression="deflate")
    with tifffile.TiffFile(path) as tif:
        offsets, counts = tif.pages[0].dataoffsets, tif.pages[0].databytecounts
    content = bytearray(path.read_bytes())
    for i, (offset, count) in enumerate(zip(offsets, counts, strict=True)):
        if i != 5:
            content[offset : offset + count] = b"\xff" * count
    path.write_bytes(content)
    image = read_image(path)
    np.testing.assert_array_equal(image.read(y=slice(16, 32), x=slice(20, 30)), expected[16:32, 20:30])
    with pytest.raises(ImageError, match="broken TIFF") as caught:
        image.read()
    assert caught.value.reason == "unreadable"


@pytest.mark.parametrize(("bits", "maximum"), [(1, 1), (2, 3), (4, 15), (12, 4095)])
def test_packed_bits(tmp_path: Path, bits: int, maximum: int) -> None:
    expected = (ramp(6, 16) * 7) % (maximum + 1)
    stored = expected.astype(bool) if bits == 1 else expected.astype(np.uint8 if bits < 8 else np.uint16)
    path = tmp_path / "x.tif"
    rows = [sum(int(v) << (bits * (15 - i)) for i, v in enumerate(row)).to_bytes(2 * bits, "big") for row in expected]
    write_by_hand(path, b"".join(rows), width=16, height=6, bits=bits, photometric=1)
    pixels = read_image(path).read()
    assert pixels.dtype == (np.uint16 if bits == 12 else np.uint8)
    np.testing.assert_array_equal(pixels, stored)


def test_pyramids_give_their_base_level(tmp_path: Path) -> None:
    expected = ramp(128, 96)
    with tifffile.TiffWriter(tmp_path / "x.ome.tif") as tif:
        tif.write(expected, subifds=2, tile=(32, 32), metadata={"axes": "YX"})
        tif.write(expected[::2, ::2], subfiletype=1, tile=(32, 32))
        tif.write(expected[::4, ::4], subfiletype=1, tile=(32, 32))
    image = read_image(tmp_path / "x.ome.tif")
    assert (image.shape, image.series_count) == ((128, 96), 1)
    np.testing.assert_array_equal(image.read(), expected)


def test_white_is_zero_is_inverted(tmp_path: Path) -> None:
    expected = ramp(4, 5, dtype=np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", 255 - expected, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif").read(), expected)


def test_truth_values_written_by_tifffile_are_not_inverted(tmp_path: Path) -> None:
    # They are stored as white-is-zero with True = 1, which every other program shows inverted.
    for options in ({}, {"ome": True}):
        tifffile.imwrite(tmp_path / "x.tif", np.eye(8, dtype=bool), **options)
        np.testing.assert_array_equal(read_image(tmp_path / "x.tif").read(), np.eye(8))


def test_white_is_zero_of_signed_numbers_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", ramp(4, 5, dtype=np.int16), photometric="miniswhite")
    assert refused(tmp_path / "x.tif").reason == "unsupported_colour"


def test_a_palette_becomes_colours(tmp_path: Path) -> None:
    indices = ramp(4, 5, dtype=np.uint8)
    table = np.random.default_rng(1).integers(0, 256, (3, 256))
    for name, factor, dtype in (("8 bit", 257, np.uint8), ("shifted", 256, np.uint8), ("16 bit", 255, np.uint16)):
        tifffile.imwrite(
            tmp_path / "x.tif", indices, photometric="palette", colormap=(table * factor).astype(np.uint16)
        )
        image = read_image(tmp_path / "x.tif")
        assert (image.axes, image.dtype, image.channel_names) == ("CYX", dtype, ("red", "green", "blue")), name
        scale = 1 if dtype == np.uint8 else factor
        np.testing.assert_array_equal(image.read(), table[:, indices] * scale)
        np.testing.assert_array_equal(image.read(c=2, y=slice(1, 3)), table[2, indices[1:3]] * scale)


def test_an_imagej_palette_is_for_display_only(tmp_path: Path) -> None:
    # ImageJ saves an 8-bit image shown in green as palette colours; its grey values are the indices.
    stored = ramp(4, 5, dtype=np.uint8)
    green = np.zeros((3, 256), np.uint16)
    green[1] = np.arange(256) * 257
    tifffile.imwrite(tmp_path / "x.tif", stored, imagej=True, colormap=green.astype(np.uint16), photometric="palette")
    image = read_image(tmp_path / "x.tif")
    assert image.axes == "YX"
    np.testing.assert_array_equal(image.read(), stored)


def test_alpha_is_a_channel(tmp_path: Path) -> None:
    stored = ramp(4, 5, 4, dtype=np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", stored, photometric="rgb", extrasamples=["unassalpha"])
    image = read_image(tmp_path / "x.tif")
    assert image.channel_names == ("red", "green", "blue", "alpha")
    np.testing.assert_array_equal(image.read(), np.moveaxis(stored, -1, 0))


def test_cmyk_and_complex_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", ramp(4, 5, 4, dtype=np.uint8), photometric="separated")
    error = refused(tmp_path / "x.tif")
    assert (error.reason, "CMYK" in str(error)) == ("unsupported_colour", True)
    tifffile.imwrite(tmp_path / "y.tif", ramp(4, 5, dtype=np.complex64))
    assert refused(tmp_path / "y.tif").reason == "unsupported_type"


def test_pages_without_axes_are_refused_until_named(tmp_path: Path) -> None:
    stored = ramp(3, 4, 5)
    tifffile.imwrite(tmp_path / "x.tif", stored, metadata=None, photometric="minisblack")
    error = refused(tmp_path / "x.tif")
    assert error.reason == "unknown_axes"
    assert str(error) == "3 pages of 4 x 5 pixels and no word what they are: say --axes ZYX, TYX or CYX"
    for axes in ("ZYX", "TYX", "cyx"):
        image = read_image(tmp_path / "x.tif", axes=axes)
        assert image.axes == axes.upper()
        np.testing.assert_array_equal(image.read(), stored)
    for axes in ("YX", "TZYX", "QYX", "XYZ", "YYX"):
        assert refused(tmp_path / "x.tif", axes=axes).reason == "unknown_axes"


def test_several_axes_without_names(tmp_path: Path) -> None:
    stored = ramp(2, 3, 4, 5)
    tifffile.imwrite(tmp_path / "x.tif", stored, photometric="minisblack")  # tifffile notes the shape alone
    assert "Q=2 Q=3 Y=4 X=5" in str(refused(tmp_path / "x.tif"))
    image = read_image(tmp_path / "x.tif", axes="ZCYX")  # in a file Z may be slower than C; in an Image it never is
    assert (image.axes, image.shape) == ("CZYX", (3, 2, 4, 5))
    np.testing.assert_array_equal(image.read(), stored.swapaxes(0, 1))


def test_colour_pages_keep_their_samples_when_named(tmp_path: Path) -> None:
    stored = ramp(3, 4, 5, 3, dtype=np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", stored, photometric="rgb", metadata=None)
    assert refused(tmp_path / "x.tif").reason == "unknown_axes"
    for axes in ("TYX", "TYXC"):
        image = read_image(tmp_path / "x.tif", axes=axes)
        assert (image.axes, image.channel_names) == ("TCYX", ("red", "green", "blue"))
        np.testing.assert_array_equal(image.read(t=1), np.moveaxis(stored[1], -1, 0))


def test_an_index_outside_is_named(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "x.ome.tif", ramp(3, 4, 5), ome=True, metadata={"axes": "ZYX"}, photometric="minisblack"
    )
    image = read_image(tmp_path / "x.ome.tif")
    for index in ({"z": 3}, {"z": -1}, {"t": 1}, {"c": 7}):
        with pytest.raises(ImageError, match="Z=3 Y=4 X=5 uint16, counted from 0"):
            image.read(**index)
    with pytest.raises(ValueError, match="step 1"):
        image.read(z=slice(0, 3, 2))
    assert image.read(t=0, c=0, z=2).shape == (4, 5)


def test_imagej_hyperstacks(tmp_path: Path) -> None:
    stored = ramp(2, 3, 4, 6, 7)  # TZCYX
    tifffile.imwrite(
        tmp_path / "x.tif",
        stored,
        imagej=True,
        resolution=(1 / 0.25, 1 / 0.5),
        metadata={"axes": "TZCYX", "unit": "um", "spacing": 1.5},
    )
    image = read_image(tmp_path / "x.tif")
    assert (image.axes, image.shape) == ("TCZYX", (2, 4, 3, 6, 7))
    assert image.pixel_size_um == pytest.approx({"Z": 1.5, "Y": 0.5, "X": 0.25})
    np.testing.assert_array_equal(image.read(), stored.swapaxes(1, 2))


@pytest.mark.parametrize(
    ("unit", "size"),
    [
        *(("micron", 0.5), ("\\u00B5m", 0.5), ("micrometres", 0.5), ("nm", 0.0005), ("nanometers", 0.0005)),
        *(("Angstrom", 5e-5), ("millimeters", 500.0), ("inch", None), ("pixel", None), ("", None)),
    ],
)
def test_imagej_units(tmp_path: Path, unit: str, size: float | None) -> None:
    tifffile.imwrite(tmp_path / "x.tif", ramp(4, 5), imagej=True, resolution=(2, 2), metadata={"unit": unit})
    image = read_image(tmp_path / "x.tif")
    assert image.pixel_size_um == pytest.approx({} if size is None else {"Y": size, "X": size})
    assert image.pixel_size_trusted == (size is not None)


def test_imagej_units_of_y_and_z(tmp_path: Path) -> None:
    units = {"unit": "um", "yunit": "nm", "zunit": "nm", "spacing": 200.0}
    metadata = {"axes": "ZYX", **units}
    tifffile.imwrite(tmp_path / "x.tif", ramp(3, 4, 5), imagej=True, resolution=(2, 0.002), metadata=metadata)
    assert read_image(tmp_path / "x.tif").pixel_size_um == pytest.approx({"Z": 0.2, "Y": 0.5, "X": 0.5})


def test_imagej_slice_labels_name_channels(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "x.tif", ramp(2, 4, 5), imagej=True, metadata={"axes": "CYX", "Labels": ["DAPI", "GFP"]}
    )
    assert read_image(tmp_path / "x.tif").channel_names == ("DAPI", "GFP")


def test_a_printing_resolution_is_no_pixel_size(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", ramp(4, 5), resolution=(40000, 40000), resolutionunit="CENTIMETER")
    image = read_image(tmp_path / "x.tif")
    assert (image.pixel_size_um, image.pixel_size_trusted) == ({}, False)


def test_planes_behind_one_page(tmp_path: Path) -> None:
    # ImageJ above 4 GB, and tifffile when told so, write one page and all planes behind it.
    stored = ramp(5, 6, 7)
    tifffile.imwrite(tmp_path / "x.tif", stored, metadata={"axes": "ZYX"}, photometric="minisblack", truncate=True)
    with tifffile.TiffFile(tmp_path / "x.tif") as tif:
        assert len(tif.pages) == 1
    image = read_image(tmp_path / "x.tif")
    np.testing.assert_array_equal(image.read(z=3, y=slice(2, 5)), stored[3, 2:5])
    cut = (tmp_path / "x.tif").read_bytes()[:-100]
    (tmp_path / "y.tif").write_bytes(cut)
    assert refused(tmp_path / "y.tif").reason == "missing_plane"
    np.testing.assert_array_equal(read_image(tmp_path / "y.tif").read(z=slice(0, 3)), stored[:3])
