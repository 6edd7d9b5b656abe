"""``unetbio measure``: tables of what lies in an output folder."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import polars as pl
import pytest
import tifffile
from click.testing import CliRunner
from numpy.typing import NDArray

from unetbio.cli.main import main
from unetbio.io import read_labels, write_labels
from unetbio.io.read import read_image
from unetbio.io.write import write_image
from unetbio.measurement.cytoplasm_rings import ring_labels
from unetbio.measurement.regions import measure
from unetbio.measurement.table_schema import is_reserved


@pytest.fixture
def out(tmp_path: Path, discs: NDArray[Any], tiny_model: Path) -> Path:
    """Output of two jobs, one of which met a bad file."""
    images = tmp_path / "images"
    images.mkdir()
    tifffile.imwrite(images / "a.tif", discs)
    tifffile.imwrite(images / "b.tif", discs[::-1])
    (images / "bad.tif").write_bytes(b"")
    out = tmp_path / "out"
    for part in ("1/2", "2/2"):
        line = ["segment", str(images), "-o", str(out), "-m", str(tiny_model), "--workers", "1", "--part", part]
        assert CliRunner().invoke(main, [*line, "--failed-ok"]).exit_code == 0
    return out


def test_tables_of_all_jobs(out: Path) -> None:
    result = CliRunner().invoke(main, ["measure", str(out), "--workers", "1"])
    assert result.exit_code == 3, result.stderr
    assert result.stdout == f"3 images, 6 cells, 1 failed: {out / 'summary.csv'}\n"
    assert "bad.tif: the file is empty" in result.stderr
    with open(out / "cells.csv", newline="") as stream:
        assert [row["path"] for row in csv.DictReader(stream)] == ["a.tif"] * 3 + ["b.tif"] * 3


def test_failed_files_are_3_unless_they_are_ok(out: Path) -> None:
    assert CliRunner().invoke(main, ["measure", str(out), "--workers", "1", "--failed-ok"]).exit_code == 0
    (out / "a_labels.ome.tif").write_bytes(b"torn")
    result = CliRunner().invoke(main, ["measure", str(out), "--workers", "1"])
    assert result.exit_code == 3
    assert "2 failed" in result.stdout
    assert "a_labels.ome.tif: a text file" in result.stderr


def test_the_page_can_be_written_from_them(out: Path) -> None:
    CliRunner().invoke(main, ["measure", str(out), "--workers", "1"])
    result = CliRunner().invoke(main, ["report", str(out)])
    assert result.exit_code == 0, result.stderr
    assert "bad.tif" in (out / "index.html").read_text()


def test_nothing_to_measure_is_2(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["measure", str(tmp_path)])
    assert result.exit_code == 2
    assert "holds no results of unetbio segment" in result.stderr


def segment(tmp_path: Path, model: Path, images: dict[str, NDArray[Any]], *options: str) -> Path:
    """Output of one run over these images."""
    for name, image in images.items():
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(tmp_path / "images" / name, image)
    out = tmp_path / "out"
    line = ["segment", str(tmp_path / "images"), "-o", str(out), "-m", str(model), "--workers", "1", *options]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 0, result.stderr
    return out


def cells(out: Path) -> pl.DataFrame:
    return pl.read_parquet(out / "cells.parquet")


def run_measure(out: Path, *options: str) -> str:
    result = CliRunner().invoke(main, ["measure", str(out), "--workers", "1", *options])
    assert result.exit_code == 0, result.stderr
    return result.stderr


def test_rings_are_columns_in_micrometres(tmp_path: Path, discs: NDArray[Any], tiny_model: Path) -> None:
    out = segment(tmp_path, tiny_model, {"a.tif": discs}, "--pixel-size", "0.5")
    assert run_measure(out, "--expand", "1.5") == ""
    table = cells(out)
    labels = read_labels(out / "a_labels.ome.tif")
    rings = ring_labels(labels, 1.5, (0.5, 0.5))
    ids = table["label"].to_list()
    assert table["ring_area_px"].to_list() == [(rings == cell).sum() for cell in ids]
    assert table["ring_intensity_mean_0"].to_list() == [discs[rings == cell].mean() for cell in ids]
    # What is nearer than 1.5 um: a disc of diameter 13 grows by three pixels.
    assert table["ring_area_px"][0] > 2 * np.pi * 6 * 3 - 20
    assert table["area_um2"].to_list() == [area / 4 for area in table["area_px"]]


def test_rings_without_a_pixel_size_are_empty_and_a_line_says_so(
    tmp_path: Path, discs: NDArray[Any], tiny_model: Path
) -> None:
    out = segment(tmp_path, tiny_model, {"a.tif": discs})
    assert run_measure(out, "--expand", "1.5") == (
        "unetbio: warning: no pixel size that can be trusted in 1 of 1 images, such as a.tif: their ring columns are "
        "empty; measure again with --pixel-size UM, such as 0.5\n"
    )
    assert cells(out).select("ring_area_px", "ring_intensity_mean_0").null_count().row(0) == (3, 3)


def test_a_pixel_size_that_is_told_fills_them(tmp_path: Path, discs: NDArray[Any], tiny_model: Path) -> None:
    out = segment(tmp_path, tiny_model, {"a.tif": discs})
    masks = (out / "a_labels.ome.tif").stat().st_mtime_ns
    assert run_measure(out, "--expand", "1.5", "--pixel-size", "0.5") == ""
    rings = ring_labels(read_labels(out / "a_labels.ome.tif"), 1.5, (0.5, 0.5))
    table = cells(out)
    assert table["ring_area_px"].to_list() == [(rings == cell).sum() for cell in table["label"]]
    assert table["area_um2"].to_list() == [area / 4 for area in table["area_px"]]
    assert "0.5" in (out / "summary.csv").read_text().splitlines()[1]
    assert (out / "a_labels.ome.tif").stat().st_mtime_ns == masks
    # A mask that no run has made, and whose image is known from the journal alone.
    (out / "a_labels.json").unlink()
    run_measure(out, "--expand", "1.5", "--pixel-size", "0.5")
    assert cells(out)["ring_area_px"].to_list() == table["ring_area_px"].to_list()


def test_a_pixel_size_is_that_of_the_full_resolution(tmp_path: Path, discs: NDArray[Any], tiny_model: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    with tifffile.TiffWriter(images / "x.tif") as writer:
        writer.write(np.kron(discs, np.ones((2, 2), discs.dtype)), subifds=1, tile=(64, 64), photometric="minisblack")
        writer.write(discs, subfiletype=1, tile=(64, 64), photometric="minisblack")
    options = ["--level", "1", "--diameter", "model", "--workers", "1", "--overlays", "none"]
    line = ["segment", str(images), "-o", str(out), "-m", str(tiny_model), *options]
    assert CliRunner().invoke(main, [*line, "--pixel-size", "0.5"]).exit_code == 0
    expected = cells(out)
    assert expected["area_um2"].to_list() == expected["area_px"].to_list()
    run_measure(out, "--pixel-size", "0.5")
    assert cells(out)["area_um2"].to_list() == expected["area_um2"].to_list()
    assert pl.read_csv(out / "summary.csv")["pixel_size_um"].to_list() == [1.0]


def test_stacks_need_the_distance_of_sections(tmp_path: Path, discs: NDArray[Any], tiny_model: Path) -> None:
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images" / "s.tif", np.stack([discs] * 3), axes="ZYX", pixel_size_um={"Y": 0.5, "X": 0.5})
    out = segment(tmp_path, tiny_model, {}, "--z", "each", "--link", "0.5")
    assert run_measure(out, "--expand", "1.5") == (
        "unetbio: warning: no pixel size along all of Z, Y and X that can be trusted in 1 of 1 images, such as s.tif: "
        "their ring columns are empty; measure again with --pixel-size Z,UM, such as 2,0.5\n"
    )
    assert run_measure(out, "--expand", "1.5", "--pixel-size", "2,0.5") == ""
    rings = ring_labels(read_labels(out / "s_labels.ome.tif"), 1.5, (2.0, 0.5, 0.5))
    expected = cells(out)
    assert expected["ring_volume_px"].to_list() == [(rings == cell).sum() for cell in expected["label"]]
    assert expected["volume_um3"].to_list() == [volume / 2 for volume in expected["volume_px"]]
    # Told to segment, it stays.
    out = segment(tmp_path, tiny_model, {}, "--z", "each", "--link", "0.5", "--pixel-size", "2,0.5")
    assert run_measure(out, "--expand", "1.5") == ""
    assert cells(out).equals(expected)


@pytest.mark.parametrize("command", ["measure", "segment"])
@pytest.mark.parametrize("size", ["0", "1,2,3", "nan", "wide", "0.5,"])
def test_pixel_sizes_that_cannot_be_are_2(out: Path, tiny_model: Path, command: str, size: str) -> None:
    start = ["measure", str(out)]
    if command == "segment":
        start = ["segment", str(out.parent / "images"), "-o", str(out), "-m", str(tiny_model)]
    result = CliRunner().invoke(main, [*start, "--pixel-size", size])
    assert result.exit_code == 2
    assert f"'{size}' is no number above 0, such as 0.5; of stacks Z,YX, such as 2,0.5" in result.stderr


@pytest.mark.parametrize("width", ["0", "-1", "nan", "wide"])
def test_widths_that_cannot_be_are_2(out: Path, width: str) -> None:
    result = CliRunner().invoke(main, ["measure", str(out), "--expand", width])
    assert result.exit_code == 2
    assert "--expand" in result.stderr


def test_confidence_is_the_mean_of_the_probabilities(tmp_path: Path, discs: NDArray[Any], tiny_model: Path) -> None:
    # The second image is rescaled: its probabilities lie on another grid.
    out = segment(tmp_path, tiny_model, {"a.tif": discs}, "--save-probabilities", "--diameter", "15")
    segmented = (out / "cells.csv").read_text()
    run_measure(out)
    assert (out / "cells.csv").read_text() == segmented
    labels, table = read_labels(out / "a_labels.ome.tif"), cells(out)
    probability = read_image(out / "a_probabilities.ome.tif").read(c=1)
    assert probability.shape != labels.shape
    rows, columns = (
        (2 * np.arange(n) + 1) * m // (2 * n) for n, m in zip(labels.shape, probability.shape, strict=True)
    )
    expected = [probability[np.ix_(rows, columns)][labels == cell].mean() for cell in table["label"]]
    np.testing.assert_allclose(table["confidence"], expected, atol=0.0025)
    assert min(expected) > 0.5


def forget_confidences(out: Path) -> None:
    """Make the provenances those of an earlier version, or of a model that gives no probabilities."""
    for path in out.glob("*_labels.json"):
        provenance = json.loads(path.read_text())
        for frame in provenance["frames"]:
            del frame["confidences"]
        path.write_text(json.dumps(provenance))


def test_the_confidences_of_a_run_are_those_of_its_jobs(
    tmp_path: Path, out: Path, discs: NDArray[Any], tiny_model: Path
) -> None:
    CliRunner().invoke(main, ["measure", str(out), "--workers", "1"])
    assert cells(out)["confidence"].null_count() == 0
    alone = segment(tmp_path / "alone", tiny_model, {"a.tif": discs, "b.tif": discs[::-1]})
    text = (alone / "cells.csv").read_text()
    assert text == (out / "cells.csv").read_text()
    run_measure(alone, "--overwrite")
    assert (alone / "cells.csv").read_text() == text
    # Rings are measured later, and take nothing away.
    run_measure(alone, "--expand", "2", "--pixel-size", "0.5")
    assert cells(alone)["confidence"].to_list() == cells(out)["confidence"].to_list()


@pytest.mark.parametrize("options", [(), ("--save-probabilities",)])
def test_cells_that_somebody_drew_have_a_confidence_where_probabilities_lie_there(
    tmp_path: Path, discs: NDArray[Any], tiny_model: Path, options: tuple[str, ...]
) -> None:
    out = segment(tmp_path, tiny_model, {"a.tif": discs}, *options)
    labels = read_labels(out / "a_labels.ome.tif")
    labels[labels == 1] = 0
    labels[:5, 70:] = 7
    write_labels(out / "a_labels.ome.tif", labels)
    run_measure(out)
    table = cells(out)
    assert table["label"].to_list() == [2, 3, 7]
    if not options:
        assert table["confidence"].null_count() == 3
        return
    probability = read_image(out / "a_probabilities.ome.tif").read(c=1)
    means = [probability[labels == cell].mean(dtype=np.float64) for cell in (2, 3, 7)]
    assert table["confidence"].to_list() == np.round(means, 3).tolist()
    assert means[2] < 0.1


def test_earlier_versions_recorded_no_confidences(tmp_path: Path, discs: NDArray[Any], tiny_model: Path) -> None:
    out = segment(tmp_path, tiny_model, {"a.tif": discs}, "--save-probabilities")
    expected = cells(out)["confidence"].to_list()
    forget_confidences(out)
    run_measure(out, "--overwrite")
    assert cells(out)["confidence"].to_list() == pytest.approx(expected, abs=0.0025)
    (out / "a_probabilities.ome.tif").unlink()
    run_measure(out, "--overwrite")
    assert cells(out)["confidence"].null_count() == 3
    # It is as good as new otherwise: nothing is made again.
    again = segment(tmp_path, tiny_model, {})
    assert json.loads((again / "run.jsonl").read_text().splitlines()[-1])["status"] == "skipped"


def test_confidence_of_an_object_is_its_score(out: Path) -> None:
    forget_confidences(out)
    (out / "a_objects.csv").write_text("label,class,score\n1,1,0.75\n2,1,0.5\n3,1,1.0\n")
    CliRunner().invoke(main, ["measure", str(out), "--workers", "1", "--overwrite"])
    assert cells(out)["confidence"].to_list() == [0.75, 0.5, 1.0, None, None, None]
    # The table belongs to the label image as it was; somebody's cells have no score.
    labels = read_labels(out / "a_labels.ome.tif")
    labels[labels == 2] = 0
    write_labels(out / "a_labels.ome.tif", labels)
    CliRunner().invoke(main, ["measure", str(out), "--workers", "1", "--overwrite"])
    assert cells(out)["confidence"].null_count() == 5


def test_probabilities_of_a_killed_run_are_not_believed(tmp_path: Path, discs: NDArray[Any], tiny_model: Path) -> None:
    out = segment(tmp_path, tiny_model, {"a.tif": discs}, "--save-probabilities")
    forget_confidences(out)
    path = out / "a_probabilities.ome.tif"
    path.write_bytes(path.read_bytes())
    run_measure(out)
    assert cells(out)["confidence"].null_count() == 3


def test_probabilities_that_are_torn_leave_confidence_empty(
    tmp_path: Path, discs: NDArray[Any], tiny_model: Path
) -> None:
    out = segment(tmp_path, tiny_model, {"a.tif": discs}, "--save-probabilities")
    forget_confidences(out)
    # A copy of the folder: the times of its files say nothing.
    shutil.copytree(out, tmp_path / "copy", copy_function=shutil.copyfile)
    (tmp_path / "copy" / "a_probabilities.ome.tif").write_bytes(b"torn")
    assert "a_probabilities.ome.tif: no confidences: a text file" in run_measure(tmp_path / "copy")
    assert cells(tmp_path / "copy")["confidence"].null_count() == 3


def test_without_the_image_sizes_stay_known(tmp_path: Path, discs: NDArray[Any], tiny_model: Path) -> None:
    out = segment(tmp_path, tiny_model, {"a.tif": discs}, "--pixel-size", "0.5")
    before = cells(out)
    shutil.rmtree(tmp_path / "images")
    assert "measured without grey values" in run_measure(out, "--expand", "1")
    table = cells(out)
    assert table["area_um2"].to_list() == before["area_um2"].to_list()
    assert table["ring_area_px"].min() > 0
    assert not [name for name in table.columns if "intensity" in name]


REGEX = r"plate(?P<plate>\d)/(?P<well>[A-H]\d\d)(_f(?P<field>\d))?"


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
    # Whoever writes the tables next knows it too; and a column of the table is still the table's.
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


@pytest.mark.parametrize("shape", [(4, 5), (2, 4, 5)])
def test_every_column_that_is_measured_is_reserved(shape: tuple[int, ...]) -> None:
    image = np.ones((1, *shape))
    columns = measure(np.ones(shape, int), image, probabilities=image[0], pixel_size_um={}, expand_um=1)
    assert all(is_reserved(name) for name in columns)
    assert not is_reserved("well")


def test_what_has_not_changed_is_not_measured_again(
    tmp_path: Path, discs: NDArray[Any], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whatever changes, the tables are those of measuring all again."""
    from unetbio.results.tables import collect_tables

    images = {f"{name}.tif": np.roll(discs, number, 1) for number, name in enumerate("abcd")}
    out = segment(tmp_path, tiny_model, images, "--pixel-size", "0.5")
    measured: list[str] = []

    def measuring(out: Path, entry: Any, *arguments: Any, **options: Any) -> Any:
        measured.append(entry.path)
        return measure_again(out, entry, *arguments, **options)

    measure_again = collect_tables.measure_again
    monkeypatch.setattr(collect_tables, "measure_again", measuring)

    def again(*options: str) -> list[str]:
        measured.clear()
        run_measure(out, *options)
        kept, was = (out / "cells.csv").read_text(), sorted(measured)
        run_measure(out, *options, "--overwrite")
        assert (out / "cells.csv").read_text() == kept
        return was

    everything = sorted(images)
    # The run that segmented has measured.
    assert again() == []
    # Columns from paths are no reason.
    assert again("--metadata-regex", "(?P<name>.)[.]tif") == []
    assert again("--expand", "1") == everything
    assert again("--expand", "1") == []
    assert again("--expand", "2") == everything
    assert again("--expand", "2", "--pixel-size", "0.25") == everything
    assert again() == everything
    labels = read_labels(out / "a_labels.ome.tif")
    labels[labels == 2] = 0
    write_labels(out / "a_labels.ome.tif", labels)
    tifffile.imwrite(tmp_path / "images" / "b.tif", images["b.tif"] + 1)
    (out / "c_objects.csv").write_text("label,class,score\n1,1,0.75\n2,1,0.5\n3,1,1.0\n")
    assert again() == ["a.tif", "b.tif", "c.tif"]
    # A mask that was edited is its editor's: it may be going on.
    assert again() == ["a.tif"]
    tifffile.imwrite(tmp_path / "images" / "d.tif", images["d.tif"] + 1)
    assert again() == ["a.tif", "d.tif"]


def test_the_folder_remembers_how_it_was_measured(tmp_path: Path, discs: NDArray[Any], tiny_model: Path) -> None:
    """An image that comes later, and a mask that is edited, are measured as all others; until measure is told else."""
    out = segment(tmp_path, tiny_model, {"a.tif": discs})
    run_measure(out, "--expand", "2", "--pixel-size", "0.5")
    before = cells(out)
    segment(tmp_path, tiny_model, {"b.tif": discs})
    table = cells(out)
    assert table.filter(path="a.tif").equals(before)
    assert table.filter(path="b.tif").drop("path").equals(before.drop("path"))
    assert [row["pixel_size_um"] for row in csv.DictReader((out / "summary.csv").read_text().splitlines())] == [
        "0.5",
        "0.5",
    ]
    text = (out / "cells.csv").read_text()
    run_measure(out, "--expand", "2", "--pixel-size", "0.5", "--overwrite")
    assert (out / "cells.csv").read_text() == text
    run_measure(out)
    segment(tmp_path, tiny_model, {"c.tif": discs})
    assert "ring_area_px" not in cells(out).columns
    assert cells(out)["area_um2"].null_count() == 9


def test_masks_that_are_gone_are_named(tmp_path: Path, discs: NDArray[Any], tiny_model: Path) -> None:
    out = segment(tmp_path, tiny_model, {f"{name}.tif": discs for name in "abcd"})
    (out / "a_labels.ome.tif").unlink()
    assert run_measure(out) == "unetbio: warning: 1 mask is gone: a_labels.ome.tif; segment makes it again\n"
    (out / "b_labels.ome.tif").unlink()
    assert "2 masks are gone, such as a_labels.ome.tif; segment makes them again" in run_measure(out)
    # Whoever takes away image and mask means it.
    for name in "ab":
        (tmp_path / "images" / f"{name}.tif").unlink()
    assert run_measure(out) == ""


@pytest.mark.parametrize("options", [(), ("--expand", "1", "--pixel-size", "0.5")])
def test_grey_values_stay_known_while_the_images_are_away(
    tmp_path: Path, discs: NDArray[Any], tiny_model: Path, options: tuple[str, ...]
) -> None:
    out = segment(tmp_path, tiny_model, {"a.tif": discs, "b.tif": discs})
    if options:
        run_measure(out, *options)
    text = (out / "cells.csv").read_text()
    (tmp_path / "images").rename(tmp_path / "away")
    assert run_measure(out, *options) == (
        "unetbio: warning: 2 of 2 images are not there, such as a.tif: the rows of their masks, which have not "
        "changed, are kept\n"
    )
    assert (out / "cells.csv").read_text() == text
    # What has changed is measured as well as it can be.
    labels = read_labels(out / "a_labels.ome.tif")
    write_labels(out / "a_labels.ome.tif", np.where(labels == 1, 0, labels))
    assert "1 of 2 images are not there, such as b.tif" in run_measure(out, *options)
    table = cells(out)
    assert table.filter(path="a.tif")["intensity_mean_0"].null_count() == 2
    assert table.filter(path="b.tif")["intensity_mean_0"].null_count() == 0


def test_further_columns_are_asked_for_and_kept_until_others_are(
    tmp_path: Path, tiny_model: Path, discs: NDArray[Any]
) -> None:
    out = segment(tmp_path, tiny_model, {"a.tif": discs})
    basic = pl.read_parquet(out / "cells.parquet")

    def columns(*options: str) -> set[str]:
        result = CliRunner().invoke(main, ["measure", str(out), "--workers", "1", *options])
        assert result.exit_code == 0, result.stderr
        table = pl.read_parquet(out / "cells.parquet")
        assert table.select(basic.columns).equals(basic)
        return set(table.columns) - set(basic.columns)

    shape, texture = columns("--features", "shape"), columns("--features", "texture")
    assert {"axis_major_length_px", "feret_diameter_max_px", "form_factor"} <= shape
    assert {"intensity_std_0", "intensity_edge_mean_0", "texture_entropy_0"} <= texture
    assert columns("--features", "all") == shape | texture
    assert all(is_reserved(name) for name in shape | texture)
    # Images that are segmented later are measured in the same way.
    assert segment(tmp_path, tiny_model, {"b.tif": discs[::-1]}) == out
    table = pl.read_parquet(out / "cells.parquet")
    assert table["texture_entropy_0"].null_count() == 0
    assert len(table) == 6
    (tmp_path / "images" / "b.tif").unlink()
    (out / "b_labels.ome.tif").unlink()
    (out / "b_labels.json").unlink()
    assert columns() == set()


def test_a_mask_that_was_saved_in_another_order_is_put_over_its_image(
    tmp_path: Path, discs: NDArray[Any], tiny_model: Path
) -> None:
    """As programs of other axes save volumes: the same cells lie in the same places."""
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    (tmp_path / "images").mkdir()
    nibabel.save(nibabel.Nifti1Image(np.stack([discs.T] * 3, axis=-1), affine), tmp_path / "images" / "v.nii.gz")
    out = segment(tmp_path, tiny_model, {}, "--z", "each", "--link", "0.5")
    before, path = cells(out), out / "v_labels.nii.gz"
    labels = nibabel.load(path)
    flipped = labels.as_reoriented(np.array([[0, -1], [1, 1], [2, 1]]))
    nibabel.save(flipped, tmp_path / "flipped.nii.gz")
    shutil.move(tmp_path / "flipped.nii.gz", path)
    run_measure(out)
    places = [name for name in before.columns if name.startswith(("centroid", "intensity", "mean"))]
    assert places
    after = cells(out).sort("centroid_x_px", "centroid_y_px")
    assert after.select(places).equals(before.sort("centroid_x_px", "centroid_y_px").select(places))
    moved = affine.copy()
    moved[0, 3] = 40
    nibabel.save(nibabel.Nifti1Image(np.asarray(labels.dataobj), moved), path)
    result = CliRunner().invoke(main, ["measure", str(out), "--workers", "1"])
    assert result.exit_code == 3
    assert "v_labels.nii.gz: its voxels are not those of the image: they begin at voxel 40, 0, 0" in result.stderr
