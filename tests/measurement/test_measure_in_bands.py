"""Cells that are measured band by band have the values of the whole label image, to the bit."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from unetbio.labels import split_components
from unetbio.measurement.regions import measure, measure_in_bands

HYPOTHESIS = settings(deadline=None, max_examples=40)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(40, 30), (1, 30), (30, 1), (11, 9, 8), (1, 9, 8), (7, 1, 9)]),
    st.integers(1, 41),
    st.sampled_from([np.uint8, np.float32]),
)
@HYPOTHESIS
def test_bands_do_not_change_a_value(seed, shape, rows, dtype):
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.random(shape), 1)
    labels = split_components(field > np.quantile(field, 0.6))
    image = (rng.random((2, *shape)) * 255).astype(dtype)
    sizes = {"Y": 0.3, "X": 0.3, "Z": 1.7}
    names = ["red", "green"]
    expected = measure(labels, image, pixel_size_um=sizes, channel_names=names)
    found = measure_in_bands(labels, int(labels.max()), image, rows=rows, pixel_size_um=sizes, channel_names=names)
    assert list(found) == list(expected)
    for name, column in expected.items():
        np.testing.assert_array_equal(found[name], column, err_msg=name)
        assert found[name].dtype == column.dtype
