"""Heat maps of plates."""

from unetbio.report.plates import WellImage, heat_maps


def test_rows_and_columns_are_those_from_the_first_to_the_last() -> None:
    counts = {("B", "2"): [4, 8], ("D", "4"): [3, None], ("D", "2"): [None]}
    images = [WellImage("p", row, column, n) for (row, column), each in counts.items() for n in each]
    (plate,) = heat_maps(images)
    assert plate["columns"] == ["2", "3", "4"]
    assert [row["name"] for row in plate["rows"]] == ["B", "C", "D"]
    shown = {
        well["title"]: (well["text"], well["share"], well["kind"]) for row in plate["rows"] for well in row["wells"]
    }
    assert shown["B02: 6 cells an image, 2 images"] == ("6", "100", "")
    assert shown["D04: 3 cells an image, 2 images, 1 failed"] == ("3", "50", "warn")
    assert shown["D02: 1 failed"] == ("failed", "0", "bad")
    assert shown["C03: no image"] == ("", "0", "")


def test_plates_have_maps_of_their_own_and_single_wells_none() -> None:
    images = [WellImage(plate, "AA", str(column), 1) for plate in ("one", "two") for column in (1, 2)]
    assert [plate["name"] for plate in heat_maps([*images, WellImage("three", "A", "1", 1)])] == ["one", "two"]
    assert heat_maps([WellImage("classes", "A", column, None) for column in "12"]) == []


def test_rows_of_the_summary_without_a_well_have_no_place() -> None:
    assert WellImage.of({"row": "", "column": ""}, 1) is None
    assert WellImage.of({"row": "1", "column": "A"}, 1) is None
    assert WellImage.of({"plate": "p", "row": "b", "column": "03"}, 1) == WellImage("p", "B", "3", 1)
