"""Tile arithmetic, without a network."""

from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetbio.errors import ImageError, UsageError
from unetbio.geometry import Geometry, unet_geometry
from unetbio.inference.tiling import plan_tiles, read_mirrored, split_tile, tile_of

PAPER = unet_geometry([(3, 3)] * 5, [(2, 2)] * 4)
DEPTH_2 = unet_geometry([(3, 3)] * 3, [(2, 2)] * 2)


@st.composite
def geometries(draw, ndim=None):
    """U-Nets of one to three axes, with kernels and poolings of their own along each axis."""
    ndim = ndim or draw(st.integers(1, 3))
    depth = draw(st.integers(0, 3 if ndim < 3 else 2))
    kernels = [[draw(st.sampled_from([1, 3, 5])) for _ in range(ndim)] for _ in range(depth + 1)]
    poolings = [[draw(st.sampled_from([1, 2, 3])) for _ in range(ndim)] for _ in range(depth)]
    padding = draw(st.sampled_from(["valid", "same"]))
    return unet_geometry(kernels, poolings, bilinear=draw(st.booleans()) and padding == "valid", padding=padding)


@st.composite
def plans(draw):
    geometry = draw(geometries())
    largest = {1: 300, 2: 70, 3: 25}[geometry.ndim]
    shape = tuple(draw(st.integers(1, largest)) for _ in range(geometry.ndim))
    tile = draw(st.none() | st.integers(1, 80))
    budget = draw(st.none() | st.integers(1, 20_000))
    return geometry, plan_tiles(shape, geometry, tile=tile, memory_budget=budget)


@given(plans())
@settings(max_examples=150, deadline=None)
def test_tiles_cover_every_pixel_once_from_multiples_of_the_stride(case):
    geometry, plan = case
    covered = np.zeros(plan.shape, dtype=int)
    tiles = list(plan)
    assert len(tiles) == len(plan) == prod(plan.counts)
    for tile in tiles:
        covered[tile.write_slices] += 1
        assert geometry.is_legal(tile.read_shape)
        for write, start, size, context, stride, end in zip(
            tile.write_slices,
            tile.read_start,
            tile.read_shape,
            geometry.context,
            geometry.stride,
            plan.shape,
            strict=True,
        ):
            assert write.start % stride == 0
            assert 0 <= write.start < write.stop <= end
            assert start == write.start - context
            assert start + size >= write.stop + context
    assert (covered == 1).all()


@given(plans())
@settings(max_examples=100, deadline=None)
def test_reassembled_from_tiles(case):
    geometry, plan = case
    image = np.arange(prod(plan.shape)).reshape(1, *plan.shape)
    result = np.zeros(plan.shape, dtype=int)
    for tile in plan:
        part = read_mirrored(image, tile.read_start, tile.read_shape)[0]
        inner = [slice(lost, size - lost) for lost, size in zip(geometry.context, part.shape, strict=True)]
        result[tile.write_slices] = part[tuple(inner)][tuple(map(slice, tile.write_shape))] + 1
    assert np.array_equal(result, image[0] + 1)


@given(plans())
@settings(max_examples=100, deadline=None)
def test_cost_is_the_sum_over_the_tiles(case):
    geometry, plan = case
    assert plan.cost == sum(prod(tile.read_shape) for tile in plan)
    assert plan.cost_of_whole == prod(geometry.input_size(plan.shape))
    assert plan.cost_ratio == plan.cost / plan.cost_of_whole


@given(geometries(ndim=2), st.tuples(st.integers(1, 60), st.integers(1, 60)), st.integers(1, 8000))
@settings(max_examples=25, deadline=None)
def test_no_plan_under_the_budget_is_cheaper(geometry, shape, budget):
    plan = plan_tiles(shape, geometry, memory_budget=budget)
    largest = max(prod(tile.read_shape) for tile in plan)
    others = [
        plan_tiles(shape, geometry, tile=(height, width))
        for height, width in product(
            range(geometry.stride[0], shape[0] + geometry.stride[0], geometry.stride[0]),
            range(geometry.stride[1], shape[1] + geometry.stride[1], geometry.stride[1]),
        )
    ]
    fitting = [other for other in others if max(prod(tile.read_shape) for tile in other) <= budget]
    if fitting:
        assert largest <= budget
        assert plan.cost <= min(other.cost for other in fitting)
    elif largest > budget:
        # Nothing fits: the smallest there is
        assert largest <= min(max(prod(tile.read_shape) for tile in other) for other in others)


@given(geometries(ndim=2), st.tuples(st.integers(1, 60), st.integers(1, 60)))
@settings(max_examples=40, deadline=None)
def test_whole_image_is_cheapest(geometry, shape):
    whole = plan_tiles(shape, geometry)
    assert len(whole) == 1
    assert whole.cost_ratio == 1
    assert all(plan_tiles(shape, geometry, tile=tile).cost >= whole.cost for tile in (1, 7, 20, 33))


def test_the_papers_tiles_step_by_384():
    plan = plan_tiles((512, 512), PAPER, tile=388)
    assert plan.tile_shape == (384, 384)
    # 384 + 2 * 92 is not legal, 572 is: it gives 388 pixels, of which an inner tile keeps 384. The last tile answers
    # for the 128 that are left and reads the smallest legal input for them, 316 for 132.
    assert [tile.read_shape for tile in plan] == [(572, 572), (572, 316), (316, 572), (316, 316)]
    assert next(iter(plan)).read_start == (-92, -92)
    # All 388 are used where the image ends with them.
    assert len(plan_tiles((388, 388), PAPER, tile=384)) == 1


def test_cost_is_not_monotonic_in_the_tile_size_and_the_cheapest_is_found():
    # 256 into tiles of 130 needs two of 128; tiles of 124 would need three.
    plan = plan_tiles((256, 256), DEPTH_2, memory_budget=168 * 168)
    assert plan.tile_shape == (128, 128)
    assert plan.cost < plan_tiles((256, 256), DEPTH_2, tile=120).cost


@pytest.mark.parametrize(
    ("tile", "expected"),
    [
        (1, (4, 4)),  # at least a stride
        (4, (4, 4)),
        (51, (48, 48)),  # rounded down
        ((51, 7), (48, 4)),  # an axis each
        (10_000, (100, 64)),  # no larger than the image, rounded up
        (np.int64(9), (8, 8)),
    ],
)
def test_requested_tile_is_rounded_to_the_stride(tile, expected):
    assert plan_tiles((97, 64), DEPTH_2, tile=tile).tile_shape == expected


def test_a_large_image_is_planned_in_a_moment():
    calls = []

    def cost(shape):
        calls.append(shape)
        return prod(shape)

    plan = plan_tiles((50_000, 80_000), PAPER, cost=cost, memory_budget=2_000_000)
    assert plan.cost_ratio < 1.5
    assert len(calls) == len(set(calls)), "no shape is priced twice"


def test_a_large_stack_is_planned_with_few_looks_at_its_memory():
    geometry = unet_geometry([(3, 3, 3)] * 3, [(2, 2, 2)] * 2)
    looks = []

    def memory(shape):
        looks.append(shape)
        return prod(shape)

    plan = plan_tiles((300, 2048, 2048), geometry, memory=memory, memory_budget=20_000_000)
    assert max(prod(tile.read_shape) for tile in plan) <= 20_000_000
    assert plan.cost_ratio < 1.5
    # Of 15 x 44 x 44 ways to cut it into equal pieces
    assert len(looks) < 15 * 44 * 8


@pytest.mark.parametrize("tile", [0, -8, (16, 0), (16, 16, 16)])
def test_impossible_tiles_are_refused(tile):
    with pytest.raises(UsageError, match="is not a tile size: give one whole number from 1, or 2 of them, one an axis"):
        plan_tiles((64, 64), DEPTH_2, tile=tile)


def test_wrong_number_of_axes_is_refused():
    with pytest.raises(UsageError, match=r"takes 2 spatial axes, the image has 3: \(5, 64, 64\)"):
        plan_tiles((5, 64, 64), DEPTH_2)


def test_empty_image_is_refused():
    with pytest.raises(ImageError, match=r"\(0, 64\) pixels is empty") as caught:
        plan_tiles((0, 64), DEPTH_2)
    assert caught.value.reason == "empty_image"


def test_tile_off_the_stride_is_refused():
    with pytest.raises(ValueError, match=r"cannot begin at \(2, 4\): the stride of the network is \(4, 4\)"):
        tile_of((2, 4), (8, 8), DEPTH_2)


@given(geometries(), st.data())
@settings(max_examples=60, deadline=None)
def test_splitting_ends_at_one_stride_and_covers_the_same(geometry, data):
    start = tuple(stride * data.draw(st.integers(0, 3)) for stride in geometry.stride)
    stop = tuple(begin + data.draw(st.integers(1, 30 if geometry.ndim < 3 else 12)) for begin in start)
    pending, leaves = [tile_of(start, stop, geometry)], []
    while pending:
        tile = pending.pop()
        parts = split_tile(tile, geometry)
        if parts is None:
            leaves.append(tile)
            assert all(size <= stride for size, stride in zip(tile.write_shape, geometry.stride, strict=True))
        else:
            assert all(prod(part.write_shape) < prod(tile.write_shape) for part in parts)
            pending.extend(parts)
    covered = np.zeros(stop, dtype=int)
    for tile in leaves:
        covered[tile.write_slices] += 1
    assert (covered[tuple(map(slice, start, stop))] == 1).all()
    assert covered.sum() == prod(end - begin for begin, end in zip(start, stop, strict=True))


def test_mirror_does_not_repeat_the_edge():
    image = np.array([[[1, 2, 3], [4, 5, 6]]])
    # Rows 4 | 1 4 | 1 4, columns 3 2 | 1 2 3 | 2
    expected = [
        [6, 5, 4, 5, 6, 5],
        [3, 2, 1, 2, 3, 2],
        [6, 5, 4, 5, 6, 5],
        [3, 2, 1, 2, 3, 2],
        [6, 5, 4, 5, 6, 5],
    ]
    assert read_mirrored(image, (-1, -2), (5, 6))[0].tolist() == expected


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_mirroring_agrees_with_numpy(data):
    shape = tuple(data.draw(st.integers(1, 9)) for _ in range(data.draw(st.integers(1, 3))))
    image = np.random.default_rng(0).integers(0, 1000, (2, *shape), dtype=np.uint16)
    # Mirrors of mirrors: up to five times the size of the image beyond it
    padded = np.pad(image, [(0, 0), *[(50, 50)] * len(shape)], mode="reflect")
    start = tuple(data.draw(st.integers(-50, 40)) for _ in shape)
    size = tuple(data.draw(st.integers(1, 50 + length - begin)) for begin, length in zip(start, shape, strict=True))
    part = read_mirrored(image, start, size)
    expected = padded[(slice(None), *(slice(50 + b, 50 + b + n) for b, n in zip(start, size, strict=True)))]
    assert part.dtype == np.uint16
    assert np.array_equal(part, expected)


def test_one_pixel_is_itself_everywhere():
    assert (read_mirrored(np.array([[[7]]]), (-92, -92), (188, 188)) == 7).all()


class Recording:
    """An image that is no array: it has a shape, gives slices, and remembers how much it was asked for."""

    def __init__(self, values):
        self.values = values
        self.shape = values.shape
        self.asked = []

    def __getitem__(self, index):
        part = self.values[index]
        self.asked.append(part.size)
        return part


def test_only_the_pixels_needed_are_read():
    image = Recording(np.arange(200 * 300).reshape(1, 200, 300))
    part = read_mirrored(image, (-5, 290), (20, 30))
    # Rows 0 to 14 hold the mirrored ones; columns 279 to 299, the last ten of which come back mirrored
    assert image.asked == [15 * 21]
    assert part[0, :6, 0].tolist() == [image.values[0, row, 290] for row in (5, 4, 3, 2, 1, 0)]


def test_geometry_without_pooling_takes_any_size():
    geometry = Geometry(context=(1, 1), stride=(1, 1), minimum=(3, 3))
    assert plan_tiles((5, 6), geometry, tile=2).counts == (3, 3)
