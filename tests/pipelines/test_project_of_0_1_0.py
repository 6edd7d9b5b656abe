"""A project that ``unetbio new`` of version 0.1.0 made, and settings of its workflow, are used as they are."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from unetbio.pipelines.settings import load_config

TESTS = Path(__file__).resolve().parents[1]
PROJECT = TESTS / "samples_0_1_0" / "project"


def test_a_project_runs(tmp_path: Path) -> None:
    folder = shutil.copytree(PROJECT, tmp_path / "project")
    shutil.copytree(TESTS / "samples_0_1_0" / "training" / "images", folder / "images")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "-n"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "segment" in run.stdout


def test_every_key_of_the_settings_means_what_it_meant() -> None:
    config = load_config(PROJECT / "config" / "every_key.yaml")
    expected = json.loads((PROJECT / "config" / "every_key_arguments.json").read_text())
    assert {
        "segment": config.segment.arguments(),
        "reading": config.segment.reading_arguments(),
        "measure": config.measure.arguments(),
        "check": config.check_arguments(),
    } == expected
