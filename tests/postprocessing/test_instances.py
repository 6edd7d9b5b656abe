"""Cells from bit planes, against a slow reference that follows the definition word for word."""

from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from unetbio.errors import UsageError
from unetbio.postprocessing.instances import PostProcessing, label

HYPOTHESIS = settings(deadline=None, max_examples=60)


def post(**changes):
    """Settings that leave every cell as it is, except for what a test is about."""
    return PostProcessing(**{"min_seed_area": 1, "max_hole_area": 0, **changes})


def planes(*drawings):
    """Bit planes from drawings: ``#`` is set."""
    return np.array([[[character == "#" for character in row] for row in drawing.split()] for drawing in drawings])


# ---------------------------------------------------------------------------------------------------------------------
# The reference: python sets of pixels, one definition after another.


def neighbours(pixel, shape):
    for axis, step in product(range(len(shape)), (-1, 1)):
        moved = (*pixel[:axis], pixel[axis] + step, *pixel[axis + 1 :])
        if 0 <= moved[axis] < shape[axis]:
            yield moved


def components(pixels, shape):
    """Components over faces, as sets, in raster order of their first pixels."""
    left = set(pixels)
    found = []
    for start in sorted(pixels):
        if start not in left:
            continue
        component, front = {start}, [start]
        left.discard(start)
        while front:
            for pixel in neighbours(front.pop(), shape):
                if pixel in left:
                    left.discard(pixel)
                    component.add(pixel)
                    front.append(pixel)
        found.append(component)
    return found


def pixels_of(plane):
    return {tuple(map(int, pixel)) for pixel in np.argwhere(plane)}


def leaves(component, plane_index, nested, options):
    """The seeds that stand for a component of a plane: itself, or two or more of the planes above it."""
    shape = nested.shape[1:]
    if len(component) < options.min_seed_area:
        return []
    parts = []
    if plane_index + 1 < len(nested):
        for part in components(component & pixels_of(nested[plane_index + 1]), shape):
            parts += leaves(part, plane_index + 1, nested, options)
    if options.centre_thresholds and plane_index == len(options.seed_thresholds) and len(parts) >= 2:
        return divided(component, sorted(parts, key=min), shape)
    return parts if len(parts) >= 2 else [component]


def divided(component, parts, shape):
    """A component among its parts: each pixel to the part with the shortest path, of equal ones the first."""
    paths = [steps_from(part, component, shape) for part in parts]
    shares = [set() for _ in parts]
    for pixel in component:
        lengths = [path[pixel] for path in paths]
        shares[lengths.index(min(lengths))].add(pixel)
    return shares


def steps_from(start, component, shape):
    """Length of the shortest path over faces, within the component, from a set of pixels to each of its pixels."""
    steps, front = dict.fromkeys(start, 0), list(start)
    while front:
        reached = {n: steps[p] + 1 for p in front for n in neighbours(p, shape) if n in component and n not in steps}
        steps |= reached
        front = list(reached)
    return steps


def reference(bits, options):
    certain = pixels_of(bits[-1]) if options.min_certain else set()
    bits = bits[: 1 + len(options.seed_thresholds) + len(options.centre_thresholds)]
    nested = np.logical_and.accumulate(bits, axis=0)
    shape = nested.shape[1:]
    lowest = min(1, len(nested) - 1)
    seeds = []
    for component in components(pixels_of(nested[lowest]), shape):
        seeds += leaves(component, lowest, nested, options)
    for component in components(pixels_of(nested[0]), shape):
        specks = components(component & pixels_of(nested[lowest]), shape)
        if specks and not any(component & seed for seed in seeds):
            seeds.append(min(specks, key=lambda speck: (-len(speck), min(speck))))
    seeds.sort(key=min)
    owned = [set(seed) for seed in seeds]
    taken = set().union(*seeds)
    for pixel in pixels_of(nested[0]) - taken:
        distances = [min(sum((a - b) ** 2 for a, b in zip(pixel, other, strict=True)) for other in s) for s in seeds]
        if distances and min(distances) <= options.reach**2:
            owned[distances.index(min(distances))].add(pixel)
    cells = [
        next(component for component in components(pixels, shape) if component & seed)
        for pixels, seed in zip(owned, seeds, strict=True)
    ]
    cells = [cell | fill for cell, fill in zip(cells, holes(cells, shape, options.max_hole_area), strict=True)]
    result = np.zeros(shape, dtype=int)
    kept = sorted((cell for cell in cells if keeps(cell, certain, shape, options)), key=min)
    for number, cell in enumerate(kept, start=1):
        result[tuple(np.array(sorted(cell)).T)] = number
    return result


def holes(cells, shape, max_hole_area):
    """What each cell is filled with."""
    fills = [set() for _ in cells]
    background = set(product(*map(range, shape))) - set().union(*cells)
    for hole in components(background, shape):
        at_border = any(pixel[axis] in (0, size - 1) for pixel in hole for axis, size in enumerate(shape) if size > 1)
        around = {pixel for inside in hole for pixel in neighbours(inside, shape)} - hole
        owners = [index for index, cell in enumerate(cells) if around & cell]
        if len(hole) <= max_hole_area and not at_border and len(owners) == 1:
            fills[owners[0]] |= hole
    return fills


def keeps(cell, certain, shape, options):
    if len(cell & certain) < options.min_certain * len(cell):
        return False
    at_border = any(pixel[axis] in (0, size - 1) for pixel in cell for axis, size in enumerate(shape) if size > 1)
    maximum = np.inf if options.max_area is None else options.max_area
    return options.min_area <= len(cell) <= maximum and not (options.exclude_border and at_border)


@st.composite
def cases(draw, max_planes=4):
    """Small random planes with blobs of a few pixels, 2-D and 3-D, and settings that matter at that size."""
    shape = draw(st.sampled_from([(1, 1), (1, 9), (9, 1), (7, 8), (12, 12), (3, 5, 6), (4, 1, 7), (1, 6, 6)]))
    thresholds = draw(st.integers(1, max_planes))
    centres = draw(st.integers(0, max(0, thresholds - 2)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    field = ndimage.gaussian_filter(rng.random(shape), draw(st.sampled_from([0, 0.6, 1.0])))
    cuts = np.quantile(field, np.linspace(draw(st.sampled_from([0.1, 0.4])), 0.9, thresholds))
    bits = np.array([field >= cut for cut in cuts])
    # Planes that were decided apart need not be nested.
    bits ^= rng.random(bits.shape) < draw(st.sampled_from([0, 0.1]))
    options = PostProcessing(
        mask_threshold=0.5,
        seed_thresholds=(0.6, 0.7, 0.8)[: thresholds - 1 - centres],
        centre_thresholds=(0.4, 0.8)[:centres],
        reach=draw(st.sampled_from([0, 1, 2, 3, 20])),
        min_area=draw(st.sampled_from([0, 3])),
        max_area=draw(st.sampled_from([None, 12])),
        max_hole_area=draw(st.sampled_from([0, 1, 4])),
        min_seed_area=draw(st.integers(0, 3)),
        exclude_border=draw(st.booleans()),
        min_certain=draw(st.sampled_from([0, 0.25, 0.5])),
    )
    if options.min_certain:
        bits = np.concatenate([bits, rng.random((1, *shape)) < 0.4])
    return bits, options


@given(cases())
@HYPOTHESIS
def test_equals_the_reference(case):
    bits, options = case
    np.testing.assert_array_equal(label(bits, options), reference(bits, options))


# ---------------------------------------------------------------------------------------------------------------------
# Properties on planes of a realistic size, where the reference is too slow.


def random_planes(seed, shape, density=0.5):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 1.5)
    return np.array([field >= np.quantile(field, q) for q in (density, 0.7, 0.85)])


THREE = (0.6, 0.7)
shapes = st.sampled_from([(60, 70), (8, 30, 25)])


@given(st.integers(0, 2**32 - 1), shapes, st.sampled_from([0, 2, 6]), st.sampled_from([0, 8]))
@HYPOTHESIS
def test_every_cell_is_one_piece_and_holds_its_seed(seed, shape, reach, max_hole_area):
    bits = random_planes(seed, shape)
    cells = label(bits, post(seed_thresholds=THREE, reach=reach, max_hole_area=max_hole_area))
    seeds = label(bits, post(seed_thresholds=THREE, reach=0))
    for cell in range(1, cells.max() + 1):
        assert ndimage.label(cells == cell)[1] == 1
        # exactly one seed, and all of it
        inside = np.unique(seeds[(cells == cell) & (seeds > 0)])
        assert len(inside) == 1
        assert (cells[seeds == inside[0]] == cell).all()
    # Growth neither joins nor makes cells.
    assert cells.max() == seeds.max()


@given(st.integers(0, 2**32 - 1), shapes, st.sampled_from([1, 4]))
@HYPOTHESIS
def test_growth_stays_in_the_foreground_and_within_reach(seed, shape, reach):
    bits = random_planes(seed, shape)
    cells = label(bits, post(seed_thresholds=THREE, reach=reach))
    seeds = label(bits, post(seed_thresholds=THREE, reach=0))
    assert bits[0][cells > 0].all()
    assert ndimage.distance_transform_edt(seeds == 0)[cells > 0].max() <= reach


@given(st.integers(0, 2**32 - 1), shapes)
@HYPOTHESIS
def test_filling_adds_background_pixels_only(seed, shape):
    # A ring of foreground with holes: the density leaves many.
    bits = random_planes(seed, shape, density=0.2)
    before = label(bits, post(seed_thresholds=THREE, max_hole_area=0))
    after = label(bits, post(seed_thresholds=THREE, max_hole_area=12))
    assert before.max() == after.max()
    changed = before != after
    assert not before[changed].any()
    # Filled pixels lie in holes of one cell: their component of the old background touches that cell alone.
    holes_found, count = ndimage.label(before == 0)
    for hole in np.unique(holes_found[changed]):
        ring = ndimage.binary_dilation(holes_found == hole) & (holes_found != hole)
        assert len(np.unique(before[ring])) == 1
    assert count >= 1


def partition(cells: NDArray[np.integer]) -> set[bytes]:
    """The cells as sets of pixels, without their ids."""
    return {(cells == cell).tobytes() for cell in range(1, int(cells.max()) + 1)}


MOVES = [lambda a: a[:, ::-1], lambda a: a[:, :, ::-1], lambda a: np.swapaxes(a, 1, 2), lambda a: np.swapaxes(a, 1, -1)]


@given(st.integers(0, 2**32 - 1), shapes, st.sampled_from(MOVES))
@HYPOTHESIS
def test_without_growth_flips_and_transpositions_move_the_cells_alone(seed, shape, move):
    bits = random_planes(seed, shape)
    options = post(seed_thresholds=THREE, reach=0, max_hole_area=6)
    expected = move(label(bits, options)[np.newaxis])[0]
    assert partition(label(move(bits), options)) == partition(expected)


@given(st.integers(0, 2**32 - 1), st.sampled_from(MOVES))
@HYPOTHESIS
def test_without_ties_flips_and_transpositions_move_the_cells_alone(seed, move):
    foreground, *higher = random_planes(seed, (14, 14))
    seeds, count = ndimage.label(higher[1])
    # Foreground pixels that are equally far from two seeds are taken out, so that no tie is left.
    squares = [ndimage.distance_transform_edt(seeds != seed_id) ** 2 for seed_id in range(1, count + 1)]
    if count > 1:
        first, second = np.sort(np.round(squares), axis=0)[:2]
        foreground &= first != second
    bits = np.array([foreground | (seeds > 0), seeds > 0])
    options = post(reach=5)
    expected = move(label(bits, options)[np.newaxis])[0]
    assert partition(label(move(bits), options)) == partition(expected)


def test_threads_do_not_change_the_answer():
    bits = random_planes(3, (128, 130))
    options = PostProcessing(seed_thresholds=THREE)
    expected = label(bits, options)
    with ThreadPoolExecutor(4) as pool:
        for cells in pool.map(lambda _: label(bits, options), range(12)):
            np.testing.assert_array_equal(cells, expected)


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_layout_does_not_change_the_answer(order):
    bits = random_planes(4, (40, 50))
    view = np.asarray(np.repeat(bits, 2, axis=2), order=order)[:, :, ::2]
    view = view[:, :40]
    options = PostProcessing(seed_thresholds=THREE)
    np.testing.assert_array_equal(label(view, options), label(np.ascontiguousarray(view), options))


# ---------------------------------------------------------------------------------------------------------------------
# Hand-drawn cases: one decision each.


def test_dim_cells_stay_whole_and_bright_ones_are_parted():
    # Left: two bright nuclei joined at the first seed threshold. Right: a dim one that never reaches the second.
    bits = planes(
        "#########.####",
        "#########.####",
        "###...###.....",
    )
    cells = label(bits, post(seed_thresholds=THREE, reach=9))
    np.testing.assert_array_equal(cells, [[1, 1, 1, 1, 1, 2, 2, 2, 2, 0, 3, 3, 3, 3]])


def test_parts_may_stand_several_planes_above():
    # One component in the second plane, two in the third: the recursion must look through the one in between.
    bits = planes("#######", "#######", ".#####.", ".##.##.")
    cells = label(bits, post(seed_thresholds=(0.6, 0.7, 0.8), reach=2))
    np.testing.assert_array_equal(cells, [[1, 1, 1, 1, 2, 2, 2]])


def test_a_speck_above_does_not_part_a_cell():
    bits = planes("#######", "#######", "###...#")
    cells = label(bits, post(seed_thresholds=THREE, min_seed_area=2))
    np.testing.assert_array_equal(cells, [[1] * 7])


def test_a_cell_smaller_than_a_part_is_still_a_cell():
    # Both seeds are too small to part a cell: the first has a foreground of its own, the second shares one.
    bits = planes("..##...######", "..#....###..#")
    cells = label(bits, post(min_seed_area=2, reach=2))
    np.testing.assert_array_equal(cells, [[0, 0, 1, 1, 0, 0, 0, 2, 2, 2, 2, 2, 0]])
    # Growth is bounded for such cells too.
    cells = label(planes(".########", "..#.##.#."), post(min_seed_area=3, reach=2))
    np.testing.assert_array_equal(cells, [[0, 0, 1, 1, 1, 1, 1, 1, 0]])


def test_seeds_outside_the_foreground_do_not_count():
    bits = planes("##...", "#..##")
    np.testing.assert_array_equal(label(bits, post()), [[1, 1, 0, 0, 0]])


def test_foreground_without_a_seed_is_no_cell():
    assert not label(planes("###", "..."), post()).any()


def test_without_seed_planes_components_are_the_cells():
    cells = label(planes("##.##"), post(seed_thresholds=()))
    np.testing.assert_array_equal(cells, [[1, 1, 0, 2, 2]])


def test_cells_that_touch_over_a_corner_are_two():
    np.testing.assert_array_equal(label(planes("#. .#"), post(seed_thresholds=())), [[1, 0], [0, 2]])


def test_ties_go_to_the_seed_that_comes_first():
    # The middle row is equally far from both seeds, the middle of a row of five as well.
    bits = planes("### ### ###", "### ... ###")
    np.testing.assert_array_equal(label(bits, post()), [[1, 1, 1], [1, 1, 1], [2, 2, 2]])
    np.testing.assert_array_equal(label(planes("#####", "#...#"), post()), [[1, 1, 1, 2, 2]])


def test_a_pixel_nearest_to_a_seed_behind_a_wall_becomes_background():
    # The pixel right of the gap is nearest to the left seed, but it hangs together with the right one alone: giving it
    # to the left seed would cut that cell in two, giving it to the right one would depend on the order of growing.
    bits = planes("#.######", "#......#")
    np.testing.assert_array_equal(label(bits, post()), [[1, 0, 0, 0, 2, 2, 2, 2]])


def test_reach_is_a_euclidean_radius_that_counts_itself():
    bits = np.zeros((2, 9, 9), dtype=bool)
    bits[0] = True
    bits[1, 4, 4] = True
    y, x = np.mgrid[-4:5, -4:5]
    np.testing.assert_array_equal(label(bits, post(reach=3)), y**2 + x**2 <= 9)


def test_holes_up_to_the_limit_are_filled():
    bits = planes("##### #...# #####")
    assert label(bits, post(seed_thresholds=(), max_hole_area=3)).all()
    np.testing.assert_array_equal(label(bits, post(seed_thresholds=(), max_hole_area=2)) > 0, bits[0])


def test_a_hole_at_the_border_is_none():
    bits = planes("#.# #.# ###")
    np.testing.assert_array_equal(label(bits, post(seed_thresholds=(), max_hole_area=9)) > 0, bits[0])


def test_a_cell_in_a_hole_keeps_it_open():
    bits = planes("####### #.....# #.###.# #.....# #######")
    cells = label(bits, post(seed_thresholds=(), max_hole_area=99))
    np.testing.assert_array_equal(cells > 0, bits[0])
    assert cells.max() == 2


def test_area_limits_count_both_ends():
    bits = planes("#.##.###.####")
    cells = label(bits, post(seed_thresholds=(), min_area=2, max_area=3))
    np.testing.assert_array_equal(cells, [[0, 0, 1, 1, 0, 2, 2, 2, 0, 0, 0, 0, 0]])


def test_cells_at_the_border_can_be_left_out():
    bits = planes("##.... ...##. ...... .....#")
    cells = label(bits, post(seed_thresholds=(), exclude_border=True))
    np.testing.assert_array_equal(np.argwhere(cells), [[1, 3], [1, 4]])


def test_ids_follow_the_grown_cells_not_the_seeds():
    # The lower seed grows up to the first row and so becomes cell 1.
    bits = planes("#.. #.# #.#", "... ..# #..")
    np.testing.assert_array_equal(label(bits, post(reach=5)), [[1, 0, 0], [1, 0, 2], [1, 0, 2]])


def test_many_cells_need_uint32():
    bits = np.zeros((1, 600, 600), dtype=bool)
    bits[:, ::2, ::2] = True
    cells = label(bits, post(seed_thresholds=()))
    assert cells.dtype == np.uint32
    assert cells.max() == 90_000


@pytest.mark.parametrize("shape", [(2, 0, 5), (2, 5, 0), (2, 3, 3)])
def test_empty_images_have_no_cells(shape):
    cells = label(np.zeros(shape, dtype=bool), PostProcessing())
    assert cells.shape == shape[1:]
    assert cells.dtype == np.uint16
    assert not cells.any()


@pytest.mark.parametrize(
    "bits",
    [np.zeros((2, 4, 4)), np.zeros((3, 4, 4), dtype=bool), np.zeros((2, 4), dtype=bool)],
    ids=["floats", "too many planes", "one axis"],
)
def test_planes_that_do_not_fit_are_refused(bits):
    with pytest.raises(ValueError, match=r"need bool, \(2, \[Z,\] Y, X\)"):
        label(bits, PostProcessing())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask_threshold": 1.5}, "thresholds 1.5, 0.7: each must lie between 0 and 1"),
        ({"seed_thresholds": (0.7, 0.6)}, "thresholds 0.5, 0.7, 0.6: must not fall"),
        ({"centre_thresholds": (0.7, 0.6)}, "thresholds 0.7, 0.6: must not fall"),
        ({"seed_thresholds": (), "centre_thresholds": (0.7,)}, "centre thresholds need seed thresholds: give both"),
        ({"seed_thresholds": (0.6,) * 255}, "256 thresholds: at most 255"),
        ({"reach": -1}, "reach -1: must be between 0 and 10000"),
        ({"min_area": float("nan")}, "min_area nan: must not be negative"),
        ({"min_seed_area": -2}, "min_seed_area -2: must not be negative"),
        ({"min_area": 20, "max_area": 10}, "max_area 10 is below min_area 20"),
        ({"min_certain": 1.5}, "min_certain 1.5: must be between 0 and 1; use 0 to keep all cells"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(UsageError, match=message) as caught:
        PostProcessing(**changes)
    assert "\n" not in str(caught.value)


def test_settings_from_json_are_equal():
    assert PostProcessing(seed_thresholds=[0.6, 0.8]) == PostProcessing(seed_thresholds=(0.6, 0.8))
    assert PostProcessing(0.4, (0.6, 0.8)).thresholds == (0.4, 0.6, 0.8)


def test_without_centres_records_are_those_of_earlier_versions():
    assert "centre_thresholds" not in PostProcessing().as_record()
    assert PostProcessing(**PostProcessing(centre_thresholds=(0.5,)).as_record()).centre_thresholds == (0.5,)
