"""``unetbio models``: shipped ones, those of a folder, and files that are none."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from unetbio.cli.main import main
from unetbio.models import shipped_models
from unetbio.models.kinds import SHIPPED_FOR, UNSHIPPED
from unetbio.models.model_file import read_info
from unetbio.tensor_file import load_tensors, save_tensors


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "mine.safetensors").write_bytes(tiny_model.read_bytes())
    return tmp_path


def test_a_folder(folder: Path) -> None:
    result = CliRunner().invoke(main, ["models", str(folder)])
    assert result.exit_code == 0
    first, second = result.stdout.splitlines()
    assert first.startswith(f"{folder}/sub/mine.safetensors  (unet, instances, ")
    assert second == "  2-D, channels: nuclei, cells of about 12 px, pixels of 0.5 x 0.5 um"


def test_scores_of_training_and_channels_without_names(tmp_path: Path, tiny_model: Path) -> None:
    tensors, _ = load_tensors(tiny_model)
    info = read_info(tiny_model).model_copy(
        update={
            "channels": ("",),
            "cell_diameter_px": 24.3844,
            "scores": {"validation": {"AP@.5": 0.81818, "mean_AP": 0.55716}, "note": "x"},
        }
    )
    save_tensors(tmp_path / "mine.safetensors", tensors, {"unetbio": info.model_dump_json()})
    lines = CliRunner().invoke(main, ["models", str(tmp_path)]).stdout.splitlines()
    assert lines[1:] == [
        "  2-D, 1 channel, cells of about 24 px, pixels of 0.5 x 0.5 um",
        "  validation: AP@.5 0.818, mean_AP 0.557",
    ]


def test_listing_needs_no_torch() -> None:
    code = (
        "import sys; from unetbio.cli.main import main\n"
        "try: main(['models', '--json'])\n"
        "except SystemExit as error: assert error.code == 0\n"
        "assert not {'torch', 'monai'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode == 0


def test_json(folder: Path) -> None:
    (row,) = json.loads(CliRunner().invoke(main, ["models", str(folder), "--json"]).stdout)
    assert (row["name"], row["architecture"], row["ndim"]) == ("tiny", "unet", 2)
    assert row["bytes"] == (folder / "sub" / "mine.safetensors").stat().st_size
    assert row["channels"] == ["nuclei"]


def test_files_that_are_no_models_are_named_and_passed_over(folder: Path) -> None:
    (folder / "broken.safetensors").write_bytes(b"no")
    result = CliRunner().invoke(main, ["models", str(folder)])
    assert result.exit_code == 0
    assert "broken.safetensors is not a model file" in result.stderr
    assert "mine.safetensors" in result.stdout


def test_checkpoints_are_passed_over_without_a_word(folder: Path) -> None:
    """But not a model that is called so."""
    checkpoint = folder / "sub" / "mine.checkpoint.safetensors"
    save_tensors(checkpoint, {}, {"progress": "{}"})
    result = CliRunner().invoke(main, ["models", str(folder)])
    assert (result.exit_code, result.stderr) == (0, "")
    assert str(checkpoint) not in result.stdout
    checkpoint.write_bytes((folder / "sub" / "mine.safetensors").read_bytes())
    assert str(checkpoint) in CliRunner().invoke(main, ["models", str(folder)]).stdout


def test_shipped_models_are_listed_by_the_names_that_segment_takes() -> None:
    rows = json.loads(CliRunner().invoke(main, ["models", "--json"]).stdout)
    assert [row["model"] for row in rows] == list(shipped_models())
    assert {row["model"]: row["objects"] for row in rows} == SHIPPED_FOR


def test_lists_say_what_a_shipped_model_finds() -> None:
    assert "  nuclei in fluorescence, 2-D, 1 channel, " in CliRunner().invoke(main, ["models"]).stdout


def test_no_models(tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["models", str(tmp_path)]).stdout == f"no models in {tmp_path}\n"


def test_no_folder_is_2(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["models", str(tmp_path / "nowhere")])
    assert result.exit_code == 2
    assert "is not a folder" in result.stderr


def test_commands_for_images_that_no_shipped_model_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listed = CliRunner().invoke(main, ["models"]).stdout
    assert UNSHIPPED
    for kind in UNSHIPPED:
        assert f"{kind.objects}  ({kind.data})\n  {kind.command}\n" in listed
        result = CliRunner().invoke(main, kind.command.split()[1:])
        assert result.exit_code == 2
        assert re.search(r"(IMAGES|STACKS).*does not exist|no such", result.stderr), result.stderr
    assert "unetbio train" not in CliRunner().invoke(main, ["models", "--json"]).stdout
