"""Measurements against scikit-image's regionprops and hand-counted cells."""

import numpy as np
import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.io import imread
from skimage.measure import regionprops

from unetbio.errors import ImageError, UsageError
from unetbio.measurement.cytoplasm_rings import ring_labels
from unetbio.measurement.regions import measure

HYPOTHESIS = settings(deadline=None, max_examples=40)


@st.composite
def label_images(draw, shapes=((1, 1), (9, 1), (1, 12), (30, 40))):
    """Cells that touch each other and the border, in one piece or several, with any ids."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.sampled_from(shapes))
    seeds = np.zeros(shape, dtype=np.int64)
    for cell in range(1, draw(st.integers(1, 8)) + 1):
        seeds[tuple(rng.integers(0, shape))] = cell
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    kept = rng.random(shape) < draw(st.sampled_from([0.3, 0.9, 1]))
    # Ids with gaps, and ids so large that a table of all ids would not do.
    factor = draw(st.sampled_from([1, 7, 10**11]))
    return seeds[tuple(nearest)] * kept * factor


def renumbered(labels):
    """Small ids in the same order, since regionprops keeps a table of all ids."""
    ids, inverse = np.unique(labels, return_inverse=True)
    return inverse.reshape(labels.shape) + (ids[0] != 0)


def check_against_regionprops(labels, image):
    columns = measure(labels, image[np.newaxis])
    # scikit-image sums in the type of the image, the measurements in float64.
    regions = regionprops(renumbered(labels), image.astype(np.float64))
    np.testing.assert_array_equal(columns["label"], np.unique(labels[labels > 0]))
    expected = {
        "centroid_y_px": [region.centroid[0] for region in regions],
        "centroid_x_px": [region.centroid[1] for region in regions],
        "area_px": [region.area for region in regions],
        "bbox_y_start": [region.bbox[0] for region in regions],
        "bbox_x_start": [region.bbox[1] for region in regions],
        "bbox_y_stop": [region.bbox[2] for region in regions],
        "bbox_x_stop": [region.bbox[3] for region in regions],
        "perimeter_px": [region.perimeter for region in regions],
        "equivalent_diameter_px": [region.equivalent_diameter_area for region in regions],
        "eccentricity": [region.eccentricity for region in regions],
        "solidity": [region.solidity for region in regions],
        "intensity_mean_0": [region.intensity_mean for region in regions],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(columns[name], values, rtol=1e-9, atol=1e-7, err_msg=name)


@given(label_images(), st.sampled_from([np.uint8, np.int16, np.float32, np.float64]))
@HYPOTHESIS
def test_equals_regionprops(labels, dtype):
    image = np.random.default_rng(0).integers(0, 200, labels.shape).astype(dtype)
    check_against_regionprops(labels, image)


def test_equals_regionprops_on_real_cells(shared_data):
    # A field of touching nuclei; the mask itself stands for grey values.
    path = sorted((shared_data / "bbbc039" / "val" / "masks").iterdir())[0]
    labels = imread(path)
    assert labels.max() > 20
    check_against_regionprops(labels, labels)


@given(label_images(shapes=((4, 6, 7), (1, 5, 6), (5, 1, 1))))
@HYPOTHESIS
def test_equals_regionprops_in_3d(labels):
    image = np.random.default_rng(0).random(labels.shape)
    columns = measure(labels, image[np.newaxis])
    regions = regionprops(renumbered(labels), image)
    for axis, letter in enumerate("zyx"):
        np.testing.assert_allclose(columns[f"centroid_{letter}_px"], [region.centroid[axis] for region in regions])
        np.testing.assert_array_equal(columns[f"bbox_{letter}_start"], [region.bbox[axis] for region in regions])
        np.testing.assert_array_equal(columns[f"bbox_{letter}_stop"], [region.bbox[axis + 3] for region in regions])
    np.testing.assert_array_equal(columns["volume_px"], [region.area for region in regions])
    np.testing.assert_allclose(
        columns["equivalent_diameter_px"], [region.equivalent_diameter_area for region in regions]
    )
    np.testing.assert_allclose(columns["intensity_mean_0"], [region.intensity_mean for region in regions])


def test_columns_and_their_order():
    labels = np.array([[1, 1, 0]])
    assert list(measure(labels, np.ones((2, 1, 3)), channel_names=["DAPI", "GFP"], probabilities=labels * 0.5)) == [
        "label", "area_px", "area_um2", "centroid_y_px", "centroid_x_px",
        "bbox_y_start", "bbox_x_start", "bbox_y_stop", "bbox_x_stop",
        "perimeter_px", "equivalent_diameter_px", "eccentricity", "solidity",
        "touches_border", "neighbours", "intensity_mean_DAPI", "intensity_mean_GFP", "confidence",
    ]  # fmt: skip
    assert list(measure(labels[np.newaxis])) == [
        "label", "volume_px", "volume_um3", "centroid_z_px", "centroid_y_px", "centroid_x_px",
        "bbox_z_start", "bbox_y_start", "bbox_x_start", "bbox_z_stop", "bbox_y_stop", "bbox_x_stop",
        "equivalent_diameter_px", "touches_border", "neighbours",
    ]  # fmt: skip


@pytest.mark.parametrize("shape", [(5, 6), (3, 5, 6), (0, 6)])
def test_without_cells_the_columns_are_there_and_empty(shape):
    columns = measure(np.zeros(shape, dtype=np.uint16), np.zeros((1, *shape)), probabilities=np.zeros(shape))
    assert {len(values) for values in columns.values()} == {0}
    assert "confidence" in columns


def test_area_in_micrometres_needs_the_size_of_both_axes():
    labels = np.array([[1, 1, 2]])
    assert measure(labels, pixel_size_um={"Y": 0.5, "X": 2.0, "Z": 9.0})["area_um2"].tolist() == [2.0, 1.0]
    assert np.isnan(measure(labels, pixel_size_um={"X": 0.5})["area_um2"]).all()
    assert np.isnan(measure(labels)["area_um2"]).all()
    volumes = measure(labels[np.newaxis], pixel_size_um={"Y": 0.5, "X": 2.0, "Z": 9.0})
    assert volumes["volume_um3"].tolist() == [18.0, 9.0]


def test_a_table_has_empty_fields_where_sizes_are_unknown():
    table = polars.DataFrame(measure(np.array([[1, 0, 5]])), nan_to_null=True)
    assert table["area_um2"].null_count() == 2
    assert table["label"].to_list() == [1, 5]


def test_cells_at_the_border():
    labels = np.array(
        [
            [0, 0, 0, 0, 0],
            [0, 1, 0, 2, 2],
            [0, 0, 0, 0, 0],
            [0, 3, 0, 0, 4],
            [0, 3, 0, 0, 0],
        ]
    )
    assert measure(labels)["touches_border"].tolist() == [False, True, True, True]
    # A stack of one slice has no border along z.
    assert measure(labels[np.newaxis])["touches_border"].tolist() == [False, True, True, True]
    assert measure(np.stack([labels, labels]))["touches_border"].all()


def test_neighbours_touch_or_are_parted_by_one_pixel():
    # 1 touches 2 over a corner, 2 and 3 have one pixel between them, 3 and 4 two.
    labels = np.array([[1, 0, 0, 0, 0, 0, 0], [0, 2, 0, 3, 0, 0, 4]])
    assert measure(labels)["neighbours"].tolist() == [1, 2, 1, 0]


def test_intensities_are_raw_grey_values_of_any_type():
    labels = np.array([[1, 1, 2]])
    grey = np.array([[[65535, 65533, 7]]])
    for dtype in (np.uint16, ">u2", np.uint32, np.float32, np.float64):
        assert measure(labels, grey.astype(dtype))["intensity_mean_0"].tolist() == [65534, 7]
    assert measure(labels, grey > 7)["intensity_mean_0"].tolist() == [1, 0]
    assert measure(labels, (grey // 1000).astype(np.float16))["intensity_mean_0"].tolist() == [65, 0]


def test_channels_of_one_name_are_told_apart():
    columns = measure(np.array([[1]]), np.arange(3).reshape(3, 1, 1), channel_names=["DAPI", "GFP", "DAPI"])
    assert columns["intensity_mean_DAPI_0"].tolist() == [0]
    assert columns["intensity_mean_DAPI_2"].tolist() == [2]
    assert columns["intensity_mean_GFP"].tolist() == [1]


def test_channels_are_taken_one_at_a_time():
    class Lazy:
        shape = (2, 1, 3)
        taken: list[int] = []  # noqa: RUF012

        def __getitem__(self, channel):
            self.taken.append(channel)
            return np.full((1, 3), channel + 1)

    columns = measure(np.array([[0, 1, 1]]), Lazy())
    assert Lazy.taken == [0, 1]
    assert columns["intensity_mean_1"].tolist() == [2]


def test_confidence_is_the_mean_probability_of_a_cell():
    columns = measure(np.array([[1, 1, 0, 2]]), probabilities=np.array([[0.5, 1.0, 0.1, 0.75]], dtype=np.float32))
    assert columns["confidence"].tolist() == [0.75, 0.75]


@pytest.mark.parametrize(
    ("changes", "reason", "message"),
    [
        ({"label_image": np.zeros((2, 3))}, "not_labels", "the label image holds float64 pixels"),
        ({"image": np.zeros((2, 3))}, "wrong_shape", r"the image has shape \(2, 3\) .* needs one more axis"),
        ({"image": np.zeros((1, 2, 4))}, "wrong_shape", r"shape \(2, 4\) and the label image \(2, 3\)"),
        ({"image": np.zeros((1, 2, 3)), "channel_names": ["a", "b"]}, "wrong_shape", "2 channel names for 1 channels"),
        ({"probabilities": np.zeros((3, 3))}, "wrong_shape", r"the array of probabilities has shape \(3, 3\)"),
    ],
)
def test_what_does_not_fit_is_refused(changes, reason, message):
    with pytest.raises(ImageError, match=message) as caught:
        measure(**{"label_image": np.ones((2, 3), dtype=int), **changes})
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)


def rings_by_hand(labels, distance, spacing):
    """Every pixel of background against every pixel of every cell."""
    rings = np.zeros(labels.shape, dtype=int)
    cells = {cell: np.argwhere(labels == cell) for cell in np.unique(labels[labels > 0])}
    for position in np.argwhere(labels == 0):
        squares = {cell: (((pixels - position) * spacing) ** 2).sum(axis=1).min() for cell, pixels in cells.items()}
        if squares:
            nearest = min(squares.values())
            near = [cell for cell, square in squares.items() if square <= nearest * (1 + 1e-9)]
            if len(near) == 1 and nearest <= distance**2 * (1 + 1e-9):
                rings[tuple(position)] = near[0]
    return rings


@given(
    label_images(shapes=((12, 15), (1, 9), (4, 5, 6))),
    st.sampled_from([0.3, 1.0, 2.5, 50.0]),
    st.sampled_from([(0.5, 0.5, 0.5), (0.284, 0.127, 0.127), (1.0, 0.1, 0.3)]),
)
@HYPOTHESIS
def test_rings_equal_those_found_pixel_by_pixel(labels, distance, sizes):
    labels = renumbered(labels)
    spacing = sizes[-labels.ndim :]
    expected = rings_by_hand(labels, distance, spacing)
    np.testing.assert_array_equal(ring_labels(labels, distance, spacing), expected)
    image = np.random.default_rng(0).integers(0, 200, (2, *labels.shape))
    columns = measure(
        labels, image, pixel_size_um=dict(zip("ZYX"[-labels.ndim :], spacing, strict=True)), expand_um=distance
    )
    size = columns["ring_area_px" if labels.ndim == 2 else "ring_volume_px"]
    ids = columns["label"]
    np.testing.assert_array_equal(size, [(expected == cell).sum() for cell in ids])
    for channel, plane in enumerate(image):
        means = [plane[expected == cell].mean() if (expected == cell).any() else np.nan for cell in ids]
        np.testing.assert_allclose(columns[f"ring_intensity_mean_{channel}"], means)


def test_a_ring_ends_at_its_width_and_half_way_to_the_next_cell():
    # Three tenths are three pixels of a tenth, though .3 / .1 is a little less in floating point.
    labels = np.array([[1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3]])
    rings = ring_labels(labels, 0.3, (0.1, 0.1))
    assert rings.tolist() == [[0, 1, 1, 1, 0, 0, 2, 2, 2, 0, 2, 0, 3, 0]]
    assert ring_labels(labels, 0.2, (9.0, 0.1)).tolist() == [[0, 1, 1, 0, 0, 0, 0, 2, 2, 0, 2, 0, 3, 0]]


def test_rings_need_a_pixel_size():
    labels, image = np.array([[1, 0, 2]]), np.ones((1, 1, 3))
    columns = measure(labels, image, channel_names=["DAPI"], pixel_size_um={"X": 0.5}, expand_um=3)
    assert np.isnan(columns["ring_area_px"]).all()
    assert np.isnan(columns["ring_intensity_mean_DAPI"]).all()
    alone = measure(labels, pixel_size_um={"Y": 1, "X": 1}, expand_um=3)
    assert alone["ring_area_px"].tolist() == [0, 0]
    assert not any(name.startswith("ring_intensity") for name in alone)


@pytest.mark.parametrize("labels", [np.zeros((3, 4), int), np.ones((3, 4), int)])
def test_without_background_or_cells_there_are_no_rings(labels):
    assert not ring_labels(labels, 5.0, (1, 1)).any()


@pytest.mark.parametrize(
    ("distance", "spacing", "message"),
    [
        (0.0, (1, 1), "the width of a ring is 0.0, needs to be a number above 0"),
        (1.0, (1, 0), r"spacing is \[1.0, 0.0\], needs one number above 0 for each of the 2 axes"),
        (1.0, (1, 1, 1), "needs one number above 0 for each of the 2 axes"),
    ],
)
def test_widths_and_sizes_that_cannot_be_are_refused(distance, spacing, message):
    with pytest.raises(UsageError, match=message):
        ring_labels(np.array([[1, 0]]), distance, spacing)
