"""Masks that were edited, replaced or torn: which are kept, and which are made again."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tifffile
from batch_runner import Array, Runner, edit

from unetbio.files import open_regular
from unetbio.io import decoding, read_labels, write_labels
from unetbio.io.decoding import decode_elsewhere
from unetbio.results.corrections import find_masks_of_run
from unetbio.results.tables.collect_tables import measure
from unetbio.settings.segmentation import Settings


def test_edited_masks_are_kept_measured_and_marked(run: Runner) -> None:
    run()
    edit(run.out / "a_labels.ome.tif")
    # Kept whatever else is asked for.
    assert run(Settings(threshold=0.9)).cells == 8
    row = run.summary()[0]
    assert (row["n_cells"], row["status"], row["warnings"]) == ("2", "done", "edited")
    cells = pl.read_parquet(run.out / "cells.parquet")
    assert cells.filter(path="a.tif")["label"].to_list() == [2, 3]


def test_a_mask_that_was_edited_on_another_image_of_that_name_does_not_stand_for_it(
    run: Runner, discs: Array, tmp_path: Path
) -> None:
    run()
    path = run.out / "a_labels.ome.tif"
    edit(path)
    edited = path.read_bytes()
    first, run.images = run.images, tmp_path / "day2"
    run.images.mkdir()
    tifffile.imwrite(run.images / "a.tif", discs[::-1])
    run()
    assert run.became() == {"a.tif": ("failed", "edited")}
    message = run.outcomes["a.tif"].entry.message
    assert f"was drawn on another image, {first / 'a.tif'}: give another output folder" in message
    assert path.read_bytes() == edited
    # What was drawn can still be looked at, corrected and exported.
    assert "a_labels.ome.tif" in [entry.output for entry in find_masks_of_run(run.out)]
    run.images = first
    run(overwrite=True)
    assert run.became()["a.tif"] == ("skipped", "edited")
    run.images = tmp_path / "day2"
    run(overwrite_edited=True)
    assert run.made() == {"a.tif"}


def test_an_edited_mask_is_not_kept_for_new_pixels_unless_a_person_says_so(run: Runner, discs: Array) -> None:
    run()
    path = run.out / "a_labels.ome.tif"
    edit(path)
    os.utime(run.images / "a.tif")
    run()
    assert run.became()["a.tif"] == ("skipped", "edited")
    tifffile.imwrite(run.images / "a.tif", discs[::-1])
    run()
    assert run.became()["a.tif"] == ("failed", "edited")
    assert "and its image has changed since: give" in run.outcomes["a.tif"].entry.message
    # As the message says.
    (run.out / "a_labels.json").unlink()
    run()
    assert run.became()["a.tif"] == ("skipped", "edited")
    assert run.summary()[0]["n_cells"] == "2"


def test_edited_masks_are_kept_where_a_project_moves_as_a_whole(run: Runner, tmp_path: Path) -> None:
    run()
    edit(run.out / "a_labels.ome.tif")
    moved = tmp_path / "moved"
    moved.mkdir()
    run.images, run.out = run.images.rename(moved / "images"), run.out.rename(moved / "out")
    run()
    assert run.became()["a.tif"] == ("skipped", "edited")
    assert run.made() == set()
    tifffile.imwrite(run.images / "a.tif", np.zeros((64, 80), np.uint8))
    run()
    assert "and its image has changed since: give" in run.outcomes["a.tif"].entry.message


def test_options_that_do_not_hold_for_an_edited_mask_are_named(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    run()
    for name in ("a", "b"):
        edit(run.out / f"{name}_labels.ome.tif")
    run()
    assert caplog.text == ""
    run(Settings(pixel_size_um=0.5))
    kept, replaced = (record.message for record in caplog.records if record.levelname == "WARNING")
    assert kept == (
        "a_labels.ome.tif was edited by hand and is kept as it was made, with pixel_size_um none (now 0.5), like all "
        "others that were edited; --overwrite-edited replaces them"
    )
    assert replaced.startswith("sub/a_labels.ome.tif was made with pixel_size_um none (now 0.5) and is made again")


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        pytest.param(np.int32, {"compression": "zlib"}, id="napari"),
        pytest.param(np.uint16, {"imagej": True}, id="Fiji"),
        pytest.param(np.float32, {"imagej": True}, id="Fiji in 32 bit"),
        pytest.param(np.uint8, {}, id="8 bit"),
    ],
)
def test_masks_that_other_programs_saved_are_measured(run: Runner, dtype: Any, options: dict[str, Any]) -> None:
    run()
    path = run.out / "a_labels.ome.tif"
    edited = read_labels(path).astype(dtype)
    edited[edited == 1] = 0
    edited[:6, :6] = 100
    path.unlink()
    tifffile.imwrite(path, edited, **options)
    run()
    row = run.summary()[0]
    assert (row["status"], row["warnings"], row["n_cells"]) == ("done", "edited", "3")
    assert pl.read_parquet(run.out / "cells.parquet").filter(path="a.tif")["label"].to_list() == [2, 3, 100]


def test_a_mask_that_no_run_made_is_kept(run: Runner, discs: Array) -> None:
    run.out.mkdir()
    write_labels(run.out / "a_labels.ome.tif", (discs > 100).astype(np.uint16))
    run()
    assert run.became()["a.tif"] == ("skipped", "edited")
    assert run.summary()[0]["n_cells"] == "1"


def test_a_mask_without_provenance_has_the_grey_values_of_its_own_position(run: Runner, discs: Array) -> None:
    with tifffile.TiffWriter(run.images / "plate.ome.tif", ome=True) as tif:
        for factor in (1, 2):
            tif.write(discs.astype(np.uint16) * factor, photometric="minisblack", metadata={"axes": "YX"})
    run()
    measured = pl.read_parquet(run.out / "cells.parquet").filter(path="plate.ome.tif", series=1)
    assert measured["intensity_mean_0"].min() > 255
    (run.out / "plate_s01_labels.json").unlink()
    run()
    again = pl.read_parquet(run.out / "cells.parquet").filter(path="plate.ome.tif", series=1)
    assert again["intensity_mean_0"].to_list() == measured["intensity_mean_0"].to_list()


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
    tifffile.imwrite(path, np.full((64, 80), 0.5, np.float32))
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


def elsewhere(monkeypatch: pytest.MonkeyPatch, seconds: int) -> Any:
    """Decode in another process, as commands do, or in this one with 0 seconds."""
    monkeypatch.setattr(decoding, "PLATFORMS", ("linux",))
    return decode_elsewhere(seconds)


@pytest.mark.parametrize("seconds", [0, 60], ids=["here", "elsewhere"])
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
def test_an_edited_mask_that_cannot_be_used_fails_and_is_not_lost(
    run: Runner, save: Any, reason: str, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    path = run.out / "a_labels.ome.tif"
    path.unlink()
    save(path)
    saved = path.read_bytes()
    with elsewhere(monkeypatch, seconds):
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
        return open_regular(file, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("unetbio.io.read.open_regular", refuse)
        run()
    assert run.became()["a.tif"] == ("failed", "unreadable")
    assert path.read_bytes() == saved


@pytest.mark.parametrize("seconds", [0, 60], ids=["here", "elsewhere"])
def test_a_mask_that_was_cut_off_is_made_again(run: Runner, seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    before = run.hashes()
    half_written(run.out / "a_labels.ome.tif")
    with elsewhere(monkeypatch, seconds):
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
    # The journal tells of the mask, not of the failed measurement: once the size is right, `measure` is enough.
    labels = np.zeros((64, 80), np.uint16)
    labels[:9, :9] = 1
    write_labels(run.out / "a_labels.ome.tif", labels)
    measure(run.out)
    assert (run.summary()[0]["status"], run.summary()[0]["n_cells"]) == ("done", "1")


def test_masks_that_usual_programs_saved_are_measured_with_their_new_cells(run: Runner) -> None:
    """Saved over the mask by napari, Fiji, Fiji with 32 bits, and a program that writes 8 bits."""
    saved = {
        "a": lambda path, labels: tifffile.imwrite(path, labels.astype(np.int32), compression="zlib"),
        "sub/b": lambda path, labels: tifffile.imwrite(path, labels, imagej=True),
        "c": lambda path, labels: tifffile.imwrite(path, labels.astype(np.float32), imagej=True),
        "d": lambda path, labels: tifffile.imwrite(path, labels.astype(np.uint8), ome=False),
    }
    for name in ("c", "d"):
        tifffile.imwrite(run.images / f"{name}.tif", tifffile.imread(run.images / "a.tif"))
    run()
    names = [name for name in saved if (run.out / f"{name}_labels.ome.tif").is_file()]
    assert len(names) >= 3
    for name in names:
        path = run.out / f"{name}_labels.ome.tif"
        labels = read_labels(path, allow_binary=True)
        labels[labels == labels.max()] = 0
        labels[:12, :12] = 77
        path.unlink()
        saved[name](path, labels)
    run()
    cells = pl.read_parquet(run.out / "cells.parquet")
    for name in names:
        assert run.became()[f"{name}.tif"] == ("skipped", "edited")
        assert 77 in cells.filter(path=f"{name}.tif")["label"].to_list()
