"""``segment --profile``: where the time of a run went."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from tiny_model import field_of_squares

from unetbio.batch.profile import BESIDE, IN_TURN, RunProfile
from unetbio.cli.main import main
from unetbio.timing import StageTimes


def test_bars_and_advice() -> None:
    times = StageTimes({"network": 6.0, "waiting for images": 2.0, "reading": 3.0, "writing": 0.01}, total=8.0)
    assert RunProfile(2.0, times).lines() == [
        "time of the run: 10.0 s",
        "  start-up                  2.0 s     20%  ##########",
        "  waiting for images        2.0 s     20%  ##########",
        "  network                   6.0 s     60%  ##############################",
        "  reading                   3.0 s  beside  ###############",
        "most of it: network (another --device or --backend may be faster)",
    ]


@pytest.mark.parametrize("slowest", IN_TURN)
def test_every_stage_has_its_advice(slowest: str) -> None:
    assert RunProfile(0.0, StageTimes({slowest: 5.0}, total=5.0)).lines()[-1].startswith(f"most of it: {slowest} (")


def test_a_run_without_time() -> None:
    empty = RunProfile(0.0, StageTimes())
    assert empty.lines()[0] == "time of the run: 0.0 s"
    assert empty.values()["stages"] == dict.fromkeys((*IN_TURN, *BESIDE), 0.0)


def test_a_dry_run_has_no_profile(tmp_path: Path, tiny_model: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((60, 70), np.uint8))
    line = ["segment", str(tmp_path), "-o", str(tmp_path / "out"), "-m", str(tiny_model), "--dry-run", "--profile"]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 2
    assert "--dry-run runs nothing: leave one out" in result.stderr


def test_the_command_says_where_the_time_went(tmp_path: Path, tiny_model: Path) -> None:
    for number in range(2):
        tifffile.imwrite(tmp_path / f"{number}.tif", field_of_squares(number))
    line = ["segment", str(tmp_path), "-o", str(tmp_path / "out"), "-m", str(tiny_model), "--overwrite", "--profile"]
    said = CliRunner().invoke(main, line).stdout.splitlines()
    assert said[0].startswith("time of the run: ")
    assert said[-2].startswith("most of it: ")
    assert said[-1].startswith("2 images, ")
    found = json.loads(CliRunner().invoke(main, [*line, "--json"]).stdout)
    stages = found["profile"]["stages"]
    assert set(stages) == {*IN_TURN, *BESIDE}
    used = ("start-up", "network", "reading", "postprocessing", "measuring", "overlays", "writing", "tables")
    assert all(stages[name] > 0 for name in used)
    assert sum(stages[name] for name in IN_TURN) <= 1.01 * found["profile"]["total"] + 0.1
