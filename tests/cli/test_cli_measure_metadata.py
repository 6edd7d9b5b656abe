"""``unetbio measure``: columns from the paths of the images."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import tifffile
from click.testing import CliRunner
from measured_folder import cells, run_measure, segment, segment_in_jobs
from numpy.typing import NDArray

from unetbio.cli.main import main

REGEX = r"plate(?P<plate>\d)/(?P<well>[A-H]\d\d)(_f(?P<field>\d))?"


@pytest.fixture
def out(tmp_path: Path, discs: NDArray[Any], tiny_model: Path) -> Path:
    return segment_in_jobs(tmp_path, discs, tiny_model)


def test_groups_of_paths_are_columns_of_both_tables(tmp_path: Path, discs: NDArray[Any], tiny_model: Path) -> None:
    images = {"plate1/B03_f2.tif": discs, "plate2/C04.tif": discs, "other/x.tif": discs}
    out = segment(tmp_path, tiny_model, images, "--metadata-regex", REGEX)
    expected = {
        "other/x.tif": ("", "", ""),
        "plate1/B03_f2.tif": ("1", "B03", "2"),
        "plate2/C04.tif": ("2", "C04", ""),
    }

    def found(name: str) -> dict[str, tuple[str, ...]]:
        with open(out / name, newline="") as stream:
            return {row["path"]: (row["plate"], row["well"], row["field"]) for row in csv.DictReader(stream)}

    assert found("summary.csv") == found("cells.csv") == expected
    assert json.loads((out / "plate1" / "B03_f2_labels.json").read_text())["columns"]["well"] == "B03"
    # The columns are in the journal: they stay, and asking for the same again changes nothing.
    for options in ([], ["--metadata-regex", REGEX]):
        run_measure(out, *options)
        assert found("summary.csv") == found("cells.csv") == expected


def test_measure_adds_columns_of_its_own(out: Path) -> None:
    line = ["measure", str(out), "--workers", "1", "--failed-ok", "--metadata-regex", r"^(?P<first>[ab])\."]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 0
    assert (
        "warning: --metadata-regex matches all but 1 of 3 paths, whose columns stay empty, such as bad.tif"
        in result.stderr
    )
    assert cells(out)["first"].to_list() == ["a"] * 3 + ["b"] * 3


def test_the_last_expression_counts(tmp_path: Path, discs: NDArray[Any], tiny_model: Path) -> None:
    tifffile.imwrite(tmp_path / "B03_f2.tif", discs)
    (tmp_path / "table.csv").write_text("image,drug\nB03_f2.tif,DMSO\n")
    out = tmp_path / "out"
    line = ["segment", "--table", str(tmp_path / "table.csv"), "-o", str(out), "-m", str(tiny_model), "--workers", "1"]
    assert CliRunner().invoke(main, [*line, "--metadata-regex", r"(?P<well>\d+)_(?P<site>\w)"]).exit_code == 0
    assert cells(out).select("drug", "well", "site").row(0) == ("DMSO", "03", "f")

    def check(drug: str = "DMSO") -> None:
        with open(out / "summary.csv", newline="") as stream:
            (row,) = csv.DictReader(stream)
        assert (row["well"], row["drug"]) == ("B03", drug)
        assert cells(out).select("drug", "well").row(0) == (drug, "B03")
        assert "site" not in row
        assert "site" not in cells(out).columns

    run_measure(out, "--metadata-regex", r"(?P<well>B\d+)")
    check()
    # The next command that writes the tables knows the expression too, and a column of the table stays as it was.
    run_measure(out)
    check()
    result = CliRunner().invoke(main, ["measure", str(out), "--metadata-regex", r"(?P<drug>B\d+)"])
    assert result.exit_code == 2
    assert "B03_f2.tif has a column 'drug' already, 'DMSO' and not 'B03': choose another name" in result.stderr
    # Without journals, the mask knows what it was segmented with.
    (out / "run.jsonl").unlink()
    run_measure(out, "--metadata-regex", r"(?P<well>B\d+)")
    check()


def test_columns_of_a_table_and_of_paths_stand_side_by_side(
    tmp_path: Path, discs: NDArray[Any], tiny_model: Path
) -> None:
    tifffile.imwrite(tmp_path / "B03.tif", discs)
    (tmp_path / "table.csv").write_text("image,drug\nB03.tif,DMSO\n")
    out = tmp_path / "out"
    start = ["segment", "--table", str(tmp_path / "table.csv"), "-o", str(out), "-m", str(tiny_model), "--workers", "1"]
    result = CliRunner().invoke(main, [*start, "--metadata-regex", r"(?P<well>B\d+)"])
    assert result.exit_code == 0, result.stderr
    assert cells(out).select("drug", "well").row(0) == ("DMSO", "B03")
    result = CliRunner().invoke(main, [*start, "--metadata-regex", r"(?P<drug>B\d+)"])
    assert result.exit_code == 2
    assert "B03.tif has a column 'drug' already, 'DMSO' and not 'B03': choose another name" in result.stderr


@pytest.mark.parametrize(
    ("regex", "message"),
    [
        ("(?P<well>", "--metadata-regex (?P<well> is no regular expression: missing )"),
        (r"(\w)", r"--metadata-regex (\w) names no group: write one for each column, such as (?P<well>[A-H][0-9]+)"),
        ("(?P<label>a)", "names a group 'label', which the tables have as a column of their own; choose another"),
        ("(?P<intensity_mean_0>a)", "names a group 'intensity_mean_0', which the tables have"),
        ("(?P<well>Z99)", "--metadata-regex (?P<well>Z99) matches no path, such as a.tif"),
    ],
)
@pytest.mark.parametrize("command", ["measure", "segment"])
def test_expressions_that_cannot_be_used_are_2(
    out: Path, tiny_model: Path, command: str, regex: str, message: str
) -> None:
    start = ["measure", str(out)]
    if command == "segment":
        start = ["segment", str(out.parent / "images"), "-o", str(out), "-m", str(tiny_model)]
    result = CliRunner().invoke(main, [*start, "--metadata-regex", regex])
    assert result.exit_code == 2
    assert message in result.stderr
