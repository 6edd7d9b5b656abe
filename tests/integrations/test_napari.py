"""The plugin of napari: its own tests, where napari and a display are; `make napari` installs napari."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "integrations" / "napari-unetbio"
PROJECT = tomllib.loads((PLUGIN / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_plugin_brings_no_qt_and_fits_this_version() -> None:
    names = {re.split(r"[^\w-]", requirement)[0].lower() for requirement in PROJECT["dependencies"]}
    assert names == {"napari", "qtpy", "unetbio"}
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"unetbio=={version.rpartition('.')[0]}.*" in PROJECT["dependencies"]
    # GPL: for users to choose, and not for us to install.
    assert not any("pyqt" in package for package in PROJECT["optional-dependencies"]["test"])


def test_the_manifest_names_what_there_is() -> None:
    manifest = yaml.safe_load((PLUGIN / "napari_unetbio" / "napari.yaml").read_text(encoding="utf-8"))
    commands = {command["id"]: command["python_name"] for command in manifest["contributions"]["commands"]}
    for name in commands.values():
        module, _, attribute = name.partition(":")
        source = (PLUGIN / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
        assert re.search(rf"^(class|def) {attribute}\b", source, flags=re.MULTILINE)
    used = [one["command"] for kind in ("widgets", "readers") for one in manifest["contributions"][kind]]
    assert sorted(used) == sorted(commands)


@pytest.mark.slow
def test_the_plugin_works_in_a_window() -> None:
    own = ROOT / "build" / "napari" / "bin" / "python"
    python = str(own if own.exists() else sys.executable)
    asked = subprocess.run([python, "-c", "import napari, pytestqt"], capture_output=True, check=False)
    if asked.returncode:
        pytest.skip("napari and pytest-qt are not installed: make napari installs them")
    window = []
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        if shutil.which("xvfb-run") is None:
            pytest.skip("there is no display, and no xvfb-run to make one")
        window = ["xvfb-run", "-a"]
    run = subprocess.run([*window, python, "-m", "pytest"], cwd=PLUGIN, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-3000:]
