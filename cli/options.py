"""Options that several commands share."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from unetbio.files import is_remote, public_address, refuse_remote
from unetbio.models import DEFAULT_MODEL
from unetbio.settings.options import Option, options_of
from unetbio.settings.runs import (
    AS_JSON,
    DECODE_TIMEOUT,
    DEVICE,
    FAILED_OK,
    GROUP,
    METADATA_REGEX,
    SPLIT_COMPONENTS,
    WORKERS,
)

if TYPE_CHECKING:
    from unetbio.results.tables.collect_tables import Summary

__all__ = [
    "EXIT_SOME_FAILED",
    "AnnotatedPath",
    "ExistingPath",
    "Integer",
    "LocalPath",
    "Number",
    "OutputPath",
    "Text",
    "as_click",
    "as_json",
    "collected",
    "counts",
    "decode_timeout",
    "device",
    "failed_ok",
    "format_count",
    "group",
    "metadata_regex",
    "model",
    "options",
    "split_components",
    "summary_line",
    "workers",
]

EXIT_SOME_FAILED = 3
"""Exit code of a run in which some files failed, or something was found."""


class Integer(click.IntRange):
    """Whole number of an option, within its limits."""

    # click calls it "integer range", in help and messages.
    name = "integer"


class Number(click.FloatRange):
    """Number of an option: finite and within its limits."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Refuse NaN, which compares with nothing, and infinity."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number

    def _describe_range(self) -> str:
        # click writes "x<=None" where there are no limits.
        return super()._describe_range() if (self.min, self.max) != (None, None) else ""


class _NumberOrWord(Number):
    """One of several words, or a number; ``shown`` is what the help of the command calls them."""

    def __init__(self, words: Sequence[str], shown: str | None, **limits: Any) -> None:
        super().__init__(**limits)
        self._words = words
        self.name = f"number or word of {shown}" if shown else "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Take a word as it is."""
        return value if value in self._words else super().convert(value, param, ctx)


class Text(click.ParamType[Any, Any]):
    """Value that a function reads from the text; ``unset`` is the word for None."""

    name = "text"

    def __init__(self, read: Callable[[str], Any], unset: str = "") -> None:
        self._read, self._unset = read, unset

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the text; other values were converted before."""
        if not isinstance(value, str):
            return value
        if self._unset and value.strip().lower() == self._unset:
            return None
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class LocalPath(click.Path):
    """A file or folder of this machine; keywords as of `click.Path`."""

    def __init__(self, **kinds: bool) -> None:
        super().__init__(path_type=Path, **kinds)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an address, and say how to get the file."""
        refuse_remote(value)
        return super().convert(value, param, ctx)


class ExistingPath(LocalPath):
    """A file or folder of this machine that is there."""

    def __init__(self) -> None:
        super().__init__(exists=True)


class OutputPath(click.Path):
    """A file or folder of this machine that is written; keywords as of `click.Path`."""

    def __init__(self, **kinds: bool) -> None:
        super().__init__(path_type=Path, **kinds)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an address, which would become a folder called ``s3:``, and a name that is empty."""
        if value == "":
            # Often an unset variable of a shell; as a path it would be the working directory.
            self.fail("it is empty: give a name, or . for the working directory", param, ctx)
        if is_remote(value):
            address = public_address(str(value))
            text = f"{address} is an address: give a name on this machine, and copy what is written there afterwards"
            self.fail(text, param, ctx)
        return super().convert(value, param, ctx)


class AnnotatedPath(ExistingPath):
    """A file or folder of images or masks, or the address of one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Hand an address on; it is copied where it is read."""
        return Path(value) if is_remote(value) else super().convert(value, param, ctx)


class _Choice(click.Choice[str]):
    """One of several words, of which the first means None."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        word = super().convert(value, param, ctx)
        return None if word == self.choices[0] else word


Command = TypeVar("Command", bound=Callable[..., Any])


def _index_or_word(words: Sequence[str]) -> Callable[[str], int | str]:
    def read(text: str) -> int | str:
        if text in words:
            return text
        if not text.isdecimal():
            raise ValueError(f"{text} is neither a number from 0 nor {' nor '.join(words)}")
        return int(text)

    return read


def _type(option: Option) -> click.ParamType[Any, Any] | None:
    """Type of an option for click; None is plain text."""
    limits = option.limits
    ends: dict[str, Any] = {
        "min": limits.ge if limits.gt is None else limits.gt,
        "max": limits.le if limits.lt is None else limits.lt,
        "min_open": limits.gt is not None,
        "max_open": limits.lt is not None,
    }
    if option.read is not None:
        return Text(option.read, option.unset)
    if int in option.kinds:
        return Text(_index_or_word(option.words)) if option.words else Integer(**ends)
    if option.words and float in option.kinds:
        return _NumberOrWord(option.words, option.metavar, **ends)
    if option.words:
        return _Choice([option.unset, *option.words]) if option.unset else click.Choice(option.words)
    if float in option.kinds:
        return Number(**ends)
    return ExistingPath() if Path in option.kinds else None


def as_click(option: Option) -> Callable[[Command], Command]:
    """Turn an option of `unetbio.settings` into one of a command."""
    names = (option.flag, *option.others, option.field)
    if bool in option.kinds:
        return click.option(*names, is_flag=True, help=option.help)
    is_list = option.default == () and option.read is None
    shown = option.unset or option.default or None
    return click.option(
        *names,
        type=_type(option),
        multiple=is_list,
        default=None if is_list else shown,
        show_default=bool(shown),
        metavar=option.metavar,
        help=option.help + (f"  [default: {option.default_text}]" if option.default_text else ""),
    )


def options(
    kind: type, *names: str, told: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
) -> Callable[[Command], Command]:
    """Give a command the options of a dataclass, in its order; only those in ``names``, if given.

    ``told`` replaces texts of options that mean something else in this command, such as their ``help``.
    """
    known = {name: replace(option, **told.get(name, {})) for name, option in options_of(kind).items()}

    def decorate(command: Command) -> Command:
        for name in reversed(names or tuple(known)):
            command = as_click(known[name])(command)
        return command

    return decorate


def collected(**kinds: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Pass the options of a command as dataclasses: ``collected(run=RunOptions)`` fills its argument ``run``."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def collect(**given: Any) -> Any:
            made = {}
            for name, kind in kinds.items():
                values = {field: given.pop(field) for field in options_of(kind) if field in given}
                made[name] = kind(**{field: value for field, value in values.items() if value is not None})
            return command(**given, **made)

        return collect

    return decorate


def _shared(field: str, hint: Any, option: Option, default: Any = None) -> Callable[[Command], Command]:
    return as_click(replace(option, field=field, hint=hint, default=default))


device = _shared("device", str, DEVICE, "auto")
workers = _shared("workers", int, WORKERS)
group = _shared("group", str, GROUP, "auto")
metadata_regex = _shared("metadata_regex", str, METADATA_REGEX)
as_json = _shared("as_json", bool, AS_JSON)
split_components = _shared("split_components", bool, SPLIT_COMPONENTS)
decode_timeout = _shared("decode_timeout", float, DECODE_TIMEOUT, 300.0)
failed_ok = _shared("failed_ok", bool, FAILED_OK)


def model(command: Command) -> Command:
    """``--model``: a shipped model or a file."""
    return click.option(
        "-m",
        "--model",
        "model",
        default=DEFAULT_MODEL,
        show_default=True,
        metavar="NAME|FILE",
        help="Shipped model or model file.",
    )(command)


def format_count(count: int, noun: str = "") -> str:
    """A number with its thousands apart, and a noun in the right number: ``41 212 cells``."""
    text = f"{count:,}".replace(",", " ")
    return f"{text} {noun}{'' if count == 1 else 's'}" if noun else text


def counts(summary: "Summary") -> list[tuple[int, str]]:
    """Counts of a batch for `summary_line`: images, and cells for a model that gives cells."""
    return [(summary.images, "image"), *([] if summary.cells is None else [(summary.cells, "cell")])]


def summary_line(counts: Sequence[tuple[int, str]], failed: int, where: object) -> str:
    """Counts, failures and output of a run: ``3 images, 41 cells, 0 failed: out/summary.csv``."""
    return f"{', '.join(format_count(count, noun) for count, noun in counts)}, {failed} failed: {where}"
