"""The Snakemake workflow before it runs: plans, settings, projects, and what Snakemake thinks of it."""

import re
import shutil
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from snakemake.scheduling.job_scheduler import JobScheduler
from workflow_runs import ROOT, command_line, make_project, snakemake

from unetbio.cli.main import main
from unetbio.pipelines import SNAKEFILE, end_at_once


def test_a_project_of_ones_own(tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What unetbio new makes runs as it is, with its profile."""
    monkeypatch.chdir(tmp_path)
    images = "raw, ü \N{PETRI DISH}"
    command = ["new", "mine", "--images", images]
    refused = CliRunner().invoke(main, command)
    assert (refused.exit_code, f"{images} does not exist: give files" in refused.stderr) == (2, True)
    assert not (tmp_path / "mine").exists()
    (tmp_path / images).mkdir()
    shutil.copy(samples / "confocal_z26.ome.tif", tmp_path / images)
    made = CliRunner().invoke(main, command)
    assert made.exit_code == 0, made.stderr
    again = CliRunner().invoke(main, command)
    assert (again.exit_code, "mine is not empty: give a new folder" in again.stderr) == (2, True)
    project = tmp_path / "mine"
    run = snakemake(project, "--workflow-profile", "profiles/local", "--dry-run", "-p", snakefile=project / "Snakefile")
    assert run.returncode == 0, run.stdout
    assert re.search(r"total +7\n", run.stdout)
    assert "unetbio segment " in run.stdout
    # The model's file, an input: when a release ships another model of this name, it is newer than the masks.
    assert re.search(r"unetbio segment .* --model \S*models/nuclei\.safetensors ", run.stdout)
    assert images in run.stdout


def test_snakemake_does_not_wait_for_its_timers_when_all_is_done() -> None:
    woken = []
    others = threading.Timer(60, lambda: None)
    others.start()
    before = set(threading.enumerate())
    scheduler = SimpleNamespace(_open_jobs=SimpleNamespace(release=lambda: woken.append(True)))
    JobScheduler._schedule_reevalutation(scheduler, 60)
    (timer,) = set(threading.enumerate()) - before
    try:
        end_at_once()
        timer.join(10)
        assert not timer.is_alive()
        assert not woken
        assert not others.finished.is_set()
    finally:
        timer.cancel()
        others.cancel()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("images: images\nimags: x\n", "unknown key imags: did you mean images?"),
        ("images: nowhere\n", "nowhere does not exist: give files, folders or patterns"),
    ],
)
def test_settings_are_checked_before_anything_is_planned(tmp_path: Path, settings: str, message: str) -> None:
    (tmp_path / "config.yaml").write_text(settings)
    run = snakemake(tmp_path, "--configfile", "config.yaml", "--dry-run")
    assert run.returncode == 1
    (line,) = run.stdout.splitlines()
    assert line.startswith("unetbio: error: ")
    assert f"config.yaml: {message}" in line
    assert not list(tmp_path.glob("*/*.csv"))


def test_the_snakefile_of_the_checkout_is_the_same_workflow_and_braces_in_patterns_are_no_wildcards(
    tmp_path: Path, samples: Path, tiny_model: Path
) -> None:
    pattern = r"_z(?P<section>\d{2})"
    make_project(tmp_path, samples, tiny_model, segment={"metadata_regex": pattern, "device": "cpu"})
    shutil.copytree(ROOT / "config", tmp_path / "config")
    run = snakemake(tmp_path, "--configfile", "config.yaml", "--dry-run", "-p", snakefile=ROOT / "Snakefile")
    assert run.returncode == 0, run.stdout
    assert pattern in run.stdout
    assert re.search(r"segment +2\n", run.stdout)
    assert re.search(r"total +7\n", run.stdout)


def test_a_copy_of_the_settings_may_name_several_models(tmp_path: Path, samples: Path) -> None:
    """Snakemake merges it with config/config.yaml, in which no model stands beside them."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / "images").mkdir()
    shutil.copy(samples / "confocal_z26.ome.tif", tmp_path / "images")
    text = (tmp_path / "config" / "config.yaml").read_text().replace("images: []", "images: images")
    (tmp_path / "mine.yaml").write_text(f"{text}models: [nuclei, nuclei-histology]\n")
    run = snakemake(tmp_path, "--configfile", "mine.yaml", "--dry-run", snakefile=ROOT / "Snakefile")
    assert run.returncode == 0, run.stdout
    assert re.search(r"segment +2\n", run.stdout)


def test_snakemake_finds_nothing_to_mend(tmp_path: Path, samples: Path, tiny_model: Path) -> None:
    """Among other things, that every rule has a log and a conda environment."""
    make_project(tmp_path, samples, tiny_model)
    run = snakemake(tmp_path, "--configfile", "config.yaml", "--lint")
    assert run.returncode == 0, run.stdout
    assert "Congratulations" in run.stdout


def test_every_rule_says_what_it_needs_and_does() -> None:
    for path in sorted(SNAKEFILE.parent.glob("*.smk")):
        for name, body in re.findall(r"^rule (\w+):\n((?:(?:    .*)?\n)+)", path.read_text(), flags=re.MULTILINE):
            needed = (
                {"log", "benchmark", "conda", "threads", "resources", "message", "shell"} if name != "all" else set()
            )
            assert needed <= set(re.findall(r"^    (\w+):", body, flags=re.MULTILINE)), (path.name, name)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What is committed: no data, no ignored files."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    subprocess.run(["git", "clone", "--quiet", ROOT, tmp_path / "clone"], check=True)
    return tmp_path / "clone"


@pytest.mark.slow
def test_a_fresh_clone_is_linted_and_planned_without_images_and_not_run(clone: Path) -> None:
    for look in ("--lint", "--dry-run"):
        run = snakemake(clone, look, snakefile=clone / "Snakefile")
        assert run.returncode == 0, run.stdout
    run = snakemake(clone, snakefile=clone / "Snakefile")
    assert run.returncode == 1
    assert "unetbio: error: images: none are given: name a file, a folder or a pattern in the settings" in run.stdout
    assert not (clone / "results" / "summary.csv").exists()
    run = snakemake(clone, "--config", "images=imagse", snakefile=clone / "Snakefile")
    assert run.returncode == 1
    *_, line = run.stdout.splitlines()
    assert "Traceback" not in run.stdout
    assert "imagse does not exist: give files, folders or patterns" in line


def test_without_unetbio_beside_snakemake_one_line_says_what_to_install(clone: Path) -> None:
    """The packages of the environments of rules are not those of Snakemake itself."""
    hidden = clone / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys; sys.modules['unetbio.pipelines'] = None\n")
    command, environment = command_line("--dry-run", snakefile=clone / "Snakefile")
    environment["PYTHONPATH"] = str(hidden)
    run = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    (line,) = run.stderr.strip().splitlines()[-1:]
    assert "lacks unetbio.pipelines: run 'pip install unetbio' there" in line
