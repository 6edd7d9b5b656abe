"""Runs of many images: cells leave the memory while the run goes on, and come back for the tables."""

import gc
import shutil
import threading
import tracemalloc
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tifffile
from batch_runner import Array, Runner, full_disk, left_cells, measured_again

import unetbio.batch.run
from unetbio.batch.plan import found_items
from unetbio.batch.run import BatchOptions, run_batch
from unetbio.errors import EnvironmentStoppedError
from unetbio.results.journal import Part
from unetbio.results.result_files import Outcome
from unetbio.results.tables.collect_tables import measure
from unetbio.segmentation import Segmenter
from unetbio.settings.segmentation import Settings

TABLES = ("summary.csv", "cells.csv", "cells.parquet")


@pytest.fixture
def few_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells of one image are in memory, those of all others in files."""
    monkeypatch.setattr("unetbio.results.tables.cells.IMAGES_IN_MEMORY", 1)


def tables(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in TABLES]


def test_tables_are_the_same_when_cells_were_in_files(
    run: Runner, discs: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With images of one and of two channels, whose cells differ in their columns."""
    for name in ("c.ome.tif", "d.ome.tif"):
        tifffile.imwrite(run.images / name, np.stack([discs, discs // 2]), metadata={"axes": "CYX"})
    settings = Settings(channel="0")
    run(settings)
    expected = tables(run.out)
    monkeypatch.setattr("unetbio.results.tables.cells.IMAGES_IN_MEMORY", 2)
    # Nothing is segmented or measured here, and the rows come from the table.
    assert run(settings).cells == 15
    assert tables(run.out) == expected
    # The table in Parquet also has times of files.
    run(settings, overwrite=True)
    assert tables(run.out)[:2] == expected[:2]
    measure(run.out, overwrite=True)
    assert tables(run.out)[:2] == expected[:2]
    assert left_cells(run.out) == []


def test_many_cells_are_written_early(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unetbio.results.tables.cells.ROWS_IN_MEMORY", 4)
    run(part=Part(1, 1))
    assert left_cells(run.out) == [".cells.1-of-1.1.parquet", ".cells.1-of-1.2.parquet"]
    assert measure(run.out).cells == 9


@pytest.mark.usefixtures("few_in_memory")
def test_a_run_that_was_killed_need_not_measure_again(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    expected = tables(run.out)
    shutil.rmtree(run.out)
    with monkeypatch.context() as context:
        context.setattr("unetbio.batch.run.write_all_tables", _killed)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert left_cells(run.out) == [".cells.rest.1.parquet", ".cells.rest.2.parquet"]
    measured = measured_again(monkeypatch)
    run()
    assert run.made() == set()
    # The cells that were in memory: of images that end at the same time, those of either.
    assert len(measured) == 1
    assert tables(run.out)[:2] == expected[:2]
    assert left_cells(run.out) == []


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("few_in_memory")
def test_cells_that_are_lost_while_a_run_goes_on_end_it(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    note = run._note

    def note_and_damage(outcome: Outcome) -> None:
        note(outcome)
        for path in run.out.glob(".cells.rest.1.parquet"):
            path.write_bytes(b"PAR1")

    monkeypatch.setattr(run, "_note", note_and_damage)
    with pytest.raises(EnvironmentStoppedError, match=r"\.cells\.rest\.1\.parquet: rows .* damaged: run again"):
        run()
    monkeypatch.undo()
    assert run().cells == 9


@pytest.mark.usefixtures("few_in_memory")
def test_a_full_disk_stops_a_run_that_writes_cells(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as context:
        full_disk(context)
        with pytest.raises(EnvironmentStoppedError, match=r"\.cells\.rest\.1\.parquet: No space left .*; free space"):
            run()
    assert run().cells == 9


def test_memory_does_not_grow_with_the_images(
    tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python counts the bytes of its own objects alone, so tables of polars are counted."""
    monkeypatch.setattr("unetbio.results.tables.cells.IMAGES_IN_MEMORY", 8)
    held_by_run(tmp_path, 1, segmenter)  # Loads what all runs of a process share.
    tracemalloc.start()
    try:
        (few, tables_of_few), (many, tables_of_many) = (held_by_run(tmp_path, count, segmenter) for count in (8, 24))
    finally:
        tracemalloc.stop()
    assert (many - few) / 16 < 4096
    assert tables_of_few == tables_of_many == 8


def test_the_network_waits_for_slow_disks(
    tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images that are segmented and not yet written would fill the memory, and be lost with a kill."""
    monkeypatch.setattr("unetbio.batch.run.IMAGES_BEHIND", 2)
    decide_frame, write_result = segmenter.decide_frame, unetbio.batch.run.write_result
    decided, written = count(1), count(1)
    too_far = threading.Event()
    waited: list[bool] = []

    def deciding(*arguments: Any, **options: Any) -> Any:
        # The two that wait, and the one that the network is at.
        if next(decided) > 3:
            too_far.set()
        return decide_frame(*arguments, **options)

    def writing(*arguments: Any, **options: Any) -> Any:
        if next(written) == 1:
            waited.append(too_far.wait(1.0))
        return write_result(*arguments, **options)

    monkeypatch.setattr(segmenter, "decide_frame", deciding)
    monkeypatch.setattr("unetbio.batch.run.write_result", writing)
    held_by_run(tmp_path, 8, segmenter, workers=1)
    assert waited == [False]


def held_by_run(folder: Path, number_of_images: int, segmenter: Segmenter, **options: Any) -> tuple[int, int]:
    """Bytes and tables that a run holds when its last image is done, and no other is being worked on."""
    images = folder / f"{number_of_images} images"
    images.mkdir()
    for number in range(number_of_images):
        field = np.full((24, 24), 10, np.uint8)
        field[4:10, 4:10] = field[14:20, 14 : 15 + number % 5] = 200
        tifffile.imwrite(images / f"{number:02}.tif", field)
    seen: list[str] = []
    held: list[tuple[int, int]] = []

    def note(outcome: Outcome) -> None:
        seen.append(outcome.entry.path)
        if len(seen) == number_of_images:
            held.append(memory_and_tables())

    items = found_items([images], Settings(), folder)
    before = memory_and_tables()[0]
    run_batch(items, folder / f"{number_of_images} results", segmenter, BatchOptions(**options), note)
    return held[0][0] - before, held[0][1]


def memory_and_tables() -> tuple[int, int]:
    gc.collect()
    return tracemalloc.get_traced_memory()[0], sum(type(each) is pl.DataFrame for each in gc.get_objects())
