"""``unetbio summarize``: several summaries in one table."""

import csv
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from unetbio.cli.main import main
from unetbio.results.journal import Entry, Journal, journal_path

HEADER = "path,series,t,n_cells,status"


def summary(folder: Path, *rows: str, header: str = HEADER) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.csv").write_text("\n".join((header, *rows)) + "\n")
    return folder


def summarize(*folders: Path, output: Path) -> Result:
    return CliRunner().invoke(main, ["summarize", *map(str, folders), "-o", str(output)])


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def test_rows_of_an_image_stand_below_each_other(tmp_path: Path) -> None:
    mine = summary(tmp_path / "mine", "a.tif,,,3,done", "b.tif,,,0,done")
    classes = summary(
        tmp_path / "tissue", "a.tif,,,,done,0.5", "b.tif,,,,failed,", header=f"{HEADER},area_fraction_gland"
    )
    result = summarize(mine, classes, output=tmp_path / "all.csv")
    assert result.stdout == f"4 rows of 2 folders, 1 failed: {tmp_path / 'all.csv'}\n", result.stderr
    rows = rows_of(tmp_path / "all.csv")
    assert [(row["path"], row["model"], row["n_cells"], row["area_fraction_gland"]) for row in rows] == [
        ("a.tif", "mine", "3", ""),
        ("a.tif", "tissue", "", "0.5"),
        ("b.tif", "mine", "0", ""),
        ("b.tif", "tissue", "", ""),
    ]


def test_what_failed_is_named_once_and_3(tmp_path: Path) -> None:
    """With why, where a journal knows: a measurement that failed is in the summary alone."""
    mine = summary(
        tmp_path / "mine",
        "a.tif,,,,failed,torn",
        "b.tif,1,,,failed,empty",
        "c.tif,,,1,done,",
        header=f"{HEADER},reason",
    )
    other = summary(tmp_path / "other", "a.tif,,,,failed,torn", header=f"{HEADER},reason")
    with Journal(journal_path(mine, None)) as journal:
        journal.append(Entry("a_labels.ome.tif", "a.tif", "/a.tif", "failed", reason="torn", message="it is torn"))
    runner = CliRunner()
    result = runner.invoke(main, ["summarize", str(mine), str(other)])
    assert result.exit_code == 3
    assert result.stdout == f"4 rows of 2 folders, 3 failed: {mine} {other}\n"
    assert result.stderr.splitlines() == [
        "unetbio: error: a.tif: it is torn [torn] with mine, other",
        "unetbio: error: b.tif (series 1): [empty] with mine",
    ]
    result = runner.invoke(main, ["summarize", str(other), "--failed-ok"])
    assert (result.exit_code, result.stderr) == (0, "unetbio: error: a.tif: [torn]\n")


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("old/x/nuclei", "new/x/nuclei", "y/nuclei", "other")]
    for folder in folders:
        summary(folder, "a.tif,,,3,done")
    assert summarize(*folders, output=tmp_path / "all.csv").exit_code == 0
    assert [row["model"] for row in rows_of(tmp_path / "all.csv")] == [
        "old/x/nuclei",
        "new/x/nuclei",
        "y/nuclei",
        "other",
    ]


def test_a_column_of_the_users_that_is_called_model_stays(tmp_path: Path) -> None:
    folder = summary(tmp_path / "mine", "a.tif,,,3,done,mouse", header=f"{HEADER},model")
    assert summarize(folder, output=tmp_path / "all.csv").exit_code == 0
    (row,) = rows_of(tmp_path / "all.csv")
    assert (row["model"], row["table_model"]) == ("mine", "mouse")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name,size\nx,1\n", "is no summary (no column 'path'): unetbio measure writes it"),
        (b"", "is no summary (no column 'path')"),
        (b"\xff\xfe\x00p", "is no summary ('utf-8' codec"),
        (f"{HEADER}\na.tif,,\n".encode(), "is damaged (rows of different lengths): unetbio measure writes it"),
    ],
)
def test_other_tables_are_2(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "summary.csv").write_bytes(content)
    result = summarize(tmp_path / "mine", output=tmp_path / "all.csv")
    assert result.exit_code == 2
    assert f"{tmp_path / 'mine' / 'summary.csv'} {message}" in result.stderr
    assert not (tmp_path / "all.csv").exists()


def test_a_folder_without_a_summary_is_2(tmp_path: Path) -> None:
    result = summarize(tmp_path / "none", output=tmp_path / "all.csv")
    assert result.exit_code == 2
    assert "cannot be read (No such file or directory): unetbio measure writes it" in result.stderr


def test_a_folder_given_twice_and_a_summary_that_would_be_replaced_are_2(tmp_path: Path) -> None:
    folder = summary(tmp_path / "mine", "a.tif,,,3,done")
    result = summarize(folder, tmp_path / "x" / ".." / "mine", output=tmp_path / "all.csv")
    assert (result.exit_code, "is given twice: name each folder once" in result.stderr) == (2, True)
    result = summarize(folder, output=folder / "summary.csv")
    assert (result.exit_code, "is one of the summaries that are read" in result.stderr) == (2, True)
