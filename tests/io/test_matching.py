"""A mask beside its image: axes, place in space and pixel size of the two."""

import itertools
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.io import read_image, write_labels
from unetbio.io.pairing.matching import read_mask

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
VOLUME = np.arange(1, 4 * 5 * 6 + 1, dtype=np.uint8).reshape(4, 5, 6)  # (X, Y, Z)


def save(path: Path, voxels: NDArray[Any], affine: NDArray[Any] | None, unit: str = "mm") -> Path:
    image = nibabel.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    return path


def turned(order: tuple[int, ...], flips: tuple[bool, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The volume stored in another order, with the matrix that says so."""
    orientation = np.array([[source, -1 if flip else 1] for source, flip in zip(order, flips, strict=True)])
    voxels = nibabel.orientations.apply_orientation(VOLUME, orientation)
    return voxels, AFFINE @ nibabel.orientations.inv_ornt_aff(orientation, VOLUME.shape)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", list(itertools.product((False, True), repeat=3)))
def test_volumes_stored_in_any_order_are_put_over_each_other(
    tmp_path: Path, order: tuple[int, ...], flips: tuple[bool, ...]
) -> None:
    image = read_image(save(tmp_path / "i.nii", VOLUME, AFFINE))
    mask, axes = read_mask(save(tmp_path / "m.nii", *turned(order, flips)), image)
    assert axes == "ZYX"
    np.testing.assert_array_equal(mask, VOLUME.transpose(2, 1, 0))


def test_a_time_lapse_is_turned_at_all_times(tmp_path: Path) -> None:
    lapse = np.stack([VOLUME, VOLUME + 1], axis=-1)
    image = read_image(save(tmp_path / "i.nii", lapse, AFFINE))
    flipped = AFFINE.copy()
    flipped[0] = (-1, 0, 0, 3)
    mask, axes = read_mask(save(tmp_path / "m.nii", lapse[::-1], flipped), image)
    assert axes == "TZYX"
    np.testing.assert_array_equal(mask, lapse.transpose(3, 2, 1, 0))


def moved(x: float) -> NDArray[Any]:
    affine = AFFINE.copy()
    affine[0, 3] = x
    return affine


def rotated() -> NDArray[Any]:
    affine = AFFINE.copy()
    affine[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    return affine


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (moved(40), "they begin at voxel 40, 0, 0 of the image"),
        (moved(0.5), "they begin at voxel 0.5, 0, 0 of the image"),
        (np.diag([1.0, 1.0, 3.0, 1.0]), "they are 1 x 1 x 1.5 voxels of the image large"),
        (rotated(), "the volumes are turned against each other"),
    ],
)
def test_voxels_that_are_not_those_of_the_image_are_refused(tmp_path: Path, affine: Any, message: str) -> None:
    image = read_image(save(tmp_path / "i.nii", VOLUME, AFFINE))
    path = save(tmp_path / "m.nii", VOLUME, affine, "unknown")
    with pytest.raises(ImageError, match=f"its voxels are not those of the image: {message}") as caught:
        read_mask(path, image)
    assert caught.value.reason == "geometry_differs"
    assert "resample the mask to the image (nibabel.processing.resample_from_to with order 0)" in str(caught.value)


@pytest.mark.parametrize("affine", [None, AFFINE + np.array([[1e-4, 0, 0, 0.01]] + [[0.0] * 4] * 3)])
def test_rounded_headers_and_headers_without_a_place_fit(tmp_path: Path, affine: Any) -> None:
    image = read_image(save(tmp_path / "i.nii", VOLUME, AFFINE))
    mask, _ = read_mask(save(tmp_path / "m.nii", VOLUME, affine, "unknown"), image)
    np.testing.assert_array_equal(mask, VOLUME.transpose(2, 1, 0))


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1.0), ("micron", 1e3), ("meter", 1e-3), ("micron", 1.0)])
def test_units_of_two_headers_may_differ(tmp_path: Path, unit: str, factor: float) -> None:
    """Converted, where the numbers do not agree as they are: some programs name a unit and keep the numbers."""
    image = read_image(save(tmp_path / "i.nii", VOLUME, moved(7.5), "mm"))
    flipped = moved(7.5 + 3)
    flipped[0, 0] = -1
    affine = np.diag([factor, factor, factor, 1.0]) @ flipped
    mask, _ = read_mask(save(tmp_path / "m.nii", VOLUME[::-1], affine, unit), image)
    np.testing.assert_array_equal(mask, VOLUME.transpose(2, 1, 0))


def test_units_that_do_not_explain_a_difference_are_refused(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "i.nii", VOLUME, AFFINE, "mm"))
    path = save(tmp_path / "m.nii", VOLUME, np.diag([500.0, 500.0, 1000.0, 1.0]), "micron")
    with pytest.raises(ImageError, match=r"they are 0\.5 x 0\.5 x 0\.5 voxels of the image large"):
        read_mask(path, image)


def test_pixel_sizes_that_differ_are_refused(tmp_path: Path) -> None:
    plane = np.ones((8, 8), np.uint16)
    write_labels(tmp_path / "i.tif", plane, pixel_size_um={"Y": 0.5, "X": 0.5})
    write_labels(tmp_path / "m.tif", plane, pixel_size_um={"Y": 0.25, "X": 0.25})
    image = read_image(tmp_path / "i.tif")
    with pytest.raises(ImageError, match=r"its pixel size is 0.25 x 0.25 um, that of the image 0.5 x 0.5 um") as caught:
        read_mask(tmp_path / "m.tif", image)
    assert caught.value.reason == "pixel_size_differs"
    assert read_mask(tmp_path / "m.tif", image, compare_pixel_sizes=False)[0].shape == (8, 8)
    write_labels(tmp_path / "near.tif", plane, pixel_size_um={"Y": 0.501, "X": 0.501})
    read_mask(tmp_path / "near.tif", image)


STACK = np.arange(1, 3 * 8 * 8 + 1, dtype=np.uint16).reshape(3, 8, 8)


@pytest.mark.parametrize("axes", [None, "TYX", "ZYX", "CYX"])
@pytest.mark.parametrize("own", ["ZYX", "TYX"])
def test_a_mask_takes_the_axes_of_its_image(tmp_path: Path, axes: str | None, own: str) -> None:
    """Programs that save masks name no axes, or those that come first."""
    tifffile.imwrite(tmp_path / "i.tif", STACK, imagej=True, metadata={"axes": own})
    options: dict[str, Any] = {"imagej": True, "metadata": {"axes": axes}} if axes else {"metadata": None}
    tifffile.imwrite(tmp_path / "m.tif", STACK, photometric="minisblack", **options)
    mask, found = read_mask(tmp_path / "m.tif", read_image(tmp_path / "i.tif"))
    assert found == own
    np.testing.assert_array_equal(mask, STACK)


def test_pages_of_a_mask_are_the_times_of_a_lapse_of_projected_stacks(tmp_path: Path) -> None:
    lapse = np.zeros((4, 3, 8, 8), np.uint8)
    tifffile.imwrite(tmp_path / "i.tif", lapse, imagej=True, metadata={"axes": "TZYX"})
    times = np.repeat(STACK[:1], 4, axis=0)
    tifffile.imwrite(tmp_path / "m.tif", times, photometric="minisblack", metadata=None)
    mask, axes = read_mask(tmp_path / "m.tif", read_image(tmp_path / "i.tif"))
    assert axes == "TYX"
    np.testing.assert_array_equal(mask, times)


def test_a_mask_without_axes_of_another_shape_is_at_fault(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "i.tif", STACK[0])
    tifffile.imwrite(tmp_path / "m.tif", STACK, photometric="minisblack", metadata=None)
    with pytest.raises(ImageError, match=r"3 pages of 8 x 8 pixels .*; the axes YX of its image do not fit"):
        read_mask(tmp_path / "m.tif", read_image(tmp_path / "i.tif"))


def test_colours_are_no_sections(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "i.tif", STACK, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "m.tif", STACK.astype(np.uint8).transpose(1, 2, 0), photometric="rgb")
    with pytest.raises(ImageError, match=r"the mask has 3 channels \(colours\?\)"):
        read_mask(tmp_path / "m.tif", read_image(tmp_path / "i.tif"))


def test_a_mask_of_a_file_with_several_images_has_its_number(tmp_path: Path) -> None:
    for name, factor in (("i.tif", 1), ("m.tif", 2)):
        with tifffile.TiffWriter(tmp_path / name, ome=True) as writer:
            for number in (3, 5):
                writer.write(np.full((8, 8), number * factor, np.uint16), metadata={"axes": "YX"})
    mask, _ = read_mask(tmp_path / "m.tif", read_image(tmp_path / "i.tif", series=1))
    assert mask.max() == 10
