"""Tables as spreadsheets save them."""

import csv
import os
from pathlib import Path

import pytest

from unetbio.errors import UsageError
from unetbio.io.tables import csv_text, read_csv, read_table_file


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
    ],
    ids=["plain", "semicolons", "spaces and empty lines", "tabs"],
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
        ("image,\u00b5m\na.tif,1\n", "latin-1", r"plate\.csv is not in UTF-8 \(byte 6\): save it as CSV UTF-8"),
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
