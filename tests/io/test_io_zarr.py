"""OME-Zarr folders: their pixels, axes and collections, and how they are found."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from zarr_folders import CODECS, grey_values, make, multiscales, set_attributes

from unetbio.errors import ImageError, UsageError
from unetbio.io import read_image, read_labels, write_labels
from unetbio.io.discover import find_inputs
from unetbio.io.list_images import find_images
from unetbio.io.mask_names import stem
from unetbio.io.pairing.pairs import pair

Array = NDArray[Any]


@pytest.fixture
def image() -> Array:
    return grey_values()


@pytest.mark.parametrize("codec", CODECS)
def test_pixels_of_version_3(tmp_path: Path, image: Array, codec: str) -> None:
    found = read_image(make(tmp_path / "x.ome.zarr", image, "czyx", **CODECS[codec]))
    assert (found.axes, found.shape, found.dtype, found.format) == ("CZYX", image.shape, np.dtype(np.uint16), "zarr")
    np.testing.assert_array_equal(found.read(), image)
    np.testing.assert_array_equal(found.read(c=1, z=2, y=slice(7, 30), x=slice(20, 50)), image[1, 2, 7:30, 20:50])
    np.testing.assert_array_equal(found.pixels.read(0, 1, [1, 0], slice(0, 4), slice(3, 9)), image[::-1, 1, :4, 3:9])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compressors": None},
        {"order": "F"},
        {"chunk_key_encoding": {"name": "v2", "separator": "/"}},
        *({"compressors": {"id": name}} for name in ("gzip", "blosc", "lz4", "zlib", "bz2", "lzma")),
    ],
)
def test_pixels_of_version_2(tmp_path: Path, image: Array, options: dict[str, Any]) -> None:
    if isinstance(options.get("compressors"), dict):
        numcodecs = pytest.importorskip("numcodecs")
        options = {"compressors": numcodecs.get_codec(options["compressors"])}
    found = read_image(make(tmp_path / "x.zarr", image.astype(">u2"), "czyx", version=2, **options))
    assert found.dtype == np.dtype(np.uint16)
    np.testing.assert_array_equal(found.read(), image)


def test_axes_of_any_order_and_of_length_one(tmp_path: Path, image: Array) -> None:
    stored = image.transpose(3, 1, 2, 0)[:, :, :, :1]
    found = read_image(make(tmp_path / "x.zarr", stored, "xzyc"))
    assert found.axes == "ZYX"
    np.testing.assert_array_equal(found.read(), image[0])


def test_pixel_size_names_and_channels(tmp_path: Path, image: Array) -> None:
    attributes = multiscales("czyx", scale=0.25, name="field", coordinateTransformations=[])
    entry = attributes["multiscales"][0]
    entry["axes"][1]["unit"] = "nanometer"
    # A factor for all sizes stands beside the list of them.
    entry["coordinateTransformations"] = [{"type": "scale", "scale": [1, 1000, 2, 2]}, {"type": "translation"}]
    attributes["omero"] = {"channels": [{"label": "DAPI"}, {"color": "FF0000"}]}
    found = read_image(make(tmp_path / "x.zarr", image, "czyx", attributes=attributes))
    assert found.pixel_size_um == {"Z": 0.25, "Y": 0.5, "X": 0.5}
    assert (found.pixel_size_trusted, found.channel_names, found.name) == (True, ("DAPI", ""), "field")
    without = read_image(make(tmp_path / "y.zarr", image, "czyx", attributes=multiscales("czyx", units=False)))
    assert (without.pixel_size_um, without.pixel_size_trusted, without.channel_names) == ({}, False, ("", ""))


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("um", 1), ("µm", 1), ("micron", 1), ("micrometre", 1), ("nanometre", 1e-3), ("lightyear", None)],
)
def test_units_as_programs_write_them(tmp_path: Path, image: Array, unit: str, factor: float | None) -> None:
    attributes = multiscales("yx", scale=0.5)
    for axis in attributes["multiscales"][0]["axes"]:
        axis["unit"] = unit
    found = read_image(make(tmp_path / "x.zarr", image[0, 0], "yx", attributes=attributes))
    assert found.pixel_size_um == pytest.approx({} if factor is None else {"Y": 0.5 * factor, "X": 0.5 * factor})


@pytest.mark.parametrize(
    ("axes", "kept"), [("czyx", "ZYX"), ("CZYX", "ZYX"), ("ctyx", "YX"), ("zcyx", "YX"), ("czxy", "")]
)
def test_axes_that_are_those_of_the_file_keep_the_pixel_size(
    tmp_path: Path, image: Array, axes: str, kept: str
) -> None:
    found = read_image(make(tmp_path / "x.zarr", image, "czyx"), axes=axes)
    assert found.pixel_size_um == dict.fromkeys(kept, 0.5)
    assert found.pixel_size_trusted == bool(kept)


def test_axes_of_old_versions_and_of_people(tmp_path: Path, image: Array) -> None:
    names = {"multiscales": [{"version": "0.3", "axes": ["c", "z", "y", "x"], "datasets": [{"path": "0"}]}]}
    np.testing.assert_array_equal(read_image(make(tmp_path / "a.zarr", image, "", attributes=names)).read(), image)
    none = {"multiscales": [{"version": "0.1", "datasets": [{"path": "0"}]}]}
    found = read_image(make(tmp_path / "b.zarr", image[None], "", attributes=none, version=2))
    assert found.axes == "CZYX"
    assert read_image(tmp_path / "a.zarr", axes="zcyx").shape == (3, 2, 40, 50)
    # The time, of length one, need not be named.
    assert read_image(tmp_path / "b.zarr", axes="ZCYX").shape == (3, 2, 40, 50)
    make(tmp_path / "c.zarr", image, "", attributes=none)
    with pytest.raises(ImageError, match="0 axes are named for an array of 2 x 3 x 40 x 50: say --axes"):
        read_image(tmp_path / "c.zarr")


def test_collections_are_series(tmp_path: Path, image: Array) -> None:
    root = tmp_path / "x.zarr"
    set_attributes(root, {"bioformats2raw.layout": 3}, 2)
    make(root / "0", image[0], "zyx", version=2)
    make(root / "1", image[1, 0], "yx", version=2)
    found = read_image(root, series=1)
    assert (found.series, found.series_count, found.name) == (1, 2, "1")
    np.testing.assert_array_equal(found.read(), image[1, 0])
    # The order that the group OME lists.
    set_attributes(root / "OME", {"series": ["1", "0"]}, 2)
    np.testing.assert_array_equal(read_image(root).read(), image[1, 0])
    with pytest.raises(ImageError, match="no series 2: it holds 2 images, counted from 0"):
        read_image(root, series=2)


def test_fields_of_a_plate_are_series(tmp_path: Path, image: Array) -> None:
    root = tmp_path / "plate.zarr"
    set_attributes(root, {"plate": {"wells": [{"path": "A/1"}, {"path": "B/2"}]}}, 3)
    for well in ("A/1", "B/2"):
        set_attributes(root / well, {"well": {"images": [{"path": "0"}]}}, 3)
        make(root / well / "0", image[0, 0] + (well == "B/2"), "yx")
    found = read_image(root, series=1)
    assert (found.name, found.series_count) == ("B/2/0", 2)
    np.testing.assert_array_equal(found.read(), image[0, 0] + 1)
    np.testing.assert_array_equal(read_image(root / "B" / "2").read(), image[0, 0] + 1)
    np.testing.assert_array_equal(read_image(root / "B" / "2" / "0").read(), image[0, 0] + 1)


def test_a_plate_with_one_field_has_its_columns(tmp_path: Path, image: Array) -> None:
    root = tmp_path / "plate.zarr"
    set_attributes(root, {"plate": {"wells": [{"path": "B/3"}]}}, 3)
    set_attributes(root / "B" / "3", {"well": {"images": [{"path": "0"}]}}, 3)
    make(root / "B" / "3" / "0", image[0, 0], "yx")
    (found,) = find_images([root])
    assert dict(found.place) == {"plate": "plate", "well": "B03", "row": "B", "column": "3", "field": "0"}
    assert (found.path, found.relative.as_posix(), found.result) == (root, "plate.zarr", None)


def test_fields_of_a_well_alone_have_their_columns(
    tmp_path: Path, image: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    well = tmp_path / "plate.zarr" / "B" / "03"
    set_attributes(tmp_path / "plate.zarr", {"plate": {"wells": [{"path": "B/03"}]}}, 3)
    set_attributes(well, {"well": {"images": [{"path": "0"}, {"path": "1"}]}}, 3)
    for field in "01":
        make(well / field, image[0, 0], "yx")
    place = {"plate": "plate", "well": "B03", "row": "B", "column": "3"}
    of_plate, of_well = find_images([tmp_path / "plate.zarr"]), find_images([well])
    monkeypatch.chdir(well.parent)
    from_within, from_beside = find_images(["03"]), find_images(["../B/03"])
    for found in (of_plate, of_well, from_within, from_beside):
        assert [dict(field.place) for field in found] == [{**place, "field": "0"}, {**place, "field": "1"}]
    assert [field.result and field.result.as_posix() for field in of_well] == ["03/0", "03/1"]


def test_the_first_array_is_the_largest(tmp_path: Path, image: Array) -> None:
    root = make(tmp_path / "x.zarr", image[0, 0, ::2, ::2], "yx", attributes=multiscales("yx", 2))
    zarr.create_array(root / "1", data=image[0, 0], chunks=(16, 16))
    with pytest.raises(ImageError, match=r"has the shape \(20, 25\), the next \(40, 50\)"):
        read_image(root)


def test_without_the_package(tmp_path: Path, image: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path / "x.zarr", image[0, 0], "yx")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ImageError, match=r'pip install "unetbio\[formats\]"'):
        read_image(root)
    with pytest.raises(UsageError, match=r'pip install "unetbio\[formats\]"'):
        write_labels(tmp_path / "y_labels.ome.zarr", np.zeros((4, 4), np.uint16))


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="a folder, not an image"):
        read_image(tmp_path)


def test_folders_are_found_as_one_image(tmp_path: Path, image: Array) -> None:
    for name in ("b/x.ome.zarr", "a.zarr", "plain", "x_labels.ome.zarr"):
        make(tmp_path / name, image[0, 0], "yx")
    set_attributes(tmp_path / "c.zarr", {"bioformats2raw.layout": 3}, 2)
    found = [item.relative.as_posix() for item in find_inputs([tmp_path])]
    assert found == ["a.zarr", "b/x.ome.zarr", "c.zarr", "plain"]
    assert [item.path for item in find_inputs([tmp_path / "plain"])] == [tmp_path / "plain"]
    patterns = [item.path.name for item in find_inputs([f"{tmp_path}/**/*"])]
    assert patterns == ["a.zarr", "x.ome.zarr", "c.zarr", "plain"]
    assert (stem("d/x.ome.zarr"), stem("x.zarr")) == ("x", "x")


def test_pairs_of_folders(tmp_path: Path, image: Array) -> None:
    for name in ("images/x.ome.zarr", "masks/x_labels.ome.zarr"):
        make(tmp_path / name, image[0, 0], "yx")
    assert pair(tmp_path / "images", tmp_path / "masks").pairs == (
        (tmp_path / "images" / "x.ome.zarr", tmp_path / "masks" / "x_labels.ome.zarr"),
    )


def test_real_folders(shared_data: Path) -> None:
    stack = read_image(shared_data / "formats" / "nuclei_1135_v0.5.ome.zarr")
    assert (stack.axes, stack.shape, stack.dtype) == ("ZYX", (100, 100, 100), np.dtype(np.uint8))
    assert stack.pixel_size_um == {}
    labels = read_labels(shared_data / "formats" / "nuclei_1135_v0.5.ome.zarr")
    pixels = stack.read()
    assert labels.max() == 54
    assert pixels[labels > 0].mean() > 2 * pixels[labels == 0].mean()
    channels = read_image(shared_data / "formats" / "czyx_int8_v0.4.ome.zarr")
    assert (channels.axes, channels.shape, channels.dtype) == ("CZYX", (3, 5, 167, 439), np.dtype(np.int8))
    assert channels.read(c=1, z=4).std() > 1
