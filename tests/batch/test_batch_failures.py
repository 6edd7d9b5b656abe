"""A batch that cannot go on, and one that goes on without a failed image."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from batch_runner import Runner
from click.testing import CliRunner

from unetbio.batch.plan import found_items
from unetbio.batch.run import BatchOptions, run_batch
from unetbio.cli.main import main
from unetbio.errors import EnvironmentStoppedError, UsageError
from unetbio.files import lock
from unetbio.results.journal import Part, read_journals
from unetbio.results.result_files import Outcome
from unetbio.results.tables.collect_tables import Summary
from unetbio.segmentation import Segmenter
from unetbio.settings.segmentation import Settings


def test_two_runs_cannot_share_an_output_folder(run: Runner) -> None:
    run.out.mkdir()
    with lock(run.out / ".run.lock"), pytest.raises(EnvironmentStoppedError, match="in use by another unetbio run"):
        run()
    with lock(run.out / ".run.lock", shared=True):
        run(part=Part(1, 2))
        with pytest.raises(EnvironmentStoppedError, match="in use"):
            run()


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
        patch.setattr(tifffile.TiffWriter, "write", fail)
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


def test_regions_of_files_that_are_one_image_stay_in_the_tables(
    tmp_path: Path, tiny_model: Path, discs: np.ndarray
) -> None:
    (tmp_path / "images").mkdir()
    for channel in ("DAPI", "GFP"):
        tifffile.imwrite(tmp_path / "images" / f"x_{channel}.tif", discs)
    line = ["segment", str(tmp_path / "images"), "-o", str(tmp_path / "out"), "-m", str(tiny_model), "--workers", "1"]
    # The files were images of their own before: these leave the tables.
    assert CliRunner().invoke(main, [*line, "--group", "none"]).exit_code == 0
    line += ["--channel", "DAPI", "--group", r"(?P<field>\w+)_(?P<channel>DAPI|GFP)"]
    for region in ("0,0,40,64", "40,0,40,64"):
        result = CliRunner().invoke(main, [*line, "--region", region])
        assert result.exit_code == 0, result.output
    with open(tmp_path / "out" / "summary.csv", newline="") as stream:
        assert [row["path"] for row in csv.DictReader(stream)] == ["x#xywh=0,0,40,64", "x#xywh=40,0,40,64"]
