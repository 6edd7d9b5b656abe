"""Grey values that are read where they are asked for, and measured in blocks of rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetbio.io.arrays import image_of_array
from unetbio.preprocessing import grey_values, normalization
from unetbio.preprocessing import lazy as lazy_images
from unetbio.preprocessing.grey_values import levels_of_channels
from unetbio.preprocessing.lazy import LazyInput, LazyPixels, Streaming
from unetbio.preprocessing.prepare import read_frame
from unetbio.preprocessing.selection import ImageSelection
from unetbio.settings.normalization import Normalization
from unetbio.settings.segmentation import Settings

HYPOTHESIS = settings(deadline=None, max_examples=40)


def lazy(array, axes, z=None):
    image = image_of_array(array, axes)
    shape = array.shape[-3:] if axes.endswith("ZYX") and z is None else array.shape[-2:]
    return LazyPixels(image, None, z, range(image.size("C")), shape)


def windows(shape):
    return st.tuples(*[st.tuples(st.integers(0, size - 1), st.integers(1, size)) for size in shape])


@given(windows((6, 9, 8)), st.data())
@HYPOTHESIS
def test_parts_are_those_of_the_array(window, data):
    array = np.random.default_rng(0).integers(0, 999, (2, 6, 9, 8)).astype(np.uint16)
    volume, plane = lazy(array, "CZYX"), lazy(array, "CZYX", z=3)
    assert (volume.shape, plane.shape) == ((2, 6, 9, 8), (2, 9, 8))
    ways = [(3, plane.in_windows), (slice(None), volume.in_windows)]
    for _ in range(3):
        index = tuple(slice(start, start + length) for start, length in data.draw(windows((6, 9, 8))))
        np.testing.assert_array_equal(volume[(slice(None), *index)], array[(slice(None), *index)])
        np.testing.assert_array_equal(volume[1, index[0]], array[1, index[0]])
        np.testing.assert_array_equal(plane[(slice(None), *index[1:])], array[(slice(None), 3, *index[1:])])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lazy_images, "WINDOW", {2: (4, 3), 3: (2, 4, 3)})
            patch.setattr(lazy_images, "WINDOW_BYTES", data.draw(st.sampled_from([1, 200, 9999])))
            for z, pixels in ways:
                asked = (slice(None), *index[4 - len(pixels.shape) :])
                np.testing.assert_array_equal(pixels[asked], array[:, z][asked])


def test_a_projection_is_the_maximum_of_the_sections():
    array = np.random.default_rng(0).integers(0, 999, (2, 6, 9, 8)).astype(np.uint16)
    pixels = lazy(array, "CZYX", z="max")
    np.testing.assert_array_equal(pixels[1, 2:7], array[1].max(axis=0)[2:7])
    np.testing.assert_array_equal(pixels.in_windows[0, 2:7, 3:], array[0].max(axis=0)[2:7, 3:])


def test_windows_are_read_once_and_nothing_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lazy_images, "WINDOW", {2: (8, 16)})
    image = image_of_array(np.zeros((1, 61, 50), np.uint16), "CYX")
    read: list[int] = []
    whole = type(image.pixels).read
    monkeypatch.setattr(type(image.pixels), "read", lambda *window: read.append(whole(*window).size) or whole(*window))
    pixels = LazyPixels(image, None, None, (0,), (61, 50))
    kept = pixels.in_windows
    for _ in range(2):
        assert pixels[:, 3:9, 4:6].shape == kept[:, 3:9, 4:6].shape == (1, 6, 2)
    assert read == [6 * 50, 8 * 16, 8 * 16]
    assert kept[:, 60:, 48:].shape == (1, 1, 2)
    assert read[3:] == [5 * 2]
    assert kept[:, 9:3].shape == (1, 0, 50)


def test_rows_that_overlap_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(0).integers(0, 999, (1, 61, 50)).astype(np.uint16)
    image = image_of_array(array, "CYX")
    read: list[int] = []
    whole = type(image.pixels).read
    monkeypatch.setattr(
        type(image.pixels), "read", lambda *window: read.append(whole(*window).shape[1]) or whole(*window)
    )
    pixels = LazyPixels(image, None, None, (0,), (61, 50))
    for start, stop in ((0, 20), (12, 32), (12, 32), (31, 40), (5, 9), (9, 12)):
        np.testing.assert_array_equal(pixels[:, start:stop], array[:, start:stop])
    assert read == [20, 12, 8, 4, 3]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grey_values, "BLOCK_PIXELS", 64)
    monkeypatch.setattr(grey_values, "ALIGNED_ROWS", 4)


def images():
    """An even image, a few bright cells on noise, a bright pixel, one value, and cells that a speck outshines."""
    rng = np.random.default_rng(1)
    even = rng.integers(0, 4000, (1, 61, 50))
    sparse = rng.normal(300, 12, (1, 61, 50)).round()
    sparse[0, 20:22, 30:33] = 900
    point = np.full((1, 61, 50), 5)
    point[0, 3, 3] = 9
    outshone = rng.normal(30, 1, (1, 61, 50)).round()
    outshone[0, 5:15, 5:25] = outshone[0, 30:40, 5:25] = 60
    outshone[0, 50:53, 40:43] = 230
    return [even, sparse, point, np.full((1, 61, 50), 5), outshone]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
@pytest.mark.parametrize("number", range(5))
@pytest.mark.usefixtures("small_blocks")
def test_blocks_do_not_change_what_is_measured(dtype: type, number: int) -> None:
    array = (images()[number] - (110 if np.dtype(dtype).kind == "i" else 0)).astype(dtype)
    automatic = Normalization()
    expected = normalization.measure(array, automatic, is_automatic=True)
    pixels = lazy(array, "CYX")
    found = normalization.measure(pixels, automatic, is_automatic=True)
    assert found == expected
    if number == 1 and np.dtype(dtype).itemsize == 2:
        assert found.sparse == (True,)
    assert found.outshone == (number == 4,)
    assert levels_of_channels(pixels) == levels_of_channels(array)
    lazily, whole = LazyInput(pixels, found, [(array.min(), array.max())]), normalization.apply(array, found)
    np.testing.assert_array_equal(lazily[:, 5:9, 2:], whole[:, 5:9, 2:])
    assert lazily.largest == float(np.abs(whole).max())


@pytest.mark.usefixtures("small_blocks")
def test_volumes_are_measured_section_by_section() -> None:
    array = np.random.default_rng(2).integers(0, 3000, (2, 5, 13, 9)).astype(np.uint16)
    pixels = lazy(array, "CZYX")
    assert normalization.measure(pixels, Normalization()) == normalization.measure(array, Normalization())
    assert levels_of_channels(pixels) == levels_of_channels(array)


def test_percentiles_are_those_of_numpy() -> None:
    array = np.random.default_rng(3).integers(-900, 900, (1, 37, 41)).astype(np.int16)
    found = normalization.measure(array, Normalization())
    low, high = np.percentile(array, [1, 99.8])
    assert (found.low[0], found.high[0]) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.usefixtures("small_blocks")
def test_grey_values_are_read_once_to_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    # A slope: not sparse.
    array = (np.arange(61)[:, np.newaxis] * 60 + np.random.default_rng(2).integers(0, 9, (3, 61, 50))).astype(np.uint16)
    image = image_of_array(array, "CYX")
    read: list[int] = []
    whole = type(image).read

    def noted(self, **window):
        found = whole(self, **window)
        read.append(found.size)
        return found

    monkeypatch.setattr(type(image), "read", noted)
    streaming = Streaming(8 * 50, np.zeros)
    opened = ImageSelection(image, Settings(), (0, 1, 2), (None,), "YX", (61, 50), (1.0, 1.0), streaming=streaming)
    frame = read_frame(opened, None, Normalization())
    assert not frame.is_constant
    assert frame.levels == levels_of_channels(array)
    assert sum(read) == array.size
    assert frame.scaling == normalization.measure(array, Normalization(), is_automatic=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.float32])
@pytest.mark.parametrize("zoom", [1.0, 0.5])
def test_levels_of_a_frame_in_memory_are_those_of_its_grey_values(dtype: type, zoom: float) -> None:
    array = np.random.default_rng(4).integers(0, 99, (2, 6, 40, 36)).astype(dtype)
    image, scale = image_of_array(array, "CZYX"), (1.0, zoom, zoom)
    opened = ImageSelection(image, Settings(z="each"), (0, 1), (None,), "ZYX", (6, 40, 36), scale)
    frame = read_frame(opened, None, Normalization())
    assert frame.levels == levels_of_channels(array)
    assert frame.section(3).levels == levels_of_channels(array[:, 3])
    assert frame.image.shape == (2, 6, 40 * zoom, 36 * zoom)
