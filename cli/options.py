"""Options that several commands share."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from unetbio.errors import UsageError

if TYPE_CHECKING:
    from unetbio.results.collect_tables import Summary

__all__ = [
    "AREA",
    "EXIT_SOME_FAILED",
    "LENGTH",
    "PIXEL_SIZE",
    "PROBABILITY",
    "Number",
    "as_json",
    "counts",
    "device",
    "format_count",
    "metadata_regex",
    "model",
    "normalization",
    "normalize",
    "picture",
    "section",
    "several",
    "split_names",
    "split_numbers",
    "summary_line",
    "workers",
]

EXIT_SOME_FAILED = 3
"""Exit code of a run in which some files failed, or something was found."""


class Number(click.FloatRange):
    """A number of an option: finite, and within limits where there are any."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Refuse NaN, which compares with nothing, and infinity."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number

    def _describe_range(self) -> str:
        # click writes "x<=None" where there are no limits.
        return super()._describe_range() if (self.min, self.max) != (None, None) else ""


PROBABILITY = Number(0, 1, min_open=True, max_open=True)
"""A threshold: between 0 and 1, without either."""

LENGTH = Number(min=0, min_open=True)
"""A diameter or a width: above 0."""

AREA = Number(min=0)
"""An area in pixels: from 0."""


class _PixelSize(click.ParamType[Any, Any]):
    """``YX`` or ``Z,YX``, as `unetbio.settings.segmentation.parse_pixel_size` reads it."""

    name = "pixel size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from unetbio.settings.segmentation import parse_pixel_size

        if not isinstance(value, str):
            return value
        try:
            return parse_pixel_size(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


PIXEL_SIZE = _PixelSize()
"""The size of a pixel in micrometres, of stacks with the distance of sections in front."""

Command = TypeVar("Command", bound=Callable[..., Any])


_PICTURE_OPTIONS = [
    click.option(
        "--channel", multiple=True, metavar="NAME|INDEX", help="Channel to segment, by name or number from 0."
    ),
    click.option("--series", type=click.IntRange(min=0), metavar="INDEX", help="Image in its file, from 0."),
    click.option("--t", type=click.IntRange(min=0), metavar="INDEX", help="One time point, from 0; all by default."),
    click.option(
        "--z", metavar="INDEX|max|each", help="Section of a stack, from 0, the brightest of all, or each by itself."
    ),
    click.option("--axes", metavar="LETTERS", help="Axes of the file where it does not say, such as ZYX or TYX."),
    click.option(
        "--pixel-size",
        type=PIXEL_SIZE,
        metavar="[Z,]UM",
        help="Pixel size in um, where the file does not say; of stacks the distance of sections in front.",
    ),
    click.option("--diameter", type=LENGTH, metavar="PX", help="Typical diameter of the cells, to rescale by."),
]


def several(options: Sequence[Callable[..., Any]]) -> Callable[..., Any]:
    """Give a command a list of options, in this order."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def picture(command: Command) -> Command:
    """Which part of a file is the image, and at which scale: ``--channel`` and others."""
    decorated: Command = several(_PICTURE_OPTIONS)(command)
    return decorated


def section(text: str | None) -> Any:
    """What ``--z`` means: a number, or a word that `Settings` knows.

    Raises
    ------
    UsageError
        When it is neither.
    """
    if text in (None, "max", "each"):
        return text
    if not text.isdecimal():
        raise UsageError(f"--z {text} is neither a section's number from 0 nor max nor each")
    return int(text)


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


def normalize(command: Command) -> Command:
    """``--normalize``: which grey values become 0 and 1."""
    return click.option(
        "--normalize", default="auto", show_default=True, metavar="HOW", help="auto, p1,p99.8, 0,4095 or none."
    )(command)


def normalization(text: str) -> Any:
    """What ``--normalize`` means; None for ``auto``, which is the model's affair.

    Raises
    ------
    UsageError
        When it is nothing that can be meant.
    """
    from unetbio.settings.normalization import parse

    return None if text.strip().lower() == "auto" else parse(text)


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


def metadata_regex(command: Command) -> Command:
    """``--metadata-regex``: columns from the names of files."""
    return click.option(
        "--metadata-regex",
        metavar="REGEX",
        help="Named groups, such as (?P<well>[A-H][0-9]+), of each image's path become columns.",
    )(command)


def as_json(command: Command) -> Command:
    """``--json``: the result for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


def format_count(count: int, noun: str = "") -> str:
    """A number with its thousands apart, and a noun in the right number: ``41 212 cells``."""
    text = f"{count:,}".replace(",", " ")
    return f"{text} {noun}{'' if count == 1 else 's'}" if noun else text


def split_names(text: str, option: str) -> tuple[str, ...]:
    """Names with commas between: ``background,cell``.

    Raises
    ------
    UsageError
        When a name is empty.
    """
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise UsageError(f"{option} {text}: needs names with commas between, such as background,cell")
    return names


def split_numbers(text: str, option: str) -> tuple[int, ...]:
    """Whole numbers from 0 with commas between: ``0,255``.

    Raises
    ------
    UsageError
        When a part is no such number.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UsageError(f"{option} {text}: needs whole numbers from 0 with commas between, such as 0,255")
    return tuple(int(part) for part in parts)


def counts(summary: "Summary") -> list[tuple[int, str]]:
    """What a batch has made, for `summary_line`; cells where there are any to count."""
    return [(summary.images, "image"), *([] if summary.cells is None else [(summary.cells, "cell")])]


def summary_line(counts: Sequence[tuple[int, str]], failed: int, where: object) -> str:
    """What a run has made, how much failed and where it is: ``3 images, 41 cells, 0 failed: out/summary.csv``."""
    return f"{', '.join(format_count(count, noun) for count, noun in counts)}, {failed} failed: {where}"
