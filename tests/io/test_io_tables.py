"""Tables as spreadsheets save them."""

import csv
import os
from pathlib import Path

import pytest

from unetbio.errors import UsageError
from unetbio.io.tables import csv_text, file_of_cell, read_csv, read_table_file


def write(tmp_path: Path, content: str, name: str = "plate.csv", encoding: str = "utf-8") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("content", "name", "encoding"),
    [
        ('image,dose um\na.tif,"1,5"\nb.tif,2\n', "x.csv", "utf-8"),
        ("image;dose um\r\na.tif;1,5\r\nb.tif;2\r\n", "x.csv", "utf-8-sig"),
        (' image , dose um,\n a.tif , "1,5" ,\n,,\n\nb.tif,2\n', "x.CSV", "utf-8"),
        ("image\tdose um\na.tif\t1,5\nb.tif\t2\n", "x.tsv", "utf-8"),
        ("image\tdose um\r\na.tif\t1,5\r\nb.tif\t2\r\n", "x.txt", "utf-16"),
        ("image\tdose um\r\na.tif\t1,5\r\nb.tif\t2\r\n", "x.txt", "utf-16-le"),
        ("image\tdose um\r\na.tif\t1,5\r\nb.tif\t2\r\n", "x.txt", "utf-16-be"),
        ("sep=;\r\nimage;dose um\r\na.tif;1,5\r\nb.tif;2\r\n;;\r\n", "x.csv", "cp1252"),
    ],
    ids=[
        "plain",
        "semicolons",
        "spaces and empty lines",
        "tabs",
        "Unicode text",
        "without a mark",
        "big endian",
        "line of Excel",
    ],
)
def test_spreadsheets_mean_the_same(tmp_path: Path, content: str, name: str, encoding: str) -> None:
    table = read_table_file(write(tmp_path, content, name, encoding))
    assert table.columns == ("image", "dose um")
    assert [row.cells for row in table.rows] == [
        {"image": "a.tif", "dose um": "1,5"},
        {"image": "b.tif", "dose um": "2"},
    ]


def test_rows_know_their_lines(tmp_path: Path) -> None:
    table = read_table_file(write(tmp_path, 'image,note\n\na.tif,"two\nlines"\nb.tif\n'))
    assert [(row.line, row.cells["note"]) for row in table.rows] == [(4, "two\nlines"), (5, "")]


def test_an_empty_table_has_nothing(tmp_path: Path) -> None:
    table = read_table_file(write(tmp_path, "\n"))
    assert (table.columns, table.rows) == ((), ())


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        ("image,x\na.tif,\0\n", "utf-16-le", r"plate\.csv holds a NUL byte, which is no text: save it"),
        ("image,x\na\0.tif,é\n", "cp1252", r"plate\.csv holds a NUL byte, which is no text: save it"),
        ("image,dose,dose\na.tif,1,2\n", "utf-8", r"plate\.csv has 2 columns 'dose': rename or remove all but one"),
        ("image,dose\na.tif,1,5\n", "utf-8", r"plate\.csv, line 2: '5' stands in no column of the header: quote"),
        ("image,\na.tif,5\n", "utf-8", r"plate\.csv, line 2: '5' stands in no column of the header: quote or"),
        ("image,x\na.tif," + "1" * 200_000, "utf-8", r"plate\.csv cannot be read as csv or tsv: field larger than"),
    ],
)
def test_what_cannot_be_meant(tmp_path: Path, content: str, encoding: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_table_file(write(tmp_path, content, encoding=encoding))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.csv cannot be read: No such file"):
        read_table_file(tmp_path / "none.csv")


def test_a_table_with_a_nul_byte_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"plate\.csv holds a NUL byte, which is no text"):
        read_table_file(write(tmp_path, "image\na\0.tif\n"))


def test_a_table_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "plate.csv")
    with pytest.raises(UsageError, match=r"plate\.csv is a pipe or a device, not a file"):
        read_table_file(tmp_path / "plate.csv")


FORMULAS = ["=cmd()", "+a", "-b.tif", "@c", "'=d", "''=e", "'plain", "\t=f", "\r", "-5", "+3e4", "-inf", "plain", ""]


def test_text_is_no_formula_of_a_spreadsheet_and_comes_back(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(csv_text([FORMULAS]), newline="")
    assert read_csv(tmp_path / "x.csv") == [FORMULAS]
    with open(tmp_path / "x.csv", newline="") as stream:
        (cells,) = csv.reader(stream)
    assert [cell for cell in cells if cell.startswith(tuple("=+-@\t\r"))] == ["-5", "+3e4", "-inf"]


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_an_encoding_of_windows_is_read_and_named(
    tmp_path: Path, encoding: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    table = read_table_file(write(tmp_path, "image;dose \u00b5M\r\n\u00fcber.tif;1\r\n", encoding=encoding))
    assert table.rows[0].cells == {"image": "\u00fcber.tif", "dose \u00b5M": "1"}
    assert "is not in UTF-8: read as Windows-1252; if letters are wrong, save it as CSV UTF-8" in caplog.text


def test_a_cut_file_of_two_bytes_a_letter(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes("image\ta".encode("utf-16")[:-1])
    with pytest.raises(UsageError, match=r"x\.txt is no text \(byte 14\): save it as CSV UTF-8"):
        read_table_file(path)


@pytest.mark.parametrize("head", [b"PK\x03\x04\x14\x00", b"\xd0\xcf\x11\xe0\xa1"])
def test_a_workbook_is_no_table(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "x.xlsx").write_bytes(head)
    with pytest.raises(
        UsageError, match=r"x\.xlsx is a workbook of a spreadsheet, not a text: save the sheet as CSV UTF-8"
    ):
        read_table_file(tmp_path / "x.xlsx")


def test_columns_are_known_in_other_letters(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A single capital letter can be anything: a temperature, a treatment."""
    caplog.set_level("INFO")
    known = ("image", "pixel_size_um", "t")
    table = read_table_file(write(tmp_path, "Image,Pixel size (\u00b5m),T,Dose\na.tif,1,37,5\n"), known)
    assert table.columns == ("image", "pixel_size_um", "T", "Dose")
    assert "the column 'Image' is taken for 'image'" in caplog.text
    assert "the column 'T' is not taken for 't'; call it so if that is meant" in caplog.text


def test_a_known_name_stands_above_one_that_is_nearly_so(tmp_path: Path) -> None:
    assert read_table_file(write(tmp_path, "Image,image\nno. 1,a.tif\n"), ("image",)).columns == ("Image", "image")


@pytest.mark.parametrize("header", ["image;dose, in units", '"image";dose'])
def test_semicolons_with_commas_in_names(tmp_path: Path, header: str) -> None:
    table = read_table_file(write(tmp_path, f"{header}\na.tif;1,5\n"))
    assert table.rows[0].cells["image"] == "a.tif"
    assert list(table.rows[0].cells.values())[1] == "1,5"


def test_files_of_another_system_are_found(tmp_path: Path) -> None:
    """Backslashes of Windows, and letters that macOS stores in two parts."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "u\u0308ber.tif").touch()
    assert file_of_cell(tmp_path, "images\\\u00fcber.tif") == "images/u\u0308ber.tif"
    (tmp_path / "a\\b.tif").touch()
    assert file_of_cell(tmp_path, "a\\b.tif") == "a\\b.tif"
    assert file_of_cell(tmp_path, "none.tif") == "none.tif"
    for path in (r"C:\plates\a.tif", r"\\server\plates\a.tif"):
        with pytest.raises(UsageError, match=r"a\.tif is a path of Windows that is not here: write the paths relative"):
            file_of_cell(tmp_path, path)


def test_capital_letters_of_files_count_only_where_they_must(tmp_path: Path) -> None:
    (tmp_path / "Plate 1").mkdir()
    (tmp_path / "Plate 1" / "A01.tif").touch()
    assert file_of_cell(tmp_path, "PLATE 1\\a01.TIF") == "Plate 1/A01.tif"
    (tmp_path / "Plate 1" / "a01.tif").touch()
    assert file_of_cell(tmp_path, "Plate 1/a01.tif") == "Plate 1/a01.tif"
    # Which of the two is meant cannot be known.
    assert file_of_cell(tmp_path, "Plate 1/A01.TIF") == "Plate 1/A01.TIF"
    assert file_of_cell(tmp_path / "Plate 1", "..\\plate 1\\A01.tif") in ("../Plate 1/A01.tif", "A01.tif")


@pytest.mark.parametrize(
    ("column", "meant"),
    [("channels", "channel"), ("pixel_size", "pixel_size_um"), ("Diameter", "diameter_px"), ("chanel", "channel")],
)
def test_columns_that_nearly_have_a_meaning_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, column: str, meant: str
) -> None:
    (tmp_path / "t.csv").write_text(f"image,{column},dose,plate\na.tif,1,2,3\n")
    table = read_table_file(tmp_path / "t.csv", ("image", "channel", "pixel_size_um", "diameter_px", "t"))
    assert table.columns == ("image", column, "dose", "plate")
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 't.csv'}: the column {column!r} is not taken for {meant!r}; call it so if that is meant"
    ]
