"""TIFF files that were cut or contradict themselves: refused in one line, whole planes read."""

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tiff_files import ramp, refused, write_by_hand

from unetbio.errors import ImageError
from unetbio.io import read_image
from unetbio.io.formats.ome import ome_xml


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


def test_an_imagej_header_that_claims_more_planes(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", ramp(2, 4, 5), imagej=True, metadata={"axes": "ZYX"})
    content = (tmp_path / "x.tif").read_bytes().replace(b"images=2", b"images=9").replace(b"slices=2", b"slices=9")
    (tmp_path / "x.tif").write_bytes(content)
    error = refused(tmp_path / "x.tif")
    assert (error.reason, "7 of 9 planes are missing (z 2 to 8)" in str(error)) == ("missing_plane", True)
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif").read(z=1), ramp(2, 4, 5)[1])
