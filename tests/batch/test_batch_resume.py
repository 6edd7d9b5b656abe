"""A batch that goes on: what is kept, and what is made again."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tifffile
from batch_runner import Array, Runner, edit
from tiny_model import write_tiny_model

from unetbio.batch.failures import forget_gone
from unetbio.batch.plan import found_items
from unetbio.models.model_file import Model, load_model
from unetbio.provenance import read_provenance
from unetbio.results.tables.collect_tables import Summary
from unetbio.segmentation import Segmenter
from unetbio.settings.normalization import Normalization
from unetbio.settings.segmentation import Settings


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
    monkeypatch.setattr("unetbio.measurement.regions.measure", lambda *args, **kwargs: pytest.fail("measured again"))
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


def test_rehash_looks_at_the_bytes(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    monkeypatch.setattr("unetbio.provenance.sha256_path", lambda path: "0" * 64)
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


def test_whoever_forgot_an_option_is_told_before_masks_are_replaced(
    run: Runner, model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    run()
    run()
    assert "made again" not in caplog.text
    run(Settings(threshold=0.7))
    (said,) = [record.message for record in caplog.records if "made again" in record.message]
    assert said == (
        "a_labels.ome.tif was made with mask_threshold 0.5 (now 0.7) and is made again, like all others that "
        "differ; another -o keeps both"
    )
    caplog.clear()
    other = Segmenter(replace(model, info=model.info.model_copy(update={"name": "mine"}), sha256="0" * 64), "cpu")
    run(Settings(threshold=0.7), segmenter=other)
    assert "was made with model tiny (now mine) and is made again" in caplog.text
    caplog.clear()
    run(Settings(threshold=0.7), segmenter=Segmenter(replace(model, sha256="1" * 64), "cpu"))
    assert "was made with model mine (now tiny) and is made again" in caplog.text
    caplog.clear()
    run(Settings(threshold=0.7))
    assert "was made with model tiny (now another model of that name) and is made again" in caplog.text
    caplog.clear()
    run(overwrite=True)
    assert "made again" not in caplog.text


def test_another_image_of_that_name_is_named_before_its_masks_are_replaced(
    run: Runner, discs: Array, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run()
    first, run.images = run.images, tmp_path / "day2"
    run.images.mkdir()
    # The same bytes elsewhere are the same image.
    shutil.copy(first / "a.tif", run.images)
    tifffile.imwrite(run.images / "b.tif", discs[:, ::-1])
    run()
    assert (run.made(), run.became()["a.tif"]) == ({"b.tif"}, ("skipped", "unchanged"))
    (said,) = [record.message for record in caplog.records if "made again" in record.message]
    assert said == (
        f"b_labels.ome.tif was made with input {first / 'b.tif'} (now {run.images / 'b.tif'}) and is made again, like "
        "all others that differ; another -o keeps both"
    )


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({}, {"augment": True}, "augment False (now True)"),
        ({}, {"level": 0}, "level none (now 0)"),
        ({}, {"tissue": "auto"}, "tissue none (now auto)"),
        ({}, {"nan": "fill"}, "nan refuse (now fill)"),
        ({"min_certain": 0.2}, {}, "min_certain 0.2 (now 0)"),
        ({"diameter_px": 20}, {"diameter_px": "model"}, "diameter_px 20 (now model)"),
    ],
)
def test_settings_that_are_recorded_only_where_they_are_given_are_named(
    run: Runner, before: dict[str, Any], now: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    for settings in (before, now):
        run(Settings(**settings))
    assert f"a_labels.ome.tif was made with {said} and is made again" in caplog.text


def test_the_normalization_of_the_model_that_is_asked_for_is_another_than_that_of_pictures(
    run: Runner, tmp_path: Path, discs: Array, caplog: pytest.LogCaptureFixture
) -> None:
    own = Normalization("percentile", 1.0, 99.8)
    by_channels = {
        count: Segmenter(load_model(write_tiny_model(tmp_path / f"{count}.safetensors", names, own)), "cpu")
        for count, names in ((1, ("nuclei",)), (3, ("red", "green", "blue")))
    }
    run(segmenter=by_channels[1])
    run(Settings(normalization=own), segmenter=by_channels[1])
    assert run.made() == set()
    for path in run.images.rglob("*.tif"):
        path.unlink()
    tifffile.imwrite(run.images / "a.tif", np.dstack([discs // 2] * 3), photometric="rgb")
    run(segmenter=by_channels[3])
    caplog.clear()
    run(Settings(normalization=own), segmenter=by_channels[3])
    assert "a_labels.ome.tif was made with normalize auto (now p1,p99.8) and is made again" in caplog.text
    assert run.summary()[0]["n_cells"] == "3"
    run(Settings(normalization=own), segmenter=by_channels[3])
    assert run.made() == set()
    run(segmenter=by_channels[3])
    assert (run.made(), run.summary()[0]["n_cells"]) == ({"a.tif"}, "0")


def test_a_series_that_a_file_does_not_hold_is_forgotten_when_it_is_asked_for_otherwise(run: Runner) -> None:
    (run.images / "bad.tif").unlink()
    assert run(Settings(series=5)).failed == 3
    items = found_items([run.images], Settings(series=5), run.out)
    assert forget_gone(items, run.out, None) == []
    items = found_items([run.images], Settings(), run.out)
    assert sorted(forget_gone(items, run.out, None)) == ["a.tif, series 5", "b.tif, series 5", "sub/a.tif, series 5"]
    assert run() == Summary(3, 9, 0, run.out / "summary.csv")
