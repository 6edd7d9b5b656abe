import numpy as np
import pytest
from scipy import ndimage

from unetbio.settings.training import Augmentation
from unetbio.training.data.augmentation import change_intensity, patch_coordinates, warp

STILL = Augmentation(aligned_fraction=0.0, flip=False, rotate=False, scale=1.0, elastic_sigma=0.0, probability=0.0)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 6)])
def test_without_changes_a_patch_is_cut_out_around_its_centre(shape: tuple[int, ...]) -> None:
    image = np.arange(1000.0).reshape((10, 100) if len(shape) == 2 else (10, 10, 10))
    centre = [2 + (size - 1) / 2 for size in shape]
    patch = warp(image, patch_coordinates(rng(), centre, shape, STILL))
    assert np.allclose(patch, image[tuple(slice(2, 2 + size) for size in shape)])


def test_beyond_the_border_the_image_is_mirrored_without_repeating_the_edge() -> None:
    image = np.arange(4.0)[None].repeat(4, axis=0)
    patch = warp(image, patch_coordinates(rng(), (1.0, 0.0), (1, 7), STILL))
    assert patch[0].tolist() == [3, 2, 1, 0, 1, 2, 3]


@pytest.mark.parametrize("shape", [(6, 7), (2, 5, 6)])
def test_aligned_patches_are_quarter_turns_and_mirror_images_of_real_pixels(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).permutation(8000)
    image = values.reshape((80, 100) if len(shape) == 2 else (4, 40, 50)).astype(np.float64)
    settings = Augmentation(aligned_fraction=1.0)
    directions = set()
    for seed in range(40):
        centre = [size / 2 + 0.3 for size in image.shape]
        patch = warp(image, patch_coordinates(rng(seed), centre, shape, settings))
        places = np.stack(np.nonzero(image == patch.flat[0]) + np.nonzero(image == patch.flat[-1]), axis=1)[0]
        assert np.isin(patch, image).all()
        directions.add(tuple(np.sign(places[len(shape) :] - places[: len(shape)])[-2:]))
    assert len(directions) == 4


def test_flips_and_nothing_else_keep_every_pixel() -> None:
    image = np.arange(35.0).reshape(5, 7)
    settings = STILL.model_copy(update={"flip": True})
    seen = set()
    for seed in range(20):
        patch = warp(image, patch_coordinates(rng(seed), (2, 3), (5, 7), settings))
        match = [(y, x) for y in (1, -1) for x in (1, -1) if np.allclose(patch, image[::y, ::x])]
        assert len(match) == 1
        seen.update(match)
    assert len(seen) == 4


def test_rotation_keeps_distances_and_scale_multiplies_them() -> None:
    for seed in range(5):
        turned = patch_coordinates(rng(seed), (0, 0), (9, 9), STILL.model_copy(update={"rotate": True}))
        assert np.hypot(*turned[:, 0, 0]) == pytest.approx(np.hypot(4, 4), rel=1e-5)
        scaled = patch_coordinates(rng(seed), (0, 0), (9, 9), STILL.model_copy(update={"scale": 2.0}))
        assert 0.5 <= np.hypot(*scaled[:, 0, 0]) / np.hypot(4, 4) <= 2.0


@pytest.mark.parametrize("aligned_fraction", [0.0, 1.0])
def test_an_angle_limits_rotation_either_way(aligned_fraction: float) -> None:
    limit = {"rotate": True, "largest_angle": 20.0, "aligned_fraction": aligned_fraction}
    angles = []
    for seed in range(60):
        turned = patch_coordinates(rng(seed), (4, 4), (9, 9), STILL.model_copy(update=limit))
        down, right = turned[:, 8, 4] - turned[:, 4, 4]
        angles.append(np.degrees(np.arctan2(-right, down)))
    expected = (-20, 20) if aligned_fraction == 0 else (0, 0)
    assert (min(angles), max(angles)) == pytest.approx(expected, abs=2)


def test_a_stack_is_neither_rotated_nor_scaled_nor_bent_along_z() -> None:
    coordinates = patch_coordinates(rng(), (5.0, 0, 0), (3, 9, 9), Augmentation())
    assert np.allclose(coordinates[0], np.arange(4, 7)[:, None, None])


def test_elastic_displacements_have_the_paper_s_spread_on_the_coarse_grid() -> None:
    # Corners, edge centres and the centre of the patch are the points of the 3 x 3 grid: there the displacements are
    # the Gaussian draws themselves, sigma 10 px.
    settings = STILL.model_copy(update={"elastic_sigma": 10.0})
    still = patch_coordinates(rng(), (0, 0), (101, 101), STILL)
    moved = np.stack([patch_coordinates(rng(seed), (0, 0), (101, 101), settings) - still for seed in range(200)])
    assert moved[..., ::50, ::50].std() == pytest.approx(10.0, rel=0.05)
    # Smooth in between: neighbouring pixels move nearly alike.
    assert np.abs(np.diff(moved, axis=-1)).max() < 3.0


def test_labels_are_never_interpolated() -> None:
    label_image = np.zeros((40, 40), np.uint16)
    label_image[5:20, 5:20] = 7
    label_image[22:35, 10:30] = 65535
    patch = warp(label_image, patch_coordinates(rng(3), (20, 20), (40, 40), Augmentation()), nearest=True)
    assert patch.dtype == np.uint16
    assert set(np.unique(patch)) <= {0, 7, 65535}


def test_image_and_label_image_move_together() -> None:
    label_image = np.zeros((64, 64), np.uint8)
    label_image[20:44, 24:40] = 1
    coordinates = patch_coordinates(rng(5), (32, 32), (64, 64), Augmentation())
    image = warp(label_image.astype(np.float32), coordinates)
    nearest = warp(label_image, coordinates, nearest=True)
    inside = ndimage.binary_erosion(nearest > 0)
    assert inside.any()
    assert np.all(image[inside] >= 0.5)
    assert np.all(image[ndimage.binary_erosion(nearest == 0)] <= 0.5)


def test_intensity_follows_the_generator_and_keeps_shape() -> None:
    image = rng(1).random((2, 16, 16), dtype=np.float32)
    settings = Augmentation(probability=1.0)
    first, again, other = (change_intensity(rng(seed), image, settings) for seed in (0, 0, 1))
    assert first.shape == image.shape
    assert first.dtype == np.float32
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(change_intensity(rng(), image, STILL), image)


def test_colour_mixes_channels_and_changes_nothing_else() -> None:
    image = rng(1).random((3, 16, 16), dtype=np.float32)
    alone = STILL.model_copy(
        update={"probability": 1.0, "gamma": 1.0, "contrast": 0, "brightness": 0, "noise": 0, "blur": 0}
    )
    plain = change_intensity(rng(4), image, alone)
    mixed = change_intensity(rng(4), image, alone.model_copy(update={"colour": 0.2}))
    assert mixed.dtype == np.float32
    # A linear map of the channels, and a constant, of which no entry is larger than .2.
    known = np.column_stack([plain.reshape(3, -1).T, np.ones(plain[0].size)])
    found = np.linalg.lstsq(known, mixed.reshape(3, -1).T, rcond=None)[0]
    np.testing.assert_allclose(known @ found, mixed.reshape(3, -1).T, atol=1e-5)
    changes = found - np.vstack([np.eye(3), np.zeros(3)])
    assert 0 < np.abs(changes).max() <= 0.2
    assert (changes != 0).all()
