"""Options that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["as_json", "device", "format_count", "model", "workers"]

Command = TypeVar("Command", bound=Callable[..., Any])


def model(command: Command) -> Command:
    """``--model``: a shipped model or a file."""
    return click.option(
        "-m",
        "--model",
        "model",
        default="nuclei",
        show_default=True,
        metavar="NAME|FILE",
        help="Shipped model or model file.",
    )(command)


def device(command: Command) -> Command:
    """``--device``."""
    return click.option(
        "--device", default="auto", show_default=True, metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps."
    )(command)


def workers(command: Command) -> Command:
    """``--workers``: processor cores."""
    return click.option(
        "--workers",
        type=click.IntRange(min=1),
        metavar="N",
        help="Processor cores to use.  [default: all of this process]",
    )(command)


def as_json(command: Command) -> Command:
    """``--json``: the result for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


def format_count(count: int, noun: str = "") -> str:
    """A number with its thousands apart, and a noun in the right number: ``41 212 cells``."""
    text = f"{count:,}".replace(",", " ")
    return f"{text} {noun}{'' if count == 1 else 's'}" if noun else text
