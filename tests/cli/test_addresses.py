"""Addresses such as ``s3://...`` where a path of this machine is needed: one line says how, and nothing is written."""

import importlib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from unetbio.cli.main import COMMANDS, main
from unetbio.cli.options import AnnotatedPath, LocalPath, OutputPath

ADDRESS = "s3://bucket/folder"


def run(*line: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in line])


def paths_of(command: click.Command) -> list[tuple[str, click.Parameter]]:
    """Arguments and options of a command, and of those below it, that are paths."""
    found = [(command.name or "", one) for one in command.params if isinstance(one.type, click.Path)]
    return found + [one for below in getattr(command, "commands", {}).values() for one in paths_of(below)]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_path_of_a_command_knows_addresses(name: str) -> None:
    command = importlib.import_module(COMMANDS[name][0]).command
    for where, parameter in paths_of(command):
        assert isinstance(parameter.type, LocalPath | OutputPath | AnnotatedPath), f"{where}: {parameter.name}"


@pytest.mark.parametrize(
    "line",
    [
        ("import", ADDRESS, "-o", "masks"),
        ("import", "drawn", "--into", ADDRESS),
        ("evaluate", ADDRESS, "truth"),
        ("evaluate", "results", ADDRESS),
        ("weight-map", ADDRESS, "-o", "weights"),
        ("inspect", ADDRESS),
        ("measure", ADDRESS),
        ("export", ADDRESS, "--to", "coco"),
        ("track", ADDRESS),
        ("relate", ADDRESS, "results", "-o", "related"),
        ("report", ADDRESS),
        ("verify", ADDRESS),
        ("view", ADDRESS),
        ("summarize", ADDRESS),
        ("models", ADDRESS),
        ("sign", ADDRESS, "--key", "key"),
        ("segment", "--table", f"{ADDRESS}/images.csv", "-o", "out"),
        ("segment", "x.tif", "-o", "out", "-m", f"{ADDRESS}/m.safetensors"),
        ("train", "pairs", "-o", "m.safetensors", "--start", f"{ADDRESS}/m.safetensors"),
    ],
    ids=lambda line: " ".join(line).replace(ADDRESS, "ADDRESS"),
)
def test_an_input_at_an_address_is_refused_with_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("pairs", "drawn", "truth", "results"):
        (tmp_path / folder).mkdir()
    (tmp_path / "x.tif").touch()
    result = run(*line)
    assert result.exit_code == 2
    assert f"{ADDRESS}" in result.stderr
    assert "is not on this machine: download it first (such as aws s3 cp --recursive ADDRESS .)" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "line",
    [
        ("segment", "x.tif", "-o", ADDRESS),
        ("import", "drawn", "-o", ADDRESS),
        ("samples", ADDRESS),
        ("new", ADDRESS),
        ("export", "results", "--to", "coco", "-o", ADDRESS),
    ],
    ids=lambda line: line[0],
)
def test_an_output_at_an_address_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*line)
    assert result.exit_code == 2
    assert f"{ADDRESS} is an address: give a name on this machine" in result.stderr
    assert not list(tmp_path.iterdir())
