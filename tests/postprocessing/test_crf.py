"""The fully connected CRF against sums over all pairs of pixels."""

import doctest
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from unetbio.errors import ImageError, UsageError
from unetbio.postprocessing.crf import (
    PRESETS,
    CrfSettings,
    Kernel,
    bilateral_kernel,
    crf_settings,
    gaussian_kernel,
    mean_field,
    refine,
    refinement,
)

SHAPE = (24, 20)
FloatArray = NDArray[np.float64]


def smooth_noise(channels: int, shape: tuple[int, int], seed: int, sigma: float = 3.0) -> FloatArray:
    """Random blobs between 0 and 1 in each channel."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((channels, *shape)), (0, sigma, sigma))
    return (noise - noise.min()) / np.ptp(noise)


def random_probabilities(classes: int, shape: tuple[int, int], seed: int) -> NDArray[np.float32]:
    logits = 4 * smooth_noise(classes, shape, seed, 1.0)
    return (np.exp(logits) / np.exp(logits).sum(axis=0)).astype(np.float32)


def bilateral_matrix(colours: FloatArray, xy: float, rgb: float) -> FloatArray:
    """G(i, j) by its definition, all pixels with all pixels."""
    positions = np.indices(colours.shape[1:]).reshape(2, -1)
    squares = sum((axis[:, None] - axis) ** 2 for axis in positions) / xy**2
    squares = squares + sum((axis[:, None] - axis) ** 2 for axis in colours.reshape(len(colours), -1)) / rgb**2
    return np.exp(-squares / 2)


def gaussian_matrix(shape: tuple[int, int], xy: float) -> FloatArray:
    return bilateral_matrix(np.zeros((1, *shape)), xy, 1.0)


def exact_kernel(weight: float, matrix: FloatArray, shape: tuple[int, int]) -> Kernel:
    def sums(planes: FloatArray) -> FloatArray:
        return (planes.reshape(len(planes), -1) @ matrix).reshape(planes.shape)

    return Kernel(weight, sums, np.diag(matrix).reshape(shape))


def exact_kernels(image: FloatArray, settings: CrfSettings) -> list[Kernel]:
    shape = image.shape[1:]
    bilateral = bilateral_matrix(np.clip(image, 0, 1) * 255, settings.bilateral_xy, settings.bilateral_rgb)
    return [
        exact_kernel(settings.bilateral_weight, bilateral, shape),
        exact_kernel(settings.gaussian_weight, gaussian_matrix(shape, settings.gaussian_xy), shape),
    ]


def mean_field_by_loops(probabilities: FloatArray, matrices: dict[float, FloatArray], iterations: int) -> FloatArray:
    """Algorithm 1 of the paper with Potts compatibility, a pixel and a class at a time."""
    unary = -np.log(probabilities.reshape(len(probabilities), -1))
    classes, pixels = unary.shape
    pairs = np.zeros((pixels, pixels))
    for weight, matrix in matrices.items():
        sums = matrix.sum(axis=1)
        pairs += weight * matrix / np.sqrt(np.outer(sums, sums))
    beliefs = np.exp(-unary)
    for _ in range(iterations):
        energies = unary.copy()
        for i in range(pixels):
            for label in range(classes):
                for other in set(range(classes)) - {label}:
                    energies[label, i] += sum(pairs[i, j] * beliefs[other, j] for j in range(pixels) if j != i)
        beliefs = np.exp(-energies)
        beliefs /= beliefs.sum(axis=0)
    return beliefs.reshape(probabilities.shape)


@pytest.mark.parametrize("classes", [2, 3])
def test_mean_field_with_exact_sums_is_that_of_the_paper(classes: int) -> None:
    shape = (6, 5)
    probabilities = random_probabilities(classes, shape, seed=classes)
    bilateral = bilateral_matrix(smooth_noise(1, shape, seed=1, sigma=1.0) * 255, 4.0, 40.0)
    gaussian = gaussian_matrix(shape, 1.5)
    kernels = [exact_kernel(4.0, bilateral, shape), exact_kernel(3.0, gaussian, shape)]
    expected = mean_field_by_loops(probabilities.astype(np.float64), {4.0: bilateral, 3.0: gaussian}, 3)
    np.testing.assert_allclose(mean_field(probabilities, kernels, 3), expected, atol=1e-6)


def test_two_pixels_by_hand() -> None:
    # Far from each other in position, but of one colour: G = 1 between any two, normalised to 1/2, so each gets half of
    # the other's belief, times the weight 2: exp(.8) against exp(.2) beside equal odds.
    probabilities = np.array([[[0.5, 0.2]], [[0.5, 0.8]]], np.float32)
    refined = refine(probabilities, np.zeros((1, 1, 2)), CrfSettings(2, 1e6, 3, 0, 1, iterations=1))
    assert refined[1, 0, 0] == pytest.approx(1 / (1 + np.exp(-0.6)), abs=1e-6)
    assert refined[1, 0, 1] == pytest.approx(0.8)


def normalised_sums(kernel: Kernel, plane: FloatArray) -> FloatArray:
    scale = 1 / np.sqrt(kernel.filter(np.ones((1, *plane.shape)))[0])
    return scale * kernel.filter((scale * plane)[None])[0]


@pytest.mark.parametrize(
    ("channels", "xy", "rgb", "largest", "typical"),
    [(1, 121, 5, 0.02, 0.005), (1, 65, 3, 0.02, 0.005), (1, 5, 20, 0.02, 0.005), (2, 121, 5, 0.02, 0.005),
     (3, 67, 3, 0.2, 0.05), (4, 20, 5, 0.2, 0.05)],
)  # fmt: skip
def test_bilateral_sums_are_near_the_true_ones(
    channels: int, xy: float, rgb: float, largest: float, typical: float
) -> None:
    colours = smooth_noise(channels, SHAPE, seed=channels) * 255
    plane = np.random.default_rng(0).random(SHAPE)
    true = normalised_sums(exact_kernel(1.0, bilateral_matrix(colours, xy, rgb), SHAPE), plane)
    error = normalised_sums(bilateral_kernel(colours, 1.0, xy, rgb), plane) - true
    assert np.abs(error).max() < largest
    assert np.sqrt(np.mean(error**2)) < typical


@pytest.mark.parametrize(("channels", "rgb"), [(1, 3.0), (3, 3.0)])
def test_self_weights_are_what_comes_back_from_a_pixel_to_itself(channels: int, rgb: float) -> None:
    kernel = bilateral_kernel(smooth_noise(channels, SHAPE, seed=0) * 255, 1.0, 20.0, rgb)
    for at in ((0, 0), (7, 3), (23, 19), (12, 10)):
        plane = np.zeros((1, *SHAPE))
        plane[0][at] = 1
        # On the lattice paths over points that no pixel touches are missing: at most a fifth of the whole.
        returned = kernel.filter(plane)[0][at] / kernel.self_weights[at]
        assert returned == pytest.approx(1, abs=1e-9) if channels == 1 else 0.75 <= returned <= 1 + 1e-9


@pytest.mark.parametrize("xy", [1.0, 3.0])
def test_gaussian_sums_are_the_true_ones_but_for_their_tails(xy: float) -> None:
    plane = np.random.default_rng(0).random(SHAPE)
    true = normalised_sums(exact_kernel(1.0, gaussian_matrix(SHAPE, xy), SHAPE), plane)
    np.testing.assert_allclose(normalised_sums(gaussian_kernel(SHAPE, 1.0, xy), plane), true, atol=3e-4)


@pytest.mark.parametrize("name", PRESETS)
def test_refined_probabilities_are_near_those_of_exact_sums(name: str) -> None:
    image = smooth_noise(1, SHAPE, seed=5)
    probabilities = random_probabilities(2, SHAPE, seed=6)
    settings = PRESETS[name]
    exact = mean_field(probabilities, exact_kernels(image, settings), settings.iterations)
    assert np.abs(exact - probabilities).max() > 0.1
    np.testing.assert_allclose(refine(probabilities, image, settings), exact, atol=0.02)


@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (1, 1), (3, 4)])
def test_result_is_float32_sums_to_1_and_repeats(channels: int, classes: int) -> None:
    image = smooth_noise(channels, SHAPE, seed=1).astype(np.float32)
    probabilities = random_probabilities(classes, SHAPE, seed=2)
    refined = refine(probabilities, image, PRESETS["deeplab_v2_resnet"])
    assert (refined.dtype, refined.shape) == (np.float32, probabilities.shape)
    np.testing.assert_allclose(refined.sum(axis=0), 1, atol=1e-6)
    np.testing.assert_array_equal(refine(probabilities, image, PRESETS["deeplab_v2_resnet"]), refined)


def test_transposing_everything_transposes_the_result() -> None:
    image, probabilities = smooth_noise(1, SHAPE, seed=1), random_probabilities(2, SHAPE, seed=2)
    refined = refine(probabilities, image, PRESETS["largefov"])
    turned = refine(probabilities.transpose(0, 2, 1), image.transpose(0, 2, 1), PRESETS["largefov"])
    np.testing.assert_allclose(turned.transpose(0, 2, 1), refined, atol=1e-5)


def test_constant_image_smooths() -> None:
    rng = np.random.default_rng(0)
    cell = np.clip(0.7 + 0.15 * rng.normal(size=(40, 40)), 0.01, 0.99)
    refined = refine(np.stack([1 - cell, cell]), np.full((1, 40, 40), 0.5), PRESETS["deeplab_v2_vgg"])
    assert (cell < 0.5).any()
    assert (refined[1] > 0.5).all()


def test_ragged_edge_moves_to_the_edge_of_the_image() -> None:
    rng = np.random.default_rng(0)
    y, x = np.indices((64, 64))
    true = (y - 32) ** 2 + (x - 30) ** 2 < 18**2
    image = np.where(true, 0.7, 0.2) + 0.005 * rng.normal(size=true.shape)
    radius = 18 + 8 * ndimage.gaussian_filter(rng.normal(size=true.shape), 3) / 0.1
    ragged = 1 / (1 + np.exp(np.clip(np.hypot(y - 32, x - 30) - radius, -8, 8) / 4))

    def iou(plane: NDArray[np.floating]) -> float:
        return float(((plane >= 0.5) & true).sum() / ((plane >= 0.5) | true).sum())

    refined = refine(np.stack([1 - ragged, ragged]), image[None], PRESETS["deeplab_v2_vgg"])
    assert iou(ragged) < 0.8
    assert iou(refined[1]) > 0.97


def test_grey_values_are_clipped() -> None:
    image, probabilities = 3 * smooth_noise(1, SHAPE, seed=1) - 1, random_probabilities(2, SHAPE, seed=2)
    refined = refine(probabilities, image, PRESETS["largefov"])
    np.testing.assert_array_equal(refined, refine(probabilities, np.clip(image, 0, 1), PRESETS["largefov"]))


def test_without_weights_nothing_changes() -> None:
    probabilities = random_probabilities(3, SHAPE, seed=2)
    refined = refine(probabilities, np.zeros((1, *SHAPE)), CrfSettings(0, 1, 1, 0, 1))
    np.testing.assert_allclose(refined, probabilities, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (1, 1), (1, 9), (9, 1)])
def test_tiny_images(shape: tuple[int, int], channels: int) -> None:
    probabilities = np.stack([np.full(shape, 0.25), np.full(shape, 0.75)]).astype(np.float32)
    refined = refine(probabilities, np.full((channels, *shape), 0.3), PRESETS["deeplab_v2_vgg"])
    assert (refined.dtype, refined.shape) == (np.float32, probabilities.shape)
    if shape == (1, 1):
        # Nobody to talk to.
        np.testing.assert_allclose(refined, probabilities, atol=1e-6)


def settings_with(**changes: float) -> Callable[[], CrfSettings]:
    values = {"bilateral_weight": 4, "bilateral_xy": 65, "bilateral_rgb": 3, "gaussian_weight": 3, "gaussian_xy": 3}
    return lambda: CrfSettings(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("bilateral_weight", -1, "bilateral_weight -1: must be 0 or more"),
        ("gaussian_weight", float("nan"), "gaussian_weight nan: must be 0 or more"),
        ("bilateral_xy", 0, "bilateral_xy 0: must be above 0"),
        ("bilateral_rgb", -3, "bilateral_rgb -3: must be above 0"),
        ("gaussian_xy", float("inf"), "gaussian_xy inf: must be above 0"),
        ("iterations", 0, "iterations 0: must be a whole number from 1 to 1000"),
        ("iterations", 2.5, "iterations 2.5: must be a whole number from 1 to 1000"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(name: str, value: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        settings_with(**{name: value})()


@pytest.mark.parametrize("broken", ["image", "probabilities"])
def test_nan_is_refused(broken: str) -> None:
    arrays = {"image": np.zeros((1, 2, 3)), "probabilities": np.full((2, 2, 3), 0.5, np.float32)}
    arrays[broken][0, 0, 0] = np.nan
    with pytest.raises(ImageError, match=f"1 of .* values of the {broken} are NaN") as caught:
        refine(**arrays, settings=PRESETS["largefov"])
    assert caught.value.reason == "not_finite"


@pytest.mark.parametrize(
    ("probabilities", "image", "message"),
    [
        (np.ones((2, 3)), np.ones((1, 2, 3)), "need"),
        (np.ones((2, 2, 3)), np.ones((1, 3, 2)), "differ in height or width"),
        (np.full((2, 2, 3), 4.0), np.ones((1, 2, 3)), "logits need a softmax"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(probabilities: FloatArray, image: FloatArray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        refine(probabilities, image, PRESETS["largefov"])


def test_examples_hold() -> None:
    results = doctest.testmod(refinement)
    assert results.attempted > 0
    assert results.failed == 0


def test_changes_of_a_preset_have_the_names_of_the_papers() -> None:
    changed = crf_settings("largefov", "w1=10, theta_alpha=60,theta_beta=13,w2=2,theta_gamma=1.5,iterations=10")
    assert changed == CrfSettings(10, 60, 13, 2, 1.5, 10)
    assert crf_settings("largefov") == PRESETS["largefov"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ("theta=3", "crf_settings theta=3: names with values are needed.*theta_gamma"),
        ("w1=much", "'much' is not a number"),
        ("iterations=2.5", "'2.5' is not a whole number"),
        ("theta_beta=0", "bilateral_rgb 0.0: must be above 0"),
    ],
)
def test_changes_that_cannot_be_are_refused(changes: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        crf_settings("largefov", changes)
