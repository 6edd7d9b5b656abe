"""Values of options, as people write them: pixel sizes, numbers of images, presets, axes."""

import operator
import os
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Literal

from unetbio.errors import UsageError
from unetbio.settings.options import Option

__all__ = [
    "Diameter",
    "PixelSize",
    "Precision",
    "are_axes",
    "as_typed",
    "check_preset",
    "parse_pixel_size",
    "parse_series",
]

PixelSize = float | tuple[float, float]
"""Micrometres in the plane; or the distance of sections, and micrometres in the plane."""

Diameter = float | Literal["auto", "model"]
"""Pixels of the image; or from the image itself; or that of the cells in training."""

Precision = Literal["float32", "int8", "bfloat16"]
"""Numbers that a network computes with."""

MOST_DIGITS = 9
"""Of the number of a series."""


def parse_pixel_size(text: str) -> PixelSize:
    """``0.5``: micrometres in the plane; ``2,0.5``: the distance of sections first.

    Raises
    ------
    ValueError
        When it is neither.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(0 < number < float("inf") for number in numbers):
        raise ValueError(f"{text!r} is no number above 0, such as 0.5; of stacks Z,YX, such as 2,0.5")
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def parse_series(text: str) -> int | str:
    """A number, or the text: a range or a name.

    Raises
    ------
    ValueError
        When it is empty, or larger than any file has.
    """
    text = text.strip()
    if not text:
        raise ValueError("a number, a range such as 2-5, a name or all is needed")
    if text.isdecimal() and len(text) > MOST_DIGITS:
        raise ValueError(f"series {text[:20]}: no file holds so many images; they count from 0")
    return int(text) if text.isdecimal() else text


def check_preset(name: str) -> str:
    """Check the name of a preset of the CRF.

    Raises
    ------
    UsageError
        When there is no preset of this name; the message lists the presets.
    """
    from unetbio.postprocessing.crf import crf_settings  # here, since numba takes its time

    crf_settings(name)
    return name


def are_axes(axes: str) -> bool:
    """Whether these are letters of TCZYX, each once and Y and X among them."""
    # Some programs name the colour axis S (samples).
    letters = axes.upper().replace("S", "C")
    return len(set(letters)) == len(letters) and {"Y", "X"} <= set(letters) <= set("TCZYX")


def as_typed(name: str, option: Option, value: Any) -> Any:
    """The value of an option, of Python or of the command line, as the latter gives it.

    Raises
    ------
    UsageError
        When the option does not take it.
    """
    if option.default == ():
        return _several(name, option, value)
    if isinstance(value, str) and str in option.kinds:
        return _read(name, option, value)
    if int in option.kinds:
        return _index(name, value, option.words)
    if float in option.kinds:
        option.check(name, value)
        return _number(value)
    option.check_words(name, value)
    return value


def _several(name: str, option: Option, value: Any) -> tuple[Any, ...]:
    """Values of an option that takes several; a single one may stand by itself, and None is none."""
    if isinstance(value, str):
        value = _read(name, option, value)
    if value is None:
        return ()
    items = (value,) if isinstance(value, (str, os.PathLike, Integral)) else value
    return tuple(operator.index(item) if isinstance(item, Integral) else item for item in items)


def _read(name: str, option: Option, text: str) -> Any:
    try:
        return text if option.read is None else option.read(text)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from error


def _index(name: str, value: Any, words: Sequence[str]) -> int | str | None:
    """A number from 0, as Python has them, or one of the words."""
    if value is None or (isinstance(value, str) and value in words):
        return value
    # Integers of numpy are accepted too; True and False are refused.
    if not hasattr(value, "__index__") or isinstance(value, bool) or operator.index(value) < 0:
        choices = "".join(f", or {word!r}" for word in words)
        raise UsageError(f"{name} {value!r} must be a number from 0{choices}")
    return operator.index(value)


def _number(value: Any) -> Any:
    """A number as Python has them: types tell numbers from words, and those of numpy are none of these."""
    if isinstance(value, tuple):
        return tuple(map(_number, value))
    return float(value) if isinstance(value, Real) and not isinstance(value, int) else value
