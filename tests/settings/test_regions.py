"""Regions of the plane, as text and as rows and columns."""

import pytest

from unetbio.errors import ImageError, UsageError
from unetbio.settings.regions import parse_region
from unetbio.settings.segmentation import Settings


@pytest.mark.parametrize(
    ("text", "again", "name", "fragment"),
    [
        ("10, 20,30,40", "10,20,30,40", "x10_y20_w30_h40", "#xywh=10,20,30,40"),
        ("1.5,2,3,4 µm", "1.5,2,3,4um", "x1.5_y2_w3_h4_um", "#xywh=um:1.5,2,3,4"),
    ],
)
def test_a_region_as_text(text: str, again: str, name: str, fragment: str) -> None:
    region = parse_region(text)
    assert (str(region), region.name, region.fragment) == (again, name, fragment)
    assert parse_region(again) == region
    assert Settings(region=text).region == (again,)


@pytest.mark.parametrize(
    ("text", "again"),
    [
        (" polygon((1 2,30.5 4,5 60,1 2)) ", "POLYGON ((1 2, 30.5 4, 5 60, 1 2))"),
        ("POLYGON((0 0,9 0,9 9),(1 1,2 1,2 2))", "POLYGON ((0 0, 9 0, 9 9, 0 0), (1 1, 2 1, 2 2, 1 1))"),
        ("MULTIPOLYGON(((0 0,9 0,9 9)))", "POLYGON ((0 0, 9 0, 9 9, 0 0))"),
    ],
)
def test_an_outline_as_text(text: str, again: str) -> None:
    region = parse_region(text)
    assert str(region) == again
    assert parse_region(again) == region
    assert Settings(region=text).region == (again,)
    box = ",".join(map(str, (region.x, region.y, region.width, region.height)))
    end = region.name[-8:]
    assert (region.title, region.fragment) == (f"{box} outline {end}", f"#xywh={box}&outline={end}")


def test_files_of_regions_stay_as_they_are() -> None:
    assert Settings(region="drawn/a.GeoJSON").region == ("drawn/a.GeoJSON",)


@pytest.mark.parametrize(
    "text",
    [
        "POLYGON ()",
        "POLYGON ((1 2, 3 4))",
        "POLYGON ((1 2, 3 4, nan 5))",
        "POLYGON (1 2, 3 4, 5 6)",
        "MULTIPOLYGON ()",
        # A number of 400 digits, one that no image reaches, and texts in place of numbers
        f"POLYGON ((1{400 * '0'} 0, 0 5, 5 5))",
        "POLYGON ((1e300 0, 0 5, 5 5))",
        'POLYGON (("12","34","51"))',
    ],
)
def test_what_is_no_outline(text: str) -> None:
    with pytest.raises(UsageError, match=r"write an outline of three corners or more as POLYGON \(\(x y, x y, x y\)\)"):
        parse_region(text)
    with pytest.raises(UsageError, match=r"has no area: draw it anew"):
        parse_region("POLYGON ((1 1, 1 5, 1 9))")


@pytest.mark.parametrize("text", ["", "1,2,3", "a,b,c,d", "0,0,0,5", "-1,0,5,5", "1.5,0,5,5", "nan,0,5,5um"])
def test_what_is_no_region(text: str) -> None:
    with pytest.raises(UsageError, match=r"give X,Y,W,H in whole pixels, such as 1000,2000,512,512"):
        parse_region(text)


def test_rows_and_columns() -> None:
    assert parse_region("3,5,10,7").box(12, 13, {}) == (slice(5, 12), slice(3, 13))
    # 25.6 um of .1 um are 256 pixels; a pixel that is touched is taken.
    sizes = {"Y": 0.1, "X": 0.1}
    assert parse_region("0,25.6,25.6,25.65um").box(600, 600, sizes) == (slice(256, 513), slice(0, 256))


def test_regions_that_do_not_fit() -> None:
    with pytest.raises(ImageError, match=r"ends at column 13 and row 12: the image has 12 columns and 12 rows"):
        parse_region("3,5,10,7").box(12, 12, {})
    with pytest.raises(ImageError, match=r"is in um, and the pixel size is unknown: give --pixel-size"):
        parse_region("3,5,10,7um").box(12, 12, {})
