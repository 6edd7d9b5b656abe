import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from unetbio.supervision.depths import FAR, depths_in_cells


def reference(label_image: np.ndarray, spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Depths and gaps, pixel by pixel."""
    depths = np.zeros(label_image.shape)
    gaps = np.full(label_image.shape, float(FAR) + 1)
    pixels = list(itertools.product(*map(range, label_image.shape)))

    def distance(one: tuple[int, ...], other: tuple[int, ...]) -> float:
        return float(np.sqrt(sum(((a - b) * step) ** 2 for a, b, step in zip(one, other, spacing, strict=True))))

    def touches(pixel: tuple[int, ...]) -> bool:
        beside = (other for other in pixels if sum(abs(a - b) for a, b in zip(pixel, other, strict=True)) == 1)
        return label_image[pixel] > 0 and any(label_image[other] not in (0, label_image[pixel]) for other in beside)

    where_cells_touch = [pixel for pixel in pixels if touches(pixel)]
    background = [pixel for pixel in pixels if label_image[pixel] == 0]
    for pixel in pixels:
        gaps[pixel] = min([distance(pixel, other) for other in where_cells_touch], default=float(FAR)) + 1
        if label_image[pixel] > 0:
            outside = min([distance(pixel, other) for other in background], default=float(FAR))
            depths[pixel] = min(outside, gaps[pixel])
    return depths, gaps


@settings(deadline=None, max_examples=60)
@given(
    label_image=arrays.arrays(np.uint8, st.tuples(*[st.integers(1, 6)] * 2), elements=st.integers(0, 3)),
    spacing=st.sampled_from([(1.0, 1.0), (2.5, 1.0)]),
)
def test_equals_the_reference(label_image: np.ndarray, spacing: tuple[float, ...]) -> None:
    found = depths_in_cells(label_image, spacing=spacing)
    depths, gaps = reference(label_image, spacing)
    np.testing.assert_allclose(found.depths, depths, rtol=1e-5)
    np.testing.assert_allclose(found.gaps, gaps, rtol=1e-5)
    for label in range(1, 4):
        if (label_image == label).any():
            assert found.radii[label_image == label] == pytest.approx(depths[label_image == label].max(), rel=1e-5)
    assert (found.radii[label_image == 0] == 0).all()
