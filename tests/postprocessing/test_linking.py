"""Cells of neighbouring sections that become objects."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from unetbio.errors import ImageError, UsageError
from unetbio.labels import relabel_raster
from unetbio.postprocessing.linking import link_sections, number_sections

Array = NDArray[Any]


def stack(*sections: list[list[int]]) -> Array:
    return np.array(sections, np.uint16)


def brute_force(label_image: Array, threshold: float) -> Array:
    """The rule as it is written, cell by cell."""
    cells = [
        sorted(
            ({tuple(p) for p in np.argwhere(section == i).tolist()} for i in np.unique(section) if i),
            key=min,
        )
        for section in label_image
    ]
    objects: list[list[tuple[int, int]]] = []
    chain_of: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for z, section in enumerate(cells):
        partner: dict[int, int] = {}
        if z:
            candidates = [
                (-len(a & b) / len(a | b), i, j) for i, a in enumerate(cells[z - 1]) for j, b in enumerate(section)
            ]
            for negative, i, j in sorted(candidates):
                if -negative >= threshold and i not in partner.values() and j not in partner:
                    partner[j] = i
        for j in range(len(section)):
            chain = chain_of[z - 1, partner[j]] if j in partner else []
            if not chain:
                objects.append(chain)
            chain.append((z, j))
            chain_of[z, j] = chain
    out = np.zeros(label_image.shape, np.int64)
    for number, chain in enumerate(objects, 1):
        for z, j in chain:
            for y, x in cells[z][j]:
                out[z, y, x] = number
    return relabel_raster(out)


stacks = st.integers(0, 2**32 - 1).map(
    lambda seed: np.kron(np.random.default_rng(seed).integers(0, 4, (4, 5, 6)), np.ones((1, 1, 2), np.int64)).astype(
        np.uint16
    )
)


@settings(max_examples=60, deadline=None)
@given(stacks, st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 0.7, 1.0]))
def test_it_is_the_rule_as_written(label_image: Array, threshold: float) -> None:
    np.testing.assert_array_equal(link_sections(label_image, threshold), brute_force(label_image, threshold))


@settings(max_examples=40, deadline=None)
@given(stacks, st.randoms(use_true_random=False))
def test_the_numbers_of_the_cells_do_not_matter(label_image: Array, random: Any) -> None:
    renumbered = label_image.copy()
    for z, section in enumerate(label_image):
        ids = random.sample(range(1, 60000), 3)
        renumbered[z] = np.array([0, *ids], np.uint16)[section]
    np.testing.assert_array_equal(link_sections(renumbered, 0.3), link_sections(label_image, 0.3))
    np.testing.assert_array_equal(number_sections(renumbered), number_sections(label_image))


@settings(max_examples=40, deadline=None)
@given(stacks, st.sampled_from([0.2, 0.6]))
def test_an_object_is_one_cell_a_section_in_sections_that_follow(label_image: Array, threshold: float) -> None:
    linked = link_sections(label_image, threshold)
    for number in range(1, int(linked.max()) + 1):
        sections = np.unique(np.nonzero(linked == number)[0])
        assert list(sections) == list(range(sections[0], sections[-1] + 1))
        for z in sections:
            assert len(np.unique(label_image[z][linked[z] == number])) == 1
    # All of a cell belongs to one object, and nothing else changes.
    np.testing.assert_array_equal(linked > 0, label_image > 0)
    assert all(
        len(np.unique(linked[z][label_image[z] == i])) == 1
        for z in range(len(linked))
        for i in np.unique(label_image[z])
    )


def test_the_better_partner_is_taken_and_the_other_begins_an_object() -> None:
    # One cell of 6 becomes one of 4 and one of 2: 4/6 wins, although 2/6 reaches the threshold too.
    label_image = stack([[1, 1, 1, 1, 1, 1]], [[1, 1, 1, 1, 2, 2]])
    assert link_sections(label_image, 0.3).tolist() == [[[1, 1, 1, 1, 1, 1]], [[1, 1, 1, 1, 2, 2]]]
    # Two cells of equal overlap: the one that comes first.
    label_image = stack([[1, 1, 1, 1]], [[9, 9, 2, 2]])
    assert link_sections(label_image, 0.5).tolist() == [[[1, 1, 1, 1]], [[1, 1, 2, 2]]]


def test_the_threshold_counts_itself() -> None:
    label_image = stack([[1, 1, 0]], [[0, 1, 1]])
    assert link_sections(label_image, 1 / 3).max() == 1
    assert link_sections(label_image, 0.34).max() == 2
    same = stack([[1, 1, 0]], [[4, 4, 0]])
    assert link_sections(same, 1).max() == 1


def test_a_section_without_the_cell_parts_the_object() -> None:
    label_image = stack([[1, 1]], [[0, 0]], [[1, 1]])
    assert link_sections(label_image, 0.5).tolist() == [[[1, 1]], [[0, 0]], [[2, 2]]]


def test_numbers_go_on_from_section_to_section() -> None:
    label_image = stack([[3, 0, 1]], [[0, 0, 0]], [[1, 1, 2]])
    assert number_sections(label_image).tolist() == [[[1, 0, 2]], [[0, 0, 0]], [[3, 3, 4]]]
    assert number_sections(label_image).dtype == np.uint16


def test_more_cells_than_16_bits_hold() -> None:
    section = np.arange(1, 40001, dtype=np.uint16).reshape(200, 200)
    label_image = np.stack([section, section])
    numbered = number_sections(label_image)
    assert numbered.max() == 80000
    assert numbered.dtype == np.uint32
    assert link_sections(label_image, 0.5).max() == 40000


@pytest.mark.parametrize("shape", list(itertools.product((0, 1), repeat=3)))
def test_empty_stacks(shape: tuple[int, int, int]) -> None:
    assert link_sections(np.zeros(shape, np.uint8), 0.5).shape == shape


@pytest.mark.parametrize("threshold", [0, -0.1, 1.1, float("nan")])
def test_thresholds_that_cannot_be_meant(threshold: float) -> None:
    with pytest.raises(UsageError, match="an intersection over union lies above 0 and not above 1"):
        link_sections(np.zeros((2, 3, 3), np.uint8), threshold)


def test_a_plane_is_no_stack() -> None:
    with pytest.raises(ImageError, match="sections need a stack"):
        link_sections(np.zeros((3, 3), np.uint8), 0.5)
