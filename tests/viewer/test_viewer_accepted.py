"""Accepted images of ``unetbio view``: the table follows corrections and other views; the command trains on it."""

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tifffile
from click.testing import CliRunner
from page_client import Page, index_of, serve
from tiny_model import three_discs

from unetbio.cli.main import main
from unetbio.errors import EnvironmentStoppedError
from unetbio.io import read_labels, write_labels
from unetbio.models.model_file import load_model, save_model
from unetbio.training.data.pairs import find_pairs

CHANGED_ELSEWHERE = "another program has changed what is accepted here: load the image again to see it"


@pytest.fixture
def other(page: Page, results: Path) -> Iterator[Page]:
    """A second view of the folder."""
    with serve(results) as other:
        yield other


def masks_to_train_on(results: Path) -> list[str]:
    return sorted(pair.mask.name for pair in find_pairs([results / "corrections.csv"]).training)


def listed(page: Page, name: str) -> bool:
    """Whether the list of a page has an image as accepted."""
    accepted: bool = page.get("images")["images"][index_of(page, name)]["is_accepted"]
    return accepted


# --- Corrections of accepted images -----------------------------------------------------------------------------------


def test_an_accepted_image_that_is_corrected_stays_in_the_training(
    page: Page, results: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index, table = index_of(page, "x.tif"), results / "corrections.csv"
    for name in ("x.tif", "y.tif"):
        page.post(f"image/{index_of(page, name)}/accept-image", accept=True)
    hashes = {pl.read_csv(table)["label_hash"][0]}
    for what, body in (("correct", {"kind": "delete", "ids": [1]}), ("undo", {}), ("redo", {})):
        assert page.post(f"image/{index}/{what}", **body)["is_accepted"]
        assert masks_to_train_on(results) == ["x_labels.ome.tif", "y_labels.ome.tif"]
        hashes.add(pl.read_csv(table)["label_hash"][0])
    assert len(hashes) == 2
    assert "left out" not in caplog.text


def test_a_mask_that_another_program_changes_is_accepted_anew(page: Page, results: Path) -> None:
    index, mask = index_of(page, "x.tif"), results / "x_labels.ome.tif"
    page.post(f"image/{index}/accept-image", accept=True)
    write_labels(mask, np.roll(read_labels(mask), 3, axis=0))
    assert not page.get(f"image/{index}")["is_accepted"]
    page.post(f"image/{index}/accept-image", accept=True)
    assert masks_to_train_on(results) == ["x_labels.ome.tif"]


def test_a_correction_is_saved_though_the_table_is_not_and_the_table_follows(
    page: Page, results: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*arguments: object) -> None:
        raise EnvironmentStoppedError("cannot write corrections.csv: No space left on device; free space")

    index = index_of(page, "x.tif")
    page.post(f"image/{index}/accept-image", accept=True)
    with monkeypatch.context() as patch:
        patch.setattr("unetbio.viewer.folder.write_text", refuse)
        page.post(f"image/{index}/correct", kind="delete", ids=[1])
    assert "the mask is saved, and its hash in corrections.csv is not: cannot write" in caplog.text
    assert page.get("training")["accepted"] == 1
    assert masks_to_train_on(results) == ["x_labels.ome.tif"]


# --- Two views of a folder --------------------------------------------------------------------------------------------


def test_two_views_keep_the_images_that_each_accepts(page: Page, other: Page, results: Path) -> None:
    page.post(f"image/{index_of(page, 'x.tif')}/accept-image", accept=True)
    other.post(f"image/{index_of(other, 'y.tif')}/accept-image", accept=True)
    assert masks_to_train_on(results) == ["x_labels.ome.tif", "y_labels.ome.tif"]
    for each in (page, other):
        assert listed(each, "x.tif")
        assert listed(each, "y.tif")
        assert each.get("training")["accepted"] == 2
    # Taken back in the view that did not accept it, and corrected there.
    other.post(f"image/{index_of(other, 'x.tif')}/accept-image", accept=False)
    other.post(f"image/{index_of(other, 'y.tif')}/correct", kind="delete", ids=[1])
    page.post(f"image/{index_of(page, 'z.ome.tif')}/accept-image", accept=True)
    assert masks_to_train_on(results) == ["y_labels.ome.tif", "z_labels.ome.tif"]
    assert page.get("training") == other.get("training")


def test_two_views_keep_the_cells_that_each_accepts(page: Page, other: Page, results: Path) -> None:
    index = index_of(page, "x.tif")
    seen = other.get(f"image/{index}")["version"]
    page.post(f"image/{index}/accept", ids=[1, 2], accept=True)
    body = {"version": seen, "plane": 0, "ids": [3], "accept": True}
    assert other.ask("POST", f"image/{index}/accept", body) == (422, {"error": CHANGED_ELSEWHERE})
    assert other.get(f"image/{index}")["accepted"] == {"0": [1, 2]}
    other.post(f"image/{index}/accept", ids=[3], accept=True)
    assert json.loads((results / "x_review.json").read_text())["accepted"] == {"0": [1, 2, 3]}


@pytest.mark.parametrize("what", ["accept", "correct", "accept-image", "undo"])
def test_no_change_in_another_view_takes_an_acceptance_back_unseen(
    page: Page, other: Page, results: Path, what: str
) -> None:
    index, mask = index_of(page, "x.tif"), results / "x_labels.ome.tif"
    before = mask.read_bytes()
    seen = other.post(f"image/{index}/accept", ids=[2], accept=True)["version"]
    page.post(f"image/{index}/accept-image", accept=True)
    body = {"version": seen, "plane": 0, "kind": "delete", "ids": [1], "accept": False}
    assert other.ask("POST", f"image/{index}/{what}", body) == (422, {"error": CHANGED_ELSEWHERE})
    assert json.loads((results / "x_review.json").read_text())["is_accepted"]
    assert mask.read_bytes() == before
    assert masks_to_train_on(results) == ["x_labels.ome.tif"]
    # Loaded again, it shows what was accepted, and can be changed.
    found = other.get(f"image/{index}")
    assert (found["is_accepted"], found["accepted"]) == (True, {"0": [2]})
    other.post(f"image/{index}/correct", kind="delete", ids=[1])
    assert masks_to_train_on(results) == ["x_labels.ome.tif"]


# --- The command that trains ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "new"),
    [
        ((), "mine.safetensors"),
        (("mine.safetensors",), "mine2.safetensors"),
        (("mine.checkpoint.safetensors",), "mine2.safetensors"),
        (("mine.png",), "mine2.safetensors"),
        (("mine.safetensors", "mine2.checkpoint.safetensors"), "mine3.safetensors"),
    ],
)
def test_the_command_trains_a_model_of_a_name_that_is_free(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], new: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in there:
        (tmp_path / name).touch()
    command = shlex.split(page.get("training")["command"])
    assert command[command.index("-o") + 1] == new


def test_the_second_round_does_not_replace_the_model_that_it_begins_with(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the page runs in another folder than the training before."""
    (tmp_path / "images").mkdir()
    (tmp_path / "models").mkdir()
    tifffile.imwrite(tmp_path / "images" / "x.tif", three_discs())
    model = shutil.copy(tiny_model, tmp_path / "models" / "mine.safetensors")
    monkeypatch.chdir(tmp_path)
    line = ("segment", "images", "-o", "results", "-m", str(model), "--normalize", "0,200")
    result = CliRunner().invoke(main, [*line, "--workers", "1", "--overlays", "none"])
    assert result.exit_code == 0, result.stderr
    with serve(Path("results")) as page:
        command = page.get("training")["command"]
    assert command == f"unetbio train results/corrections.csv --start {model} -o mine2.safetensors --steps 1000"


def test_a_model_that_is_called_as_a_shipped_one_is_not_taken_for_it(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings that were copied from those of a shipped model hold its name."""
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("x.tif", three_discs())
    loaded, own = load_model(tiny_model), tmp_path / "mine.safetensors"
    save_model(own, loaded.info.model_copy(update={"name": "nuclei"}), loaded.network)
    for model in (str(own), "nuclei"):
        line = ("segment", "x.tif", "-o", "results", "-m", model, "--diameter", "model", "--workers", "1")
        result = CliRunner().invoke(main, [*line, "--overlays", "none"])
        assert result.exit_code == 0, result.stderr
        with serve(Path("results")) as page:
            command = shlex.split(page.get("training")["command"])
        assert command[command.index("--start") + 1] == model


@pytest.mark.parametrize(("made_of", "start"), [("nuclei", "nuclei"), ("mine", "MODEL")])
def test_integers_go_on_from_the_model_that_they_were_made_of(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, made_of: str, start: str
) -> None:
    """A shipped one of an earlier version has another hash than that of today."""
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("x.tif", three_discs())
    own = shutil.copy(tiny_model, tmp_path / "mine.int8.safetensors")
    line = ("segment", "x.tif", "-o", "results", "-m", str(own), "--diameter", "model", "--workers", "1")
    result = CliRunner().invoke(main, [*line, "--overlays", "none"])
    assert result.exit_code == 0, result.stderr
    loaded = load_model(tiny_model)
    quantized = {"model": made_of, "model_sha256": "0" * 64}
    save_model(own, loaded.info.model_copy(update={"training": {"quantized": quantized}}), loaded.network)
    with serve(Path("results")) as page:
        command = shlex.split(page.get("training")["command"])
    assert command[command.index("--start") + 1] == start
