"""The server of ``unetbio view``: what it answers, and what it saves."""

import concurrent.futures
import contextlib
import json
import socket
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import polars as pl
import pytest
import tifffile
from click.testing import CliRunner
from numpy.typing import NDArray
from page_client import Page, index_of, serve

from unetbio.cli.main import main
from unetbio.errors import EnvironmentStoppedError, UsageError
from unetbio.io import read_labels, write_labels
from unetbio.provenance import read_provenance, write_provenance
from unetbio.results.journal import hold_output
from unetbio.settings.segmentation import Settings
from unetbio.settings.training import TrainingConfig
from unetbio.training.data.examples import load_examples
from unetbio.training.data.pairs import find_pairs
from unetbio.viewer.server import Viewer, open_viewer

Array = NDArray[Any]
SQUARE = [[60.0, 40.0], [72.0, 40.0], [72.0, 52.0], [60.0, 52.0]]


def run(*line: object) -> None:
    result = CliRunner().invoke(main, [str(word) for word in line])
    assert result.exit_code == 0, result.stderr


# --- What is shown ----------------------------------------------------------------------------------------------------


def test_images_come_in_the_order_of_the_doubt_of_the_model(page: Page) -> None:
    images = page.get("images")["images"]
    doubts = [image["doubtful"] for image in images]
    assert doubts == sorted(doubts, reverse=True)
    names = [image["name"] for image in images]
    assert names.index("y.tif") < names.index("x.tif")
    assert not any(image["is_edited"] or image["is_accepted"] for image in images)


def test_the_page_and_all_that_it_loads_are_served_and_nothing_comes_from_elsewhere(page: Page) -> None:
    status, text = page.ask("GET", "")
    assert status == 200
    names = [word.split('"')[1] for word in text.decode().split() if word.startswith(("src=", "href="))]
    loaded = [name for name in names if not name.startswith("data:")]
    scripts = {"app.js", "layer.js", "server.js", "table.js", "openseadragon.min.js"}
    assert set(loaded) == {*scripts, "style.css"}
    for name in (*loaded, "openseadragon.LICENSE.txt"):
        status, content = page.ask("GET", name)
        assert status == 200
        assert content
        # OpenSeadragon knows addresses of formats that are not used here; the policy of the page forbids to load them.
        assert b"http" not in content or name.startswith("openseadragon")


def test_tiles_show_the_image_and_its_cells(page: Page, results: Path) -> None:
    index = index_of(page, "x.tif")
    found = page.get(f"image/{index}")
    assert (found["width"], found["height"], found["times"], found["sections"]) == (80, 64, 1, 1)
    assert [channel["is_shown"] for channel in found["channels"]] == [True]
    picture = imagecodecs.jpeg8_decode(page.get(f"image/{index}/tile/0/0/0_0?layers=0:10:200:ffffff"))
    image = tifffile.imread(results.parent / "images" / "x.tif")
    assert abs(picture.astype(int)[image == 200].mean() - 255) < 6
    assert picture[image == 10].mean() < 6
    red = imagecodecs.jpeg8_decode(page.get(f"image/{index}/tile/0/0/0_0?layers=0:10:200:ff0000"))
    assert red[15, 15].tolist() == pytest.approx([255, 0, 0], abs=40)
    np.testing.assert_array_equal(page.ids(index, 0), read_labels(results / "x_labels.ome.tif"))


def test_rows_are_those_of_the_table(page: Page, results: Path) -> None:
    columns = page.get(f"image/{index_of(page, 'x.tif')}/rows/0")["columns"]
    table = pl.read_csv(results / "cells.csv").filter(pl.col("path") == "x.tif")
    assert columns["label"] == table["label"].to_list()
    for name in ("area_px", "confidence", "centroid_x_px"):
        assert columns[name] == pytest.approx(table[name].to_list(), rel=1e-4)


def test_scores_of_objects_are_confidences_also_of_one_time_of_a_time_lapse(
    results: Path, tiny_model: Path, tmp_path: Path
) -> None:
    options = ("--t", 1, "--normalize", "0,200", "--overlays", "none")
    run("segment", results.parent / "images" / "z.ome.tif", "-o", tmp_path, "-m", tiny_model, *options)
    record = read_provenance(tmp_path / "z_labels.json")
    assert record is not None
    # As of a model that finds objects: their table has the scores.
    frames = tuple(frame.model_copy(update={"confidences": ()}) for frame in record.frames)
    write_provenance(tmp_path / "z_labels.json", record.model_copy(update={"frames": frames}))
    (tmp_path / "z_objects.csv").write_text("label,class,score\n1,cell,0.5\n2,cell,0.6\n3,cell,0.7\n")
    with serve(tmp_path) as page:
        assert page.get("image/0/rows/0")["columns"]["confidence"] == [0.5, 0.6, 0.7]


def test_frames_of_a_time_lapse_are_planes(page: Page, results: Path) -> None:
    index = index_of(page, "z.ome.tif")
    labels = read_labels(results / "z_labels.ome.tif")
    for plane in (0, 1):
        np.testing.assert_array_equal(page.ids(index, plane), labels[plane])
    page.post(f"image/{index}/correct", plane=1, kind="delete", ids=[1])
    now = read_labels(results / "z_labels.ome.tif")
    np.testing.assert_array_equal(now[0], labels[0])
    np.testing.assert_array_equal(now[1], np.where(labels[1] == 1, 0, labels[1]))


@pytest.mark.parametrize(
    "path",
    [
        "image/99",
        "image/0/tile/9/0/0_0?layers=0:0:1:ffffff",
        "image/0/tile/0/9/0_0?layers=0:0:1:ffffff",
        "image/0/tile/0/0/9_0?layers=0:0:1:ffffff",
        "image/0/tile/0/0/0_0?layers=7:0:1:ffffff",
        "image/0/tile/0/0/0_0?layers=0:2:1:ffffff",
        "image/0/tile/0/0/0_0?layers=0:nan:1:ffffff",
        "image/0/tile/0/0/0_0",
        "image/0/labels/9/0/0_0",
        "image/0/rows/9",
    ],
)
def test_what_is_not_there_is_said(page: Page, path: str) -> None:
    status, answer = page.ask("GET", path)
    assert status == 422
    assert answer["error"]


# --- Corrections ------------------------------------------------------------------------------------------------------


def test_corrections_are_saved_measured_and_taken_back(page: Page, results: Path) -> None:
    index, path = index_of(page, "x.tif"), results / "x_labels.ome.tif"
    before = read_labels(path)
    answer = page.post(f"image/{index}/correct", kind="draw", points=SQUARE)
    top, bottom, left, right = answer["box"]
    assert (top, left) == (40, 60)
    assert (bottom, right) in ((52, 72), (53, 73))
    assert answer["cells"] == [4]
    assert answer["is_edited"]
    drawn = read_labels(path)
    assert (drawn[40:52, 60:72] == 4).all()
    np.testing.assert_array_equal(np.where(drawn == 4, 0, drawn), before)
    columns = page.get(f"image/{index}/rows/0")["columns"]
    assert columns["label"] == [1, 2, 3, 4]
    assert columns["area_px"][3] == 144
    assert [value is None for value in columns["confidence"]] == [False, False, False, True]
    page.post(f"image/{index}/correct", kind="delete", ids=[1])
    assert np.unique(read_labels(path)).tolist() == [0, 2, 3, 4]
    run("measure", results)
    table = pl.read_csv(results / "cells.csv").filter(pl.col("path") == "x.tif")
    assert table["label"].to_list() == [2, 3, 4]
    summary = pl.read_csv(results / "summary.csv").filter(pl.col("path") == "x.tif")
    assert "edited" in summary["warnings"][0]
    page.post(f"image/{index}/undo")
    np.testing.assert_array_equal(read_labels(path), drawn)
    answer = page.post(f"image/{index}/undo")
    assert not answer["is_edited"]
    assert (answer["can_undo"], answer["can_redo"]) == (0, 2)
    np.testing.assert_array_equal(read_labels(path), before)
    page.post(f"image/{index}/redo")
    np.testing.assert_array_equal(read_labels(path), drawn)
    status, answer = page.ask("POST", f"image/{index}/undo", {"version": 0})
    assert (status, answer["error"]) == (
        422,
        "this mask was corrected in another window: load the image again to see it",
    )


def test_accepted_cells_and_images_are_remembered(page: Page, results: Path, tiny_model: Path) -> None:
    index = index_of(page, "x.tif")
    assert page.post(f"image/{index}/accept", ids=[2, 1], accept=True)["accepted"] == {"0": [1, 2]}
    assert page.post(f"image/{index}/accept", ids=[2], accept=False)["accepted"] == {"0": [1]}
    assert page.post(f"image/{index}/accept-image", accept=True)["is_accepted"]
    # A cell that is corrected is no longer the one that was accepted.
    assert page.post(f"image/{index}/correct", kind="delete", ids=[1])["accepted"] == {"0": []}
    assert page.post(f"image/{index}/undo")["accepted"] == {"0": [1]}
    with open_viewer(results, None) as again:
        images = {image.name: image for image in again.answers._images}
        assert images["x.tif"].is_accepted
        assert not images["y.tif"].is_accepted
        assert json.loads(zlib.decompress(again.answers.get(f"image/{index}").body))["accepted"] == {"0": [1]}
    training = page.get("training")
    assert (training["accepted"], training["waiting"]) == (1, 0)
    table = results / "corrections.csv"
    command = f"unetbio train {table} --start {tiny_model} -o mine.safetensors --steps 1000"
    assert training["command"] == command
    (pair,) = find_pairs([table], None, Settings()).training
    assert pair.image == (results.parent / "images" / "x.tif").resolve()
    assert pair.mask == results / "x_labels.ome.tif"
    page.post(f"image/{index}/accept-image", accept=False)
    assert table.read_text().count("\n") == 1


def test_an_accepted_mask_that_was_made_again_has_to_be_accepted_again(page: Page, results: Path) -> None:
    page.post(f"image/{index_of(page, 'x.tif')}/accept-image", accept=True)
    write_labels(results / "x_labels.ome.tif", np.roll(read_labels(results / "x_labels.ome.tif"), 3, axis=0))
    with open_viewer(results, None) as again:
        assert not any(image.is_accepted for image in again.answers._images)
    assert (results / "corrections.csv").read_text().count("\n") == 1


def test_training_leaves_out_masks_that_are_no_longer_those_that_were_accepted(
    page: Page, results: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("x.tif", "y.tif"):
        page.post(f"image/{index_of(page, name)}/accept-image", accept=True)
    table, mask = results / "corrections.csv", results / "x_labels.ome.tif"
    assert len(find_pairs([table]).training) == 2
    assert caplog.text == ""
    write_labels(mask, np.roll(read_labels(mask), 3, axis=0))
    assert [pair.mask.name for pair in find_pairs([table]).training] == ["y_labels.ome.tif"]
    assert f"{table}: left out are masks that were made again or changed since they were accepted" in caplog.text
    assert str(mask) in caplog.text
    write_labels(results / "y_labels.ome.tif", np.zeros_like(read_labels(mask)))
    with pytest.raises(UsageError, match="no mask is the one that was accepted: accept masks in unetbio view"):
        find_pairs([table])


def test_training_joins_the_files_of_an_image(tmp_path: Path, tiny_model: Path, discs: Array) -> None:
    """A plate with a file for each channel and section: the maximum of the channel that was segmented."""
    plate, out = tmp_path / "plate", tmp_path / "results"
    for section in (1, 2):
        folder = plate / "TimePoint_1" / f"ZStep_{section}"
        folder.mkdir(parents=True)
        for field in (1, 2):
            tifffile.imwrite(folder / f"P_A01_s{field}_w1.TIF", np.zeros_like(discs))
            tifffile.imwrite(folder / f"P_A01_s{field}_w2.TIF", np.roll(discs, section, axis=1))
    (plate / "TimePoint_1" / "P.HTD").write_text('"WaveName1", "GFP"\n"WaveName2", "DAPI"\n')
    options = ("--channel", "DAPI", "--z", "max", "--normalize", "0,200", "--workers", "1", "--overlays", "none")
    run("segment", plate, "-o", out, "-m", tiny_model, *options)
    with serve(out) as page:
        for index in range(2):
            page.post(f"image/{index}/accept-image", accept=True)
    examples = load_examples(find_pairs([out / "corrections.csv"]).training, TrainingConfig())
    assert [example.channel_names for example in examples] == [("DAPI",)] * 2
    for example in examples:
        np.testing.assert_array_equal(
            example.image[0], np.maximum(np.roll(discs, 1, axis=1), np.roll(discs, 2, axis=1))
        )
        assert example.label_image.max() == 3


def test_a_table_of_an_earlier_version_gets_the_hashes(page: Page, results: Path) -> None:
    table, index = results / "corrections.csv", index_of(page, "x.tif")
    page.post(f"image/{index}/accept-image", accept=True)
    before = pl.read_csv(table, infer_schema=False)
    before.drop("label_hash").write_csv(table)
    with open_viewer(results, None):
        pass
    assert pl.read_csv(table, infer_schema=False).equals(before)


def test_columns_and_rows_of_users_stay_in_the_table_to_train_on(page: Page, results: Path, tmp_path: Path) -> None:
    table, index = results / "corrections.csv", index_of(page, "x.tif")
    page.post(f"image/{index}/accept-image", accept=True)
    page.post(f"image/{index_of(page, 'y.tif')}/accept-image", accept=True)
    rows = pl.read_csv(table, infer_schema=False).with_columns(split=pl.Series(["test", "train"]))
    own = tmp_path / "own.tif"
    own.touch()
    more = rows.head(1).with_columns(mask=pl.lit(str(own)), split=pl.lit("val"))
    pl.concat([rows, more]).write_csv(table)
    page.post(f"image/{index_of(page, 'y.tif')}/accept-image", accept=False)
    with open_viewer(results, None):
        pass
    kept = pl.read_csv(table, infer_schema=False).select("mask", "split").rows()
    assert set(kept) == {("x_labels.ome.tif", "test"), (str(own), "val")}


def test_a_table_of_another_kind_is_left_alone_and_said(
    page: Page, results: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = results / "corrections.csv"
    table.write_text("well;dose\nA1;5\n")
    with open_viewer(results, None):
        pass
    assert "is not the table of accepted images and is left as it is: rename it" in caplog.text
    assert page.post("image/0/accept-image", accept=True)["is_accepted"]
    assert table.read_text() == "well;dose\nA1;5\n"
    status, answer = page.ask("GET", "training")
    assert status == 422
    assert "is not the table of accepted images" in answer["error"]


def test_an_accepted_image_is_listed_once_the_table_is_written(
    page: Page, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise EnvironmentStoppedError("cannot write corrections.csv: No space left on device; free space")

    with monkeypatch.context() as patch:
        patch.setattr("unetbio.viewer.folder.write_text", refuse)
        body = {"version": page.get("image/0")["version"], "accept": True}
        status, _ = page.ask("POST", "image/0/accept-image", body)
        assert status == 423
        assert page.get("training")["accepted"] == 0
    assert page.get("training")["accepted"] == 1
    assert (results / "corrections.csv").read_text().count("\n") == 2


def test_requests_at_once_do_not_find_the_folder_in_use_by_themselves(page: Page) -> None:
    def ask(number: int) -> str:
        if number % 10 == 0:
            page.post(f"image/{number // 10}/accept-image", accept=True)
        return str(page.get("images")["read_only"])

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(30))) == {""}
    assert page.get("training")["accepted"] == 3


@pytest.mark.parametrize("has_review", [True, False])
def test_a_new_cell_does_not_get_the_number_of_a_deleted_one(results: Path, *, has_review: bool) -> None:
    (results / "x_objects.csv").write_text("label,class\n1,lymphocyte\n2,lymphocyte\n3,tumour\n")
    for kind, what in (("delete", {"ids": [3]}), ("draw", {"points": SQUARE})):
        # Started anew in between: the number is known from the review, or from the table of classes.
        with open_viewer(results, None) as viewer:
            index = next(i for i, image in enumerate(viewer.answers._images) if image.name == "x.tif")
            document = viewer.answers._document(index)
            body = {"version": document.version, "plane": 0, "kind": kind, **what}
            answer = viewer.answers.post(f"image/{index}/correct", json.dumps(body).encode())
            assert answer.status == 200
        (results / ("x_review.json" if not has_review else "x_objects.csv")).unlink(missing_ok=True)
    assert json.loads(zlib.decompress(answer.body))["cells"] == [4]


def test_a_mask_that_another_program_changes_is_not_overwritten(page: Page, results: Path) -> None:
    index, path = index_of(page, "x.tif"), results / "x_labels.ome.tif"
    version = page.get(f"image/{index}")["version"]
    other = np.roll(read_labels(path), 3, axis=0)
    write_labels(path, other)
    body = {"version": version, "plane": 0, "kind": "delete", "ids": [1]}
    status, answer = page.ask("POST", f"image/{index}/correct", body)
    assert (status, answer["error"]) == (422, "another program has changed this mask: load the image again to see it")
    np.testing.assert_array_equal(read_labels(path), other)
    assert page.get(f"image/{index}")["is_edited"]
    np.testing.assert_array_equal(page.ids(index, 0), other)
    assert page.get(f"image/{index}/rows/0")["columns"]["confidence"] == [None] * 3
    page.post(f"image/{index}/correct", kind="delete", ids=[1])
    np.testing.assert_array_equal(read_labels(path), np.where(other == 1, 0, other))


def test_while_a_run_holds_the_folder_nothing_is_changed(page: Page, results: Path) -> None:
    index, path = index_of(page, "x.tif"), results / "x_labels.ome.tif"
    before = path.read_bytes()
    with hold_output(results, None):
        found = page.get(f"image/{index}")
        assert "in use by another unetbio run" in found["read_only"]
        body = {"version": found["version"], "plane": 0, "kind": "delete", "ids": [1]}
        status, answer = page.ask("POST", f"image/{index}/correct", body)
    assert status == 423
    assert "in use by another unetbio run" in answer["error"]
    assert path.read_bytes() == before
    np.testing.assert_array_equal(page.ids(index, 0), read_labels(path))
    assert page.get(f"image/{index}")["read_only"] == ""
    page.post(f"image/{index}/correct", kind="delete", ids=[1])


def test_a_mask_that_cannot_be_written_stays_as_it_was(
    page: Page, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise EnvironmentStoppedError("cannot write x_labels.ome.tif: No space left on device; free space")

    index = index_of(page, "x.tif")
    before, version = page.ids(index, 0), page.get(f"image/{index}")["version"]
    monkeypatch.setattr("unetbio.results.corrections.write_labels", refuse)
    body = {"version": version, "plane": 0, "kind": "delete", "ids": [1]}
    status, answer = page.ask("POST", f"image/{index}/correct", body)
    assert status == 423
    assert "No space left" in answer["error"]
    np.testing.assert_array_equal(page.ids(index, 0), before)
    assert page.get(f"image/{index}")["can_undo"] == 0


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "explode"},
        {"kind": ["delete"]},
        {"kind": "delete", "ids": "1"},
        {"kind": "delete", "ids": [True]},
        {"kind": "delete", "ids": [-1]},
        {"kind": "delete", "ids": [1e9]},
        {"kind": "delete", "ids": [1], "plane": -1},
        {"kind": "delete", "ids": [1], "plane": 3},
        {"kind": "delete", "ids": [1], "version": "0"},
        {"kind": "draw", "points": {"x": 1}},
        {"kind": "draw", "points": [[1, 2], [3]]},
        {"kind": "split", "points": 7},
    ],
)
def test_a_correction_that_makes_no_sense_is_refused(page: Page, results: Path, body: dict[str, Any]) -> None:
    index = index_of(page, "x.tif")
    version = page.get(f"image/{index}")["version"]
    status, answer = page.ask("POST", f"image/{index}/correct", {"version": version, "plane": 0, **body})
    assert status == 422, answer
    assert answer["error"]
    assert not page.get(f"image/{index}")["is_edited"]


def test_an_image_that_is_gone_is_said(page: Page, results: Path) -> None:
    image = results.parent / "images" / "x.tif"
    moved = image.rename(image.with_suffix(".away"))
    try:
        status, answer = page.ask("GET", f"image/{index_of(page, 'x.tif')}")
    finally:
        moved.rename(image)
    assert status == 422
    assert "put it back to see its mask" in answer["error"]


# --- The command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_the_address_and_serves_until_interrupted(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def open_page(address: str) -> None:
        path = Path(address.removeprefix("file://"))
        assert path.stat().st_mode & 0o077 == 0
        assert path.parent.stat().st_mode & 0o077 == 0
        opened.extend([address, path.read_text()])

    monkeypatch.setattr("webbrowser.open", open_page)

    def serve(viewer: Viewer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Viewer, "serve_forever", serve)
    result = CliRunner().invoke(main, ["view", str(results), "--open"])
    assert result.exit_code == 0, result.stderr
    address = result.stdout.strip()
    assert address.startswith("http://127.0.0.1:")
    # Other users can read the command line of the browser: the secret is in a private file, which is removed.
    argument, content = opened
    assert argument.startswith("file://")
    assert address not in argument
    assert f"url={address}" in content
    assert not Path(argument.removeprefix("file://")).exists()
    port = address.split(":")[2].split("/")[0]
    assert f"ssh -L {port}:127.0.0.1:{port}" in result.stderr


def test_the_command_refuses_a_port_in_use_and_a_folder_without_masks(results: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(main, ["view", str(results), "--port", str(port)])
    assert result.exit_code == 4
    assert f"--port {port}: Address already in use; give another number, or leave --port out" in result.stderr
    result = CliRunner().invoke(main, ["view", str(tmp_path)])
    assert result.exit_code == 2
    assert "holds no label images of unetbio segment" in result.stderr
    with pytest.raises(UsageError), open_viewer(tmp_path / "missing"):
        pass


def test_the_command_limits_the_time_of_decoding(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []

    def limit(seconds: float) -> contextlib.AbstractContextManager[None]:
        limits.append(seconds)
        return contextlib.nullcontext()

    monkeypatch.setattr("unetbio.io.decoding.decode_elsewhere", limit)
    monkeypatch.setattr(Viewer, "serve_forever", lambda viewer: None)
    for options in ((), ("--decode-timeout", 7)):
        run("view", results, *options)
    assert limits == [300, 7]
