"""Further columns of cells, against scikit-image and brute force."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.feature import graycomatrix, graycoprops
from skimage.measure import label as connected
from skimage.measure import regionprops

from unetbio.measurement.features import GREY_LEVELS, INTENSITIES, TEXTURES
from unetbio.measurement.regions import measure

Array = NDArray[Any]


def blobs(seed: int = 0, shape: tuple[int, ...] = (60, 70)) -> tuple[Array, Array]:
    """Cells of all shapes, with holes, at the border and of one pixel; and grey values."""
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), 2.2)
    labels = connected(smooth > 0.05, connectivity=1).astype(np.uint16)
    labels[tuple(size // 2 for size in shape)] = labels.max() + 1
    return labels * 3, rng.integers(100, 4000, shape).astype(np.uint16)


def test_the_default_columns_stay_as_they_are() -> None:
    labels, grey = blobs()
    basic = measure(labels, grey[np.newaxis])
    assert list(basic)[-1] == "intensity_mean_0"
    for features in ("shape", "texture", "all"):
        more = measure(labels, grey[np.newaxis], features=features)
        assert set(basic) < set(more)
        for name, column in basic.items():
            np.testing.assert_array_equal(column, more[name])
    assert set(measure(labels, features="texture")) == set(basic) - {"intensity_mean_0"}


@pytest.mark.parametrize("seed", range(3))
def test_shapes_are_those_of_scikit_image(seed: int) -> None:
    labels, _ = blobs(seed)
    found = measure(labels, features="shape")
    regions = regionprops(labels)
    assert len(regions) > 8

    def of(name: str) -> list[float]:
        return [getattr(region, name) for region in regions]

    np.testing.assert_allclose(found["axis_major_length_px"], of("axis_major_length"), atol=1e-9)
    np.testing.assert_allclose(found["axis_minor_length_px"], of("axis_minor_length"), atol=1e-6)
    np.testing.assert_allclose(found["extent"], of("extent"))
    np.testing.assert_array_equal(found["euler_number"], of("euler_number"))
    # The angle of a round cell means nothing.
    long = np.array(of("eccentricity")) > 0.3
    turn = found["orientation"] - np.array(of("orientation"))
    np.testing.assert_allclose(np.sin(turn)[long], 0, atol=1e-6)
    # scikit-image rounds the hull to pixels first.
    np.testing.assert_allclose(found["feret_diameter_max_px"], of("feret_diameter_max"), atol=1)
    assert (found["feret_diameter_min_px"] <= found["feret_diameter_max_px"] + 1e-9).all()


def test_rectangles_and_disks_have_the_expected_shape() -> None:
    labels = np.zeros((60, 120), np.uint8)
    labels[5:15, 5:45] = 1
    y, x = np.mgrid[:60, :120]
    labels[(y - 30) ** 2 + (x - 90) ** 2 <= 25**2] = 2
    found = measure(labels, features="all")
    assert found["feret_diameter_min_px"][0] == pytest.approx(10, abs=0.3)
    assert found["feret_diameter_max_px"][0] == pytest.approx(np.hypot(40, 9), abs=0.6)
    assert found["form_factor"][1] == pytest.approx(1, abs=0.15)
    assert found["compactness"][1] == pytest.approx(1, abs=0.01)
    assert found["compactness"][0] > 2
    assert found["extent"].tolist()[0] == 1
    assert abs(found["orientation"][0]) == pytest.approx(np.pi / 2)


def test_statistics_of_grey_values_are_those_of_numpy() -> None:
    labels, grey = blobs(2)
    image = np.stack([grey, grey.astype(np.float32) / 7 + 1e6])
    found = measure(labels, image, channel_names=["DAPI", "GFP"], features="texture")
    for channel, name in enumerate(("DAPI", "GFP")):
        for index, cell in enumerate(np.unique(labels)[1:]):
            inside = labels == cell
            padded = np.pad(inside, 1)
            core = padded[1:-1, :-2] & padded[1:-1, 2:] & padded[:-2, 1:-1] & padded[2:, 1:-1]
            values, edge = image[channel][inside].astype(float), image[channel][inside & ~core].astype(float)
            expected = [values.min(), values.max(), values.std(), values.sum(), edge.mean(), edge.sum()]
            got = [found[f"intensity_{what}_{name}"][index] for what in INTENSITIES]
            np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-6)


def reference_texture(labels: Array, grey: Array, cell: int) -> dict[str, float]:
    """By scikit-image, with a level of its own for what is not of the cell, which is left out."""
    low, high = int(grey.min()), int(grey.max())
    levels = np.minimum((grey.astype(float) - low) * (GREY_LEVELS / (high - low)), GREY_LEVELS - 1).astype(np.uint8)
    masked = np.where(labels == cell, levels + 1, 0).astype(np.uint8)
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    counts = graycomatrix(masked, [1], angles, GREY_LEVELS + 1, symmetric=True)[1:, 1:].astype(float)
    counts = counts[..., counts.sum(axis=(0, 1))[0] > 0]
    shares = counts / counts.sum(axis=(0, 1))
    found = {name: float(graycoprops(shares, name).mean()) for name in ("contrast", "dissimilarity", "homogeneity")}
    found |= {"asm": float(graycoprops(shares, "ASM").mean())}
    found |= {"correlation": float(graycoprops(shares, "correlation").mean())}
    entropy = -(shares * np.log2(np.where(shares > 0, shares, 1))).sum(axis=(0, 1))
    return {**found, "entropy": float(entropy.mean())}


def test_textures_are_those_of_scikit_image() -> None:
    labels, grey = blobs(1)
    found = measure(labels, grey[np.newaxis], features="texture")
    cells = found["label"].tolist()
    for index, cell in enumerate(cells):
        if (labels == cell).sum() == 1:
            assert all(np.isnan(found[f"texture_{name}_0"][index]) for name in TEXTURES)
            continue
        for name, value in reference_texture(labels, grey, cell).items():
            assert found[f"texture_{name}_0"][index] == pytest.approx(value, rel=1e-9), (cell, name)


def test_volumes_and_odd_grey_values() -> None:
    labels, _ = blobs(3, (14, 30, 32))
    grey = np.full(labels.shape, np.nan, np.float32)
    grey[:7] = 5
    found = measure(labels, grey[np.newaxis], features="all")
    large = [region for region in regionprops(labels) if region.area > 30]
    index = [found["label"].tolist().index(region.label) for region in large]
    expected = [region.axis_major_length for region in large]
    np.testing.assert_allclose(found["axis_major_length_px"][index], expected, rtol=1e-6)
    assert "orientation" not in found
    assert np.isfinite(found["texture_contrast_0"][index]).all()
    empty = measure(np.zeros((5, 5), np.uint8), np.ones((1, 5, 5)), features="all")
    assert all(len(column) == 0 for column in empty.values())
