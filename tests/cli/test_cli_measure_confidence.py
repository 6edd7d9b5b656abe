"""``unetbio measure``: confidences, from probabilities, records or scores of objects."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from measured_folder import cells, run_measure, segment, segment_in_jobs
from numpy.typing import NDArray

from unetbio.cli.main import main
from unetbio.io import read_labels, write_labels
from unetbio.io.read import read_image


@pytest.fixture
def out(tmp_path: Path, discs: NDArray[Any], tiny_model: Path) -> Path:
    return segment_in_jobs(tmp_path, discs, tiny_model)


def forget_confidences(out: Path) -> None:
    """Make the provenances those of an earlier version, or of a model that gives no probabilities."""
    for path in out.glob("*_labels.json"):
        provenance = json.loads(path.read_text())
        for frame in provenance["frames"]:
            del frame["confidences"]
        path.write_text(json.dumps(provenance))


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
    # Scores belong to the cells of the model; cells that a person drew have none.
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
