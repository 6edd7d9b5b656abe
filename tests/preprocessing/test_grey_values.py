import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from unetbio.preprocessing import grey_values
from unetbio.preprocessing.grey_values import LevelCounter, count_differences

COUNTED = ["?", "u1", "i1", "<u2", ">u2", "<i2", ">i2"]


def image_of(dtype: str, shape: tuple[int, ...], seed: int) -> NDArray[np.generic]:
    bits = np.random.default_rng(seed).integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8)
    return bits.view(dtype)[..., 0] if dtype != "?" else bits[..., 0] > 128


@settings(deadline=None, max_examples=60)
@given(
    dtype=st.sampled_from(COUNTED),
    shape=st.sampled_from([(1, 1), (9, 12), (3, 4, 5)]),
    seed=st.integers(0, 99),
    transposed=st.booleans(),
    by_numpy=st.sampled_from([0, 1 << 22]),
)
def test_grey_values_are_counted_one_by_one(
    dtype: str, shape: tuple[int, ...], seed: int, transposed: bool, by_numpy: int
) -> None:
    values = image_of(dtype, shape, seed)
    values = values.T if transposed else values
    counter = LevelCounter(values.dtype, values.size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grey_values, "COUNTED_BY_NUMPY", by_numpy)
        for row in values:
            counter.add(np.atleast_2d(row))
    whole = values.astype(int)
    lowest = np.iinfo(dtype).min if dtype != "?" else 0
    found, counts = np.unique(whole, return_counts=True)
    assert {int(value): int(counter.counts[value - lowest]) for value in found} == dict(
        zip(found.tolist(), counts.tolist(), strict=True)
    )
    assert counter.counts.sum() == values.size
    assert (counter.result().lowest, counter.result().highest) == (whole.min(), whole.max())


@pytest.mark.parametrize("dtype", COUNTED)
@pytest.mark.parametrize("shape", [(9, 12), (3, 10, 5), (2, 1)])
def test_differences_are_those_of_neighbours_in_every_fourth_row(dtype: str, shape: tuple[int, ...]) -> None:
    values = image_of(dtype, shape, 1)
    counts = np.zeros(1 << (8 * values.dtype.itemsize), int)
    for section in values.reshape(-1, *shape[-2:]).astype(int):
        for row in section[:: grey_values.ROWS_APART]:
            for left, right in itertools.pairwise(row):
                counts[abs(right - left)] += 1
    assert (count_differences(values) == counts).all()
