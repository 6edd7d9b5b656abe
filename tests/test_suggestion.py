"""Images to annotate next: many doubtful cells, and unlike each other."""

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result

from unetbio.cli.main import main
from unetbio.suggestion import choose_diverse


def test_choices_agree_with_a_loop() -> None:
    rng = np.random.default_rng(0)
    doubts, features = rng.uniform(1, 2, 12), rng.normal(size=(12, 3)) * (1, 10, 100)
    scaled = features / features.std(axis=0)
    chosen = [int(np.argmax(doubts))]
    while len(chosen) < 5:
        worths = {
            number: doubts[number] * max(0.1, min(np.linalg.norm(scaled[number] - scaled[one]) for one in chosen))
            for number in range(12)
            if number not in chosen
        }
        chosen.append(max(worths, key=worths.__getitem__))
    assert choose_diverse(doubts, features, 5) == chosen


def test_all_are_chosen_where_there_are_fewer_and_equal_features_leave_doubt() -> None:
    assert choose_diverse(np.array([1.0, 3.0, 2.0]), np.ones((3, 2)), 9) == [1, 2, 0]
    assert choose_diverse(np.zeros(0), np.zeros((0, 2)), 3) == []


@pytest.fixture
def folder(tmp_path: Path, discs: np.ndarray) -> Path:
    """Sure discs, doubtful ones (grey value 110: probability .73), and a file that is no image."""
    for name, value in (("sure", 200), ("doubtful", 110)):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.where(discs == 200, value, discs).astype(np.uint8))
    (tmp_path / "broken.tif").write_bytes(b"none")
    return tmp_path


def suggest(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["suggest", *(str(argument) for argument in arguments), "--device", "cpu"])


def test_the_command_names_doubtful_images_first(folder: Path, tiny_model: Path) -> None:
    result = suggest(folder, "-m", tiny_model, "-n", 1, "-o", folder / "next.csv")
    assert result.exit_code == 3
    assert result.stdout == f"{folder / 'doubtful.tif'}\n"
    assert "broken.tif: " in result.stderr
    assert "suggested 1 of 3 images, 1 failed" in result.stderr
    (row,) = csv.DictReader((folder / "next.csv").read_text().splitlines())
    assert (row["image"], row["n_cells"]) == (str(folder / "doubtful.tif"), "3")
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
    assert list(csv.DictReader((folder / "next.csv").read_text().splitlines())) == []


def test_a_table_of_another_kind_is_refused(folder: Path, tiny_model: Path) -> None:
    result = suggest(folder, "-m", tiny_model, "-o", folder / "next.xlsx")
    assert result.exit_code == 2
    assert "next.xlsx: the name of the table ends in .csv" in result.stderr


def test_models_without_confidences_are_refused(
    folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unetbio import suggestion
    from unetbio.segmentation import segment

    def without_confidences(*arguments: object, **options: object) -> object:
        labels, info = segment(*arguments, **options)  # type: ignore[arg-type]
        return labels, {**info, "frames": [{**frame, "confidences": ()} for frame in info["frames"]]}

    monkeypatch.setattr(suggestion, "segment", without_confidences)
    result = suggest(folder / "sure.tif", "-m", tiny_model)
    assert result.exit_code == 2
    assert "tiny.safetensors gives no confidences of cells: suggest needs a model whose network" in result.stderr
