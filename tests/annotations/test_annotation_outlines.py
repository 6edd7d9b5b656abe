"""Pixels of shapes against a brute-force reference, and the rule for overlaps."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from unetbio.annotations.outlines import Ellipse, Patch, Pixels, Polygons, Runs, Several, as_ring
from unetbio.annotations.painting import paint
from unetbio.annotations.regions import Grid, Region, Sheet, as_id
from unetbio.errors import ImageError

Array = NDArray[Any]
HEIGHT, WIDTH = 12, 15


def whole(patch: Patch, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> Array:
    mask = np.zeros(shape, bool)
    mask[patch.box] = patch.mask
    return mask


@st.composite
def rings(draw: st.DrawFn) -> Array:
    # Centres are never on these outlines, so that every rule for them gives the same pixels.
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    centre = rng.uniform(-3, 18, 2)
    angles = np.sort(rng.uniform(0, 2 * math.pi, draw(st.integers(3, 12))))
    radius = rng.uniform(0.5, 9, len(angles))
    return centre + np.column_stack((np.cos(angles), np.sin(angles))) * radius[:, np.newaxis]


def enclosed(ring: Array) -> Array:
    """Centres whose ray to the right crosses the ring an odd number of times."""
    inside = np.zeros((HEIGHT, WIDTH), bool)
    for (x1, y1), (x2, y2) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        for row, column in np.ndindex(HEIGHT, WIDTH):
            x, y = column + 0.5, row + 0.5
            if (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
                inside[row, column] ^= True
    return inside


@given(rings(), rings())
@settings(deadline=None, max_examples=60)
def test_polygons_hold_the_centres_that_an_odd_number_of_rings_encloses(ring: Array, other: Array) -> None:
    inside = [enclosed(one) for one in (ring, other)]
    np.testing.assert_array_equal(whole(Polygons([[ring]]).pixels(HEIGHT, WIDTH)), inside[0])
    np.testing.assert_array_equal(whole(Polygons([[ring, other]]).pixels(HEIGHT, WIDTH)), inside[0] ^ inside[1])
    np.testing.assert_array_equal(whole(Polygons([[ring], [other]]).pixels(HEIGHT, WIDTH)), inside[0] | inside[1])


def test_centres_on_a_left_edge_are_outside_and_on_a_right_edge_inside() -> None:
    ring = as_ring([[1.5, 0], [3.5, 0], [3.5, 2], [1.5, 2]], "x")
    assert whole(Polygons([[ring]]).pixels(2, 5), (2, 5)).tolist() == [[False, False, True, True, False]] * 2


@pytest.mark.parametrize("angle", [0.0, 0.4, 2.0])
def test_ellipses_hold_the_centres_within(angle: float) -> None:
    ellipse = Ellipse(6.2, 5.1, 5.0, 2.2, angle)
    expected = np.zeros((HEIGHT, WIDTH), bool)
    for y in range(HEIGHT):
        for x in range(WIDTH):
            dx, dy = x + 0.5 - ellipse.x, y + 0.5 - ellipse.y
            u = dx * math.cos(angle) + dy * math.sin(angle)
            v = dy * math.cos(angle) - dx * math.sin(angle)
            expected[y, x] = (u / 5.0) ** 2 + (v / 2.2) ** 2 <= 1
    np.testing.assert_array_equal(whole(ellipse.pixels(HEIGHT, WIDTH)), expected)
    assert not Ellipse(3, 3, 0, 2).pixels(HEIGHT, WIDTH).mask.size


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=100)
def test_run_lengths_are_undone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((HEIGHT, WIDTH)) < rng.random()
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flat)).astype(np.int8)))
    lengths = np.diff(np.concatenate(([0], edges, [flat.size])))
    np.testing.assert_array_equal(whole(Runs(lengths, (HEIGHT, WIDTH)).pixels(HEIGHT, WIDTH)), mask)


def test_pixels_outside_the_image_are_cut_off() -> None:
    box = Pixels(-1, 13, np.ones((3, 4), bool))
    assert np.argwhere(whole(box.pixels(HEIGHT, WIDTH))).tolist() == [[0, 13], [0, 14], [1, 13], [1, 14]]
    assert not Pixels(20, 2, np.ones((2, 2), bool)).pixels(HEIGHT, WIDTH).mask.size
    both = Several([box, Pixels(5, 5, np.ones((1, 1), bool))]).pixels(HEIGHT, WIDTH)
    assert whole(both).sum() == 5


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([["1", "2"], ["3", "4"], ["5", "6"]], "are no pairs of numbers"),
        ([[1, 2], [3]], "are no pairs of numbers"),
        ([[True, False], [True, True]], "are no pairs of numbers"),
        ([1, 2, 3], "are no pairs of numbers"),
        ([{"__class__": "x"}], "are no pairs of numbers"),
        ([[10**400, 1], [1, 1], [2, 2]], "are no pairs of numbers"),
        ([[math.nan, 1], [1, 1], [2, 2]], "infinite, NaN or far outside"),
        ([[1e300, 1], [1, 1], [2, 2]], "infinite, NaN or far outside"),
    ],
)
def test_what_is_no_outline_is_refused(points: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        as_ring(points, "feature 1")


def test_outlines_that_take_hours_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    zigzag = np.column_stack((np.arange(200_000) % 7, np.where(np.arange(200_000) % 2, 0, 20_000)))
    with pytest.raises(ImageError, match="crosses too many rows"):
        Polygons([[zigzag.astype(float)]]).pixels(20_000, 10)
    box = Polygons([[as_ring([[0, 0], [1500, 0], [1500, 1500], [0, 1500]], "x")]])
    monkeypatch.setattr("unetbio.annotations.painting.MAX_COVER", 20)
    with pytest.raises(ImageError, match="cover the image over 20 times"):
        paint([Region(box)] * 21, Grid(1500, 1500))


def square(top: int, left: int, size: int) -> Pixels:
    return Pixels(top, left, np.ones((size, size), bool))


def test_a_pixel_belongs_to_the_smallest_region_and_then_to_the_first() -> None:
    small, large = Region(square(1, 1, 2)), Region(square(0, 0, 4))
    for order in ([small, large], [large, small]):
        painting = paint(order, Grid(5, 5))
        number = order.index(small) + 1
        assert (painting.label_image[1:3, 1:3] == number).all()
        assert (painting.label_image > 0).sum() == 16
        assert (painting.overlapping, painting.hidden) == (4, 0)
    twins = paint([Region(square(0, 0, 2)), Region(square(0, 0, 2)), Region(square(9, 9, 2))], Grid(5, 5))
    assert set(np.unique(twins.label_image)) == {0, 1}
    assert (twins.overlapping, twins.hidden, twins.outside) == (4, 1, 1)


def test_regions_keep_their_ids_and_others_get_free_ones() -> None:
    regions = [Region(square(0, 3 * index, 2), number) for index, number in enumerate([7, None, 2, 7, None])]
    assert np.unique(paint(regions, Grid(2, 15)).label_image).tolist() == [0, 2, 7, 8, 9, 10]
    assert paint([Region(square(0, 0, 1), 70_000)], Grid(2, 2)).label_image.dtype == np.uint32
    assert [as_id(text) for text in ("0007", "7", "0", "4294967295", "4294967296", "0012-0034", "٣", "")] == [
        7,
        7,
        None,
        4294967295,
        None,
        None,
        None,
        None,
    ]


def test_regions_lie_in_their_planes() -> None:
    stored = {"C": 2, "Z": 3, "T": 2}
    grid = Grid(4, 4, (0, 1), (0, 1, 2), stored)
    painting = paint(
        [
            Region(square(0, 0, 1), 1, t=1, z=2),
            Region(square(0, 0, 1), 1, t=0, z=0),
            Region(square(1, 1, 1), 2, plane=2 * (1 * 3 + 1) + 1),
            Region(square(2, 2, 1), 3),
            Region(square(3, 3, 1), 4, z=7),
        ],
        grid,
    )
    assert grid.axes == "TZYX"
    assert np.argwhere(painting.label_image == 1).tolist() == [[0, 0, 0, 0], [1, 2, 0, 0]]
    assert np.argwhere(painting.label_image == 2).tolist() == [[1, 1, 1, 1]]
    assert (painting.label_image == 3).sum() == 6
    assert painting.elsewhere == 1
    chosen = Grid(4, 4, (None,), (1,), {"Z": 3})
    assert paint([Region(square(0, 0, 1), z=1), Region(square(1, 1, 1), z=2)], chosen).elsewhere == 1
    with pytest.raises(ImageError, match="drawn on 2 sections, the image has none; say --axes"):
        Grid(4, 4).check(Sheet(regions=[Region(square(0, 0, 1), z=z) for z in (0, 1)]))
    with pytest.raises(ImageError, match="drawn on 9 x 8 pixels, the image has 4 x 4"):
        Grid(4, 4).check(Sheet(size=(8, 9)))


def test_cells_of_different_times_have_classes_of_their_own() -> None:
    regions = [
        Region(square(0, 0, 2), 1, "a", t=0),
        Region(square(0, 0, 2), 1, "b", t=1),
        Region(square(3, 3, 2), 2, "", t=1),
    ]
    assert paint(regions, Grid(5, 5, times=(0, 1))).classes == {0: {1: "a"}, 1: {1: "b"}}
    # As in tables of runs, a single time has no column.
    assert paint(regions, Grid(5, 5, times=(1,))).classes == {None: {1: "b"}}
    # A region that smaller ones cover has no cell, and so no class.
    nested = [Region(square(0, 0, 2), kind="a"), Region(square(0, 0, 2), kind="b")]
    assert paint(nested, Grid(5, 5)).classes == {None: {1: "a"}}
