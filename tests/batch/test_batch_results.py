"""A batch: files, tables, provenance, time-lapses and overlays that it writes."""

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tifffile
from batch_runner import Array, Runner, edit

from unetbio.errors import EnvironmentStoppedError
from unetbio.files import lock
from unetbio.io import read_labels, write_labels
from unetbio.labels import label_hash
from unetbio.models.model_file import Model
from unetbio.provenance import read_provenance
from unetbio.results.result_files import LabelStack
from unetbio.results.tables.collect_tables import Summary
from unetbio.settings.segmentation import Settings


def test_a_batch_writes_what_the_design_says(run: Runner, discs: Array) -> None:
    summary = run()
    assert summary == Summary(4, 9, 1, run.out / "summary.csv")
    files = {path.relative_to(run.out).as_posix() for path in run.out.rglob("*") if path.is_file()}
    assert files == {
        *(f"{name}_labels.{suffix}" for name in ("a", "b", "sub/a") for suffix in ("ome.tif", "json")),
        *("summary.csv", "cells.csv", "cells.parquet", "run.jsonl", ".run.lock", ".tables.sha256"),
    }
    labels = read_labels(run.out / "a_labels.ome.tif")
    np.testing.assert_array_equal(labels > 0, discs > 100)


def test_the_progress_counts_sections_times_and_tiles(run: Runner, discs: Array) -> None:
    tifffile.imwrite(run.images / "stack.tif", np.stack([np.stack([discs] * 2)] * 2), metadata={"axes": "TZYX"})
    for name in ("a.tif", "b.tif", "bad.tif", "sub/a.tif"):
        (run.images / name).unlink()
    shares: list[float] = []
    run(Settings(z="each", diameter_px="model"), on_share=shares.append)
    assert shares == sorted(shares)
    assert {0.25, 0.5, 0.75, 1.0} <= set(shares)


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
    monkeypatch.setattr("unetbio.results.result_files.STACK_BYTES_IN_MEMORY", 1000)
    run(overwrite=True)
    assert "lapse.tif" in run.made()
    assert run.hashes() == before


def test_space_is_taken_where_the_system_has_no_call_for_it(
    tmp_path: Path, discs: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on macOS, and on Windows.
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    monkeypatch.delattr(os, "pwrite", raising=False)
    monkeypatch.setattr("unetbio.results.result_files.STACK_BYTES_IN_MEMORY", 1000)
    monkeypatch.setattr("unetbio.results.disk_arrays.ZEROS_AT_ONCE", 4096)
    stack = LabelStack(3, discs.shape, tmp_path)
    for index in (2, 0, 1):
        stack.store(index, np.full(discs.shape, index + 1, np.uint16))
    assert [int(frame.min()) for frame in stack.label_image] == [1, 2, 3]


def test_overlays_are_drawn_once(run: Runner) -> None:
    drawn: list[tuple[Path, tuple[int, ...]]] = []

    def draw(path: Path, image: Array, labels: Array, classes: None) -> None:
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

    def draw(path: Path, image: Array, labels: Array, classes: None) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"picture")
        drawn.append(int(labels.max()))

    overlays = {"a": run.out / "overlays" / "a.labels.jpg"}
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
    # A run that draws others keeps the picture that is there in step.
    write_labels(run.out / "a_labels.ome.tif", np.full((64, 80), 5, np.uint16))
    run(draw=draw)
    assert drawn == [3, 0, 7, 5]
    assert [path.name for path in overlays["a"].parent.iterdir()] == ["a.labels.jpg"]


def test_tables_hold_what_earlier_runs_left(run: Runner) -> None:
    run()
    (run.images / "a.tif").rename(run.images / "c.tif")
    run()
    assert [row["path"] for row in run.summary()] == ["a.tif", "b.tif", "bad.tif", "c.tif", "sub/a.tif"]


def test_the_page_is_written_while_the_folder_is_held(run: Runner) -> None:
    pages: list[Path] = []

    def write_page(out: Path) -> None:
        assert (out / "summary.csv").is_file()
        with pytest.raises(EnvironmentStoppedError, match="in use"), lock(out / ".run.lock"):
            pass
        pages.append(out)

    run(write_page=write_page)
    assert pages == [run.out]


def test_files_of_other_programs_beside_a_mask_stay(run: Runner) -> None:
    """Named as those of a run: only such that a run wrote are removed, and taken for its own."""
    run.out.mkdir()
    table, probabilities = run.out / "a_objects.csv", run.out / "a_probabilities.ome.tif"
    for path in (table, probabilities):
        path.write_text("from CellProfiler")
    run()
    run(overwrite=True)
    run(Settings(threshold=0.6))
    assert [path.read_text() for path in (table, probabilities)] == ["from CellProfiler"] * 2
    run(Settings(threshold=0.6), save_probabilities=True)
    assert "a.tif" in run.made()
    assert tifffile.imread(probabilities).shape == (2, 64, 80)
    run()
    assert (table.read_text(), probabilities.exists()) == ("from CellProfiler", False)
    # The table of an edited mask is that of its cells.
    edit(run.out / "a_labels.ome.tif")
    run(overwrite_edited=True)
    assert not table.exists()
