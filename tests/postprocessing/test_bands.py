"""Cells that are found band by band equal those of the whole image, for all sizes of bands and all settings."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from unetbio.postprocessing.bands import bands_of, with_context
from unetbio.postprocessing.instances import PostProcessing, label, label_in_bands

HYPOTHESIS = settings(deadline=None, max_examples=50)


@st.composite
def cases(draw):
    """Random planes of blobs, 2-D and 3-D, with settings that matter at that size, and the rows of a band."""
    shape = draw(st.sampled_from([(1, 20), (20, 1), (23, 17), (48, 40), (9, 8, 7), (6, 1, 9), (1, 9, 8), (14, 12, 10)]))
    seeds, centres = draw(st.sampled_from([(0, 0), (1, 0), (3, 0), (1, 1), (1, 2), (2, 2)]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    field = ndimage.gaussian_filter(rng.random(shape), draw(st.sampled_from([0, 0.6, 1.0, 2.0])))
    cuts = np.quantile(field, np.linspace(draw(st.sampled_from([0.1, 0.4, 0.7])), 0.95, 1 + seeds + centres))
    planes = np.array([field >= cut for cut in cuts])
    planes ^= rng.random(planes.shape) < draw(st.sampled_from([0, 0.05]))
    options = PostProcessing(
        mask_threshold=0.5,
        seed_thresholds=(0.6, 0.7, 0.8)[:seeds],
        centre_thresholds=(0.4, 0.8)[:centres],
        reach=draw(st.sampled_from([0, 1, 2, 5, 30])),
        min_area=draw(st.sampled_from([0, 3])),
        max_area=draw(st.sampled_from([None, 12])),
        max_hole_area=draw(st.sampled_from([0, 1, 4, 40])),
        min_seed_area=draw(st.integers(0, 3)),
        exclude_border=draw(st.booleans()),
        min_certain=draw(st.sampled_from([0, 0.25])),
    )
    if options.min_certain:
        planes = np.concatenate([planes, rng.random((1, *shape)) < 0.4])
    return planes, options, draw(st.integers(1, shape[0] + 1))


@given(cases())
@HYPOTHESIS
def test_bands_do_not_change_the_label_image(case):
    planes, options, rows = case
    whole = label(planes, options)
    banded = label_in_bands(planes, options, rows=rows)
    assert banded.dtype == whole.dtype
    np.testing.assert_array_equal(banded, whole)


def within(area):
    """An area as a function of the part of the plane."""
    return lambda where: area[where[-2:]]


@given(cases(), st.integers(0, 99))
@HYPOTHESIS
def test_cells_of_an_area_have_half_of_their_pixels_in_it(case, seed):
    planes, options, rows = case
    area = np.random.default_rng(seed).random(planes.shape[-2:]) < 0.6
    every = label(planes, options)
    kept = [cell for cell in range(1, every.max() + 1) if 2 * (every[..., area] == cell).sum() >= (every == cell).sum()]
    numbers = np.zeros(int(every.max()) + 1, int)
    numbers[kept] = np.arange(1, len(kept) + 1)
    np.testing.assert_array_equal(label_in_bands(planes, options, rows=rows, area=within(area)), numbers[every])
    np.testing.assert_array_equal(label_in_bands(planes, options, area=within(area)), numbers[every])


@pytest.mark.parametrize("rows", range(1, 12))
def test_a_path_that_winds_through_bands_is_claimed_to_its_end(rows):
    # The seed is the column at the right. All of the path is within reach, and hangs together with it at one end alone.
    path = np.array([[c == "#" for c in row] for row in ["#####", "#...#", "#.#.#", "#.#.#", "###.#", "....#"]])
    planes = np.array([path, np.zeros_like(path)])
    planes[1, :, 4] = True
    options = PostProcessing(seed_thresholds=(0.7,), reach=9, min_seed_area=1, max_hole_area=0)
    np.testing.assert_array_equal(label_in_bands(planes, options, rows=rows), path)


def test_a_component_of_many_bands_is_one_cell():
    # A comb: its teeth are joined in the last row alone.
    comb = np.ones((40, 41), dtype=bool)
    comb[:-1, 1::2] = False
    options = PostProcessing(seed_thresholds=(), reach=0, min_seed_area=1)
    np.testing.assert_array_equal(label_in_bands(comb[np.newaxis], options, rows=3), comb)


def test_ids_above_16_bits_are_written_to_the_array_that_was_asked_for():
    points = np.zeros((520, 520), dtype=bool)
    points[::2, ::2] = True
    options = PostProcessing(seed_thresholds=(), reach=0, min_seed_area=0, max_hole_area=0)
    made = []

    def allocate(shape, dtype):
        made.append(np.zeros(shape, dtype))
        return made[-1]

    cells = label_in_bands(points[np.newaxis], options, rows=100, allocate=allocate)
    assert [array.dtype for array in made] == [np.int32, np.uint32]
    assert cells is made[-1]
    assert cells.max() == 260 * 260
    np.testing.assert_array_equal(cells, label(points[np.newaxis], replace(options, reach=3)))


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 40))
@HYPOTHESIS
def test_context_is_the_rows_around_a_band(length, size, reach):
    rows = np.arange(length, dtype=np.int32)[:, np.newaxis]
    bands = bands_of(length, size)
    # Changes of what was given do not reach the next bands.
    found = []
    for window, core in with_context((rows[band].copy() for band in bands), reach):
        found.append((window[:, 0].tolist(), window[core, 0].tolist()))
        window[...] = -1
    expected = [
        (list(range(max(0, band.start - reach), min(length, band.stop + reach))), list(range(band.start, band.stop)))
        for band in bands
    ]
    assert found == expected
