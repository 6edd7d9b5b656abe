"""``unetbio evaluate`` from the outside: what it prints, writes, and how it ends."""

import csv
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result

from unetbio.cli.main import main
from unetbio.io import write_labels
from unetbio.metrics.instances import evaluate

TRUTH = np.zeros((20, 30), dtype=np.uint16)
TRUTH[2:10, 2:10] = 1
TRUTH[2:10, 14:24] = 2
MISSED = np.where(TRUTH == 2, 0, TRUTH)


@pytest.fixture(autouse=True)
def _log_level() -> Iterator[None]:
    yield
    logging.getLogger("unetbio").setLevel(logging.INFO)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Predictions of two images, as ``unetbio segment`` names them, and their truth."""
    found, true = tmp_path / "found", tmp_path / "true"
    write_labels(found / "a_labels.ome.tif", TRUTH)
    write_labels(found / "b_labels.ome.tif", MISSED)
    write_labels(true / "a.tif", TRUTH)
    write_labels(true / "b_mask.tif", TRUTH)
    return found, true


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


def test_prints_each_image_and_the_pooled_scores(folders: tuple[Path, Path]) -> None:
    result = run(*folders)
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0][:5] == ["image", "true", "found", "mean", "AP"]
    # Half of the two cells of the second image are found: pooled 3 of 4.
    assert [line[:4] for line in lines[1:]] == [
        ["a_labels.ome.tif", "2", "2", "1.000"],
        ["b_labels.ome.tif", "2", "1", "0.500"],
        ["pooled", "4", "3", "0.750"],
    ]
    assert f"{folders[0] / 'a_labels.ome.tif'} against {folders[1] / 'a.tif'}" in result.stderr


def test_writes_all_scores(folders: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "new" / "scores"
    result = run(*folders, "-o", out)
    assert result.stdout.splitlines()[-1] == f"2 pairs, 0 failed: {out / 'evaluation.csv'}"
    expected = evaluate([TRUTH, MISSED], [TRUTH, TRUTH])
    with open(out / "evaluation.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [Path(row["predicted"]).name for row in rows] == ["a_labels.ome.tif", "b_labels.ome.tif", "pooled"]
    for row, scores in zip(rows, [*expected.images, expected.pooled], strict=True):
        assert {name: float(row[name]) for name in scores} == scores
    content = json.loads((out / "evaluation.json").read_text())
    assert content["pooled"] == expected.pooled
    assert content["thresholds"][:2] == [0.5, 0.55]
    assert [image["AP@.5"] for image in content["images"]] == [1, 0.5]


def test_subfolders_that_differ_say_which_to_give(folders: tuple[Path, Path], tmp_path: Path) -> None:
    found, true = folders
    results = tmp_path / "results"
    results.mkdir()
    found.rename(results / "plate1")
    result = run(results, true)
    assert result.exit_code == 2
    assert "plate1/a_labels.ome.tif and a.tif agree by name" in result.stderr
    assert f"give {results / 'plate1'}\n" in result.stderr
    assert run(results / "plate1", true).exit_code == 0


def test_json_goes_to_stdout_alone(folders: tuple[Path, Path]) -> None:
    result = run(*folders, "--json", "--thresholds", "0.75,0.5", "--tolerance", "1")
    content = json.loads(result.stdout)
    assert content["thresholds"] == [0.5, 0.75]
    assert content["boundary_tolerance_px"] == 1
    assert content["pooled"]["mean_AP"] == 0.75
    assert content["failed"] == []


def test_leftovers_are_listed(folders: tuple[Path, Path]) -> None:
    found, true = folders
    write_labels(found / "c_labels.ome.tif", TRUTH)
    write_labels(true / "d.tif", TRUTH)
    result = run(found, true, "-q")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        f"unetbio: warning: {found / 'c_labels.ome.tif'} has no truth",
        f"unetbio: warning: {true / 'd.tif'} has no prediction",
    ]
    content = json.loads(run(found, true, "--json").stdout)
    assert content["predictions_without_truth"] == [str(found / "c_labels.ome.tif")]
    assert content["truth_without_prediction"] == [str(true / "d.tif")]


def test_images_and_pictures_beside_label_images_are_not_taken_for_them(folders: tuple[Path, Path]) -> None:
    found, true = folders
    tifffile.imwrite(found / "a.tif", np.full((20, 30), 900, dtype=np.uint16))
    tifffile.imwrite(found / "a_probabilities.ome.tif", np.zeros((20, 30), dtype=np.float32))
    result = run(found, true)
    assert result.stdout.splitlines()[-1].split()[:4] == ["pooled", "4", "3", "0.750"]
    assert "warning" not in result.stderr


def test_predictions_and_truth_in_one_folder(tmp_path: Path) -> None:
    write_labels(tmp_path / "a_labels.ome.tif", MISSED)
    write_labels(tmp_path / "a_gt.tif", TRUTH)
    assert run(tmp_path, tmp_path).stdout.splitlines()[-1].split()[:4] == ["pooled", "2", "1", "0.500"]


def test_two_files_belong_together_whatever_their_names(folders: tuple[Path, Path]) -> None:
    found, true = folders
    result = run(found / "b_labels.ome.tif", true / "a.tif")
    assert result.stdout.splitlines()[-1].split()[:4] == ["pooled", "2", "1", "0.500"]


def test_a_bad_file_is_one_line_and_the_rest_is_scored(folders: tuple[Path, Path], tmp_path: Path) -> None:
    found, true = folders
    write_labels(true / "b_mask.tif", TRUTH[:-1])
    result = run(found, true, "-o", tmp_path, "-q")
    assert result.exit_code == 3
    assert "has shape (20, 30) and the truth (19, 30)" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout.splitlines()[-2].split()[:4] == ["pooled", "2", "2", "1.000"]
    assert json.loads((tmp_path / "evaluation.json").read_text())["failed"][0]["reason"] == "wrong_shape"
    assert run(found, true, "--failed-ok").exit_code == 0


def test_when_nothing_can_be_scored_nothing_is_scored(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.full((8, 8), 0.5, np.float32))
    write_labels(tmp_path / "b.tif", TRUTH)
    result = run(tmp_path / "a.tif", tmp_path / "b.tif", "-o", tmp_path)
    assert result.exit_code == 3
    assert "a.tif: " in result.stderr
    assert json.loads((tmp_path / "evaluation.json").read_text())["pooled"] is None
    assert "pooled" not in result.stdout
    assert (tmp_path / "evaluation.csv").read_text() == "predicted,truth\n"


def test_masks_of_two_values_need_an_option(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "mask.tif", (TRUTH > 0).astype(np.uint8) * 255)
    write_labels(tmp_path / "truth.tif", TRUTH)
    refused = run(tmp_path / "mask.tif", tmp_path / "truth.tif")
    assert refused.exit_code == 3
    assert "--split-components" in refused.stderr
    taken = run(tmp_path / "mask.tif", tmp_path / "truth.tif", "--split-components")
    assert taken.stdout.splitlines()[-1].split()[:4] == ["pooled", "2", "2", "1.000"]


def test_time_points_are_images_of_their_own(tmp_path: Path) -> None:
    # Ids change between the time points; taken for a stack, each cell would match by half.
    series = np.stack([TRUTH, np.where(TRUTH > 0, 3 - TRUTH, 0)]).astype(np.uint16)
    write_labels(tmp_path / "series.ome.tif", series, axes="TYX")
    # A plain TIFF does not say what its pages are: those of the other file, if one says so.
    for name in ("truth.tif", "other.tif"):
        tifffile.imwrite(tmp_path / name, np.stack([TRUTH, TRUTH]))
    expected = ["pooled", "4", "4", "1.000"]
    for found, true in (("series.ome.tif", "truth.tif"), ("truth.tif", "series.ome.tif")):
        result = run(tmp_path / found, tmp_path / true)
        assert result.stdout.splitlines()[-1].split()[:4] == expected
    refused = run(tmp_path / "other.tif", tmp_path / "truth.tif")
    assert refused.exit_code == 3
    assert "other.tif: 2 pages" in refused.stderr
    result = run(tmp_path / "other.tif", tmp_path / "truth.tif", "--axes", "TYX")
    assert result.stdout.splitlines()[-1].split()[:4] == expected


def test_times_that_the_file_of_a_prediction_calls_otherwise(tmp_path: Path) -> None:
    """A file of ImageJ calls its pages channels, or sections where the program that wrote it said so."""
    series = np.stack([TRUTH, np.where(TRUTH > 0, 3 - TRUTH, 0)]).astype(np.uint16)
    write_labels(tmp_path / "truth.ome.tif", series, axes="TYX")
    tifffile.imwrite(tmp_path / "channels.tif", np.stack([TRUTH, TRUTH]), imagej=True)
    tifffile.imwrite(tmp_path / "sections.tif", np.stack([TRUTH, TRUTH]), imagej=True, metadata={"axes": "ZYX"})
    named = {"axes": "CYX", "Channel": {"Name": ["first", "second"]}}
    tifffile.imwrite(tmp_path / "named.ome.tif", np.stack([TRUTH, TRUTH]), metadata=named, photometric="minisblack")
    for name, options in (
        ("channels", ()),
        ("channels", ("--axes", "TYX")),
        ("sections", ("--axes", "TYX")),
        ("named.ome", ("--axes", "TYX")),
    ):
        result = run(tmp_path / f"{name}.tif", tmp_path / "truth.ome.tif", *options)
        assert result.exit_code == 0, result.stderr
        assert result.stdout.splitlines()[-1].split()[:4] == ["pooled", "4", "4", "1.000"]


def test_colours_of_a_prediction_are_no_times(tmp_path: Path) -> None:
    write_labels(tmp_path / "truth.ome.tif", np.stack([TRUTH] * 3).astype(np.uint16), axes="TYX")
    tifffile.imwrite(tmp_path / "rgb.tif", np.stack([TRUTH, TRUTH * 9, TRUTH * 5]).astype(np.uint8), photometric="rgb")
    refused = run(tmp_path / "rgb.tif", tmp_path / "truth.ome.tif", "--axes", "TYX")
    assert refused.exit_code == 3
    assert "rgb.tif: " in refused.stderr


def test_masks_that_do_not_lie_over_each_other_are_refused(tmp_path: Path) -> None:
    write_labels(tmp_path / "a.ome.tif", TRUTH, pixel_size_um={"Y": 0.5, "X": 0.5})
    write_labels(tmp_path / "b.ome.tif", TRUTH, pixel_size_um={"Y": 0.25, "X": 0.25})
    refused = run(tmp_path / "a.ome.tif", tmp_path / "b.ome.tif")
    assert refused.exit_code == 3
    assert "b.ome.tif: its pixel size is 0.25 x 0.25 um, that of the image 0.5 x 0.5 um" in refused.stderr


def test_masks_of_two_values_over_time(tmp_path: Path) -> None:
    series = np.stack([TRUTH, TRUTH]).astype(np.uint16)
    write_labels(tmp_path / "mask.ome.tif", (series > 0).astype(np.uint8) * np.uint8(255), axes="TYX")
    write_labels(tmp_path / "truth.ome.tif", series, axes="TYX")
    result = run(tmp_path / "mask.ome.tif", tmp_path / "truth.ome.tif", "--split-components")
    assert result.stdout.splitlines()[-1].split()[:4] == ["pooled", "4", "4", "1.000"]


def test_one_cell_that_moves_is_a_label_image(tmp_path: Path) -> None:
    # In each of three times one cell with the number 1, where it was not before; in the second it is missing.
    series = np.zeros((3, 20, 30), np.uint16)
    series[0, 2:6, 2:6] = series[2, 12:16, 20:24] = 1
    for name in ("found.ome.tif", "truth.ome.tif"):
        write_labels(tmp_path / name, series, axes="TYX")
    assert run(tmp_path / "found.ome.tif", tmp_path / "truth.ome.tif").stdout.splitlines()[-1].split()[:4] == [
        *("pooled", "2", "2", "1.000")
    ]
    # One of several cells, in two pieces.
    several = series.copy()
    several[1, 2:6, 2:6] = several[1, 12:16, 20:24] = 1
    several[0, 15:18, 2:6] = 2
    for name in ("found.ome.tif", "several.ome.tif"):
        write_labels(tmp_path / name, several, axes="TYX")
    assert run(tmp_path / "found.ome.tif", tmp_path / "several.ome.tif").exit_code == 0
    series[1, 2:6, 2:6] = series[1, 12:16, 20:24] = 1
    write_labels(tmp_path / "truth.ome.tif", series, axes="TYX")
    refused = run(tmp_path / "found.ome.tif", tmp_path / "truth.ome.tif")
    assert refused.exit_code == 3
    assert "truth.ome.tif: the mask holds only 0 and 1" in refused.stderr


def test_rates_without_true_cells_are_left_out(tmp_path: Path) -> None:
    write_labels(tmp_path / "a.tif", np.zeros_like(TRUTH))
    result = run(tmp_path / "a.tif", tmp_path / "a.tif", "-o", tmp_path / "out")
    assert result.stdout.splitlines()[1].split()[7:9] == ["-", "-"]
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert content["pooled"]["merges_per_100"] is None
    assert content["pooled"]["mean_AP"] == 1
    with open(tmp_path / "out" / "evaluation.csv", newline="") as stream:
        assert next(csv.DictReader(stream))["merges_per_100"] == ""


@pytest.mark.parametrize("text", ["", "half", "0.5,", "0,1", "1.5"])
def test_thresholds_that_are_none_are_refused(folders: tuple[Path, Path], text: str) -> None:
    result = run(*folders, f"--thresholds={text}")
    assert result.exit_code == 2
    assert f"--thresholds {text}: needs numbers above 0 and at most 1" in result.stderr


def test_a_tolerance_that_is_none_is_refused(folders: tuple[Path, Path]) -> None:
    result = run(*folders, "--tolerance=-1")
    assert result.exit_code == 2
    assert "boundary tolerance -1" in result.stderr


def test_without_pairs_there_is_nothing_to_do(tmp_path: Path) -> None:
    for name in ("found", "true"):
        write_labels(tmp_path / name / f"{name}.tif", TRUTH)
    result = run(tmp_path / "found", tmp_path / "true")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    missing = run(tmp_path / "found", tmp_path / "nowhere")
    assert missing.exit_code == 2
    assert "does not exist" in missing.stderr


def test_predictions_hold_the_numbers_of_classes_whatever_the_truth_holds(tmp_path: Path) -> None:
    classes = np.minimum(TRUTH, 2).astype(np.uint8)
    values = np.array([0, 100, 255], np.uint8)
    tifffile.imwrite(tmp_path / "truth.tif", values[classes])
    tifffile.imwrite(tmp_path / "numbers.tif", classes)
    options = (tmp_path / "truth.tif", "--classes", "--class-values", "0,100,255")
    assert run(tmp_path / "numbers.tif", *options).stdout.splitlines()[-1].split()[1] == "1.000"
    tifffile.imwrite(tmp_path / "values.tif", values[classes])
    refused = run(tmp_path / "values.tif", *options)
    assert refused.exit_code == 3
    message = "values.tif: holds 255, which is none of the classes 0 to 2: a prediction holds the number of the class"
    assert message in refused.stderr


def test_noisy_predictions_of_classes_are_scored(tmp_path: Path) -> None:
    """Classes of pixels may be as noisy as an image; one that is given by mistake holds more numbers."""
    classes = np.repeat([0, 1, 2], 40)[:, np.newaxis].repeat(80, axis=1).astype(np.uint8)
    is_noise = (np.random.default_rng(0).random(classes.shape) < 0.04) & (classes > 0)
    image = np.random.default_rng(0).poisson(100, classes.shape).astype(np.uint8)
    for name, mask in (("truth", classes), ("noisy", np.where(is_noise, 3 - classes, classes)), ("image", image)):
        tifffile.imwrite(tmp_path / f"{name}.tif", mask)
    result = run(tmp_path / "noisy.tif", tmp_path / "truth.tif", "--classes", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["pooled"]["pixel_accuracy"] == pytest.approx(1 - is_noise.mean())
    refused = run(tmp_path / "image.tif", tmp_path / "truth.tif", "--classes")
    assert (refused.exit_code, "image.tif: the mask looks like an image" in refused.stderr) == (3, True)
