"""Outlines of cells: along the edges of their pixels, valid, and around nothing else."""

from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco
from roifile import ImagejRoi

from unetbio.export.coco import compress_counts, run_lengths
from unetbio.export.imagej import RECTANGLE, TRACED, Place, encode_roi
from unetbio.export.shapes import CellShape, cell_shapes, signed_area

Array = NDArray[Any]
HYPOTHESIS = settings(deadline=None, max_examples=100)


@st.composite
def planes(draw: st.DrawFn) -> Array:
    """Small planes of a few cells with every kind of hole, part and corner."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.sampled_from([(1, 1), (1, 9), (8, 1), (6, 7), (11, 12)]))
    cells = draw(st.integers(1, 3))
    labels = rng.integers(0, cells + 1, shape)
    return (labels * draw(st.sampled_from([1, 300, 10**6]))).astype(np.uint32)


def geometry(shape: CellShape) -> shapely.MultiPolygon:
    return shapely.MultiPolygon([(polygon[0], polygon[1:]) for polygon in shape.polygons])


def pixels_in(outline: shapely.Geometry, shape: tuple[int, ...]) -> Array:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    inside: Array = shapely.contains_xy(outline, columns + 0.5, rows + 0.5)
    return inside


@given(planes())
@HYPOTHESIS
def test_outlines_are_valid_and_hold_the_pixels_of_their_cell(plane: Array) -> None:
    shapes = list(cell_shapes(plane))
    assert sorted(shape.label for shape in shapes) == np.unique(plane[plane > 0]).tolist()
    for shape in shapes:
        outline = geometry(shape)
        assert outline.is_valid, shapely.is_valid_reason(outline)
        assert outline.area == shape.area == (plane == shape.label).sum()
        np.testing.assert_array_equal(pixels_in(outline, plane.shape), plane == shape.label)
        for outer, *holes in shape.polygons:
            assert signed_area(outer) > 0
            assert all(signed_area(hole) < 0 for hole in holes)
            for ring in (outer, *holes):
                # Corners alone: each side runs along one axis, and the next one along the other.
                sides = np.roll(ring, -1, axis=0) - ring
                assert ((sides == 0).sum(axis=1) == 1).all()
                assert ((sides[:, 0] == 0) != (np.roll(sides, -1, axis=0)[:, 0] == 0)).all()


def test_pixels_that_meet_over_a_corner_are_two_polygons() -> None:
    (shape,) = cell_shapes(np.array([[1, 0], [0, 1]]))
    assert [ring.tolist() for (ring,) in shape.polygons] == [
        [[1, 0], [1, 1], [0, 1], [0, 0]],
        [[2, 1], [2, 2], [1, 2], [1, 1]],
    ]


def test_a_ring_that_closes_over_a_corner_has_a_hole() -> None:
    # The background inside touches that outside over the corner (1, 3): one part, one hole.
    (shape,) = cell_shapes(np.array([[1, 1, 1, 0], [1, 0, 0, 1], [1, 1, 1, 1]]))
    assert [len(polygon) for polygon in shape.polygons] == [2]
    assert shape.polygons[0][1].tolist() == [[3, 1], [1, 1], [1, 2], [3, 2]]


def test_outlines_of_real_nuclei(shared_data: Any) -> None:
    from skimage.io import imread

    path = sorted((shared_data / "bbbc039" / "val" / "masks").iterdir())[0]
    labels = imread(path)
    shapes = list(cell_shapes(labels))
    assert len(shapes) == len(np.unique(labels)) - 1 > 20
    assert all(geometry(shape).area == shape.area for shape in shapes)
    assert sum(shape.area for shape in shapes) == (labels > 0).sum()


# --- COCO's run lengths -----------------------------------------------------------------------------------------------


@given(planes())
@HYPOTHESIS
def test_run_lengths_are_those_of_pycocotools(plane: Array) -> None:
    for shape in cell_shapes(plane):
        expected = coco.encode(np.asfortranarray(plane == shape.label, dtype=np.uint8))
        lengths = run_lengths(shape, plane.shape)
        assert compress_counts(lengths).encode() == expected["counts"]
        from_list = coco.frPyObjects({"size": list(plane.shape), "counts": lengths.tolist()}, *plane.shape)
        assert from_list == expected


# Differences of longer runs take more than the six characters that pycocotools has room for, and it aborts.
@given(st.lists(st.integers(1, 2**28), min_size=1, max_size=12))
@HYPOTHESIS
def test_long_runs_are_compressed_as_by_pycocotools(lengths: list[int]) -> None:
    size = [sum(lengths), 1]
    if size[0] < 2**32:
        expected = coco.frPyObjects({"size": size, "counts": lengths}, *size)["counts"]
        assert compress_counts(np.array(lengths)).encode() == expected


# --- ImageJ's regions -------------------------------------------------------------------------------------------------


def pixels_of_roi(roi: ImagejRoi, shape: tuple[int, ...]) -> Array:
    inside = np.zeros(shape, bool)
    for ring in roi.coordinates(multi=True):
        inside ^= pixels_in(shapely.Polygon(ring), shape)
    return inside


@given(planes())
@HYPOTHESIS
def test_regions_hold_the_pixels_of_their_cell(plane: Array) -> None:
    for shape in cell_shapes(plane):
        roi = ImagejRoi.frombytes(encode_roi(shape, "cell 7µ"))
        assert roi.name == "cell 7µ"
        assert (roi.top, roi.left) == (shape.top, shape.left)
        assert (roi.bottom - roi.top, roi.right - roi.left) == shape.mask.shape
        simple = len(shape.polygons) == 1 and len(shape.polygons[0]) == 1
        assert roi.roitype == (TRACED if simple else RECTANGLE)
        assert roi.composite is not simple
        np.testing.assert_array_equal(pixels_of_roi(roi, plane.shape), plane == shape.label)


@pytest.mark.parametrize("mask", [np.ones((2, 3), bool), np.array([[True, False, True]])], ids=["traced", "composite"])
def test_regions_lie_where_they_are_and_when(mask: Array) -> None:
    shape = CellShape(3, 40_000, 60_000, mask)
    roi = ImagejRoi.frombytes(encode_roi(shape, "3", Place(z=12, t=5)))
    assert (roi.position, roi.c_position, roi.z_position, roi.t_position) == (0, 0, 12, 5)
    roi = ImagejRoi.frombytes(encode_roi(shape, "3", Place(plane=7)))
    assert (roi.position, roi.c_position, roi.z_position, roi.t_position) == (7, 0, 0, 0)
    corners = np.concatenate(roi.coordinates(multi=True))
    assert corners.min(axis=0).tolist() == [60_000, 40_000]
    assert corners.max(axis=0).tolist() == [60_000 + mask.shape[1], 40_000 + mask.shape[0]]


def test_a_cell_too_wide_for_signed_offsets_is_composite() -> None:
    shape = CellShape(1, 0, 5, np.ones((1, 40_000), bool))
    roi = ImagejRoi.frombytes(encode_roi(shape, "1"))
    assert roi.composite
    (ring,) = roi.coordinates(multi=True)
    assert shapely.Polygon(ring).area == 40_000
