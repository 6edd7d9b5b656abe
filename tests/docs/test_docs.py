"""What the documentation says is so."""

import importlib
import re
import runpy
import subprocess
import sys
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner

from unetbio import networks
from unetbio.cli.main import COMMANDS, main
from unetbio.compare.lessons import LESSONS
from unetbio.geometry import receptive_field
from unetbio.provenance import NOT_EXACT
from unetbio.report.diagram import draw_network
from unetbio.report.page import WARNINGS
from unetbio.segmentation import frame_warnings

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("config/*.md")])
# Explained once, at the top of the page.
COMMON = {"--help", "--verbose", "--quiet"}


def _section(name: str) -> str:
    """What docs/command_line.md says of a command."""
    text = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    found = re.search(rf"^## unetbio {name}\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert found, f"docs/command_line.md has no section '## unetbio {name}'"
    return found[1]


def _command(name: str) -> click.Command:
    command: click.Command = importlib.import_module(COMMANDS[name][0]).command
    return command


def _parameters(name: str) -> list[click.Parameter]:
    """Those of a command and of its subcommands."""
    command = _command(name)
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return [parameter for each in (command, *below) for parameter in each.params]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("Usage: ")
    command = _command(name)
    assert command.help
    for parameter in _parameters(name):
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts[0]} has no help"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_documented(name: str) -> None:
    section = _section(name)
    assert f"    unetbio {name}" in section
    options = {option for parameter in _parameters(name) for option in parameter.opts if option.startswith("--")}
    missing = {option for option in options - COMMON if f"`{option}`" not in section}
    assert not missing


def test_nothing_is_documented_that_is_not_there() -> None:
    text = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^## unetbio (\S+)", text, flags=re.MULTILINE)) == set(COMMANDS)
    for name in COMMANDS:
        known = {option for parameter in _parameters(name) for option in parameter.opts} | COMMON
        assert set(re.findall(r"`(--[a-z-]+)", _section(name))) - {"--no-deps"} <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        assert link.startswith(("http://", "https://")) or (page.parent / link).exists(), link


def test_every_warning_is_explained() -> None:
    """By a row of docs/scale.md, and in words on the page."""
    source = Path(frame_warnings.__file__).read_text(encoding="utf-8")
    codes = {code.replace("{NOT_EXACT}", NOT_EXACT) for code in re.findall(r'yield f?"([\w{}]+)', source)}
    assert {"constant", "filled", "unknown", NOT_EXACT} <= codes
    table = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8").split("## Warnings\n")[1]
    explained = {
        code for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for code in re.findall(r"`(\w+)", row)
    }
    assert codes <= explained
    assert codes <= set(WARNINGS)


def test_lines_of_the_readme_call_commands_that_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    called = re.findall(r"^    unetbio ([a-z-]+)(.*)", text, flags=re.MULTILINE)
    assert called
    for name, rest in called:
        known = {option for parameter in _parameters(name) for option in parameter.opts}
        assert set(re.findall(r"(?<=\s)--?[a-z-]+", rest.split("#")[0])) <= known


def test_the_python_of_the_readme_runs(tmp_path: Path, discs: object) -> None:
    import tifffile

    found = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert found
    tifffile.imwrite(tmp_path / "cells.tif", discs)
    run = subprocess.run([sys.executable, "-c", found[1]], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert re.fullmatch(r"\d+ cells\n", run.stdout)


# --- docs/networks.md -----------------------------------------------------------------------------------------------

NETWORKS_PAGE = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")


def rows_after(mark: str) -> dict[str, list[str]]:
    """Cells of each row of the table behind a comment, by the network in the first cell."""
    lines = NETWORKS_PAGE.split(f"<!-- {mark} -->\n")[1].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row[1:] for row in cells}


@pytest.mark.parametrize("name", networks.names())
def test_the_page_of_networks_says_of_each_what_is_so(name: str) -> None:
    architecture = networks.find(name)
    parameters = architecture.defaults
    geometry = architecture.geometry(parameters)
    with torch.device("meta"):
        weights = networks.parameter_count(networks.build(name))
    field = receptive_field(architecture.path(parameters))
    exact = "exact when asked for" if architecture.exact(parameters) else "windows"
    tiles = "exact" if architecture.is_tiled_exactly(parameters) else exact
    expected = [f"{weights / 1e6:.2f} M", field, geometry.context[0], geometry.stride[0], geometry.padding, tiles]
    assert rows_after("geometry")[name] == list(map(str, expected))
    assert f"{architecture.import_path.partition(':')[0].replace('.', '/')}.py" in NETWORKS_PAGE


def test_the_page_of_networks_lists_the_tricks_of_the_registry() -> None:
    table = rows_after("tricks")
    for name in networks.names():
        architecture = networks.find(name)
        listed = [", ".join(map(str, tricks)) for tricks in (architecture.tricks, architecture.paper_tricks)]
        assert table[name][:2] == listed if name in table else not architecture.tricks


@pytest.mark.parametrize("name", [n for n in networks.names() if networks.find(n).output == "logits"])
def test_the_drawings_show_the_code(name: str) -> None:
    path = ROOT / "docs" / "images" / "networks" / f"{name}.svg"
    assert path.read_text(encoding="utf-8") == draw_network(name), "unetbio networks --draw docs/images/networks"
    assert f"images/networks/{name}.svg" in NETWORKS_PAGE


def test_the_tables_of_the_comparison_show_its_figures() -> None:
    script = runpy.run_path(str(ROOT / "benchmarks" / "comparison_docs.py"))
    comparison, learning = (script["read_rows"](ROOT / "docs" / f"{name}.csv") for name in ("comparison", "learning"))
    assert set(comparison) >= {*networks.names(), *(name for lesson in LESSONS.values() for name in lesson.names)}
    assert set(learning) >= set(networks.names())
    shown = 0
    for page in ROOT.glob("docs/*.md"):
        text = page.read_text(encoding="utf-8")
        shown += len(script["TABLE"].findall(text))
        assert script["tables"](text, comparison, learning) == text, f"{page.name}: benchmarks/comparison_docs.py"
    assert shown > len(LESSONS)
