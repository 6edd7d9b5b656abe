"""Grey values at another size, and cells back from it, in bands."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.transform import resize

from unetbio.labels import relabel_raster, resize_nearest
from unetbio.postprocessing.resizing import resize_cells, resize_rows
from unetbio.preprocessing.grey_values import values_in_order
from unetbio.preprocessing.rescaling import RescaledPixels, rescale, rescale_in_bands

SIZES = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=2, max_size=3)


@given(SIZES, st.sampled_from([np.uint8, np.int16, np.uint16]), st.integers(1, 45), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_bands_do_not_change_a_bit_of_what_scikit_image_gives(
    sizes: list[tuple[int, int]], dtype: Any, rows: int, seed: int
) -> None:
    shape, grid = zip(*sizes, strict=True)
    image = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (1, *shape), dtype)
    shrinks = any(new < old for old, new in sizes)
    expected = resize(image[0].astype(np.float32), grid, order=1, anti_aliasing=shrinks, preserve_range=True)
    bands = list(rescale_in_bands(image, grid, rows))
    assert [band.stop - band.start for band, _ in bands[:-1]] == [rows] * (len(bands) - 1)
    np.testing.assert_array_equal(np.concatenate([part[0] for _, part in bands]), expected)
    if shape != grid:
        np.testing.assert_array_equal(rescale(image, grid)[0], expected)


def test_rescaled_channels_are_read_in_parts() -> None:
    image = np.random.default_rng(0).integers(0, 99, (2, 20, 30)).astype(np.uint8)
    pixels = RescaledPixels(image, (12, 40), np.zeros)
    expected = rescale(image, (12, 40))
    assert (pixels.shape, pixels.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(pixels[:, 3:8, 5:], expected[:, 3:8, 5:])
    np.testing.assert_array_equal(pixels.channel(1)[:, 2:4], expected[1:, 2:4])


@given(SIZES, st.integers(1, 45), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_cells_are_resized_in_bands(sizes: list[tuple[int, int]], rows: int, seed: int) -> None:
    grid, shape = zip(*sizes, strict=True)
    labels = relabel_raster(np.random.default_rng(seed).integers(0, 9, grid))
    for given_rows in (None, rows):
        cells = resize_cells(labels, shape, rows=given_rows)
        expected = labels if grid == shape else relabel_raster(resize_nearest(labels, shape))
        np.testing.assert_array_equal(cells[:], expected)
        assert cells.dtype == expected.dtype
        np.testing.assert_array_equal(resize_rows(labels, shape, rows=given_rows)[:], resize_nearest(labels, shape))


@given(
    st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1), min_size=1, max_size=4),
    st.data(),
)
@settings(deadline=None)
def test_values_in_order_are_those_of_sorting(blocks: list[list[float]], data: st.DataObject) -> None:
    parts: list[NDArray[np.float32]] = [np.array(block, np.float32) for block in blocks]
    everything = np.sort(np.concatenate(parts))
    ranks = sorted(data.draw(st.sets(st.integers(0, len(everything) - 1), min_size=1, max_size=4)))
    found = values_in_order(lambda: iter(parts), ranks)
    assert found == {rank: everything[rank] for rank in ranks}


@pytest.mark.parametrize("kind", ["usual", "sparse", "outshone"])
def test_real_numbers_are_measured_alike_in_rows_and_in_memory(kind: str) -> None:
    from unetbio.preprocessing import grey_values, normalization
    from unetbio.settings.normalization import Normalization

    image = np.random.default_rng(1).normal(100, 5, (1, 700, 60))
    image[0, : 4 if kind == "sparse" else 300, :9] += 900
    if kind == "outshone":
        image[0, -12:, -12:] += 30000
    raw = np.rint(image).astype(np.uint16)
    grid = (900, 75)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grey_values, "BLOCK_PIXELS", 9000)
        pixels = RescaledPixels(raw, grid, np.zeros)
        found = normalization.measure(pixels, Normalization(), is_automatic=True)
    assert found == normalization.measure(rescale(raw, grid), Normalization(), is_automatic=True)
    assert (found.sparse, found.outshone) == ((kind == "sparse",), (kind == "outshone",))
