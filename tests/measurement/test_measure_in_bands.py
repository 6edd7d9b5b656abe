"""Cells that are measured band by band have the values of the whole label image, to the bit."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from unetbio.labels import split_components
from unetbio.measurement.regions import measure, measure_in_bands

HYPOTHESIS = settings(deadline=None, max_examples=80)


def edited(labels, ids, rng):
    """Ids as people leave them: with gaps in any order, cells of several parts, numbers that no table holds."""
    count = int(labels.max())
    numbers = {
        "as made": np.arange(count + 1),
        "gaps": np.append(0, rng.permutation(3 * count)[:count] + 1),
        "parts": np.append(0, rng.integers(0, max(2, count // 3), count)),
        "large ids": np.append(0, 2**32 - 1 - 1000 * rng.permutation(count)),
    }[ids]
    return numbers.astype(np.uint32)[labels]


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(40, 30), (1, 30), (30, 1), (11, 9, 8), (1, 9, 8), (7, 1, 9)]),
    st.integers(1, 41),
    st.sampled_from([np.uint8, np.float32]),
    st.sampled_from(["as made", "gaps", "parts", "large ids"]),
    st.sampled_from([None, 0.3, 0.9, 2.0]),
)
@HYPOTHESIS
def test_bands_do_not_change_a_value(seed, shape, rows, dtype, ids, expand_um):
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.random(shape), 1)
    labels = edited(split_components(field > np.quantile(field, 0.6)), ids, rng)
    image = (rng.random((2, *shape)) * 255).astype(dtype)
    sizes = {"Y": 0.3, "X": 0.3, "Z": 1.7}
    names = ["red", "green"]
    options = {"pixel_size_um": sizes, "channel_names": names, "expand_um": expand_um}
    expected = measure(labels, image, **options)
    found = measure_in_bands(labels, image, rows=rows, **options)
    assert list(found) == list(expected)
    for name, column in expected.items():
        np.testing.assert_array_equal(found[name], column, err_msg=name)
        assert found[name].dtype == column.dtype
