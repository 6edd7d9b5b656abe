"""A short part of the long tests: commands that are killed, fail or find limits at exact places, and run again."""

import json
import subprocess
import sys
from pathlib import Path

import forked
import pytest

pytestmark = pytest.mark.skipif(forked.compiler() is None, reason="no C compiler, or another system than Linux")

SOAK = Path(__file__).with_name("soak.py")


def soak(tmp_path: Path, *line: object) -> list[tuple[str, list[str]]]:
    """What was tried, and the faults."""
    log = tmp_path / "soak.jsonl"
    command = [sys.executable, SOAK, *line, "--log", log]
    run = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert log.is_file(), run.stdout + run.stderr
    return [(what, faults) for _, what, faults, _ in map(json.loads, log.read_text().splitlines())]


def test_segment_survives_kills_and_errors(tmp_path: Path) -> None:
    found = soak(tmp_path, "crash-points", "ENOSPC", "limits", "--count", 2, "--commands", "segment")
    assert len(found) == 6
    assert [each for each in found if each[1]] == []


@pytest.mark.slow
def test_all_commands_survive_kills_and_errors(tmp_path: Path) -> None:
    found = soak(tmp_path, "crash-points", "EIO", "EIO-of-reads", "ENOSPC", "limits", "--count", 6)
    assert [each for each in found if each[1]] == []


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    found = soak(tmp_path, "kills-of-train", "--count", 3)
    assert len(found) == 3
    assert [each for each in found if each[1]] == []
