"""Releases: metadata that agree, files that build, and a package that works where nothing else is installed."""

import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONTAINERS = ("Dockerfile", "Dockerfile.cuda", "unetbio.def")
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


def _read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_citation_and_recipe_have_the_version_of_the_package() -> None:
    citation, recipe = (
        yaml.safe_load(_read(name)) for name in ("CITATION.cff", "integrations/conda-forge/recipe.yaml")
    )
    assert citation["version"] == recipe["context"]["version"] == PROJECT["version"]
    assert citation["license"] == recipe["about"]["license"] == PROJECT["license"]
    assert f"## {PROJECT['version']}" in _read("CHANGELOG.md")


def test_the_recipe_asks_for_what_pip_installs() -> None:
    recipe = yaml.safe_load(_read("integrations/conda-forge/recipe.yaml"))
    wanted = {f"python {PROJECT['requires-python']}"}
    for requirement in map(Requirement, PROJECT["dependencies"]):
        wanted.add(f"{CONDA_NAMES.get(requirement.name, requirement.name)} {requirement.specifier}")
    minimum = recipe["context"]["python_min"]
    assert {line.replace("${{ python_min }}", minimum) for line in recipe["requirements"]["run"]} == wanted
    entry_points = [f"{name} = {target}" for name, target in PROJECT["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == entry_points


def test_classifiers_name_each_python_that_is_tested() -> None:
    tested = {version for job in _jobs("ci.yml").values() for version in _versions(job)}
    named = {line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)}
    assert named == tested


@pytest.mark.parametrize("name", CONTAINERS)
def test_images_install_extras_that_exist(name: str) -> None:
    text = _read(f"integrations/containers/{name}")
    (extras,) = re.findall(r"pip install [^\n]*\[([\w,]+)\]", text)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    assert re.search(r"^ENTRYPOINT .*\"unetbio\"\]$|exec unetbio \"\$@\"$", text, flags=re.MULTILINE)
    assert f"integrations/containers/{name}" in text


@pytest.mark.parametrize("name", ["ci.yml", "windows-macos.yml"])
def test_ci_calls_what_is_there(name: str) -> None:
    targets = set(re.findall(r"^([\w-]+):", _read("Makefile"), flags=re.MULTILINE))
    commands = [step["run"] for job in _jobs(name).values() for step in job["steps"] if "run" in step]
    assert commands
    for command in commands:
        program, *words = command.split()
        if program == "make":
            assert words[0] in targets
        elif program == "python":
            ignored = [word.partition("=")[2] for word in words if word.startswith("--ignore=")]
            assert all((ROOT / path).is_dir() for path in ignored)
        else:
            assert (ROOT / program).is_file()


def _jobs(name: str) -> dict[str, Any]:
    jobs: dict[str, Any] = yaml.safe_load(_read(f".github/workflows/{name}"))["jobs"]
    return jobs


def _versions(job: dict[str, Any]) -> list[str]:
    matrix = job.get("strategy", {}).get("matrix", {}).get("python", [])
    return matrix or [
        step["with"]["python-version"] for step in job["steps"] if "python-version" in step.get("with", {})
    ]


@pytest.mark.slow
def test_wheel_and_sdist_install_and_segment(tmp_path: Path, discs: np.ndarray) -> None:
    """The wheel is built from the sdist, as `build` does, so that the sdist holds all that the wheel needs."""
    source, dist = tmp_path / "source", tmp_path / "dist"
    # A copy: the list of files of an earlier build would hide that one is missing.
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("cli", "config", "pipelines", "profiles", "unetbio"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    _run(sys.executable, "-m", "build", "--no-isolation", "-o", str(dist), str(source), cwd=tmp_path)
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    _run(sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist), cwd=tmp_path)

    python = _empty_environment(tmp_path / "environment")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    _run(*pip, "install", "-q", "--no-deps", str(wheel), cwd=tmp_path)
    unetbio = str(python.with_name("unetbio"))
    place = _run(str(python), "-c", "import unetbio; print(unetbio.__file__)", cwd=tmp_path)
    assert Path(place.strip()).is_relative_to(tmp_path)
    assert PROJECT["version"] in _run(unetbio, "--version", cwd=tmp_path)
    tifffile.imwrite(tmp_path / "cells.tif", discs)
    assert ", 3 cells," in _run(unetbio, "segment", "cells.tif", "-o", "results", "--device", "cpu", cwd=tmp_path)
    _run(unetbio, "new", "project", "--images", "cells.tif", cwd=tmp_path)
    assert (tmp_path / "project" / "Snakefile").is_file()


def _empty_environment(folder: Path) -> Path:
    """An environment that holds nothing, and finds the packages of this one that unetbio needs; its interpreter."""
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    # Paths alone: editable installations, unetbio's among them, are .pth files, which Python reads in `site` only.
    packages = [path for path in sys.path if path.endswith("site-packages")]
    (site / "packages.pth").write_text("\n".join(packages) + "\n", encoding="utf-8")
    return folder / "bin" / "python"


def _run(*command: str, cwd: Path) -> str:
    run = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert run.returncode == 0, run.stdout
    return run.stdout
