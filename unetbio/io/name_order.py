"""Order of the times and sections that stand in names of files, and gaps between them."""

import re
from collections.abc import Collection, Sequence
from decimal import Decimal
from itertools import pairwise

__all__ = ["in_natural_order", "left_out"]

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)")
_SIGNED = re.compile(r"(^-?\d+(?:\.\d+)?|\d+(?:\.\d+)?)")


def in_natural_order(values: Collection[str]) -> list[str]:
    """Sort by the numbers in words, as a person reads them.

    >>> in_natural_order(["t10", "t9", "t1"])
    ['t1', 't9', 't10']
    >>> in_natural_order(["10.0", "2.0", "0.5", "-1"])
    ['-1', '0.5', '2.0', '10.0']
    """
    # A hyphen before every value parts it from the rest of the name.
    number = _NUMBER if all(value.startswith("-") for value in values) else _SIGNED
    return sorted(values, key=lambda value: (_parts(number, value), value))


def _parts(number: re.Pattern[str], value: str) -> list[str | Decimal]:
    """Words and numbers of a value, by turns, from a word that may be empty."""
    return [Decimal(part) if place % 2 else part for place, part in enumerate(number.split(value))]


def left_out(values: Sequence[str]) -> list[int]:
    """Numbers that are missing between others, which have regular steps without them.

    Fewer than there are values: names with other numbers, such as dates, have no gaps.

    >>> left_out(["00", "01", "03"])
    [2]
    >>> left_out(["10", "20", "27"])
    []
    """
    if not all(value.isdecimal() for value in values):
        return []
    numbers = sorted(map(int, values))
    steps = [after - before for before, after in pairwise(numbers)]
    step = min(steps, default=0)
    if not step or any(each % step for each in steps) or numbers[-1] - numbers[0] >= 2 * len(numbers) * step:
        return []
    return sorted(set(range(numbers[0], numbers[-1], step)) - set(numbers))
