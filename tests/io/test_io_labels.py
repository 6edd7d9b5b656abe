"""Label images and probabilities: what is written is read again, and what is no label image is refused."""

from pathlib import Path
from typing import Any

import imagecodecs
import nibabel
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from unetbio.errors import EnvironmentStoppedError, ImageError
from unetbio.io import read_image, read_labels, write_image, write_labels, write_probabilities

CELLS = np.array([[0, 1, 1, 0], [2, 2, 0, 3], [2, 2, 0, 3]], np.uint16)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    label_image=hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.uint32, np.int32, np.int64]),
        hnp.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=9),
        elements=st.integers(0, 120),
    ),
    suffix=st.sampled_from([".ome.tif", ".tif", ".nii", ".nii.gz"]),
)
def test_labels_come_back(tmp_path: Path, label_image: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    write_labels(path, label_image)
    found = read_labels(path, allow_binary=True)
    np.testing.assert_array_equal(found, label_image.reshape(found.shape))
    assert found.dtype == {"i": np.dtype(np.uint16)}.get(label_image.dtype.kind, label_image.dtype)


@pytest.mark.parametrize(("top", "dtype"), [(65_535, np.uint16), (65_536, np.uint32), (4_294_967_295, np.uint32)])
def test_labels_are_never_cut_off(tmp_path: Path, top: int, dtype: Any) -> None:
    write_labels(tmp_path / "x.tif", np.array([[0, 1], [2, top]], np.int64))
    found = read_labels(tmp_path / "x.tif")
    assert (found.dtype, found.max()) == (dtype, top)


@pytest.mark.parametrize(
    ("label_image", "reason"),
    [
        (np.array([[0, 0.5]]), "not_integer"),
        (np.array([[0.0, 1.0]], np.float32), "not_integer"),
        (np.array([[0, -1]]), "negative_labels"),
        (np.array([[0, 1 << 32]]), "too_many_labels"),
    ],
)
def test_what_is_no_label_image_is_not_written(tmp_path: Path, label_image: np.ndarray, reason: str) -> None:
    with pytest.raises(ImageError) as caught:
        write_labels(tmp_path / "x.tif", label_image)
    assert caught.value.reason == reason
    assert not list(tmp_path.iterdir())


def test_the_file_is_tiled_deflated_ome_with_its_pixel_size(tmp_path: Path) -> None:
    stack = np.zeros((3, 300, 520), np.uint16)
    stack[1, 100:200, 250:300] = 7
    write_labels(tmp_path / "x.ome.tif", stack, axes="TYX", pixel_size_um={"Y": 0.65, "X": 1 / 3})
    with tifffile.TiffFile(tmp_path / "x.ome.tif") as tif:
        page = tif.pages[0]
        assert (page.tile, page.compression.name, tif.is_ome) == ((256, 256), "ADOBE_DEFLATE", True)
        assert (tif.series[0].axes, tif.series[0].shape) == ("TYX", stack.shape)
        np.testing.assert_array_equal(tif.asarray(), stack)
    image = read_image(tmp_path / "x.ome.tif")
    assert (image.axes, image.pixel_size_um, image.pixel_size_trusted) == ("TYX", {"Y": 0.65, "X": 1 / 3}, True)


@pytest.mark.parametrize("kind", [np.float64, np.float32])
@pytest.mark.parametrize("name", ["x.ome.tif", "x.nii", "x.ome.zarr"])
def test_pixel_sizes_of_numpy_are_numbers(tmp_path: Path, name: str, kind: type) -> None:
    sizes = {axis: kind(0.25) for axis in "YX"}
    write_labels(tmp_path / name, CELLS, pixel_size_um=sizes, start=(np.int64(2), np.int64(3)))
    assert read_image(tmp_path / name).pixel_size_um == pytest.approx({"Y": 0.25, "X": 0.25})
    if name == "x.ome.tif":
        with tifffile.TiffFile(tmp_path / name) as tif:
            assert 'PositionX="0.75"' in (tif.ome_metadata or "")
        write_probabilities(tmp_path / name, np.stack([CELLS]), ("cell",), pixel_size_um=sizes)
        assert read_image(tmp_path / name).pixel_size_um == {"Y": 0.25, "X": 0.25}


def test_an_unknown_pixel_size_stays_unknown(tmp_path: Path) -> None:
    write_labels(tmp_path / "x.ome.tif", CELLS)
    assert read_image(tmp_path / "x.ome.tif").pixel_size_um == {}


@pytest.mark.parametrize("name", ["x.ome.tif", "x.nii", "x.nii.gz"])
def test_equal_label_images_make_equal_files(tmp_path: Path, name: str) -> None:
    for folder in ("a", "b"):
        write_labels(tmp_path / folder / name, CELLS, pixel_size_um={"Y": 2.0, "X": 2.0})
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_axes_that_do_not_fit(tmp_path: Path) -> None:
    for axes in ("ZYX", "XY", "YZ"):
        for name in ("x.tif", "x.nii"):
            with pytest.raises(ValueError, match="letters of TCZYX"):
                write_labels(tmp_path / name, CELLS, axes=axes)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentStoppedError):
        write_labels(tmp_path / "file" / "x.tif", CELLS)


@pytest.mark.parametrize("unit", ["mm", "micron", "meter"])
def test_nifti_goes_out_as_it_came_in(tmp_path: Path, unit: str) -> None:
    affine = np.array([[0, -2, 0, 5], [3, 0, 0, -7], [0, 0, 1.5, 2], [0, 0, 0, 1]], float)
    source = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.float32), affine)
    source.header.set_xyzt_units(xyz=unit)
    nibabel.save(source, tmp_path / "x.nii.gz")
    image = read_image(tmp_path / "x.nii.gz")
    labels = np.arange(120, dtype=np.uint16).reshape(image.shape)
    write_labels(tmp_path / "y.nii.gz", labels, axes="ZYX", pixel_size_um=image.pixel_size_um, affine=image.affine)
    written = nibabel.load(tmp_path / "y.nii.gz")
    np.testing.assert_array_equal(written.affine, affine)
    np.testing.assert_array_equal(np.asarray(written.dataobj), labels.T)
    assert written.get_data_dtype() == np.uint16
    assert written.header.get_xyzt_units()[0] == unit
    assert read_image(tmp_path / "y.nii.gz").pixel_size_um == pytest.approx(image.pixel_size_um)


@pytest.mark.parametrize("unit", ["mm", "unknown"])
@pytest.mark.parametrize(
    ("given", "stated"),
    [
        ({"Z": 2.0, "Y": 0.5, "X": 0.5}, {}),
        ({"Z": 1.0, "Y": 0.5, "X": 0.5}, {}),
        ({"Z": 2.0, "Y": 1.0, "X": 1.0}, {}),
        ({"Z": 1.0, "Y": 1.0, "X": 1.001}, {"Z": 1.0, "Y": 1.0, "X": 1.0}),
        ({"Y": 1.0, "X": 1.0}, {"Z": 1.0, "Y": 1.0, "X": 1.0}),
    ],
)
def test_a_nifti_file_states_no_other_pixel_size_than_was_given(
    tmp_path: Path, unit: str, given: dict[str, float], stated: dict[str, float]
) -> None:
    """As --pixel-size does; the labels lie over the image as before."""
    source = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.float32), np.eye(4))
    source.header.set_xyzt_units(xyz=unit)
    nibabel.save(source, tmp_path / "x.nii.gz")
    affine = read_image(tmp_path / "x.nii.gz").affine
    labels = np.arange(120, dtype=np.uint16).reshape(6, 5, 4)
    write_labels(tmp_path / "y.nii.gz", labels, axes="ZYX", pixel_size_um=given, affine=affine)
    written = read_image(tmp_path / "y.nii.gz")
    assert (written.pixel_size_um, written.pixel_size_trusted) == (stated, bool(stated))
    assert written.affine is not None
    np.testing.assert_array_equal(written.affine, affine)


def test_probabilities(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((2, 3, 30, 40), np.float32)
    write_probabilities(
        tmp_path / "x.ome.tif", values, ("background", "cell"), pixel_size_um={"Z": 2.0, "Y": 1.0, "X": 1.0}
    )
    image = read_image(tmp_path / "x.ome.tif")
    assert (image.axes, image.dtype, image.channel_names) == ("CZYX", np.float32, ("background", "cell"))
    assert image.pixel_size_um == {"Z": 2.0, "Y": 1.0, "X": 1.0}
    np.testing.assert_array_equal(image.read(), values)
    write_probabilities(tmp_path / "x.nii", values, ("background", "cell"))
    np.testing.assert_array_equal(read_image(tmp_path / "x.nii").read(), values)
    with pytest.raises(ValueError, match="2 classes, but 1 names"):
        write_probabilities(tmp_path / "y.tif", values, ("cell",))


# Reading masks of other origins


def refusal(path: Path, **options: Any) -> ImageError:
    with pytest.raises(ImageError) as caught:
        read_labels(path, **options)
    return caught.value


TWO_PARTS = np.array([[1, 0, 1], [1, 0, 1]], np.uint8)
ONE_PART = np.array([[1, 0, 0], [1, 1, 0]], np.uint8)


@pytest.mark.parametrize("mask", [TWO_PARTS, TWO_PARTS * 255, ONE_PART * 255, TWO_PARTS.astype(bool)])
def test_binary_masks_hold_no_instances(tmp_path: Path, mask: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "x.tif", mask)
    error = refusal(tmp_path / "x.tif")
    assert error.reason == "binary_mask"
    assert "--split-components" in str(error)
    assert "--target classes" in str(error)
    np.testing.assert_array_equal(read_labels(tmp_path / "x.tif", allow_binary=True), mask)


@pytest.mark.parametrize(
    "mask", [ONE_PART, np.zeros((3, 4), np.uint16), TWO_PARTS + np.uint8(1), np.eye(3, dtype=np.uint8)]
)
def test_one_cell_no_cell_and_other_numbers_are_label_images(tmp_path: Path, mask: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "x.tif", mask)
    np.testing.assert_array_equal(read_labels(tmp_path / "x.tif"), mask)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
def test_whole_numbers_of_any_type_are_labels(tmp_path: Path, dtype: type) -> None:
    # Fiji saves 32 bits as floating point, napari int32 and int64.
    tifffile.imwrite(tmp_path / "x.tif", (CELLS * 200).astype(dtype))
    found = read_labels(tmp_path / "x.tif")
    assert found.dtype.kind == "u"
    np.testing.assert_array_equal(found, CELLS * 200)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (0.5, "float32 with fractions, NaN or infinity"),
        (np.inf, "float32 with fractions, NaN or infinity"),
        (np.nan, "1 of 12 pixels of the mask are NaN: .* labels[np.isnan(labels)] = 0"),
    ],
)
def test_masks_with_fractions_are_refused(tmp_path: Path, bad: float, message: str) -> None:
    mask = CELLS.astype(np.float32)
    mask[0, 0] = bad
    tifffile.imwrite(tmp_path / "x.tif", mask)
    error = refusal(tmp_path / "x.tif", allow_binary=True)
    assert error.reason == "not_integer"
    assert all(part in str(error) for part in message.split(" .* "))
    tifffile.imwrite(tmp_path / "y.tif", np.full((3, 4), 1e30))
    assert refusal(tmp_path / "y.tif").reason == "too_many_labels"


def test_colours_and_negative_labels_are_refused_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "y.png").write_bytes(
        imagecodecs.png_encode(np.dstack([CELLS.astype(np.uint8)] * 2 + [0 * CELLS.astype(np.uint8)]))
    )
    error = refusal(tmp_path / "y.png")
    assert (error.reason, "3 channels" in str(error)) == ("wrong_channels", True)
    tifffile.imwrite(tmp_path / "z.tif", CELLS.astype(np.int16) - 1)
    error = refusal(tmp_path / "z.tif")
    assert (error.reason, "labels[labels < 0] = 0" in str(error)) == ("negative_labels", True)


def test_an_image_is_written_with_names_that_need_escapes(tmp_path: Path) -> None:
    write_image(
        tmp_path / "x.ome.tif", np.zeros((2, 4, 5), np.float32), axes="CYX", channel_names=('<"Färbung µ">', "b")
    )
    assert read_image(tmp_path / "x.ome.tif").channel_names == ('<"Färbung µ">', "b")


def with_palette(labels: np.ndarray, path: Path, colours: list[int], bits: int = 8) -> None:
    picture = Image.fromarray(labels.astype(np.uint8), "P")
    picture.putpalette(colours)
    picture.save(path, bits=bits)


@pytest.mark.parametrize(("name", "bits"), [("x.png", 8), ("x.png", 4), ("x.png", 2), ("x.tif", 8)])
def test_numbers_of_a_palette_are_labels(tmp_path: Path, name: str, bits: int) -> None:
    """Two cells have one colour, as in palettes that begin anew after some colours."""
    with_palette(CELLS, tmp_path / name, [0, 0, 0, 200, 30, 30, 200, 30, 30, 30, 200, 30], bits)
    np.testing.assert_array_equal(read_labels(tmp_path / name), CELLS)
    assert read_image(tmp_path / name).axes == "CYX"


def test_a_palette_in_another_order_is_colours(tmp_path: Path) -> None:
    with_palette(CELLS, tmp_path / "x.png", [200, 30, 30, 0, 0, 0, 30, 30, 200, 30, 200, 30])
    assert refusal(tmp_path / "x.png").reason == "wrong_channels"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_masks_of_which_white_is_zero_keep_their_numbers(tmp_path: Path, dtype: type) -> None:
    tifffile.imwrite(tmp_path / "x.tif", CELLS.astype(dtype), photometric="miniswhite")
    np.testing.assert_array_equal(read_labels(tmp_path / "x.tif"), CELLS)
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif").read(), np.iinfo(dtype).max - CELLS)


@pytest.mark.parametrize("largest", [255, 65_535, 2**32 - 1])
def test_minus_one_without_its_sign_in_a_wider_type(tmp_path: Path, largest: int) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.where(CELLS, CELLS.astype(np.int64), largest))
    error = refusal(tmp_path / "x.tif")
    assert (error.reason, f"labels[labels == {largest}] = 0" in str(error)) == ("negative_labels", True)


def test_a_tissue_of_255_cells_has_no_background(tmp_path: Path) -> None:
    tissue = np.arange(1, 256, dtype=np.uint8).reshape(15, 17).repeat(2, axis=0)
    tissue[0, 1] = 1
    tifffile.imwrite(tmp_path / "x.tif", tissue)
    np.testing.assert_array_equal(read_labels(tmp_path / "x.tif"), tissue)
