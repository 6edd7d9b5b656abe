"""OME-TIFF: axes, metadata and series, and images of several files."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiff_files import ramp, refused

from unetbio.errors import ImageError
from unetbio.io import read_image, select_channel


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
