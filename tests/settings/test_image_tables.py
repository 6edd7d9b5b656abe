"""Columns of tables of images, with one meaning for all commands."""

from pathlib import Path

import pytest

from unetbio.errors import UsageError
from unetbio.settings.image_tables import read_image_table
from unetbio.settings.segmentation import Settings


def settings_of(tmp_path: Path, header: str, row: str, name: str = "x.csv") -> Settings:
    path = tmp_path / name
    path.write_text(f"{header}\n{row}\n")
    (read,) = read_image_table(path, Settings(t=4)).rows
    return read.settings


@pytest.mark.parametrize(
    ("header", "row", "name"),
    [
        ("image,channel,series,t,z,axes,pixel_size_um,diameter_px", 'a.tif,DAPI,2,0,max,czyx,"2,0.5",30.5', "x.csv"),
        ("image;Channel;Series;t;z;Axes;Pixel size um;Diameter px", "a.tif;DAPI;2.0;0;max;CZYX;2,0 0,5;30,5", "x.csv"),
        (
            "image\tchannel\tseries\tt\tz\taxes\tpixel_size_um\tdiameter_px",
            "a\tDAPI\t2\t0\tmax\tCZYX\t2 0,5\t30,5",
            "x.txt",
        ),
    ],
    ids=["plain", "a spreadsheet with decimal commas", "tabs"],
)
def test_every_column_says_how_an_image_is_read(tmp_path: Path, header: str, row: str, name: str) -> None:
    assert settings_of(tmp_path, header, row, name) == Settings(
        channel=("DAPI",), series=2, t=0, z="max", axes="CZYX", pixel_size_um=(2.0, 0.5), diameter_px=30.5
    )


def test_empty_cells_leave_the_settings_of_the_run(tmp_path: Path) -> None:
    assert settings_of(tmp_path, "image,t,z", "a.tif,,3") == Settings(t=4, z=3)


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("0,65", "x.csv", 0.65),
        ("1,5", "x.csv", 1.5),
        ("0,65", "x.tsv", 0.65),
        ("1.5", "x.tsv", 1.5),
        ("2.0,1.0", "x.tsv", (2, 1)),
    ],
)
def test_decimal_commas(tmp_path: Path, text: str, name: str, expected: object) -> None:
    between = ";" if name == "x.csv" else "\t"
    found = settings_of(tmp_path, f"image{between}pixel_size_um", f"a.tif{between}{text}", name)
    assert found.pixel_size_um == expected


@pytest.mark.parametrize("word", ["auto", "model"])
def test_a_diameter_may_be_a_word(tmp_path: Path, word: str) -> None:
    assert settings_of(tmp_path, "image,diameter_px", f"a.tif,{word}").diameter_px == word


@pytest.mark.parametrize("word", ["NA", "NaN", "n/a", "#N/A", "null"])
def test_words_for_a_missing_number_are_empty_cells(tmp_path: Path, word: str) -> None:
    header, row = "image,channel,pixel_size_um,diameter_px,t", f"a.tif,{word},{word},{word},{word}"
    # A channel may be called so.
    assert settings_of(tmp_path, header, row) == Settings(t=4, channel=(word,))


@pytest.mark.parametrize(
    ("column", "text", "expected"),
    [("pixel_size_um", "0.65 µm", 0.65), ("pixel_size_um", "2,0.5um", (2, 0.5)), ("diameter_px", "30 px", 30)],
)
def test_units_may_follow_their_numbers(tmp_path: Path, column: str, text: str, expected: object) -> None:
    assert getattr(settings_of(tmp_path, f"image,{column}", f'a.tif,"{text}"'), column) == expected


def test_a_number_that_can_mean_two_things(tmp_path: Path) -> None:
    message = (
        r"x\.tsv, line 2: pixel_size_um '1,5' can be 1\.5, or 1 and 5: write 1\.5 for one number, or 1\.0,5\.0 for two"
    )
    with pytest.raises(UsageError, match=message):
        settings_of(tmp_path, "image\tpixel_size_um", "a.tif\t1,5", "x.tsv")


def test_several_channels(tmp_path: Path) -> None:
    assert settings_of(tmp_path, "image,channel", 'a.tif,"DAPI, 2.0"').channel == ("DAPI", "2")


@pytest.mark.parametrize(
    ("column", "text", "message"),
    [
        ("z", "top", "z 'top' is not a whole number or max or each"),
        ("t", "1.5", "t '1.5' is not a whole number"),
        ("axes", "ZZYX", "axes ZZYX must be letters of TCZYX"),
        ("diameter_px", "1,024", "stands in no column"),
        ("pixel_size_um", "small", "pixel_size_um 'small' is no number above 0"),
    ],
)
def test_cells_that_cannot_be_meant(tmp_path: Path, column: str, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"line 2: .*{message}"):
        settings_of(tmp_path, f"image,{column}", f"a.tif,{text}")
