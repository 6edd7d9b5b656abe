"""Heat maps of plates."""

import pytest

from unetbio.report.plates import WellImage, heat_maps


def test_rows_and_columns_are_those_from_the_first_to_the_last() -> None:
    counts = {("B", "2"): [4, 8], ("D", "4"): [3, None], ("D", "2"): [None]}
    images = [WellImage("p", row, column, n) for (row, column), each in counts.items() for n in each]
    (plate,) = heat_maps(images, "an image")
    assert plate["columns"] == ["2", "3", "4"]
    assert [row["name"] for row in plate["rows"]] == ["B", "C", "D"]
    shown = {
        well["title"]: (well["text"], well["share"], well["kind"]) for row in plate["rows"] for well in row["wells"]
    }
    assert shown["B02: 6 cells an image, 2 images"] == ("6", "100", "")
    assert shown["D04: 3 cells an image, 2 images, 1 failed"] == ("3", "50", "warn")
    assert shown["D02: 1 failed"] == ("failed", "0", "bad")
    assert shown["C03: no image"] == ("", "0", "")


def test_wells_of_many_cells_are_whole_numbers() -> None:
    (plate,) = heat_maps([WellImage("p", "A", "1", 2480), WellImage("p", "A", "2", 12345)], "an image")
    assert [well["text"] for well in plate["rows"][0]["wells"]] == ["2\u202f480", "12\u202f345"]
    assert plate["note"] == "Mean number of cells an image; the fullest well has 12\u202f345."


def test_plates_have_maps_of_their_own_and_single_wells_none() -> None:
    images = [WellImage(plate, "AA", str(column), 1) for plate in ("one", "two") for column in (1, 2)]
    assert [plate["name"] for plate in heat_maps([*images, WellImage("three", "A", "1", 1)], "an image")] == [
        "one",
        "two",
    ]
    assert heat_maps([WellImage("classes", "A", column, None) for column in "12"], "an image") == []


def test_rows_of_the_summary_without_a_well_have_no_place() -> None:
    assert WellImage.of({"row": "", "column": ""}, 1) is None
    assert WellImage.of({"row": "1", "column": "A"}, 1) is None
    assert WellImage.of({"plate": "p", "row": "b", "column": "03"}, 1) == WellImage("p", "B", "3", 1)
    assert WellImage.of({"row": "af", "column": "48"}, 1) == WellImage("", "AF", "48", 1)
    assert WellImage.of({"row": "A", "column": "00"}, 1) == WellImage("", "A", "0", 1)


@pytest.mark.parametrize(
    ("row", "column"), [("control", "1"), ("aw", "1"), ("A", "73"), ("A", "20240101"), ("A", "9" * 5000)]
)
def test_columns_of_a_table_that_are_no_well_have_no_place(row: str, column: str) -> None:
    """More rows or columns than plates have, such as groups and dates."""
    assert WellImage.of({"row": row, "column": column}, 1) is None


def test_times_of_a_time_lapse_are_frames() -> None:
    images = [WellImage("p", "A", column, n) for column, n in (("1", 2), ("1", 4), ("2", 6))]
    (plate,) = heat_maps(images, "a frame")
    assert [well["title"] for well in plate["rows"][0]["wells"]] == [
        "A01: 3 cells a frame, 2 frames",
        "A02: 6 cells a frame, 1 frame",
    ]
    assert plate["note"] == "Mean number of cells a frame; the fullest well has 6."
