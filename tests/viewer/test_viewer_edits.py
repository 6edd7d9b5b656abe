"""Corrections of label images: what changes, and that nothing else does."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from unetbio.errors import UnetbioError, UsageError
from unetbio.labels import connected_components
from unetbio.viewer import edits
from unetbio.viewer.edits import Change

Labels = NDArray[Any]


def plane(text: str) -> Labels:
    """A label image of one section from digits; a dot is background."""
    rows = [[0 if letter == "." else int(letter) for letter in line.strip()] for line in text.strip().splitlines()]
    return np.array([rows], np.uint16)


def put(labels: Labels, change: Change) -> Labels:
    """All pixels after a change, whose other ones are as they were."""
    np.testing.assert_array_equal(labels[change.box], change.before)
    after = labels.astype(np.uint32)
    after[change.box] = change.after
    return after


def box(top: float, left: float, bottom: float, right: float) -> list[list[float]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


TWO = plane("""
    .11.22.
    .11.22.
    .11.22.
    .......
    333....
""")


def test_delete_removes_cells_and_nothing_else() -> None:
    after = put(TWO, edits.delete(TWO, [1, 3]))
    np.testing.assert_array_equal(after, np.where(TWO == 2, 2, 0))
    np.testing.assert_array_equal(put(after, edits.delete(TWO, [1, 3]).undone), TWO)


def test_merge_closes_the_gap_between_cells() -> None:
    after = put(TWO, edits.merge(TWO, [2, 1]))
    expected = plane("""
        .11111.
        .11111.
        .11111.
        .......
        333....
    """)
    np.testing.assert_array_equal(after, expected)
    assert edits.changed_ids(edits.merge(TWO, [2, 1])) == {1, 2}


def test_merge_takes_no_pixel_of_another_cell() -> None:
    labels = plane("1.2\n132\n1.2")
    after = put(labels, edits.merge(labels, [1, 2]))
    np.testing.assert_array_equal(after, plane("111\n131\n111"))


def test_merge_of_cells_that_touch_adds_no_pixel() -> None:
    labels = plane("112\n1.2\n..2")
    np.testing.assert_array_equal(put(labels, edits.merge(labels, [1, 2])), np.where(labels > 0, 1, 0))


@pytest.mark.parametrize(("ids", "message"), [([1], "select two or more"), ([1, 2], "more than 10 pixels apart")])
def test_merge_says_what_it_cannot_join(ids: list[int], message: str) -> None:
    labels = np.zeros((1, 5, 30), np.uint16)
    labels[0, :, :3], labels[0, :, 20:] = 1, 2
    with pytest.raises(UsageError, match=message):
        edits.merge(labels, ids)


def test_split_leaves_no_pixel_out_and_the_largest_piece_keeps_its_id() -> None:
    labels = np.zeros((1, 12, 20), np.uint16)
    labels[0, 2:10, 2:18] = 5
    labels[0, 0] = 9
    after = put(labels, edits.split(labels, 0, [[6.5, 1.0], [6.5, 11.0]]))
    np.testing.assert_array_equal(after > 0, labels > 0)
    assert sorted(np.unique(after[0, 2:10, 2:18]).tolist()) == [5, 10]
    assert (after == 5).sum() > (after == 10).sum() >= 4 * 8
    assert (after[0, 2:10, 2:6] == 10).all()


@given(st.integers(0, 2**32 - 1))
@example(18)  # The pixels of the cut make the second piece the larger one.
@example(1026)  # Along the rim, the line leaves two pieces outside of it.
@settings(deadline=None, max_examples=50)
def test_split_pieces_are_connected_and_cover_the_cell(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:40, :40]
    labels = ((rows - 20) ** 2 + (columns - 20) ** 2 <= rng.integers(50, 300)).astype(np.uint16)[np.newaxis]
    line = [[float(x), float(y)] for x, y in rng.uniform(-10, 50, (2, 2))]
    try:
        change = edits.split(labels, 0, line)
    except UsageError:
        return
    after = put(labels, change)
    np.testing.assert_array_equal(after > 0, labels > 0)
    pieces = [after == number for number in np.unique(after[after > 0])]
    counts = [int(piece.sum()) for piece in pieces]
    assert len(counts) >= 2
    assert counts[0] == max(counts)
    assert min(counts) >= edits.SMALLEST_PIECE
    assert all(connected_components(piece[0], 2)[1] == 1 for piece in pieces)


def test_split_cuts_the_selected_cells_and_else_the_one_below_most_of_the_line() -> None:
    labels = plane("1111222222\n1111222222\n1111222222\n1111222222")
    across = [[0.0, 2.5], [10.0, 2.5]]
    assert edits.changed_ids(edits.split(labels, 0, across)) == {2, 3}
    assert edits.changed_ids(edits.split(labels, 0, across, [1])) == {1, 3}
    assert edits.changed_ids(edits.split(labels, 0, across, [1, 2])) == {1, 2, 3, 4}
    assert edits.changed_ids(edits.split(labels, 0, across, [9])) == {2, 3}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ([[0.5, 3.5], [6.5, 3.5]], "crosses no cell"),
        ([[0.5, 1.5], [1.5, 1.5]], "does not cut cell 1 in two"),
        ([[1.5, 1.5]], "a line has two ends"),
    ],
)
def test_split_says_why_nothing_is_cut(line: list[list[float]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        edits.split(TWO, 0, line)


def test_split_of_a_line_far_outside_is_fast() -> None:
    with pytest.raises(UsageError, match="crosses no cell"):
        edits.split(TWO, 0, [[9e7, 9e7], [9.1e7, 9.5e7]])


def test_draw_makes_a_cell_of_background_alone() -> None:
    change = edits.draw(TWO, 0, box(0, 2, 2, 5))
    after = put(TWO, change)
    np.testing.assert_array_equal(
        after,
        plane("""
        .11422.
        .11422.
        .11.22.
        .......
        333....
    """),
    )
    assert edits.changed_ids(change) == {4}


def test_draw_beyond_the_border_is_cut_off() -> None:
    after = put(TWO, edits.draw(TWO, 0, box(3, 5, 50, 90)))
    assert (after[0, 3:, 5:] == 4).all()
    assert (after == 4).sum() == 4


def test_new_ids_are_free_in_other_planes_too() -> None:
    assert edits.changed_ids(edits.draw(TWO, 0, box(3, 4, 4, 7), above=9)) == {10}
    assert edits.changed_ids(edits.split(plane("1111\n" * 5), 0, [[0.0, 2.5], [4.0, 2.5]], above=9)) == {1, 10}


def test_ids_above_65535_get_more_bits() -> None:
    labels = np.full((1, 4, 4), 65535, np.uint16)
    labels[0, 0] = 0
    change = edits.draw(labels, 0, box(0, 0, 1, 4))
    assert change.after.dtype == np.uint32
    assert put(labels, change)[0, 0].tolist() == [65536] * 4


def test_extend_and_erase_change_one_cell() -> None:
    more = put(TWO, edits.extend(TWO, 0, box(2, 0, 4, 7), [1]))
    np.testing.assert_array_equal(more[0, 2:4], plane("1111221\n1111111")[0])
    less = put(TWO, edits.erase(TWO, 0, box(0, 0, 1, 7), [1]))
    np.testing.assert_array_equal(less[0, :2], plane("....22.\n.11.22.")[0])
    assert not put(TWO, edits.erase(TWO, 0, box(0, 0, 1, 7)))[0, 0].any()


@pytest.mark.parametrize(
    ("correct", "message"),
    [
        (lambda: edits.draw(TWO, 0, box(0, 1, 3, 3)), "no background"),
        (lambda: edits.draw(TWO, 0, []), "no background"),
        (lambda: edits.draw(TWO, 0, [["a", 1]]), "no pairs of numbers"),
        (lambda: edits.draw(TWO, 0, [[np.nan, 1], [2, 2], [3, 4]]), "infinite, NaN or far outside"),
        (lambda: edits.extend(TWO, 0, box(0, 0, 4, 4), [1, 2]), "adds to one cell"),
        (lambda: edits.extend(TWO, 0, box(0, 0, 4, 4), [8]), "no cell 8"),
        (lambda: edits.erase(TWO, 0, box(0, 0, 1, 1)), "no pixel of a cell"),
        (lambda: edits.erase(TWO, 0, box(0, 0, 1, 7), [3]), "no pixel of the selected cells"),
        (lambda: edits.delete(TWO, []), "no cell is selected"),
        (lambda: edits.delete(TWO, [1, 7, 8, 9, 10]), "no cell 7, 8, 9 and 1 more here"),
    ],
)
def test_what_cannot_be_done_is_said(correct: Any, message: str) -> None:
    with pytest.raises(UnetbioError, match=message):
        correct()


def test_linked_sections_change_together_and_drawings_in_one() -> None:
    stack = np.concatenate([TWO, TWO, TWO])
    assert not (put(stack, edits.delete(stack, [1])) == 1).any()
    drawn = put(stack, edits.draw(stack, 1, box(3, 0, 4, 7)))
    assert (drawn == 4).any(axis=(1, 2)).tolist() == [False, True, False]
