"""Images to annotate next: those that together stand for most of the doubtful cells."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result

from unetbio.cli.main import main
from unetbio.io import decoding
from unetbio.models.model_file import load_model, save_model
from unetbio.suggestion import choose_representative


def test_choices_agree_with_a_loop() -> None:
    rng = np.random.default_rng(0)
    doubts, features = rng.uniform(1, 2, 12), rng.normal(size=(12, 3)) * (1, 10, 100)
    scaled = features / features.std(axis=0)

    def worth(chosen: list[int]) -> float:
        return sum(
            doubt * max(math.exp(-float(np.linalg.norm(one - scaled[number]))) for number in chosen)
            for doubt, one in zip(doubts, scaled, strict=True)
        )

    chosen: list[int] = []
    while len(chosen) < 5:
        rest = [number for number in range(12) if number not in chosen]
        chosen.append(max(rest, key=lambda number: worth([*chosen, number])))
    assert choose_representative(doubts, features, 5) == chosen


def test_a_common_kind_comes_before_one_image_of_many_cells() -> None:
    """Nine images with two doubtful cells each stand for each other; one with ten stands alone."""
    doubts, features = np.array([10.0] + 9 * [2.0]), np.array([[5.0]] + 9 * [[0.0]])
    assert choose_representative(doubts, features, 2) == [1, 0]


def test_all_are_chosen_where_there_are_fewer_and_equal_features_leave_the_order() -> None:
    assert choose_representative(np.array([1.0, 3.0, 2.0]), np.ones((3, 2)), 9) == [0, 1, 2]
    assert choose_representative(np.zeros(0), np.zeros((0, 2)), 3) == []


@pytest.fixture
def folder(tmp_path: Path, discs: np.ndarray) -> Path:
    """Sure discs, doubtful ones (grey value 110: probability .73), and a file that is no image."""
    for name, value in (("sure", 200), ("doubtful", 110)):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.where(discs == 200, value, discs).astype(np.uint8))
    (tmp_path / "broken.tif").write_bytes(b"none")
    return tmp_path


def suggest(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["suggest", *(str(argument) for argument in arguments), "--device", "cpu"])


def rows(table: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(table.read_text().splitlines()))


def test_the_command_names_doubtful_images_first(folder: Path, tiny_model: Path) -> None:
    result = suggest(folder, "-m", tiny_model, "-n", 1, "-o", folder / "next.csv")
    assert result.exit_code == 3
    assert result.stdout == f"{folder / 'doubtful.tif'}\n"
    assert "broken.tif: " in result.stderr
    assert "suggested 1 of 3 images, 1 failed" in result.stderr
    (row,) = rows(folder / "next.csv")
    assert (row["image"], row["path"], row["series"]) == (str(folder / "doubtful.tif"), "doubtful.tif", "")
    assert row["n_cells"] == "3"
    assert float(row["doubtful_cells"]) == pytest.approx(3 * 0.27, abs=0.15)
    both = suggest(folder, "-m", tiny_model, "--failed-ok")
    assert both.exit_code == 0
    assert both.stdout.splitlines() == [str(folder / "doubtful.tif"), str(folder / "sure.tif")]


@pytest.mark.parametrize(("option", "code"), [((), 3), (("--failed-ok",), 0)])
def test_images_that_all_fail_are_a_line_each(
    folder: Path, tiny_model: Path, option: tuple[str, ...], code: int
) -> None:
    (folder / "empty.tif").write_bytes(b"")
    files = (folder / "broken.tif", folder / "empty.tif")
    result = suggest(*files, "-m", tiny_model, "-o", folder / "next.csv", *option)
    assert (result.exit_code, result.stdout) == (code, "")
    *failures, last = result.stderr.splitlines()
    for line, file in zip(failures, files, strict=True):
        assert line.startswith(f"unetbio: error: {file}: ")
        assert line.endswith("]")
    assert last == "unetbio: suggested 0 of 2 images, 2 failed"
    assert rows(folder / "next.csv") == []


@pytest.fixture
def positions(tmp_path: Path, discs: np.ndarray) -> Path:
    """A file of two positions: with three sure cells, and with three doubtful ones."""
    path = tmp_path / "positions.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as file:
        for name, value in (("sure", 200), ("doubtful", 110)):
            image = np.where(discs == 200, value, discs).astype(np.uint8)
            file.write(image, photometric="minisblack", metadata={"axes": "YX", "Name": name})
    return path


def test_each_image_of_a_file_is_one(positions: Path, tiny_model: Path) -> None:
    table = positions.with_name("next.csv")
    result = suggest(positions, "-m", tiny_model, "-o", table)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [f"{positions} (series 1)", f"{positions} (series 0)"]
    assert "suggested 2 of 2 images, 0 failed" in result.stderr
    named = [(row["path"], row["series"], row["position"]) for row in rows(table)]
    assert named == [("positions.ome.tif", "1", "doubtful"), ("positions.ome.tif", "0", "sure")]
    # The table names the images for other commands.
    again = ("segment", "--table", table, "-o", positions.parent / "out", "-m", tiny_model, "--overlays", "none")
    done = CliRunner().invoke(main, [str(word) for word in (*again, "--device", "cpu", "--workers", 1)])
    assert done.stdout.startswith("2 images, 6 cells, 0 failed"), done.stderr


def test_a_series_is_chosen_as_for_segment(positions: Path, tiny_model: Path) -> None:
    result = suggest(positions, "-m", tiny_model, "--series", "doubtful")
    assert result.stdout == f"{positions} (series 1)\n"
    result = suggest(positions, "-m", tiny_model, "--series", 7)
    assert result.exit_code == 3
    assert f"error: {positions} (series 7): " in result.stderr


def test_files_of_one_image_are_joined_and_named_as_in_segment(
    tmp_path: Path, tiny_model: Path, discs: np.ndarray
) -> None:
    """A file for each channel: the cells are in the second."""
    for channel, image in ((1, np.full_like(discs, 10)), (2, discs)):
        tifffile.imwrite(tmp_path / f"r01c02f03p01-ch{channel}sk1fk1fl1.tiff", image)
    options = ("-m", tiny_model, "--channel", 1, "-o", tmp_path / "next.csv")
    result = suggest(tmp_path, *options)
    assert result.stdout == f"{tmp_path / 'r01c02f03'}\n", result.stderr
    (row,) = rows(tmp_path / "next.csv")
    assert (row["path"], row["well"], row["field"], row["n_cells"]) == ("r01c02f03", "A02", "3", "3")
    apart = suggest(tmp_path, "-m", tiny_model, "--group", "none")
    assert "suggested 2 of 2 images" in apart.stderr


@pytest.mark.parametrize(
    ("options", "cells"), [(("--z", 1), 3), (("--z", "max"), 3), (("--z", "each"), 6), (("--z", 0), 0)]
)
def test_stacks_are_read_as_in_segment(
    tmp_path: Path, tiny_model: Path, discs: np.ndarray, options: tuple[object, ...], cells: int
) -> None:
    """Sections without a cell, with three, and with three."""
    tifffile.imwrite(
        tmp_path / "stack.tif", np.stack([np.full_like(discs, 10), discs, discs]), photometric="minisblack"
    )
    result = suggest(tmp_path / "stack.tif", "-m", tiny_model, "--axes", "ZYX", *options)
    assert result.exit_code == 0, result.stderr
    assert f"stack.tif: {cells} cells, " in result.stderr


def test_one_time_of_a_time_lapse_is_chosen(tmp_path: Path, tiny_model: Path, discs: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "lapse.tif", np.stack([discs, discs]))
    for options, cells in (((), 6), (("--t", 1), 3)):
        result = suggest(tmp_path / "lapse.tif", "-m", tiny_model, "--axes", "TYX", *options)
        assert f"lapse.tif: {cells} cells, " in result.stderr


def test_options_that_permit_what_most_images_do_not_need(folder: Path, tiny_model: Path, discs: np.ndarray) -> None:
    image = discs.astype(np.float32)
    image[3, 3] = np.nan
    tifffile.imwrite(folder / "unknown.tif", image)
    refused = suggest(folder / "unknown.tif", "-m", tiny_model)
    assert refused.exit_code == 3
    assert "or give --nan fill [not_finite]" in refused.stderr
    filled = suggest(folder / "unknown.tif", "-m", tiny_model, "--nan", "fill")
    assert filled.exit_code == 0
    assert "changes nothing" not in filled.stderr
    for option in ("--nan fill", "--partial"):
        needless = suggest(folder / "sure.tif", "-m", tiny_model, *option.split())
        assert f"{option} changes nothing here: " in needless.stderr


def test_a_table_of_another_kind_is_refused(folder: Path, tiny_model: Path) -> None:
    result = suggest(folder, "-m", tiny_model, "-o", folder / "next.xlsx")
    assert result.exit_code == 2
    assert "next.xlsx: the name of the table ends in .csv" in result.stderr


def test_images_are_decoded_in_another_process(folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes too long fails alone."""
    monkeypatch.setattr(decoding, "PLATFORMS", ("linux",))
    monkeypatch.setattr(decoding, "LOOK_SECONDS", 0)
    result = suggest(folder / "sure.tif", "-m", tiny_model, "--decode-timeout", 1e-6)
    assert result.exit_code == 3
    assert "decoding took longer than 1e-06 s: a broken file, or give a larger --decode-timeout" in result.stderr
    assert suggest(folder / "sure.tif", "-m", tiny_model, "--decode-timeout", 60).exit_code == 0


def test_images_without_a_cell_come_last(folder: Path, tiny_model: Path) -> None:
    for number in range(9):
        tifffile.imwrite(folder / f"empty{number}.tif", np.full((64, 64), 10, np.uint8))
    result = suggest(folder, "-m", tiny_model, "-n", 3, "--failed-ok")
    assert result.stdout.splitlines() == [str(folder / f"{name}.tif") for name in ("doubtful", "sure", "empty0")]


def test_models_without_confidences_are_refused(folder: Path, tiny_model: Path) -> None:
    model = load_model(tiny_model)
    info = model.info.model_copy(update={"target": "classes", "cell_diameter_px": None})
    save_model(folder / "classes.safetensors", info, model.network)
    result = suggest(folder / "sure.tif", "-m", folder / "classes.safetensors")
    assert result.exit_code == 2
    assert "gives no confidences of cells: suggest needs a model of cells whose network classifies" in result.stderr
