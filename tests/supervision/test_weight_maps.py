"""Weight maps against their definition, one plane per cell; gaps."""

import doctest
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage

from unetbio import compilation
from unetbio.errors import ImageError, UsageError
from unetbio.supervision import weight_maps
from unetbio.supervision.nearest_cells import axis_steps, compact, two_nearest
from unetbio.supervision.weight_maps import force_gap, weight_map

TOLERANCE = 1e-5


def planes_of_distances(label_image: NDArray[Any], spacing: tuple[float, ...] | None) -> NDArray[np.float64]:
    """Distances to the two nearest cells, from one distance transform per cell: (2, *spatial)."""
    planes = [np.full(label_image.shape, np.inf)] * 2
    for label in np.unique(label_image[label_image > 0]):
        planes.append(ndimage.distance_transform_edt(label_image != label, sampling=spacing))
    return np.sort(np.stack(planes), axis=0)[:2]


def nearest_two_distances(
    label_image: NDArray[Any], *, spacing: tuple[float, ...] | None = None, max_distance: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Distances to the two nearest cells, as the weights have them; infinite above the largest."""
    cells = compact(label_image, None)
    steps = axis_steps(spacing, label_image.ndim)
    nearest = two_nearest(cells, steps, max_distance, total=2 * max_distance, wanted=np.zeros_like(cells))
    d1, d2 = (np.sqrt(squares).reshape(label_image.shape) for squares in (nearest.d1, nearest.d2))
    return tuple(np.where(one > np.float32(max_distance), np.float32(np.inf), one) for one in (d1, d2))


def weights_by_definition(
    label_image: NDArray[Any],
    *,
    weights: tuple[float, float] = (1.0, 1.0),
    border_weight: float = 10.0,
    border_sigma: float = 5.0,
    spacing: tuple[float, ...] | None = None,
) -> NDArray[np.float64]:
    parted = force_gap(label_image)
    d1, d2 = planes_of_distances(parted, spacing)
    border = border_weight * np.exp(-((d1 + d2) ** 2) / (2 * border_sigma**2))
    return np.where(parted == 0, weights[0] + border, weights[1])


def draw_cells(shape: tuple[int, ...], count: int, largest_radius: int, seed: int) -> NDArray[np.int32]:
    """Balls of random centres and radii; later ones cover earlier ones, so that cells touch and are cut."""
    rng = np.random.default_rng(seed)
    grid = np.indices(shape)
    label_image = np.zeros(shape, np.int32)
    for label in range(1, count + 1):
        centre = [rng.integers(size) for size in shape]
        squares = sum((axis - at) ** 2 for axis, at in zip(grid, centre, strict=True))
        label_image[squares <= rng.integers(0, largest_radius + 1) ** 2] = label
    return label_image


small_label_images = st.one_of(
    hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=14), elements=st.integers(0, 5)),
    hnp.arrays(np.int64, hnp.array_shapes(min_dims=3, max_dims=3, max_side=7), elements=st.integers(0, 5)),
    # Mostly background, so that distances are long.
    hnp.arrays(
        np.uint8, hnp.array_shapes(min_dims=2, max_dims=3, max_side=16), elements=st.integers(1, 9), fill=st.just(0)
    ),
)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 12, 80])
@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((90, 140), None),  # wider than one block of the row search
        ((70, 60), (1.7, 1.0)),
        ((12, 40, 50), None),
        ((12, 40, 50), (2.2, 1.0, 1.0)),
        ((1, 40, 50), (2.2, 1.0, 1.0)),  # a stack of one plane
        ((9, 5, 140), (0.6, 1.0, 1.3)),
        ((60, 1), None),
    ],
)
def test_weights_follow_the_definition(shape: tuple[int, ...], spacing: tuple[float, ...] | None, count: int) -> None:
    label_image = draw_cells(shape, count, 6, seed=count)
    result = weight_map(label_image, class_weights=(0.7, 1.9), spacing=spacing)
    expected = weights_by_definition(label_image, weights=(0.7, 1.9), spacing=spacing)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=0, atol=TOLERANCE)


@settings(deadline=None, max_examples=60)
@given(label_image=small_label_images, border_weight=st.sampled_from([0, 0.5, 10]), sigma=st.floats(0.3, 8))
def test_weights_follow_the_definition_for_any_image(
    label_image: NDArray[Any], border_weight: float, sigma: float
) -> None:
    result = weight_map(label_image, border_weight=border_weight, border_sigma=sigma)
    expected = weights_by_definition(label_image, border_weight=border_weight, border_sigma=sigma)
    np.testing.assert_allclose(result, expected, rtol=0, atol=TOLERANCE)


@settings(deadline=None, max_examples=60)
@given(
    label_image=small_label_images,
    max_distance=st.sampled_from([0.4, 1, 2.5, 5, 40]),
    step=st.sampled_from([None, 0.5, 2.2]),
)
def test_distances_are_those_of_one_plane_per_cell(
    label_image: NDArray[Any], max_distance: float, step: float | None
) -> None:
    spacing = None if step is None else (step,) + (1.0,) * (label_image.ndim - 1)
    result = nearest_two_distances(label_image, spacing=spacing, max_distance=max_distance)
    expected = planes_of_distances(label_image, spacing)
    expected[expected > max_distance] = np.inf
    np.testing.assert_allclose(np.stack(result), expected, rtol=1e-6)


def test_the_second_nearest_may_be_hidden_behind_the_nearest_along_the_first_axis() -> None:
    # Seen from (0, 0), cell 2 lies behind cell 1 in its column: the column pass must hand both on to the row search.
    label_image = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 2]])
    d1, d2 = nearest_two_distances(label_image, max_distance=10)
    assert (d1[0, 0], d2[0, 0]) == (np.float32(math.sqrt(5)), np.float32(math.sqrt(8)))


def test_two_parts_of_one_cell_are_one_neighbour() -> None:
    # The loss parts different cells; a cell in two pieces is no border.
    label_image = np.array([[3, 0, 0, 3]])
    assert (weight_map(label_image) == 1).all()


def test_ignored_pixels_weigh_nothing_and_are_no_cell() -> None:
    # 255 stands between the cells: it neither is a second neighbour on the left nor hides the cells from each other.
    label_image = np.array([[1, 0, 255, 0, 2]], np.uint8)
    result = weight_map(label_image, ignore_label=255)
    between = 1 + 10 * math.exp(-(4**2) / 50)
    np.testing.assert_allclose(result, [[1, between, 0, between, 1]], atol=TOLERANCE)
    assert weight_map(np.array([[1, 0, -1]]), ignore_label=-1).tolist() == [[1, 1, 0]]


def test_ignored_pixels_part_no_cells() -> None:
    label_image = np.array([[255, 1, 1, 2, 2, 2]], np.uint8)
    assert force_gap(label_image, ignore_label=255).tolist() == [[255, 1, 1, 0, 2, 2]]


def test_huge_labels_are_ranked() -> None:
    label_image = draw_cells((30, 30), 9, 5, seed=1)
    huge = label_image.astype(np.uint64) * 1_000_000_007
    np.testing.assert_array_equal(weight_map(huge), weight_map(label_image))
    np.testing.assert_array_equal(force_gap(huge) > 0, force_gap(label_image) > 0)
    full = np.array([[7_000_000_000, 8_000_000_000]])  # no background: the lowest rank is not 0
    assert force_gap(full).tolist() == [[7_000_000_000, 8_000_000_000]]


def test_the_input_is_left_alone_in_any_layout() -> None:
    label_image = draw_cells((40, 50), 12, 6, seed=2)
    turned = np.asfortranarray(label_image.astype(">i4"))
    before = turned.copy()
    np.testing.assert_array_equal(weight_map(turned), weight_map(label_image))
    np.testing.assert_array_equal(turned, before)


def test_many_threads_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 3)
    monkeypatch.setattr(compilation, "_most_threads", None)
    for label_image in (draw_cells((130, 170), 60, 9, seed=3), draw_cells((11, 40, 30), 30, 6, seed=4)):
        monkeypatch.setattr(compilation, "SERIAL_PIXELS", 1 << 20)
        serial = weight_map(label_image)
        monkeypatch.setattr(compilation, "SERIAL_PIXELS", 0)
        np.testing.assert_array_equal(weight_map(label_image), serial)


def test_threads_may_call_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # As training does; numba's own threads would abort the process here.
    monkeypatch.setattr(compilation, "SERIAL_PIXELS", 0)
    label_images = [draw_cells((60, 70), 20, 6, seed=seed) for seed in range(12)]
    expected = [weight_map(label_image) for label_image in label_images]
    with ThreadPoolExecutor(4) as pool:
        for result, alone in zip(pool.map(weight_map, label_images), expected, strict=True):
            np.testing.assert_array_equal(result, alone)


# --- gaps


def test_the_larger_cell_gives_way() -> None:
    label_image = np.array(
        [
            [1, 1, 1, 2, 2],
            [1, 1, 1, 2, 2],
            [1, 1, 1, 0, 0],
        ]
    )
    assert force_gap(label_image).tolist() == [
        [1, 1, 0, 2, 2],
        [1, 1, 0, 2, 2],
        [1, 1, 0, 0, 0],  # touches over the corner
    ]


def test_of_equal_cells_the_higher_label_gives_way() -> None:
    assert force_gap(np.array([[4, 4, 9, 9]])).tolist() == [[4, 4, 0, 9]]


def test_planes_of_a_stack_are_parted() -> None:
    label_image = np.array([[[1, 1, 1]], [[2, 0, 0]], [[2, 0, 0]]])
    assert force_gap(label_image).tolist() == [[[0, 0, 1]], [[2, 0, 0]], [[2, 0, 0]]]


def test_a_cell_that_would_vanish_stays_and_its_neighbours_give_way() -> None:
    # The line 2 is larger than 1 and touches it with every pixel; 1 has pixels to spare.
    label_image = np.array(
        [
            [1, 1, 1, 1],
            [1, 1, 1, 0],
            [2, 2, 2, 2],
            [2, 2, 2, 2],
        ]
    )
    assert force_gap(label_image).tolist() == [
        [1, 1, 1, 1],
        [1, 1, 1, 0],
        [0, 0, 0, 0],
        [2, 2, 2, 2],
    ]
    thin = np.array(
        [
            [1, 1, 1, 1, 1],
            [2, 2, 2, 2, 2],
            [0, 0, 0, 0, 0],
        ]
    )
    assert force_gap(thin).tolist() == thin.tolist()
    spared = np.array(
        [
            [1, 1, 1, 1],
            [1, 1, 1, 1],
            [2, 2, 2, 2],
            [3, 3, 3, 3],
            [3, 3, 3, 3],
            [2, 2, 2, 2],
            [2, 0, 0, 2],
        ]
    )
    assert set(np.unique(force_gap(spared))) == {0, 1, 2, 3}


@settings(deadline=None, max_examples=80)
@given(small_label_images)
def test_gaps_never_erase_a_cell_and_only_take_pixels(label_image: NDArray[Any]) -> None:
    parted = force_gap(label_image)
    assert parted.dtype == label_image.dtype
    assert set(np.unique(parted[parted > 0])) == set(np.unique(label_image[label_image > 0]))
    assert ((parted == label_image) | (parted == 0)).all()


@settings(deadline=None, max_examples=80)
@given(small_label_images)
def test_gaps_part_all_cells_but_thin_ones(label_image: NDArray[Any]) -> None:
    parted = force_gap(label_image)
    whole = [label for label in np.unique(label_image) if ((label_image == label) == (parted == label)).all()]
    for label in np.unique(parted[parted > 0]):
        around = ndimage.binary_dilation(parted == label, np.ones((3,) * parted.ndim))
        touched = set(np.unique(parted[around])) - {0, label}
        # Cells that still touch have both given up nothing.
        assert not touched or (label in whole and touched <= set(whole))


@settings(deadline=None, max_examples=40)
@given(small_label_images)
def test_gaps_turn_with_the_image(label_image: NDArray[Any]) -> None:
    np.testing.assert_array_equal(force_gap(label_image.T).T, force_gap(label_image))
    np.testing.assert_array_equal(np.flip(force_gap(np.flip(label_image))), force_gap(label_image))


def test_real_nuclei_keep_their_number_and_do_not_touch(shared_data: Any) -> None:
    from skimage.io import imread

    path = next(path for path in sorted((shared_data / "bbbc039" / "val" / "masks").iterdir()))
    label_image = imread(path)
    parted = force_gap(label_image)
    assert set(np.unique(parted)) == set(np.unique(label_image))
    d1, d2 = nearest_two_distances(parted, max_distance=1.5)
    assert not (np.isfinite(d2) & (d1 == 0)).any()  # no cell pixel has another cell next to it


# --- mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"border_weight": -1}, "border weight is -1, needs to be 0 or more"),
        ({"border_weight": math.inf}, "border weight is inf"),
        ({"border_sigma": 0}, "border sigma is 0, needs to be above 0 pixels"),
        ({"class_weights": (1.0,)}, r"class weights are \[1.0\], need two numbers of 0 or more: background, cell"),
        ({"class_weights": (1.0, math.nan)}, "class weights are"),
        ({"spacing": (1.0, 1.0, 1.0)}, "needs one number above 0 for each of the 2 axes"),
        ({"spacing": (0.0, 1.0)}, "needs one number above 0 for each of the 2 axes"),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        weight_map(np.zeros((4, 4), int), **options)


@pytest.mark.parametrize(
    ("label_image", "reason"),
    [
        (np.zeros((4, 4)), "not_labels"),
        (np.zeros((4, 4), bool), "not_labels"),
        (np.full((4, 4), -3), "not_labels"),
        (np.zeros(4, int), "wrong_ndim"),
        (np.zeros((0, 4), int), "no_pixels"),
    ],
)
def test_what_is_no_label_image(label_image: NDArray[Any], reason: str) -> None:
    for function in (weight_map, force_gap):
        with pytest.raises(ImageError) as caught:
            function(label_image)
        assert caught.value.reason == reason


def test_examples_in_the_documentation() -> None:
    result = doctest.testmod(weight_maps)
    assert result.attempted
    assert not result.failed
