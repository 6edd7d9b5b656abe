"""Reading TIFF: the same pixels as were written, whatever the dialect; broken files refused in one line."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unetbio.errors import ImageError
from unetbio.io import Image, read_image, select_channel
from unetbio.io.formats.ome import ome_xml


def ramp(*shape: int, dtype: Any = np.uint16) -> np.ndarray:
    """Every pixel another value, as far as the type goes."""
    return np.arange(np.prod(shape)).astype(dtype).reshape(shape)


def refused(path: Path, **options: Any) -> ImageError:
    with pytest.raises(ImageError) as caught:
        read_image(path, **options).read()
    assert "\n" not in str(caught.value)
    return caught.value


# Pixels, whatever their storage


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


def write_by_hand(
    path: Path, pixels: bytes, *, width: int, height: int, bits: int, photometric: int, **more: int
) -> None:
    """The smallest TIFF there is: one strip behind the header, then one page, for what no writer would write."""
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height}
    tags |= {279: len(pixels)} | {int(k[1:]): v for k, v in more.items()}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    start = 8 + len(pixels) + len(pixels) % 2
    content = struct.pack("<2sHI", b"II", 42, start) + pixels + b"\0" * (len(pixels) % 2)
    path.write_bytes(content + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0))


def test_pyramids_give_their_base_level(tmp_path: Path) -> None:
    expected = ramp(128, 96)
    with tifffile.TiffWriter(tmp_path / "x.ome.tif") as tif:
        tif.write(expected, subifds=2, tile=(32, 32), metadata={"axes": "YX"})
        tif.write(expected[::2, ::2], subfiletype=1, tile=(32, 32))
        tif.write(expected[::4, ::4], subfiletype=1, tile=(32, 32))
    image = read_image(tmp_path / "x.ome.tif")
    assert (image.shape, image.series_count) == ((128, 96), 1)
    np.testing.assert_array_equal(image.read(), expected)


# Colours


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


# Axes


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


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.permutations("TCZ"),
    lengths=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
    index=st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)),
)
def test_ome_in_any_order(
    tmp_path: Path, order: list[str], lengths: tuple[int, int, int], index: tuple[int, int, int]
) -> None:
    axes = "".join(order) + "YX"
    sizes = dict(zip("TCZ", lengths, strict=True)) | {"Y": 6, "X": 7}
    stored = ramp(*(sizes[a] for a in axes))
    tifffile.imwrite(tmp_path / "x.ome.tif", stored, ome=True, metadata={"axes": axes}, photometric="minisblack")
    image = read_image(tmp_path / "x.ome.tif")
    expected = stored.transpose([axes.index(a) for a in "TCZYX"])
    assert image.axes == "".join(a for a in "TCZYX" if sizes[a] > 1 or a in "YX")
    np.testing.assert_array_equal(image.read(), expected.reshape(image.shape))
    t, c, z = (i % n for i, n in zip(index, lengths, strict=True))
    np.testing.assert_array_equal(image.read(t=t, c=c, z=z), expected[t, c, z])
    np.testing.assert_array_equal(image.read(t=t, z=slice(z, z + 1), c=np.int64(c)).ravel(), expected[t, c, z].ravel())


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


# Dialects: names, pixel sizes


def test_ome_metadata(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "x.ome.tif",
        ramp(2, 3, 4, 5),
        ome=True,
        photometric="minisblack",
        metadata={
            "axes": "CZYX",
            "PhysicalSizeX": 250.0,
            "PhysicalSizeXUnit": "nm",
            "PhysicalSizeY": 0.25,
            "PhysicalSizeZ": 0.001,
            "PhysicalSizeZUnit": "mm",
            "Channel": {"Name": ["DAPI", "Färbung µ"]},
            "Name": "plate A",
        },
    )
    image = read_image(tmp_path / "x.ome.tif")
    assert image.pixel_size_um == pytest.approx({"Z": 1.0, "Y": 0.25, "X": 0.25})
    assert image.pixel_size_trusted
    assert (image.channel_names, image.name) == (("DAPI", "Färbung µ"), "plate A")
    assert select_channel(image, "DAPI") == select_channel(image, "dapi") == select_channel(image, "0") == 0
    assert select_channel(image, 1) == 1
    for wrong in ("GFP", 2, -1, "2"):
        with pytest.raises(ImageError, match="0: DAPI, 1: Färbung µ") as caught:
            select_channel(image, wrong)
        assert caught.value.reason == "wrong_channels"


def test_two_channels_of_one_name_need_a_number(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "x.ome.tif",
        ramp(2, 4, 5),
        ome=True,
        photometric="minisblack",
        metadata={"axes": "CYX", "Channel": {"Name": ["GFP", "GFP"]}},
    )
    with pytest.raises(ImageError, match="several channels"):
        select_channel(read_image(tmp_path / "x.ome.tif"), "GFP")


@pytest.mark.parametrize("unit", ["pixel", "reference frame"])
def test_ome_sizes_that_are_no_lengths_are_unknown(tmp_path: Path, unit: str) -> None:
    tifffile.imwrite(
        tmp_path / "x.ome.tif",
        ramp(4, 5),
        ome=True,
        metadata={"PhysicalSizeX": 1.0, "PhysicalSizeXUnit": unit, "PhysicalSizeY": 1.0, "PhysicalSizeYUnit": unit},
    )
    image = read_image(tmp_path / "x.ome.tif")
    assert (image.pixel_size_um, image.pixel_size_trusted) == ({}, False)


def test_ome_colour_and_several_series(tmp_path: Path) -> None:
    colour, grey = ramp(2, 6, 7, 3, dtype=np.uint8), ramp(4, 5)
    with tifffile.TiffWriter(tmp_path / "x.ome.tif") as tif:
        tif.write(colour, photometric="rgb", metadata={"axes": "ZYXS"})
        tif.write(grey, metadata={"axes": "YX", "Name": "second"})
    first, second = (read_image(tmp_path / "x.ome.tif", series=i) for i in (0, 1))
    assert (first.axes, first.channel_names, first.series_count) == ("CZYX", ("red", "green", "blue"), 2)
    np.testing.assert_array_equal(first.read(), colour.transpose(3, 0, 1, 2))
    assert (second.name, second.series) == ("second", 1)
    np.testing.assert_array_equal(second.read(), grey)
    assert str(refused(tmp_path / "x.ome.tif", series=2)) == "no series 2: it holds 2 images, counted from 0"


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
    ("unit", "size"), [("micron", 0.5), ("\\u00B5m", 0.5), ("nm", 0.0005), ("inch", None), ("pixel", None), ("", None)]
)
def test_imagej_units(tmp_path: Path, unit: str, size: float | None) -> None:
    tifffile.imwrite(tmp_path / "x.tif", ramp(4, 5), imagej=True, resolution=(2, 2), metadata={"unit": unit})
    image = read_image(tmp_path / "x.tif")
    assert image.pixel_size_um == pytest.approx({} if size is None else {"Y": size, "X": size})
    assert image.pixel_size_trusted == (size is not None)


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


# Broken files


def cut(path: Path, share: float = 0.6) -> Path:
    content = path.read_bytes()
    target = path.with_name(f"cut_{path.name}")
    target.write_bytes(content[: int(len(content) * share)])
    return target


def test_a_cut_second_page_is_not_one_page(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", ramp(2, 40, 50), metadata=None, photometric="minisblack")
    with tifffile.TiffFile(tmp_path / "x.tif") as tif:
        second = tif.pages[1].offset
    (tmp_path / "y.tif").write_bytes((tmp_path / "x.tif").read_bytes()[: second + 20])
    error = refused(tmp_path / "y.tif", axes="YX")
    assert (error.reason, "the file was cut, and more may have followed" in str(error)) == ("truncated", True)
    np.testing.assert_array_equal(read_image(tmp_path / "y.tif", axes="TYX").read(t=0), ramp(2, 40, 50)[0])


WRITTEN = {
    "one page and all planes behind it": {},
    "compressed": {"compression": "zlib"},
    "tiled": {"tile": (32, 32)},
    "ImageJ": {"imagej": True, "metadata": {"axes": "TYX"}},
    "ImageJ compressed": {"imagej": True, "metadata": {"axes": "TYX"}, "compression": "zlib"},
    "without a word": {"metadata": None, "compression": "zlib"},
    "OME": {"ome": True, "metadata": {"axes": "TYX"}, "compression": "zlib"},
    "BigTIFF": {"bigtiff": True, "compression": "zlib"},
}
"""Ways to write a stack after which a cut file has whole planes."""


@pytest.mark.parametrize("written", WRITTEN)
def test_whole_planes_of_a_file_that_was_cut(tmp_path: Path, written: str) -> None:
    stored = np.random.default_rng(1).integers(0, 4000, (10, 64, 80)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", stored, photometric="minisblack", **WRITTEN[written])
    error = refused(cut(tmp_path / "x.tif"), **({"axes": "TYX"} if written == "without a word" else {}))
    assert (error.reason, "--partial" in str(error), "the file was cut" in str(error)) == ("truncated", True, True)
    image = read_image(tmp_path / "cut_x.tif", axes="TYX")
    assert image.missing is not None
    whole = np.flatnonzero(image.missing.present[:, 0, 0])
    assert 4 <= len(whole) < 10
    for t in whole:
        np.testing.assert_array_equal(image.read(t=int(t)), stored[t])
    with pytest.raises(ImageError, match="--partial"):
        image.read(t=int(whole[-1]) + 1)


def test_a_cut_file_whose_axes_are_named(tmp_path: Path) -> None:
    stored = np.random.default_rng(1).integers(0, 4000, (3, 2, 64, 80)).astype(np.uint16)
    options = {"photometric": "minisblack", "compression": "zlib"}
    tifffile.imwrite(tmp_path / "x.tif", stored, metadata={"axes": "TCYX"}, **options)
    image = read_image(cut(tmp_path / "x.tif", 0.75))
    assert (image.axes, image.shape) == ("TCYX", (3, 2, 64, 80))
    assert str(image.missing) == "the file was cut: 2 of 6 planes are missing (t 2, channel 0 to 1)"
    np.testing.assert_array_equal(image.read(t=1), stored[1])


def test_a_cut_file_with_its_ome_xml(tmp_path: Path) -> None:
    stored = np.random.default_rng(1).integers(0, 4000, (6, 64, 80)).astype(np.uint16)
    xml = ome_xml({"X": 80, "Y": 64, "T": 6}, "uint16", pixel_size_um={"Y": 0.5, "X": 0.5})
    options = {"photometric": "minisblack", "metadata": None, "description": xml, "compression": "zlib"}
    tifffile.imwrite(tmp_path / "x.ome.tif", stored, **options)
    image = read_image(cut(tmp_path / "x.ome.tif", 0.75))
    assert (image.axes, image.shape, image.pixel_size_um) == ("TYX", (6, 64, 80), {"Y": 0.5, "X": 0.5})
    assert str(image.missing) == "the file was cut: 2 of 6 planes are missing (t 4 to 5)"
    np.testing.assert_array_equal(image.read(t=3), stored[3])


def test_all_planes_of_a_cut_file_without_its_description(tmp_path: Path) -> None:
    stored = ramp(3, 40, 50)
    tifffile.imwrite(tmp_path / "x.ome.tif", stored, ome=True, metadata={"axes": "TYX"}, photometric="minisblack")
    (tmp_path / "y.ome.tif").write_bytes((tmp_path / "x.ome.tif").read_bytes()[:-100])
    error = refused(tmp_path / "y.ome.tif")
    assert (error.reason, "--axes" in str(error)) == ("truncated", True)
    image = read_image(tmp_path / "y.ome.tif", axes="TYX")
    np.testing.assert_array_equal(image.read(), stored)
    # That the pixel size is lost has to be said.
    assert image.missing is not None
    assert (image.missing.count, image.missing.cut) == (0, "the file was cut")


def test_a_cut_plane_of_several_samples(tmp_path: Path) -> None:
    # ImageJ's channels are samples of one page here, and no plane of its own is whole.
    options = {"photometric": "rgb", "metadata": None, "description": "ImageJ=1.53t\nimages=1\nchannels=3\n"}
    tifffile.imwrite(tmp_path / "x.tif", ramp(30, 40, 3), **options)
    error = refused(cut(tmp_path / "x.tif"))
    assert (error.reason, "pixels up to byte" in str(error)) == ("truncated", True)


def test_images_before_the_cut(tmp_path: Path) -> None:
    # Arrays of other sizes are images of their own; what followed fails, and they do not.
    with tifffile.TiffWriter(tmp_path / "x.tif") as tif:
        for size in (30, 40, 50):
            tif.write(ramp(size, size), photometric="minisblack", metadata=None)
    image = read_image(cut(tmp_path / "x.tif", 0.8), series=1)
    np.testing.assert_array_equal(image.read(), ramp(40, 40))
    assert image.series_count == 3
    assert refused(tmp_path / "cut_x.tif", series=2).reason == "truncated"


def test_positions_of_which_some_were_never_recorded(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "x.ome.tif", ome=True) as tif:
        for name in "AB":
            tif.write(ramp(2, 30, 40), photometric="minisblack", metadata={"axes": "TYX", "Name": name})
    xml = tifffile.tiffcomment(tmp_path / "x.ome.tif")
    tifffile.tiffcomment(tmp_path / "x.ome.tif", xml.replace('IFD="2"', 'IFD="9"').encode())
    np.testing.assert_array_equal(read_image(tmp_path / "x.ome.tif").read(), ramp(2, 30, 40))
    error = refused(tmp_path / "x.ome.tif", series=1)
    assert (error.reason, "position B: none of its 2 planes" in str(error)) == ("missing_position", True)


def test_every_cut_is_noticed_or_harmless(tmp_path: Path) -> None:
    stored = ramp(3, 30, 20)
    for options in ({}, {"compression": "deflate"}, {"compression": "lzw", "tile": (16, 16)}):
        tifffile.imwrite(
            tmp_path / "x.ome.tif", stored, ome=True, metadata={"axes": "ZYX"}, photometric="minisblack", **options
        )
        content = (tmp_path / "x.ome.tif").read_bytes()
        for end in range(0, len(content), max(1, len(content) // 60)):
            (tmp_path / "cut.tif").write_bytes(content[:end])
            assert refused(tmp_path / "cut.tif").reason in ("truncated", "unreadable", "bad_metadata", "inconsistent")


def test_an_offset_beyond_all_files(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", ramp(4, 5), bigtiff=True)
    content = bytearray((tmp_path / "x.tif").read_bytes())
    content[8:16] = b"\xff" * 8
    (tmp_path / "x.tif").write_bytes(content)
    assert refused(tmp_path / "x.tif").reason == "truncated"


def test_pages_that_lead_back_are_refused(tmp_path: Path) -> None:
    write_by_hand(tmp_path / "x.tif", bytes(4), width=2, height=2, bits=8, photometric=1)
    content = bytearray((tmp_path / "x.tif").read_bytes())
    content[-4:] = struct.pack("<I", struct.unpack("<I", content[4:8])[0])
    (tmp_path / "x.tif").write_bytes(content)
    assert "leads back" in str(refused(tmp_path / "x.tif"))


@pytest.mark.parametrize("compression", [1, 5, 8, 32773, 50000])
def test_a_size_that_the_file_cannot_hold_is_refused_before_memory_is_taken(tmp_path: Path, compression: int) -> None:
    write_by_hand(
        tmp_path / "x.tif", bytes(400), width=200_000, height=200_000, bits=8, photometric=1, t259=compression
    )
    error = refused(tmp_path / "x.tif")
    assert (error.reason, "40.0 GB" in str(error)) == ("inconsistent", True)


def test_too_few_bytes_for_the_pixels(tmp_path: Path) -> None:
    write_by_hand(tmp_path / "x.tif", bytes(400), width=30, height=30, bits=8, photometric=1)
    assert str(refused(tmp_path / "x.tif")).startswith("900 bytes of pixels are needed, the page has 400")
    write_by_hand(tmp_path / "y.tif", bytes(400), width=20, height=20, bits=8, photometric=1, t273=300)
    assert str(refused(tmp_path / "y.tif")).startswith("pixels up to byte 700 are claimed")


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ('SizeC="1" => SizeC="9"', "missing_plane", "8 of 9 planes are missing (channel 1 to 8)"),
        ('SizeT="1" => SizeT="1001"', "inconsistent", "claim 1001 planes, the file holds 1"),
        ('SizeX="5" => SizeX="6"', "inconsistent", "6 x 4 pixels"),
        ('SizeT="1" => SizeT="100000000"', "bad_metadata", "which no file holds"),
        ('SizeZ="1" => SizeZ="x"', "bad_metadata", "SizeZ='x'"),
        ('SizeZ="1" => SizeZ="0"', "bad_metadata", "Z=0"),
        ('SamplesPerPixel="1" => SamplesPerPixel="3"', "bad_metadata", "samples"),
        ('DimensionOrder="XY => DimensionOrder="YX', "bad_metadata", "DimensionOrder"),
        ("</Pixels> => </Pixel>", "bad_metadata", "cannot be read"),
    ],
)
def test_ome_xml_that_does_not_fit_its_pages(tmp_path: Path, change: str, reason: str, words: str) -> None:
    path = tmp_path / "x.ome.tif"
    tifffile.imwrite(path, ramp(4, 5), ome=True)
    tifffile.tiffcomment(path, tifffile.tiffcomment(path).replace(*change.split(" => ")).encode())
    error = refused(tmp_path / "x.ome.tif")
    assert error.reason == reason
    assert words in str(error)


def test_a_file_that_was_renamed_is_still_its_own(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "old.ome.tif", ramp(2, 4, 5), ome=True, metadata={"axes": "ZYX"}, photometric="minisblack"
    )
    (tmp_path / "old.ome.tif").rename(tmp_path / "new.ome.tif")
    assert read_image(tmp_path / "new.ome.tif").read().shape == (2, 4, 5)


OME_START = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
COMPANION = (
    f'{OME_START}<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="5" SizeY="4" '
    'SizeZ="2" SizeC="1" SizeT="1" PhysicalSizeX="2" PhysicalSizeY="2">'
    '<TiffData FirstZ="0" IFD="0" PlaneCount="1"><UUID FileName="a.ome.tif">urn:uuid:a</UUID></TiffData>'
    '<TiffData FirstZ="1" IFD="0" PlaneCount="1"><UUID FileName="b.ome.tif">urn:uuid:b</UUID></TiffData>'
    "</Pixels></Image></OME>"
)
PIECE = f'{OME_START}<BinaryOnly MetadataFile="x.companion.ome"/></OME>'


def test_a_set_of_files_with_a_companion(tmp_path: Path) -> None:
    stored = ramp(2, 4, 5)
    for name, plane in zip("ab", stored, strict=True):
        tifffile.imwrite(tmp_path / f"{name}.ome.tif", plane, description=PIECE, metadata=None)
    assert refused(tmp_path / "a.ome.tif").reason == "missing_companion"
    (tmp_path / "x.companion.ome").write_text(COMPANION)
    for name in ("a.ome.tif", "b.ome.tif", "x.companion.ome"):
        image = read_image(tmp_path / name)
        assert (image.axes, image.pixel_size_um) == ("ZYX", {"Y": 2.0, "X": 2.0})
        np.testing.assert_array_equal(image.read(), stored)
    (tmp_path / "b.ome.tif").unlink()
    error = refused(tmp_path / "x.companion.ome")
    assert (error.reason, "b.ome.tif" in str(error)) == ("missing_companion", True)


def test_files_that_describe_each_other_hold_the_images_that_begin_in_them(tmp_path: Path) -> None:
    stored = ramp(2, 4, 5)
    # One image of two sections: each file stands for it when it is asked by name.
    for name, plane in zip("ab", stored, strict=True):
        xml = COMPANION.replace("<OME ", f'<OME UUID="urn:uuid:{name}" ')
        tifffile.imwrite(tmp_path / f"{name}.ome.tif", plane, description=xml, metadata=None)
    for name in "ab":
        np.testing.assert_array_equal(read_image(tmp_path / f"{name}.ome.tif").read(), stored)
    # Two images of one section: each file holds its own.
    start, rest = COMPANION[: COMPANION.index("<TiffData")].replace('SizeZ="2"', 'SizeZ="1"'), "</Pixels></Image>"
    places = [f'<TiffData><UUID FileName="{name}.ome.tif">urn:uuid:{name}</UUID></TiffData>' for name in "ab"]
    images = "".join(start.removeprefix(OME_START) + place + rest for place in places)
    for name, plane in zip("ab", stored, strict=True):
        xml = f"{OME_START}{images}</OME>".replace("<OME ", f'<OME UUID="urn:uuid:{name}" ')
        tifffile.imwrite(tmp_path / f"{name}.ome.tif", plane, description=xml, metadata=None)
        image = read_image(tmp_path / f"{name}.ome.tif")
        assert image.series_count == 1
        np.testing.assert_array_equal(image.read(), plane)


def test_companions_are_looked_for_beside_the_file_only(tmp_path: Path) -> None:
    outside = tmp_path / "secret.companion.ome"
    outside.write_text(COMPANION)
    folder = tmp_path / "images"
    folder.mkdir()
    tifffile.imwrite(
        folder / "a.ome.tif", ramp(4, 5), description=PIECE.replace("x.comp", "../secret.comp"), metadata=None
    )
    assert refused(folder / "a.ome.tif").reason == "missing_companion"


def test_an_imagej_header_that_claims_more_planes(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", ramp(2, 4, 5), imagej=True, metadata={"axes": "ZYX"})
    content = (tmp_path / "x.tif").read_bytes().replace(b"images=2", b"images=9").replace(b"slices=2", b"slices=9")
    (tmp_path / "x.tif").write_bytes(content)
    error = refused(tmp_path / "x.tif")
    assert (error.reason, "7 of 9 planes are missing (z 2 to 8)" in str(error)) == ("missing_plane", True)
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif").read(z=1), ramp(2, 4, 5)[1])


# Real files


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
