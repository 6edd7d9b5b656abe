"""Label images: ids, components, neighbours, hashes; against scipy, scikit-image and plain loops."""

import hashlib
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import label as skimage_label

from unetbio.errors import ImageError
from unetbio.labels import (
    check_label_image,
    connected_components,
    is_binary_mask,
    label_hash,
    relabel_raster,
    resize_nearest,
    split_components,
    touching_pairs,
)

HYPOTHESIS = settings(deadline=None, max_examples=60)
SHAPES = [(1, 1), (1, 7), (7, 1), (9, 11), (40, 70), (3, 5, 6), (1, 6, 6), (6, 1, 5), (5, 6, 1)]


@st.composite
def bit_planes(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.random(draw(st.sampled_from(SHAPES))) < draw(st.sampled_from([0, 0.2, 0.5, 0.6, 0.8, 1]))


@st.composite
def label_images(draw, max_id=6):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.sampled_from(SHAPES))
    return rng.integers(0, max_id + 1, shape) * (rng.random(shape) < draw(st.sampled_from([0.2, 1])))


@given(bit_planes(), st.integers(1, 3))
@HYPOTHESIS
def test_components_equal_those_of_scikit_image(plane, connectivity):
    connectivity = min(connectivity, plane.ndim)
    labels, count = connected_components(plane, connectivity)
    # scikit-image numbers in raster order as well.
    expected, expected_count = skimage_label(plane, connectivity=connectivity, return_num=True)
    np.testing.assert_array_equal(labels, expected)
    assert count == expected_count
    assert labels.dtype == np.int32


def test_components_over_faces_and_over_corners():
    plane = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(connected_components(plane)[0], [[1, 0, 2], [0, 3, 0], [0, 0, 0]])
    np.testing.assert_array_equal(connected_components(plane, 2)[0], plane)


def test_a_comb_becomes_one_component():
    # The teeth are joined in the last row alone: each has an id of its own until then.
    plane = np.zeros((50, 201), dtype=bool)
    plane[:, ::2] = True
    plane[-1] = True
    assert connected_components(plane)[1] == 1


def test_components_of_an_empty_plane():
    labels, count = connected_components(np.zeros((0, 4), dtype=bool))
    assert labels.shape == (0, 4)
    assert count == 0


@pytest.mark.parametrize(("shape", "connectivity"), [((4,), 1), ((4, 4), 0), ((4, 4), 3), ((1, 1, 1, 1), 1)])
def test_connectivity_that_does_not_fit_is_refused(shape, connectivity):
    with pytest.raises(ValueError, match="has no components of connectivity"):
        connected_components(np.ones(shape), connectivity)


def relabel_slowly(labels):
    ids = {}
    result = np.zeros(labels.shape, dtype=int)
    for index, value in np.ndenumerate(labels):
        if value:
            result[index] = ids.setdefault(value, len(ids) + 1)
    return result


@given(label_images(), st.sampled_from([1, 1000, 10**12]), st.booleans())
@HYPOTHESIS
def test_ids_are_consecutive_in_raster_order(labels, factor, transposed):
    # Ids of 10**12 need the way through sorting; a transposed array is not contiguous.
    labels = (labels * factor).T if transposed else labels * factor
    renumbered = relabel_raster(labels)
    np.testing.assert_array_equal(renumbered, relabel_slowly(labels))
    np.testing.assert_array_equal(relabel_raster(renumbered), renumbered)
    assert renumbered.dtype == np.uint16


def test_more_than_65535_cells_take_uint32():
    labels = np.arange(1, 65_537).reshape(256, 256)
    assert relabel_raster(labels).dtype == np.uint32
    assert relabel_raster(labels)[-1, -1] == 65_536
    assert relabel_raster(np.minimum(labels, 65_535)).dtype == np.uint16


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.int64, np.uint64, ">u2"])
def test_every_integer_type_is_a_label_image(dtype):
    labels = np.array([[0, 7], [7, 3]], dtype=dtype)
    np.testing.assert_array_equal(relabel_raster(labels), [[0, 1], [1, 2]])
    np.testing.assert_array_equal(touching_pairs(labels), [[3, 7]])


@pytest.mark.parametrize(
    ("array", "reason", "message"),
    [
        (np.zeros((2, 2)), "not_labels", "truth holds float64 pixels: needs integer ids"),
        (np.zeros((2, 2), dtype=bool), "not_labels", "truth holds bool pixels: .* --split-components"),
        (np.array([[0, -3]]), "not_labels", "truth holds the negative value -3"),
        (np.zeros(3, dtype=int), "wrong_ndim", r"truth has shape \(3,\): needs the axes"),
        (np.zeros((1, 2, 3, 4), dtype=int), "wrong_ndim", "select one plane or channel"),
    ],
)
def test_what_is_no_label_image_is_refused(array, reason, message):
    with pytest.raises(ImageError, match=message) as caught:
        check_label_image(array, "truth")
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)


def test_hash_means_shape_type_and_little_endian_pixels():
    labels = np.arange(6, dtype="<u2").reshape(2, 3)
    assert label_hash(labels) == hashlib.sha256(b"(2, 3)<u2" + labels.tobytes()).hexdigest()
    assert label_hash(labels.astype(">u2")) == label_hash(labels)
    assert label_hash(np.asfortranarray(labels)) == label_hash(labels)
    others = [labels.astype("<u4"), labels.reshape(3, 2), labels + np.uint16(1)]
    assert len({label_hash(other) for other in [labels, *others]}) == 4


def test_components_of_a_mask_become_cells():
    mask = np.array([[255, 255, 0], [0, 0, 255]], dtype=np.uint8)
    cells = split_components(mask)
    assert cells.dtype == np.uint16
    np.testing.assert_array_equal(cells, [[1, 1, 0], [0, 0, 2]])
    np.testing.assert_array_equal(split_components(mask, 2), [[1, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.array([[True, False]]), True),
        (np.array([[0, 255]], dtype=np.uint8), True),
        (np.array([[0, 255]], dtype=np.uint16), True),
        (np.array([[0, 65535]], dtype=np.uint16), True),
        # Two patches of ones: a mask. One patch of ones: a label image with one cell, also where it hangs by a corner.
        (np.array([[1, 0, 1]]), True),
        (np.array([[0, 1], [1, 0]]), False),
        (np.array([[1, 1, 1]]), False),
        (np.array([[0, 7, 0, 7]]), False),
        (np.array([[0, 1, 2]]), False),
        (np.array([[0, 1, 255]]), False),
        (np.zeros((3, 3), dtype=np.uint8), False),
        (np.array([[0.0, 1.0]]), False),
    ],
)
def test_masks_are_told_from_label_images(image, expected):
    assert is_binary_mask(image) is expected


@given(label_images(), st.integers(1, 4))
@HYPOTHESIS
def test_enlarging_repeats_pixels_and_shrinking_back_restores_them(labels, factor):
    larger = resize_nearest(labels, [size * factor for size in labels.shape])
    expected = labels
    for axis in range(labels.ndim):
        expected = np.repeat(expected, factor, axis=axis)
    np.testing.assert_array_equal(larger, expected)
    np.testing.assert_array_equal(resize_nearest(larger, labels.shape), labels)
    assert larger.dtype == labels.dtype


def test_resizing_takes_the_nearest_centre():
    # Centres of 3 pixels over 5: .83, 2.5, 4.17, so pixels 0, 2 and 4; between two pixels the later one is taken.
    np.testing.assert_array_equal(resize_nearest(np.array([[1, 2, 3, 4, 5]]), (1, 3)), [[1, 3, 5]])
    np.testing.assert_array_equal(resize_nearest(np.array([[1, 2, 3, 4]]), (1, 2)), [[2, 4]])


def test_resizing_to_another_number_of_axes_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 2\) cannot be resized to \(4,\)"):
        resize_nearest(np.zeros((2, 2), dtype=int), (4,))


def pairs_slowly(labels, distance):
    pairs = set()
    for index, value in np.ndenumerate(labels):
        for step in product(range(-distance, distance + 1), repeat=labels.ndim):
            other = tuple(np.add(index, step))
            if value and all(0 <= i < size for i, size in zip(other, labels.shape, strict=True)):
                pairs |= {(min(value, labels[other]), max(value, labels[other]))} if labels[other] else set()
    return sorted(pair for pair in pairs if pair[0] != pair[1])


@given(label_images(), st.integers(0, 2))
@settings(deadline=None, max_examples=30)
def test_pairs_are_those_of_a_plain_search(labels, distance):
    labels = labels[..., :12, :12]
    assert [tuple(pair) for pair in touching_pairs(labels, distance)] == pairs_slowly(labels, distance)


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=10)
def test_pairs_of_compact_cells_equal_dilation(seed):
    # Cells with an inside, which the search skips.
    seeds = np.zeros((40, 40), dtype=int)
    rng = np.random.default_rng(seed)
    seeds[tuple(rng.integers(0, 40, (2, 12)))] = np.arange(1, 13)
    distances, nearest = ndimage.distance_transform_edt(seeds == 0, return_indices=True)
    labels = np.where(distances < 6, seeds[tuple(nearest)], 0)
    expected = set()
    for cell in np.unique(labels[labels > 0]):
        around = ndimage.binary_dilation(labels == cell, np.ones((3, 3)), iterations=2)
        expected |= {
            (min(cell, other), max(cell, other)) for other in np.unique(labels[around]) if other not in (0, cell)
        }
    assert {tuple(pair) for pair in touching_pairs(labels, 2)} == expected


def test_many_pairs():
    # More pairs than the buffer starts with: every pixel is a cell.
    labels = np.arange(1, 2501).reshape(50, 50)
    assert len(touching_pairs(labels)) == 2 * 50 * 49 + 2 * 49 * 49
