"""Files that are one image by their names."""

import logging
from pathlib import Path

import numpy as np
import pytest
import tifffile

from unetbio.errors import ImageError, UsageError
from unetbio.io.discover import Found, find_inputs
from unetbio.io.grouping import group_files
from unetbio.io.image_set import ImageSet


def grouped(folder: Path, how: str = "auto") -> list[Found]:
    return group_files(find_inputs([folder]), how)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write(folder: Path, pixels: dict[str, np.ndarray]) -> None:
    for name, image in pixels.items():
        touch(folder, name)
        tifffile.imwrite(folder / name, image, photometric="minisblack")


def set_of(found: Found) -> ImageSet:
    assert found.image_set is not None
    return found.image_set


def test_planes_times_and_channels_come_in_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 200, (2, 2, 3, 4, 5)).astype(np.uint16)  # T C Z Y X
    names = {
        f"Images/r01c02f03p{z + 1:02d}-ch{c + 1}sk{t + 1}fk1fl1.tiff": stored[t, c, z]
        for t, c, z in np.ndindex(2, 2, 3)
    }
    write(tmp_path, names)
    (found,) = grouped(tmp_path)
    assert (found.relative.as_posix(), dict(found.place)["well"]) == ("Images/r01c02f03", "A02")
    image = set_of(found).open()
    assert (image.axes, image.channel_names, len(image.files)) == ("TCZYX", ("ch1", "ch2"), 12)
    np.testing.assert_array_equal(image.read(), stored)
    np.testing.assert_array_equal(image.read(t=1, c=0, z=2, y=slice(1, 3)), stored[1, 0, 2, 1:3])


def test_files_may_hold_axes_that_their_names_do_not_have(tmp_path: Path) -> None:
    stored = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    write(tmp_path, {f"A01_s1_w{c + 1}.TIF": stored[c] for c in range(2)})
    (found,) = grouped(tmp_path)
    image = set_of(found).open(axes="ZYX")
    assert image.axes == "CZYX"
    np.testing.assert_array_equal(image.read(), stored)
    with pytest.raises(ImageError, match="the names of the files tell 2 channels apart"):
        set_of(found).open(axes="CYX")


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    plane = np.ones((4, 5), np.uint8)
    write(tmp_path, {f"A0{w}_s1_w{c}.TIF": plane * c for w in (1, 2) for c in (1, 2) if (w, c) != (2, 1)})
    _, found = grouped(tmp_path)
    image = set_of(found).open()
    assert (found.relative.as_posix(), found.path.name) == ("A02_s1", "A02_s1_w2.TIF")
    assert str(image.missing) == "1 of 2 planes is missing (channel 0)"
    np.testing.assert_array_equal(image.read(c=1), plane * 2)
    with pytest.raises(ImageError, match="1 of 2 planes is missing"):
        image.read()


def test_files_of_one_image_have_one_size_and_type(tmp_path: Path) -> None:
    write(tmp_path, {"A01_s1_w1.TIF": np.ones((4, 5), np.uint8), "A01_s1_w2.TIF": np.ones((5, 4), np.uint8)})
    with pytest.raises(ImageError, match=r"differ: A01_s1_w2.TIF is Y=5 X=4 uint8, A01_s1_w1.TIF is Y=4 X=5 uint8"):
        set_of(grouped(tmp_path)[0]).open()
    write(tmp_path, {"A01_s1_w2.TIF": np.ones((4, 5), np.float32)})
    with pytest.raises(ImageError, match="differ in type"):
        set_of(grouped(tmp_path)[0]).open()
    write(tmp_path, {"A01_s1_w2.TIF": np.full((4, 5), 999, np.uint16)})
    image = set_of(grouped(tmp_path)[0]).open()
    assert image.dtype == np.uint16
    assert image.read()[:, 0, 0].tolist() == [1, 999]


def test_a_file_whose_numbers_the_others_cannot_hold_is_refused(tmp_path: Path) -> None:
    stored = [np.full((4, 5), value, dtype) for value, dtype in ((7, "u1"), (1001, "u2"), (1002, "u2"))]
    write(tmp_path, {f"e_z0{z}_ch00.tif": plane for z, plane in enumerate(stored)})
    image = set_of(grouped(tmp_path)[0]).open()
    assert image.read(z=0).max() == 7
    with pytest.raises(
        ImageError, match=r"e_z01_ch00.tif is Y=4 X=5 uint16, e_z00_ch00.tif is Y=4 X=5 uint8"
    ) as caught:
        image.read()
    assert caught.value.reason == "inconsistent"
    # A wider type of another channel, or of the first file, holds them all.
    write(tmp_path, {f"e_z0{z}_ch01.tif": np.full((4, 5), 9, np.uint16) for z in range(3)})
    assert set_of(grouped(tmp_path)[0]).open().read()[:, :, 0, 0].tolist() == [[7, 1001, 1002], [9, 9, 9]]


def several(path: Path, *planes: np.ndarray) -> None:
    with tifffile.TiffWriter(path, ome=True) as writer:
        for plane in planes:
            writer.write(plane)


def test_files_of_several_images_are_not_joined_to_one(tmp_path: Path) -> None:
    plane = np.ones((8, 8), np.uint8)
    for c in range(2):
        several(tmp_path / f"S_ch0{c}.tif", plane, plane * 2)
    with pytest.raises(ImageError, match=r"S_ch00.tif holds 2 images, .* with --group none") as caught:
        set_of(grouped(tmp_path)[0]).open()
    assert caught.value.reason == "inconsistent"
    # A thumbnail is no image to segment.
    for c in range(2):
        several(tmp_path / f"S_ch0{c}.tif", plane * (c + 1), plane[::4, ::4])
    assert set_of(grouped(tmp_path)[0]).open().read()[:, 0, 0].tolist() == [1, 2]


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"A01_s1_w1.TIF": np.ones((4, 5), np.uint8)})
    (tmp_path / "A01_s1_w2.TIF").write_bytes(b"II*\0")
    with pytest.raises(ImageError, match=r"A01_s1_w2.TIF: only a TIFF header"):
        set_of(grouped(tmp_path)[0]).open()


def test_one_file_a_field_keeps_its_name_and_gets_columns(tmp_path: Path) -> None:
    touch(tmp_path, "p/AS_1_A01f00d0.TIF", "p/AS_1_A02f01d0.TIF")
    found = grouped(tmp_path)
    assert [(item.relative.as_posix(), item.image_set, item.result) for item in found] == [
        ("p/AS_1_A01f00d0.TIF", None, None),
        ("p/AS_1_A02f01d0.TIF", None, None),
    ]
    assert dict(found[1].place) == {"plate": "AS_1", "well": "A02", "row": "A", "column": "2", "field": "1"}


def test_what_is_no_piece_stays_an_image(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "A01_s1_w1.TIF", "A01_s1_w2.TIF", "A01_s1_w1_thumb.TIF", "notes.png")
    with caplog.at_level(logging.INFO):
        assert [item.relative.as_posix() for item in grouped(tmp_path)] == ["A01_s1", "notes.png"]
    assert (
        "2 files are 1 image of 2 channels, by their names (ImageXpress (MetaXpress): --group metaxpress" in caplog.text
    )
    assert "1 file left out: thumbnails" in caplog.text
    assert len(grouped(tmp_path, "none")) == 4


def test_a_doubt_joins_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    guids = ("BEDC2073-A983-4B98-95E9-84466707A25D", "AEDC2073-A983-4B98-95E9-84466707A25D")
    touch(tmp_path, *(f"A01_s1_w1{guid}.tif" for guid in guids))
    with caplog.at_level(logging.INFO):
        assert len(grouped(tmp_path)) == 2
    assert "have the same place" in caplog.text
    with pytest.raises(UsageError, match=r"--group metaxpress: .* have the same place"):
        grouped(tmp_path, "metaxpress")


def test_files_that_differ_in_a_dye_alone_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    touch(tmp_path, "a_DAPI.tif", "a_GFP.tif", "b_DAPI.tif", "c_gfp.png", "c_dapi.tif")
    assert len(grouped(tmp_path)) == 5
    assert (
        "2 files end in the name of a channel, such as a_DAPI.tif: each is an image of its own; --group" in caplog.text
    )
    caplog.clear()
    assert len(grouped(tmp_path, "(?P<name>.+)_(?P<channel>[^_]+)")) == 3
    assert "name of a channel" not in caplog.text


def test_plates_in_two_folders_are_two_plates(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{p}/Images/r01c01f01p01-ch{c}sk1fk1fl1.tiff" for p in ("one", "two") for c in range(1, len(p))))
    found = grouped(tmp_path)
    assert [(item.relative.as_posix(), dict(item.place)["plate"]) for item in found] == [
        ("one/Images/r01c01f01", "one"),
        ("two/Images/r01c01f01", "two"),
    ]


def test_sections_and_times_in_folders(tmp_path: Path) -> None:
    names = [f"TimePoint_{t}/ZStep_{z}/P_B02_s1_w{c}.TIF" for t in (1, 2) for z in (1, 2) for c in (1, 2)]
    touch(tmp_path, *names)
    (found,) = grouped(tmp_path)
    assert found.relative.as_posix() == "P_B02_s1"
    assert set_of(found).shape == (2, 2, 2)
    assert [path.relative_to(tmp_path).as_posix() for path in map(Path.resolve, set_of(found).paths)] == [
        f"TimePoint_{t}/ZStep_{z}/P_B02_s1_w{c}.TIF" for t in (1, 2) for c in (1, 2) for z in (1, 2)
    ]


def test_numbers_are_in_the_order_of_their_size(tmp_path: Path) -> None:
    touch(tmp_path, *(f"x_{z}_{c}.tif" for z in (2, 10, 1) for c in ("GFP", "DAPI")))
    (found,) = grouped(tmp_path, r"(?P<field>x)_(?P<z>\d+)_(?P<channel>\w+)")
    assert set_of(found).channel_names == ("DAPI", "GFP")
    assert set_of(found).files[:3] == ("x_1_DAPI.tif", "x_2_DAPI.tif", "x_10_DAPI.tif")


@pytest.mark.parametrize(
    "ordered",
    [
        ["t1", "t2", "t9", "t10", "t12"],
        ["-2", "-1", "0", "1", "10"],
        ["0.0", "0.5", "1.0", "2.0", "10.0"],
        ["0.5um", "1.25um", "10um"],
        # No sign where all have one: it parts the number from the name.
        ["-1", "-2", "-10"],
    ],
)
@pytest.mark.parametrize("axis", ["t", "z"])
def test_times_and_sections_are_in_the_order_of_their_numbers(tmp_path: Path, axis: str, ordered: list[str]) -> None:
    touch(tmp_path, *(f"m_{value}.tif" for value in ordered))
    (found,) = grouped(tmp_path, rf"(?P<name>.+)_(?P<{axis}>[^_]+)")
    assert set_of(found).files == tuple(f"m_{value}.tif" for value in ordered)


@pytest.mark.parametrize(
    ("numbers", "gap"),
    [((0, 1, 3), "2"), ((1, 2, 5), "3, 4"), ((0, 5, 10, 20), "15"), ((0, 5, 10), ""), ((0, 10, 27), ""), ((1, 99), "")],
)
def test_a_time_that_no_file_has_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, numbers: tuple[int, ...], gap: str
) -> None:
    touch(tmp_path, *(f"{field}_t{t:02d}_ch00.tif" for field in "AB" for t in numbers))
    assert [set_of(found).shape for found in grouped(tmp_path)] == [(len(numbers), 1, 1)] * 2
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == bool(gap)
    assert all(f"no file has the number {gap} among the times" in line for line in said)


def test_a_pattern_that_does_not_fit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "a_1.tif", "a_2.tif", "b.tif")
    with pytest.raises(UsageError, match=r"fits no file, such as a_1.tif"):
        grouped(tmp_path, r"(?P<field>q)_(?P<channel>\d)")
    assert [item.relative.as_posix() for item in grouped(tmp_path, r"(?P<field>a)_(?P<channel>\d)")] == ["a", "b.tif"]
    assert "--group fits all but 1 of 3 files, each of which is an image of its own, such as b.tif" in caplog.text
    with pytest.raises(UsageError, match=r"a_1.tif and a_2.tif have the same place"):
        grouped(tmp_path, r"(?P<channel>a)_")
