"""Output folders without a window."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile

import unetbio
from napari_unetbio.reading import get_reader
from napari_unetbio.runs import find_run, list_images, load_image, save_correction
from unetbio.errors import EnvironmentStoppedError, UsageError
from unetbio.provenance import read_provenance
from unetbio.results.journal import hold_output
from unetbio.results.reuse import state_of_labels


def test_images_have_masks_rows_and_grey_values(results: Path, discs: np.ndarray) -> None:
    entries = list_images(results)
    assert [entry.path for entry in entries] == ["a.ome.tif", "b.ome.tif", "c.ome.tif"]
    loaded = load_image(results, entries[0])
    assert (loaded.labels == unetbio.read_labels(results / "a_labels.ome.tif")).all()
    assert list(loaded.table["label"]) == [1, 2, 3]
    assert loaded.table["area_um2"].tolist() == [(loaded.labels == cell).sum() / 4 for cell in (1, 2, 3)]
    (pixels,) = loaded.channels.values()
    assert (pixels == discs).all()


def test_a_time_lapse_has_frames(results: Path, discs: np.ndarray) -> None:
    loaded = load_image(results, list_images(results)[2])
    (pixels,) = loaded.channels.values()
    assert pixels.shape == loaded.labels.shape == (3, *discs.shape)
    assert sorted(set(loaded.table["t"])) == [1, 2]


def test_a_mask_without_its_image_is_shown_alone(results: Path) -> None:
    (results.parent / "images" / "a.ome.tif").unlink()
    entry = list_images(results)[0]
    moved = results.parent.parent / "moved"
    results.parent.rename(moved)
    loaded = load_image(moved / "results", entry)
    assert loaded.labels.max() == 3


def test_a_correction_counts_as_edited_by_hand(results: Path) -> None:
    entry = list_images(results)[0]
    loaded = load_image(results, entry)
    corrected = np.where(loaded.labels == 2, 70_000, loaded.labels.astype(np.int64))
    assert save_correction(loaded, corrected)
    again = load_image(results, entry)
    assert not save_correction(again, corrected)
    assert list(again.table["label"]) == [1, 3, 70_000]
    summary = unetbio.measure(results)
    assert (summary.images, summary.failed) == (3, 0)
    # The next run keeps such a mask.
    mask = results / "a_labels.ome.tif"
    assert state_of_labels(mask, read_provenance(results / "a_labels.json")) == "edited"


def test_a_correction_of_another_program_is_not_overwritten(results: Path) -> None:
    entry = list_images(results)[0]
    loaded = load_image(results, entry)
    theirs = np.where(loaded.labels == 2, 0, loaded.labels)
    assert save_correction(load_image(results, entry), theirs)
    with pytest.raises(UsageError, match="another program has changed this mask: load the image again"):
        save_correction(loaded, np.zeros_like(loaded.labels))
    assert (unetbio.read_labels(results / entry.output) == theirs).all()


def test_a_folder_in_use_is_refused(results: Path) -> None:
    loaded = load_image(results, list_images(results)[0])
    with hold_output(results, None), pytest.raises(EnvironmentStoppedError):
        save_correction(loaded, np.zeros_like(loaded.labels))


def test_other_folders_and_files_are_no_runs(results: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no label images"):
        list_images(tmp_path / "empty")
    assert find_run(results.parent / "images" / "a.ome.tif") is None
    assert get_reader(str(tmp_path / "x_labels.ome.tif")) is None


def test_the_reader_gives_image_mask_and_rows(results: Path, discs: np.ndarray) -> None:
    read = get_reader(str(results / "a_labels.ome.tif"))
    assert read is not None
    image, labels = read(None)
    assert (image[0] == discs).all()
    assert image[2] == "image"
    assert labels[1]["features"]["index"].tolist() == [1, 2, 3]
    assert labels[1]["scale"] == [0.5, 0.5]
    # Numbers of cells begin anew in each frame: no rows fit all of them.
    read = get_reader([str(results / "c_labels.ome.tif")])
    assert read is not None
    assert "features" not in read(None)[-1][1]


def _in_files(folder: Path, model: Path, image: np.ndarray, axis: str, names: Sequence[str], *options: str) -> Path:
    """Output folder of a run over an image of several files, a channel and a time or section each."""
    images = folder / "images"
    images.mkdir()
    for name in names:
        tifffile.imwrite(images / f"a_{name}.tif", image)
    group = rf"(?P<field>a)_(?P<channel>DAPI|GFP)_{axis}(?P<{axis}>\d)"
    command = [sys.executable, "-m", "unetbio", "segment", images, "-o", folder / "results", "--model", model]
    chosen = ["--group", group, "--channel", "DAPI", "--diameter", "model", "--device", "cpu", "--overlays", "none"]
    subprocess.run([*command, *chosen, "-q", *options], check=True)
    return folder / "results"


def test_a_channel_is_black_at_a_time_without_its_file(tmp_path: Path, model: Path, discs: np.ndarray) -> None:
    results = _in_files(tmp_path, model, discs, "t", ("DAPI_t0", "GFP_t0", "DAPI_t1"))
    loaded = load_image(results, *list_images(results))
    assert list(loaded.channels) == ["DAPI", "GFP"]
    assert (loaded.channels["DAPI"] == discs).all()
    assert (loaded.channels["GFP"][0] == discs).all()
    assert not loaded.channels["GFP"][1].any()


def test_sections_have_the_numbers_of_the_table(tmp_path: Path, model: Path, discs: np.ndarray) -> None:
    names = ("GFP_z0", *(f"{channel}_z{number}" for channel in ("DAPI", "GFP") for number in (1, 2, 3)))
    results = _in_files(tmp_path, model, discs, "z", names, "--partial", "--z", "each")
    loaded = load_image(results, *list_images(results))
    assert loaded.numbers["Z"] == (1, 2, 3)
    assert set(loaded.table["z"]) == {1, 2, 3}
