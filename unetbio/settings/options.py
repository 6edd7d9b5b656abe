"""Definition of an option in one place, for the command line, the settings of the workflow and the pages."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from numbers import Real
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from unetbio.errors import UsageError

__all__ = [
    "Checked",
    "Limits",
    "Option",
    "from_keywords",
    "given",
    "options_of",
    "split_floats",
    "split_names",
    "split_numbers",
]


Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Limits:
    """Limits of a number, named as pydantic names them: ``ge`` is "at least", ``gt`` is "above"."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def given(self) -> dict[str, Any]:
        """The limits that are set, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def check(self, name: str, value: Any) -> None:
        """Refuse values that are not finite numbers within the limits.

        Raises
        ------
        UsageError
            Naming the option, the value and the limits.
        """
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if not (is_number and math.isfinite(number := float(value)) and self._hold(number)):
            raise UsageError(f"{name} {value} must be a finite number {self}")

    def _hold(self, value: float) -> bool:
        low, high = self.ge if self.gt is None else self.gt, self.le if self.lt is None else self.lt
        is_above = low is None or value > low or value == self.ge
        return is_above and (high is None or value < high or value == self.le)

    def __str__(self) -> str:
        words = {"ge": "from", "gt": "above", "le": "at most", "lt": "below"}
        return " and ".join(f"{words[name]} {value:g}" for name, value in self.given().items())


@dataclass(frozen=True)
class Option:
    """Description of an option, apart from its type: ``series: Annotated[int | None, Option(...)] = None``.

    Parameters
    ----------
    help : str
        One line: of the command's help, of the workflow's schema and of every page.
    details : str
        More text, for ``docs/settings.md``.
    word : str
        Its name on the command line and in the workflow; the field's unless given.
    others : tuple of str
        Further names on the command line: ``-n``.
    metavar : str, optional
        Placeholder of the value in the command's help.
    limits : Limits
        Of a number.
    default_text : str
        Default in words, for a value that depends on the model, the file or the machine.
    unset : str
        Word for None on the command line, the default there.
    read : callable, optional
        Turns the text of the command line into a value; raises ValueError or `UsageError`.
    field, hint, default
        Filled in by `options_of`.
    """

    help: str
    details: str = ""
    word: str = ""
    others: tuple[str, ...] = ()
    metavar: str | None = None
    limits: Limits = Limits()
    default_text: str = ""
    unset: str = ""
    read: Callable[[str], Any] | None = None
    field: str = ""
    hint: Any = None
    default: Any = None

    @property
    def text(self) -> str:
        """Help and details."""
        return f"{self.help} {self.details}".strip()

    @property
    def key(self) -> str:
        """Name in the workflow."""
        return self.word or self.field

    @property
    def flag(self) -> str:
        """Name on the command line."""
        return f"--{self.key.replace('_', '-')}"

    @property
    def kinds(self) -> tuple[Any, ...]:
        """Types of the value, without None."""
        kinds = get_args(self.hint) if get_origin(self.hint) in (Union, UnionType) else (self.hint,)
        return tuple(kind for kind in kinds if kind is not NoneType)

    @property
    def words(self) -> tuple[str, ...]:
        """Allowed words, if the type, or that of the items of a tuple, names them."""
        inner = [item for kind in self.kinds for item in (get_args(kind) if get_origin(kind) is tuple else (kind,))]
        return tuple(word for kind in inner if get_origin(kind) is Literal for word in get_args(kind))

    def check(self, name: str, value: Any) -> None:
        """Refuse a number out of the limits, alone or in a tuple; raises as `Limits.check`."""
        for number in value if isinstance(value, tuple) else (value,):
            if number not in (None, *self.words):
                self.limits.check(name, number)

    def check_words(self, name: str, value: Any) -> None:
        """Refuse a word that is none of those that are allowed, where the type names them.

        Raises
        ------
        UsageError
            Naming the words.
        """
        takes_several = self.default == () and isinstance(value, (tuple, list))
        for word in value if takes_several else (value,):
            if self.words and word not in (self.default, *self.words):
                raise UsageError(f"{name} {word!r} must be {' or '.join(self.words)}")


@cache
def options_of(kind: type) -> dict[str, Option]:
    """Options that annotate the fields of a dataclass, by field."""
    return dict(_options(kind))


def _options(kind: type) -> Iterator[tuple[str, Option]]:
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        hint, option = get_args(hints[field.name])
        yield field.name, replace(option, field=field.name, hint=hint, default=field.default)


def given(values: Any) -> dict[str, Any]:
    """Options of a dataclass of options that differ from their defaults, by field."""
    options = options_of(values.__class__)
    return {name: value for name, value in vars(values).items() if value != options[name].default}


def from_keywords(function: str, kind: type[Kind], keywords: Mapping[str, Any], **named: Any) -> Kind:
    """Options from the keyword arguments of a public function.

    Parameters
    ----------
    function : str
        Name of the function, for the error.
    kind : type
        The dataclass of options.
    keywords : mapping
        By the names of the command line (``pixel_size``), or of the fields (``pixel_size_um``).
    **named
        Fields that the function has as parameters of its own.

    Raises
    ------
    TypeError
        When a keyword is unknown.
    """
    plain: type = kind
    fields = {name: option.field for option in options_of(plain).values() for name in (option.key, option.field)}
    for name in keywords:
        if name not in fields or fields[name] in named:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
    return kind(**named, **{fields[name]: value for name, value in keywords.items()})


class Checked:
    """Base of dataclasses of options: numbers out of their limits, and words that there are not, are refused.

    From Python as on the command line.
    """

    def __post_init__(self) -> None:
        kind: type = type(self)
        for name, option in options_of(kind).items():
            check = option.check if {int, float} & set(option.kinds) else option.check_words
            check(name, getattr(self, name))


def split_names(text: str) -> tuple[str, ...]:
    """Names with commas between: ``background,cell``.

    Raises
    ------
    ValueError
        When a name is empty.
    """
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise ValueError(f"{text}: needs names with commas between, such as background,cell")
    return names


def split_numbers(text: str) -> tuple[int, ...]:
    """Whole numbers from 0 with commas between: ``0,255``.

    Raises
    ------
    ValueError
        When a part is no such number.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ValueError(f"{text}: needs whole numbers from 0 with commas between, such as 0,255")
    return tuple(int(part) for part in parts)


def split_floats(text: str) -> tuple[float, ...]:
    """Finite numbers with commas between: ``2,1,1``.

    Raises
    ------
    ValueError
        When a part is no such number.
    """
    try:
        numbers = tuple(map(float, text.split(",")))
    except ValueError:
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{text!r}: needs finite numbers with commas between them, such as 2,1,1")
    return numbers
