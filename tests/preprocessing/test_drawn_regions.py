"""Regions of GeoJSON files: what is a region, what is left out, and which pixels an outline holds."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from unetbio.annotations.outlines import Polygons
from unetbio.errors import ImageError, UsageError
from unetbio.io.arrays import image_of_array
from unetbio.preprocessing.areas import OutlinedArea, SurroundedArea, count_pixels
from unetbio.preprocessing.drawn_regions import read_regions
from unetbio.preprocessing.parts import area_of, select_part
from unetbio.preprocessing.prepare import open_annotated
from unetbio.settings.segmentation import Settings

TRIANGLE = [[10.0, 20], [60, 30.25], [40, 90], [10, 20]]
RECTANGLE = [[10, 20], [30, 20], [30, 50], [10, 50], [10, 20]]


def feature(coordinates: Any, kind: str = "Polygon", plane: Any = None, **properties: Any) -> dict[str, Any]:
    """An object as QuPath 0.5 writes it."""
    geometry = {"type": kind, "coordinates": coordinates, **({"plane": plane} if plane else {})}
    return {"type": "Feature", "geometry": geometry, "properties": {"objectType": "annotation", **properties}}


def write(path: Path, features: list[Any]) -> str:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return str(path)


def test_annotations_become_regions(tmp_path: Path) -> None:
    several = [[[[0, 0], [4, 0], [4, 4]]], [[[8, 8], [20, 8], [20, 20], [8, 20]], [[9, 9], [12, 9], [12, 12]]]]
    file = write(
        tmp_path / "slide.geojson",
        [
            feature([RECTANGLE], name="core", classification={"name": "Tumor"}),
            feature([TRIANGLE]),
            feature(several, "MultiPolygon", name="rest"),
        ],
    )
    boxed, triangle, rest = read_regions((file,))
    # A rectangle is a box as on the command line.
    assert (str(boxed.region), boxed.columns) == ("10,20,20,30", {"region_name": "core", "region_class": "Tumor"})
    assert str(triangle.region) == "POLYGON ((10 20, 60 30.25, 40 90, 10 20))"
    assert (triangle.region.title, triangle.columns) == (f"10,20,50,70 outline {triangle.region.name[-8:]}", {})
    assert str(rest.region) == (
        "MULTIPOLYGON (((0 0, 4 0, 4 4, 0 0)), ((8 8, 20 8, 20 20, 8 20, 8 8), (9 9, 12 9, 12 12, 9 9)))"
    )
    # Texts say the same as the file, which can change.
    assert [str(given.region) for given in read_regions([str(rest.region)])] == [str(rest.region)]
    (tmp_path / "list.json").write_text(json.dumps([feature([RECTANGLE])]))
    assert [str(given.region) for given in read_regions((str(tmp_path / "list.json"), "1,2,3,4"))] == [
        "10,20,20,30",
        "1,2,3,4",
    ]


@pytest.mark.parametrize(
    "ring",
    [
        [[10, 20], [30, 20], [30, 50], [10.25, 50]],  # not upright
        [[10, 20], [30, 50], [30, 20], [10, 50]],  # crosses itself
        [[-3, 20], [30, 20], [30, 50], [-3, 50]],  # begins outside of the image
    ],
)
def test_other_quadrangles_are_no_boxes(tmp_path: Path, ring: Any) -> None:
    (given,) = read_regions((write(tmp_path / "x.geojson", [feature([ring])]),))
    assert given.region.outline


def test_a_rectangle_between_pixels_holds_the_pixels_of_its_outline(tmp_path: Path) -> None:
    ring = [[10.5, 20.5], [30.75, 20.5], [30.75, 50.25], [10.5, 50.25]]
    (given,) = read_regions((write(tmp_path / "x.geojson", [feature([ring])]),))
    mask = Polygons([[np.array(ring)]]).covers(slice(0, 60), slice(0, 60))
    rows, columns = np.nonzero(mask)
    box = columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1
    assert str(given.region) == ",".join(map(str, box))


def test_what_is_no_area_is_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old = {"type": "Feature", "id": "PathCellObject", "geometry": {"type": "Polygon", "coordinates": [TRIANGLE]}}
    point = feature([3, 4], "Point")
    click = feature([[[5, 5], [5, 5], [5, 5], [5, 5]]])
    file = write(
        tmp_path / "x.geojson", [feature([RECTANGLE]), feature([TRIANGLE], objectType="detection"), old, point, click]
    )
    with caplog.at_level(logging.WARNING):
        assert len(read_regions((file,))) == 1
    assert caplog.messages == [
        f"{file}: left out, since they are no areas that were drawn: 1 annotation without area, 1 cell, 1 detection, "
        "1 point"
    ]


def test_rings_without_area_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The hole of such a ring is no outline, and other annotations are kept."""
    line = [[0, 0], [10, 10], [0, 0]]
    hole = [[2, 2], [8, 2], [8, 8], [2, 8], [2, 2]]
    file = write(tmp_path / "x.geojson", [feature([TRIANGLE, line]), feature([line]), feature([line, hole])])
    with caplog.at_level(logging.WARNING):
        (region,) = read_regions((file,))
    assert region.region == read_regions((write(tmp_path / "y.geojson", [feature([TRIANGLE])]),))[0].region
    assert caplog.messages[0].endswith("no areas that were drawn: 2 annotation without area")


def test_annotations_of_the_same_pixels_are_one_region(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A copy, and a rectangle that rounds to the same pixels; with names that are no text."""
    features = [feature([TRIANGLE], name="a\ud800b"), feature([RECTANGLE]), feature([TRIANGLE])]
    with caplog.at_level(logging.WARNING):
        first, _ = read_regions((write(tmp_path / "x.geojson", features),))
    first.columns["region_name"].encode()
    assert "are the same pixels: they are segmented once, with the name of the first" in caplog.messages[0]


def test_files_that_hold_no_regions(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"region .*none\.geojson cannot be read: No such file"):
        read_regions((str(tmp_path / "none.geojson"),))
    with pytest.raises(UsageError, match=r"x\.geojson holds no area: draw annotations in QuPath"):
        read_regions((write(tmp_path / "x.geojson", [feature([1, 2], "Point")]),))
    with pytest.raises(UsageError, match=r"x\.geojson: feature 1 is drawn on section 3, and regions hold for all"):
        read_regions((write(tmp_path / "x.geojson", [feature([TRIANGLE], plane={"c": -1, "z": 3, "t": 0})]),))
    (tmp_path / "x.geojson").write_text("{")
    with pytest.raises(UsageError, match=r"x\.geojson: is no JSON"):
        read_regions((str(tmp_path / "x.geojson"),))


@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(0, 40)] * 4))
@settings(deadline=None, max_examples=60)
def test_windows_do_not_change_an_area(seed: int, window: tuple[int, int, int, int]) -> None:
    rng = np.random.default_rng(seed)
    area = OutlinedArea(Polygons([[rng.uniform(-5, 45, (9, 2)).round(1)], [rng.uniform(0, 40, (3, 2))]]), (40, 40))
    whole = area(())
    top, bottom, left, right = (*sorted(window[:2]), *sorted(window[2:]))
    part = slice(top, bottom), slice(left, right)
    np.testing.assert_array_equal(area(part), whole[part])
    np.testing.assert_array_equal(area((slice(0, 3), *part)), whole[part])
    assert count_pixels(area, (2, 40, 40)) == whole.sum()
    around = SurroundedArea(area, 3)
    np.testing.assert_array_equal(around(()), ndimage.maximum_filter(whole, 7, mode="constant"))
    np.testing.assert_array_equal(around(part), around(())[part])


def test_an_outline_is_that_of_the_full_resolution() -> None:
    image = image_of_array(np.zeros((100, 80), np.uint8), "YX")
    chosen = Settings(region="POLYGON ((10 20, 60 30.25, 40 90, 10 20))")
    part = select_part(image, chosen)
    area = area_of(part, chosen)
    assert (part.shape, part.part and part.part.rows, area is not None) == ((70, 50), (20, 90), True)
    whole = Polygons([[np.array(TRIANGLE)]]).covers(slice(0, 100), slice(0, 80))
    assert area is not None
    np.testing.assert_array_equal(area(()), whole[20:90, 10:60])
    # A pixel at half the size has its centre between four pixels: it may be one off.
    half = area.scaled((35, 25))(())
    assert abs(int(half.sum()) * 4 - int(whole.sum())) < 60
    np.testing.assert_array_equal(area.crop(slice(5, 25), slice(3, 33))(()), whole[25:45, 13:43])


def test_outlines_that_images_cannot_give() -> None:
    image = image_of_array(np.zeros((50, 80), np.uint8), "YX")
    with pytest.raises(
        ImageError, match=r"region -3,0,8,4 outline \w{8} begins at column -3 and row 0: draw it within"
    ):
        select_part(image, Settings(region="POLYGON ((-3 0, 5 0, 5 4))"))
    with pytest.raises(
        ImageError, match=r"outline \w{8} ends at column 60 and row 90: the image has 80 columns and 50"
    ):
        select_part(image, Settings(region="POLYGON ((10 20, 60 30.25, 40 90))"))
    with pytest.raises(ImageError, match=r"a training would learn background there: give a box, X,Y,W,H"):
        open_annotated(image, Settings(region="POLYGON ((10 20, 60 30.25, 40 40))"))
