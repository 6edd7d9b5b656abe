"""The module for nf-core and the wrapper for Galaxy: their commands run here, without Nextflow and Galaxy."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from unetbio.cli.segment import command
from unetbio.provenance import read_provenance

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "integrations" / "nf-core" / "unetbio" / "segment"
WRAPPER = ROOT / "integrations" / "galaxy" / "unetbio_segment.xml"
IMAGE = ROOT / ".test" / "images" / "nuclei_1.ome.tif"
# Of the label image that the shipped model makes of the image on a CPU; a new model or a new default changes it.
LABEL_HASH = "361c82fa479fe99a77c0534175ca1ebaf939afecf943e50290b56de1b1bcc6ad"


def _version() -> str:
    version: str = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return version


def _options(text: str) -> set[str]:
    return set(re.findall(r"(?<=\s)--[a-z-]+", text))


def _run(script: str, folder: Path) -> None:
    """Run the lines of a job in bash, with the `unetbio` of this environment."""
    path = f"export PATH={Path(sys.executable).parent}:$PATH\n"
    run = subprocess.run(["bash", "-euo", "pipefail", "-c", path + script], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def _label_hash(provenance: Path) -> str | None:
    found = read_provenance(provenance)
    return found.output.label_hash if found else None


def test_options_are_those_of_the_command() -> None:
    known = {option for parameter in command.params for option in parameter.opts} | {"--version"}
    assert _options((MODULE / "main.nf").read_text(encoding="utf-8")) <= known
    assert _options(ElementTree.parse(WRAPPER).findtext("command") or "") <= known


def test_versions_are_those_of_the_package() -> None:
    environment = yaml.safe_load((MODULE / "environment.yml").read_text(encoding="utf-8"))
    assert environment["dependencies"] == [f"unetbio={_version()}"]
    assert ElementTree.parse(WRAPPER).findtext("macros/token") == _version()


def test_the_description_of_the_module_names_its_outputs() -> None:
    described = yaml.safe_load((MODULE / "meta.yml").read_text(encoding="utf-8"))
    emitted = re.findall(r"emit: (\w+)", (MODULE / "main.nf").read_text(encoding="utf-8"))
    assert list(described["output"]) == emitted


def test_the_wrapper_uses_each_input_and_writes_each_output() -> None:
    tool = ElementTree.parse(WRAPPER)
    script = tool.findtext("command") or ""
    names = [(param.get("name") or param.get("argument") or "").lstrip("-") for param in tool.iterfind("inputs/param")]
    assert names
    assert set(re.findall(r"\$\(?(\w+)", script)) - {"GALAXY_SLOTS"} == set(names)
    for output in tool.iterfind("outputs/data"):
        place = output.get("from_work_dir") or ""
        assert place == "labels.tif" or place.startswith("results/")


@pytest.mark.slow
def test_the_script_of_the_module_makes_the_masks(tmp_path: Path) -> None:
    source = (MODULE / "main.nf").read_text(encoding="utf-8")
    script = source.split("script:")[1].split('"""')[1]
    values = {
        "prefix": "sample",
        "chosen": "nuclei",
        "task.cpus": "1",
        "args": "--device cpu",
        "task.process": "SEGMENT",
    }
    for name, value in values.items():
        script = script.replace(f"${{{name}}}", value)
    # Nextflow removes the indentation of a script; \$ is a dollar of the shell.
    script = re.sub(r"^ {4}", "", script.replace("\\$", "$"), flags=re.MULTILINE)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / IMAGE.name).symlink_to(IMAGE)
    _run(script, tmp_path)
    assert _label_hash(tmp_path / "sample" / "nuclei_1_labels.json") == LABEL_HASH
    assert yaml.safe_load((tmp_path / "versions.yml").read_text()) == {"SEGMENT": {"unetbio": _version()}}
    for place in ("summary.csv", "cells.csv", "index.html"):
        assert (tmp_path / "sample" / place).is_file()


@pytest.mark.slow
def test_the_command_of_the_wrapper_makes_the_masks(tmp_path: Path) -> None:
    """With nothing but an image: Cheetah drops the lines of options that are not given."""
    tool = ElementTree.parse(WRAPPER)
    script = re.sub(r"^#if .*?^#end if\n", "", tool.findtext("command") or "", flags=re.MULTILINE | re.DOTALL)
    script = script.replace("$image.ext", "tiff").replace("$image", str(IMAGE)).replace("\\$", "$")
    _run(" ".join(script.split()), tmp_path)
    assert _label_hash(tmp_path / "results" / "image_labels.json") == LABEL_HASH
    for output in tool.iterfind("outputs/data"):
        assert (tmp_path / (output.get("from_work_dir") or "")).is_file()
    lines = tool.find("tests/test/output/assert_contents/has_n_lines")
    assert lines is not None
    assert lines.get("n") == str(len((tmp_path / "results" / "cells.csv").read_text().splitlines()))
