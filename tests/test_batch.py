"""Many images: what is written, kept, made again, and named when it fails."""

import csv
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tifffile
from numpy.typing import NDArray

from unetbio.batch.gather import Summary, measure_folder
from unetbio.batch.journal import Part, read_journals
from unetbio.batch.plan import found_items, read_table, select_part
from unetbio.batch.results import LabelStack, Outcome
from unetbio.batch.resume import Policy
from unetbio.batch.run import BatchOptions, run_batch
from unetbio.errors import EnvironmentStoppedError, UsageError
from unetbio.files import lock
from unetbio.io import read_labels, write_labels
from unetbio.labels import label_hash
from unetbio.model_file import Model, load_model
from unetbio.provenance import read_provenance
from unetbio.segmentation import Segmenter
from unetbio.settings import Settings

Array = NDArray[Any]
Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return load_model(tiny_model)


@pytest.fixture(scope="module")
def segmenter(model: Model) -> Segmenter:
    return Segmenter(model, "cpu")


@pytest.fixture
def images(tmp_path: Path, discs: Array) -> Path:
    """Three good images in two folders, and one that is none."""
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    tifffile.imwrite(folder / "a.tif", discs)
    tifffile.imwrite(folder / "b.tif", discs[::-1])
    tifffile.imwrite(folder / "sub" / "a.tif", discs[:, ::-1])
    (folder / "bad.tif").write_bytes(b"half a file")
    return folder


class Runner:
    """Runs batches over one folder into one output folder."""

    def __init__(self, images: Path, out: Path, segmenter: Segmenter) -> None:
        self.images = images
        self.out = out
        self.segmenter = segmenter
        self.outcomes: dict[str, Outcome] = {}

    def __call__(self, settings: Settings | None = None, segmenter: Segmenter | None = None, **options: Any) -> Summary:
        self.outcomes = {}
        policy = Policy(**{key: options.pop(key) for key in list(options) if key in Policy.__dataclass_fields__})
        items = found_items([self.images], settings or Settings(), self.out)
        part = options.get("part")
        items = select_part(items, part) if part else items
        batch_options = BatchOptions(policy=policy, **options)
        return run_batch(items, self.out, segmenter or self.segmenter, batch_options, self._note)

    def _note(self, outcome: Outcome) -> None:
        self.outcomes[outcome.entry.path] = outcome

    def became(self) -> dict[str, tuple[str, str]]:
        """Status and reason of each image in the last run."""
        return {path: (outcome.entry.status, outcome.entry.reason) for path, outcome in self.outcomes.items()}

    def made(self) -> set[str]:
        """Images that the last run segmented."""
        return {path for path, (status, _) in self.became().items() if status == "done"}

    def summary(self) -> Rows:
        with open(self.out / "summary.csv", newline="") as stream:
            return list(csv.DictReader(stream))

    def hashes(self) -> dict[str, str]:
        """Hash of every label image, as it lies there."""
        paths = sorted(self.out.rglob("*_labels.*.tif"))
        return {path.relative_to(self.out).as_posix(): label_hash(read_labels(path)) for path in paths}


@pytest.fixture
def run(images: Path, tmp_path: Path, segmenter: Segmenter) -> Runner:
    return Runner(images, tmp_path / "out", segmenter)


def edit(path: Path) -> None:
    """As a person would: one cell is taken out."""
    labels = read_labels(path)
    write_labels(path, np.where(labels == 1, 0, labels))


def test_a_batch_writes_what_the_design_says(run: Runner, discs: Array) -> None:
    summary = run()
    assert summary == Summary(4, 9, 1, run.out / "summary.csv")
    files = {path.relative_to(run.out).as_posix() for path in run.out.rglob("*") if path.is_file()}
    assert files == {
        *(f"{name}_labels.{suffix}" for name in ("a", "b", "sub/a") for suffix in ("ome.tif", "json")),
        *("summary.csv", "cells.csv", "cells.parquet", "run.jsonl", ".run.lock"),
    }
    labels = read_labels(run.out / "a_labels.ome.tif")
    np.testing.assert_array_equal(labels > 0, discs > 100)


def test_the_summary_has_a_row_an_image(run: Runner) -> None:
    run()
    rows = run.summary()
    assert [row["path"] for row in rows] == ["a.tif", "b.tif", "bad.tif", "sub/a.tif"]
    assert rows[0]["n_cells"] == "3"
    assert (rows[0]["status"], rows[0]["reason"], rows[0]["warnings"]) == ("done", "", "")
    assert (rows[2]["status"], rows[2]["reason"], rows[2]["n_cells"]) == ("failed", "unreadable", "")


def test_the_cells_have_a_row_each(run: Runner) -> None:
    run()
    cells = pl.read_parquet(run.out / "cells.parquet")
    assert cells["path"].to_list() == ["a.tif"] * 3 + ["b.tif"] * 3 + ["sub/a.tif"] * 3
    assert cells["label"].to_list() == [1, 2, 3] * 3
    assert cells["area_px"].to_list() == [129] * 9
    assert cells["intensity_mean_0"].to_list() == [200.0] * 9
    # Nothing is known of the size of a pixel.
    assert cells["area_um2"].null_count() == 9
    assert pl.read_csv(run.out / "cells.csv").select("path", "label").equals(cells.select("path", "label"))


def test_the_provenance_answers_for_the_mask(run: Runner, model: Model) -> None:
    run(Settings(threshold=0.6))
    provenance = read_provenance(run.out / "sub" / "a_labels.json")
    assert provenance is not None
    assert provenance.model.sha256 == model.sha256
    assert provenance.output.label_hash == label_hash(read_labels(run.out / "sub" / "a_labels.ome.tif"))
    assert provenance.input.path == "sub/a.tif"
    assert provenance.input.companions == {}
    assert provenance.input.find(run.out / "sub") is not None
    assert provenance.settings["postprocessing"]["mask_threshold"] == 0.6
    assert provenance.n_cells == 3
    assert provenance.run["device"] == "cpu"


def test_the_journal_has_a_line_a_file(run: Runner) -> None:
    run()
    lines = [json.loads(line) for line in (run.out / "run.jsonl").read_text().splitlines()]
    assert {(line["path"], line["status"], line["reason"]) for line in lines} == {
        ("a.tif", "done", ""),
        ("b.tif", "done", ""),
        ("sub/a.tif", "done", ""),
        ("bad.tif", "failed", "unreadable"),
    }
    assert all("\n" not in line["message"] for line in lines)


def test_what_is_done_is_kept_and_failures_are_tried_again(run: Runner, discs: Array) -> None:
    run()
    tables = [(run.out / name).read_bytes() for name in ("summary.csv", "cells.csv", "cells.parquet")]
    times = {path: path.stat().st_mtime_ns for path in run.out.rglob("*_labels.*")}
    assert run() == Summary(4, 9, 1, run.out / "summary.csv")
    assert run.became() == {
        **dict.fromkeys(("a.tif", "b.tif", "sub/a.tif"), ("skipped", "unchanged")),
        "bad.tif": ("failed", "unreadable"),
    }
    assert times == {path: path.stat().st_mtime_ns for path in run.out.rglob("*_labels.*")}
    assert tables == [(run.out / name).read_bytes() for name in ("summary.csv", "cells.csv", "cells.parquet")]
    tifffile.imwrite(run.images / "bad.tif", discs)
    assert run().failed == 0
    assert run.made() == {"bad.tif"}


def test_kept_cells_come_from_the_table(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    monkeypatch.setattr("unetbio.measurements.measure", lambda *args, **kwargs: pytest.fail("measured again"))
    run()
    assert len(pl.read_parquet(run.out / "cells.parquet")) == 9


@pytest.mark.parametrize("damage", ["gone", "no table", "other's table"])
def test_cells_are_measured_again_where_the_table_cannot_tell(run: Runner, damage: str) -> None:
    run()
    path = run.out / "cells.parquet"
    before = pl.read_parquet(path)
    if damage == "gone":
        path.unlink()
    elif damage == "no table":
        path.write_bytes(b"PAR1 not really")
    else:
        pl.DataFrame({"path": ["a.tif"]}).write_parquet(path)
    run()
    assert pl.read_parquet(path).equals(before)


def test_a_touched_input_is_the_same_and_a_changed_one_is_not(run: Runner, discs: Array) -> None:
    run()
    os.utime(run.images / "a.tif")
    tifffile.imwrite(run.images / "b.tif", discs)
    run()
    assert run.made() == {"b.tif"}


def test_other_settings_or_another_model_make_all_again(run: Runner, model: Model) -> None:
    run()
    run(Settings(threshold=0.9))
    assert run.made() == {"a.tif", "b.tif", "sub/a.tif"}
    run(Settings(threshold=0.9), Segmenter(replace(model, sha256="f" * 64), "cpu"))
    assert run.made() == {"a.tif", "b.tif", "sub/a.tif"}


def test_what_changes_no_pixel_makes_nothing_again(run: Runner, model: Model) -> None:
    run()
    run(segmenter=Segmenter(model, "cpu", tile=8), workers=1)
    assert run.made() == set()


def test_overwrite_makes_all_again_but_edited_masks(run: Runner) -> None:
    run()
    edit(run.out / "a_labels.ome.tif")
    edited = run.hashes()["a_labels.ome.tif"]
    run(overwrite=True)
    assert run.made() == {"b.tif", "sub/a.tif"}
    assert run.became()["a.tif"] == ("skipped", "edited")
    assert run.hashes()["a_labels.ome.tif"] == edited
    run(overwrite_edited=True)
    assert run.made() == {"a.tif"}
    assert run.hashes()["a_labels.ome.tif"] != edited


def test_edited_masks_are_kept_measured_and_marked(run: Runner) -> None:
    run()
    edit(run.out / "a_labels.ome.tif")
    # Kept whatever else is asked for.
    assert run(Settings(threshold=0.9)).cells == 8
    row = run.summary()[0]
    assert (row["n_cells"], row["status"], row["warnings"]) == ("2", "done", "edited")
    cells = pl.read_parquet(run.out / "cells.parquet")
    assert cells.filter(path="a.tif")["label"].to_list() == [2, 3]


def test_a_mask_that_no_run_made_is_kept(run: Runner, discs: Array) -> None:
    run.out.mkdir()
    write_labels(run.out / "a_labels.ome.tif", (discs > 100).astype(np.uint16))
    run()
    assert run.became()["a.tif"] == ("skipped", "edited")
    assert run.summary()[0]["n_cells"] == "1"


def test_a_broken_mask_is_made_again(run: Runner) -> None:
    run()
    before = run.hashes()
    (run.out / "a_labels.ome.tif").write_bytes(b"torn")
    run()
    assert run.made() == {"a.tif"}
    assert run.hashes() == before


def test_an_edited_mask_saved_as_fractions_fails_and_is_not_lost(run: Runner) -> None:
    run()
    path = run.out / "a_labels.ome.tif"
    tifffile.imwrite(path, np.zeros((64, 80), np.float32))
    run()
    assert run.became()["a.tif"] == ("failed", "not_integer")
    assert tifffile.imread(path).dtype == np.float32


def half_written(path: Path) -> None:
    whole = path.read_bytes()
    tifffile.imwrite(path, np.arange(64 * 80, dtype=np.uint16).reshape(64, 80))
    path.write_bytes(path.read_bytes()[: len(whole) // 2])


def unknown_codec(path: Path) -> None:
    """A whole TIFF whose compression (tag 259, here SGI's) nothing here decodes."""
    tifffile.imwrite(path, np.ones((64, 80), np.uint16))
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages.first.tags[259].overwrite(34677)


@pytest.mark.parametrize(
    ("save", "reason"),
    [
        (lambda path: tifffile.imwrite(path, np.ones((5, 64, 80), np.uint16), ome=False), "unknown_axes"),
        (lambda path: tifffile.imwrite(path, np.ones((64, 80), np.complex64)), "unsupported_type"),
        (lambda path: path.write_bytes(b"\x93NUMPY, whole"), "unsupported_format"),
        (unknown_codec, "unreadable"),
    ],
    ids=["frames", "complex", "other format", "codec"],
)
def test_an_edited_mask_that_cannot_be_used_fails_and_is_not_lost(run: Runner, save: Any, reason: str) -> None:
    run()
    path = run.out / "a_labels.ome.tif"
    path.unlink()
    save(path)
    saved = path.read_bytes()
    run(overwrite=True)
    assert run.became()["a.tif"] == ("failed", reason)
    assert run.outcomes["a.tif"].entry.message.startswith("a_labels.ome.tif: ")
    assert path.read_bytes() == saved


def test_a_mask_that_the_system_does_not_hand_out_is_not_lost(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    path = run.out / "a_labels.ome.tif"
    edit(path)
    saved = path.read_bytes()

    def refuse(file: Any, *args: Any, **kwargs: Any) -> Any:
        if Path(file) == path:
            raise PermissionError(13, "Permission denied")
        return open(file, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("unetbio.io.read.open", refuse, raising=False)
        run()
    assert run.became()["a.tif"] == ("failed", "unreadable")
    assert path.read_bytes() == saved


def test_a_mask_that_was_cut_off_is_made_again(run: Runner) -> None:
    run()
    before = run.hashes()
    half_written(run.out / "a_labels.ome.tif")
    run()
    assert run.made() == {"a.tif"}
    assert run.hashes() == before


@pytest.mark.parametrize("count", [3, 5])
def test_an_edited_time_lapse_without_axes_is_understood(run: Runner, discs: Array, count: int) -> None:
    # tifffile takes three planes for colours by default, and says of five nothing at all.
    colours = {"photometric": "rgb", "planarconfig": "separate"} if count == 3 else {}
    tifffile.imwrite(run.images / "lapse.tif", np.stack([discs] * count), imagej=True, metadata={"axes": "TYX"})
    run()
    path = run.out / "lapse_labels.ome.tif"
    labels = read_labels(path)
    path.unlink()
    tifffile.imwrite(path, np.where(labels == 1, 0, labels), ome=False, **colours)
    run()
    assert run.became()["lapse.tif"] == ("skipped", "edited")
    assert [row["n_cells"] for row in run.summary() if row["path"] == "lapse.tif"] == ["2"] * count
    tifffile.imwrite(path, labels[:, 1:], ome=False, **colours)
    run()
    assert run.became()["lapse.tif"][0] == "failed"
    assert path.is_file()


def test_an_edited_mask_of_another_size_fails_and_is_not_lost(run: Runner) -> None:
    run()
    write_labels(run.out / "a_labels.ome.tif", np.ones((9, 9), np.uint16))
    run()
    assert run.became()["a.tif"] == ("failed", "shape_mismatch")
    assert "is (9, 9), its image is (64, 80)" in run.outcomes["a.tif"].entry.message


def test_rehash_looks_at_the_bytes(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    monkeypatch.setattr("unetbio.provenance.sha256_file", lambda path: "0" * 64)
    run()
    assert run.made() == set()
    run(rehash=True)
    assert run.made() == {"a.tif", "b.tif", "sub/a.tif"}


def test_probabilities_are_written_and_missed(run: Runner) -> None:
    run()
    run(save_probabilities=True)
    probabilities = tifffile.imread(run.out / "sub" / "a_probabilities.ome.tif")
    assert probabilities.shape == (2, 64, 80)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)


def test_probabilities_of_older_masks_are_not_kept(run: Runner, discs: Array) -> None:
    tifffile.imwrite(run.images / "lapse.tif", np.stack([discs] * 4), imagej=True, metadata={"axes": "TYX"})
    run(save_probabilities=True)
    assert len(list(run.out.rglob("*_probabilities.*"))) == 3 + 4
    larger = Settings(diameter_px=20)
    run(larger)
    assert not list(run.out.rglob("*_probabilities.*"))
    run(larger, save_probabilities=True)
    assert run.made() == {"a.tif", "b.tif", "sub/a.tif", "lapse.tif"}
    assert tifffile.imread(run.out / "a_probabilities.ome.tif").shape == (2, 38, 48)


def test_probabilities_of_a_run_that_was_killed_are_not_taken(run: Runner) -> None:
    run(save_probabilities=True)
    # As if the next run, with other settings, had come as far as the probabilities.
    newer = run.out / "a_probabilities.ome.tif"
    newer.write_bytes(newer.read_bytes())
    run(save_probabilities=True)
    assert run.made() == {"a.tif"}


def test_a_time_lapse_is_one_file_and_many_rows(run: Runner, discs: Array) -> None:
    stack = np.stack([discs, np.full_like(discs, 10), discs])
    tifffile.imwrite(run.images / "lapse.tif", stack, imagej=True, metadata={"axes": "TYX"})
    run(save_probabilities=True)
    labels = read_labels(run.out / "lapse_labels.ome.tif")
    assert labels.shape == (3, 64, 80)
    rows = [row for row in run.summary() if row["path"] == "lapse.tif"]
    assert [(row["t"], row["n_cells"], row["warnings"]) for row in rows] == [
        ("0", "3", ""),
        ("1", "0", "no_cells constant"),
        ("2", "3", ""),
    ]
    cells = pl.read_parquet(run.out / "cells.parquet").filter(path="lapse.tif")
    assert cells["t"].to_list() == [0] * 3 + [2] * 3
    assert (run.out / "lapse_t002_probabilities.ome.tif").is_file()
    run(save_probabilities=True)
    assert run.made() == set()


def test_a_long_time_lapse_is_collected_on_disk(run: Runner, discs: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = np.stack([discs, discs[::-1], discs])
    tifffile.imwrite(run.images / "lapse.tif", stack, imagej=True, metadata={"axes": "TYX"})
    run()
    before = run.hashes()
    monkeypatch.setattr("unetbio.batch.results.STACK_BYTES_IN_MEMORY", 1000)
    run(overwrite=True)
    assert "lapse.tif" in run.made()
    assert run.hashes() == before


def test_space_is_taken_where_the_system_has_no_call_for_it(
    tmp_path: Path, discs: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on macOS.
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    monkeypatch.setattr("unetbio.batch.results.STACK_BYTES_IN_MEMORY", 1000)
    monkeypatch.setattr("unetbio.batch.results.ZEROS_AT_ONCE", 4096)
    stack = LabelStack(3, discs.shape, tmp_path)
    for index in (2, 0, 1):
        stack.put(index, np.full(discs.shape, index + 1, np.uint16))
    assert [int(frame.min()) for frame in stack.label_image] == [1, 2, 3]


def test_a_change_in_any_file_of_an_image_makes_it_again(run: Runner, shared_data: Path, tmp_path: Path) -> None:
    shutil.rmtree(run.images)
    shutil.copytree(shared_data / "formats" / "companion", run.images)
    whole = Settings(z="max")
    run(whole)
    assert run.made() == {"multifile.companion.ome"}
    run(whole)
    assert run.made() == set()
    provenance = read_provenance(run.out / "multifile_labels.json")
    assert provenance is not None
    assert sorted(provenance.input.companions) == [f"multifile-Z{index}.ome.tiff" for index in range(1, 6)]
    piece = run.images / "multifile-Z3.ome.tiff"
    piece.write_bytes(piece.read_bytes() + b"\0")
    run(whole)
    assert run.made() == {"multifile.companion.ome"}


def test_overlays_are_drawn_once(run: Runner) -> None:
    drawn: list[tuple[Path, tuple[int, ...]]] = []

    def draw(path: Path, image: Array, labels: Array) -> None:
        assert image.shape == labels.shape
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"picture")
        drawn.append((path, image.shape))

    overlays = {"a": run.out / "pictures" / "a.jpg"}
    run()
    # An earlier run drew none.
    run(overlays=overlays, draw=draw)
    run(overlays=overlays, draw=draw)
    assert drawn == [(overlays["a"], (64, 80))]
    os.utime(overlays["a"], (0, 0))
    edit(run.out / "a_labels.ome.tif")
    run(overlays=overlays, draw=draw)
    assert len(drawn) == 2


def test_overlays_of_older_masks_do_not_stay(run: Runner) -> None:
    drawn: list[int] = []

    def draw(path: Path, image: Array, labels: Array) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"picture")
        drawn.append(int(labels.max()))

    overlays = {"a": run.out / "overlays" / "a.jpg"}
    run(overlays=overlays, draw=draw)
    run(overlays=overlays, draw=draw)
    assert drawn == [3]
    run(Settings(min_area=1000))
    assert not overlays["a"].exists()
    run(Settings(min_area=1000), overlays=overlays, draw=draw)
    run(Settings(min_area=1000), overlays=overlays, draw=draw)
    assert drawn == [3, 0]
    # Edited just now, and the picture is of a moment ago.
    write_labels(run.out / "a_labels.ome.tif", np.full((64, 80), 7, np.uint16))
    run(overlays=overlays, draw=draw)
    assert drawn == [3, 0, 7]
    assert [path.name for path in overlays["a"].parent.iterdir()] == ["a.jpg"]


def test_parts_together_are_the_whole(run: Runner, images: Path, tmp_path: Path, segmenter: Segmenter) -> None:
    run()
    parts = Runner(images, tmp_path / "parts", segmenter)
    for index in (1, 2, 3):
        summary = parts(part=Part(index, 3))
        assert summary.table is None
        assert (parts.out / f"run.{index}-of-3.jsonl").is_file()
    assert not (parts.out / "summary.csv").exists()
    assert parts.hashes() == run.hashes()
    whole = measure_folder(parts.out, 2, lambda outcome: None)
    assert whole == Summary(4, 9, 1, parts.out / "summary.csv")
    for name in ("summary.csv", "cells.csv"):
        assert (parts.out / name).read_text() == (run.out / name).read_text()


def test_measure_sees_edits(run: Runner) -> None:
    run()
    edit(run.out / "a_labels.ome.tif")
    assert measure_folder(run.out, 1, lambda outcome: None).cells == 8
    assert run.summary()[0]["warnings"] == "edited"


def test_measure_without_the_images_leaves_out_grey_values(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    run()
    shutil.rmtree(run.images)
    with caplog.at_level("WARNING", logger="unetbio"):
        assert measure_folder(run.out, 1, lambda outcome: None).cells == 9
    assert "intensity_mean_0" not in pl.read_parquet(run.out / "cells.parquet").columns
    assert [(row["path"], row["status"]) for row in run.summary() if row["status"] == "failed"] == [
        ("bad.tif", "failed")
    ]


def test_a_file_that_was_never_there_stays_in_the_tables(run: Runner, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text(f"image\n{run.images / 'a.tif'}\n{run.images / 'gone.tif'}\n")
    items = read_table(table, Settings())
    run_batch(items, run.out, run.segmenter, BatchOptions(part=Part(1, 1)), lambda outcome: None)
    assert measure_folder(run.out, 1, lambda outcome: None).failed == 1
    assert {row["path"]: row["status"] for row in run.summary()} == {"a.tif": "done", "gone.tif": "failed"}


@pytest.mark.parametrize(("make", "message"), [(False, "is not a folder"), (True, "holds no results")])
def test_measure_needs_results(tmp_path: Path, make: bool, message: str) -> None:
    if make:
        (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match=message):
        measure_folder(tmp_path / "out", 1, lambda outcome: None)


def test_tables_hold_what_earlier_runs_left(run: Runner) -> None:
    run()
    (run.images / "a.tif").rename(run.images / "c.tif")
    run()
    assert [row["path"] for row in run.summary()] == ["a.tif", "b.tif", "bad.tif", "c.tif", "sub/a.tif"]


def test_two_runs_cannot_share_an_output_folder(run: Runner) -> None:
    run.out.mkdir()
    with lock(run.out / ".run.lock"), pytest.raises(EnvironmentStoppedError, match="in use by another unetbio run"):
        run()
    with lock(run.out / ".run.lock", shared=True):
        run(part=Part(1, 2))
        with pytest.raises(EnvironmentStoppedError, match="in use"):
            run()


def test_the_page_is_written_while_the_folder_is_held(run: Runner) -> None:
    pages: list[Path] = []

    def write_page(out: Path) -> None:
        assert (out / "summary.csv").is_file()
        with pytest.raises(EnvironmentStoppedError, match="in use"), lock(out / ".run.lock"):
            pass
        pages.append(out)

    run(write_page=write_page)
    assert pages == [run.out]


def test_an_output_folder_that_cannot_be_made_stops_the_run(run: Runner) -> None:
    run.out.write_bytes(b"a file is here")
    with pytest.raises(EnvironmentStoppedError, match="cannot write"):
        run()


def test_a_full_disk_stops_the_run_and_keeps_what_is_done(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    run()
    before = run.hashes()
    with monkeypatch.context() as patch:
        patch.setattr(tifffile, "imwrite", fail)
        with pytest.raises(EnvironmentStoppedError, match=r"cannot write .*: No space left on device; free space"):
            run(overwrite=True)
    assert run.hashes() == before
    assert not list(run.out.rglob(".unetbio-*"))


def test_a_mistake_of_ours_fails_one_image(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    finish = Segmenter.finish

    def fail(self: Segmenter, opened: Any, frame: Any, planes: Any) -> Any:
        if opened.image.source.name == "b.tif":
            raise KeyError("surprise")
        return finish(self, opened, frame, planes)

    monkeypatch.setattr(Segmenter, "finish", fail)
    assert run().failed == 2
    assert run.became()["b.tif"] == ("failed", "internal")
    assert run.outcomes["b.tif"].entry.message == "internal error (KeyError: 'surprise'); -v shows where"


def test_too_little_memory_fails_one_image(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    read_frame = Segmenter.read_frame

    def fail(self: Segmenter, opened: Any, t: Any) -> Any:
        if opened.image.source.name == "b.tif":
            raise MemoryError
        return read_frame(self, opened, t)

    monkeypatch.setattr(Segmenter, "read_frame", fail)
    run()
    assert run.became()["b.tif"] == ("failed", "out_of_memory")


def test_settings_that_fit_no_model_are_refused_before_the_run(run: Runner) -> None:
    with pytest.raises(UsageError, match="max_area 3 is below"):
        run(Settings(max_area=3, min_area=5))
    assert not run.out.exists()


def test_a_frame_larger_than_the_memory_goes_alone(run: Runner) -> None:
    assert run(memory=1).cells == 9


def test_an_interrupted_run_leaves_no_thread_and_goes_on(run: Runner) -> None:
    def stop(outcome: Outcome) -> None:
        raise KeyboardInterrupt

    items = found_items([run.images], Settings(), run.out)
    with pytest.raises(KeyboardInterrupt):
        run_batch(items, run.out, run.segmenter, BatchOptions(), stop)
    assert len(read_journals(run.out)) == 1
    assert run() == Summary(4, 9, 1, run.out / "summary.csv")
