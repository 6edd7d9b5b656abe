"""Options and lines that several commands share."""

import importlib
import math
from typing import Any

import click
import pytest
from click.testing import CliRunner

from unetbio.cli import options
from unetbio.cli.main import COMMANDS
from unetbio.errors import UsageError
from unetbio.settings.segmentation import Settings


@click.command()
@options.options(Settings, "threshold", "diameter_px", "max_area")
@options.collected(settings=Settings)
def command(settings: Settings) -> None:
    """Echo what was given."""
    click.echo([settings.threshold, settings.diameter_px, settings.max_area])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--threshold", value) for value in ("0", "1", "2", "nan")),
        *(("--diameter", value) for value in ("0", "-3", "nan", "inf")),
        *(("--max-area", value) for value in ("-1", "nan")),
    ],
)
def test_numbers_that_cannot_be_meant_name_the_option(option: str, value: str) -> None:
    result = CliRunner().invoke(command, [option, value])
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.stderr


@pytest.mark.parametrize(
    ("name", "option", "text", "message"),
    [
        ("segment", "--diameter", "big", "'big' is not a valid number or word of PX|auto|model."),
        ("train", "--diameter", "big", "'big' is not a valid number or word of PX|auto."),
        ("segment", "--threshold", "half", "'half' is not a valid number."),
        ("train", "--steps", "1.5", "'1.5' is not a valid integer."),
        ("verify", "--rerun", "all", "'all' is not a valid integer."),
    ],
)
def test_words_in_place_of_numbers(name: str, option: str, text: str, message: str) -> None:
    """Click speaks of a float range, in messages and in the help."""
    result = CliRunner().invoke(_command(name), [".", option, text])
    assert result.exit_code == 2
    assert f"Invalid value for '{option}': {message}" in result.stderr
    shown = CliRunner().invoke(_command(name), ["--help"]).stdout
    assert option in shown
    assert "RANGE" not in shown


def test_numbers_that_can_be_meant() -> None:
    arguments = ["--threshold", "0.5", "--diameter", "12", "--max-area", "0"]
    assert CliRunner().invoke(command, arguments).stdout == "[0.5, 12.0, 0.0]\n"


def _command(name: str) -> click.Command:
    command: click.Command = importlib.import_module(COMMANDS[name][0]).command
    return command


def _read(option: click.Parameter, command: click.Command, text: str) -> Any:
    """What an option makes of a text; None where it refuses it."""
    try:
        return option.process_value(click.Context(command), (text,) if option.multiple else text)
    except (click.BadParameter, UsageError):
        return None


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "nan,1", "1,inf"])
@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_of_any_command_takes_a_number_that_is_not_finite(name: str, text: str) -> None:
    command = _command(name)
    for option in command.params:
        if not (isinstance(option, click.Option) and option.is_flag):
            read = _read(option, command, text)
            values = read if isinstance(read, tuple) else (read,)
            assert not [value for value in values if isinstance(value, float) and not math.isfinite(value)], option.name


def test_summary_line() -> None:
    line = options.summary_line([(1, "image"), (41212, "cell")], 2, "out/summary.csv")
    assert line == "1 image, 41 212 cells, 2 failed: out/summary.csv"
