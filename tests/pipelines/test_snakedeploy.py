"""The workflow as a module of another project, as snakedeploy deploys workflows of the catalog."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

ROOT = Path(__file__).resolve().parents[2]


def _program(name: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip(f"{name} is not installed (make test-snakedeploy)")
    return found


def _run(*command: object, cwd: Path) -> str:
    run = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


@pytest.mark.slow
def test_a_deployed_project_plans_its_jobs(tmp_path: Path) -> None:
    snakedeploy, git = _program("snakedeploy"), _program("git")
    repository, project = tmp_path / "repository", tmp_path / "project"
    _run(git, "clone", "-q", ROOT, repository, cwd=tmp_path)
    _run(snakedeploy, "deploy-workflow", repository, project, "--branch", "main", "--name", "unetbio", cwd=tmp_path)
    snakefile = project / "workflow" / "Snakefile"
    # Of a repository on GitHub this is github("..."); of a folder snakedeploy writes a path that leads nowhere.
    text, count = re.subn(r"(snakefile:\s+)\S+", rf'\g<1>"{repository / "Snakefile"}"', snakefile.read_text())
    assert count == 1
    snakefile.write_text(text)
    (project / "images").mkdir()
    tifffile.imwrite(project / "images" / "a.tif", np.zeros((32, 32), np.uint8))
    planned = _run(
        *(sys.executable, "-m", "snakemake", "-n", "--cores", "1", "--config", "images=images"),
        *("output=results", "--workflow-profile", "none"),
        cwd=project,
    )
    assert re.search(r"^segment\s+1$", planned, flags=re.MULTILINE)
