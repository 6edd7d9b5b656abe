"""Parameters of networks: each is written once, as a field with its default, its limits and its meaning.

From the fields of a network's `NetworkParameters` follow the defaults, the checks and their messages, what
``unetbio networks NAME`` prints, the page ``docs/network_parameters.md``, and what the constructor takes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from math import inf
from reprlib import Repr
from typing import Any

from unetbio.geometry import Geometry, Layer, padded_geometry

__all__ = [
    "NetworkParameters",
    "Parameter",
    "PlanarParameters",
    "batch_norm",
    "choice",
    "described",
    "dropout",
    "flag",
    "number",
    "shown",
    "sizes_per_level",
    "whole_number",
    "whole_numbers",
]

LARGEST_SIZE = 63
"""Of a kernel or a pooling, in pixels."""


@dataclass(frozen=True)
class Parameter:
    """Default, limits and meaning of one parameter.

    Parameters
    ----------
    default : object
        Default value.
    meaning : str
        Effect of the parameter.
    must_be : str
        Allowed values, for messages.
    accepts : callable
        Whether a value is allowed.
    choices : mapping
        Allowed values with their meanings; empty for ranges.
    """

    default: Any
    meaning: str
    must_be: str
    accepts: Callable[[Any], bool]
    choices: Mapping[Any, str]


def _parameter(
    default: Any, meaning: str, must_be: str, accepts: Callable[[Any], bool], choices: Mapping[Any, str] | None = None
) -> Any:
    return field(default=default, metadata={"parameter": Parameter(default, meaning, must_be, accepts, choices or {})})


def _is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def whole_number(default: int, meaning: str, *, least: int, most: int) -> Any:
    """Define a parameter that is a whole number from ``least`` to ``most``."""
    return _parameter(
        default, meaning, f"a whole number from {least} to {most}", lambda value: _is_whole(value, least, most)
    )


def whole_numbers(default: tuple[int, ...], meaning: str, *, least: int, most: int) -> Any:
    """Define a parameter that is a list of whole numbers, as many as in the default."""

    def accepts(value: Any) -> bool:
        return _is_list(value, len(default), len(default)) and all(_is_whole(entry, least, most) for entry in value)

    return _parameter(default, meaning, f"{len(default)} whole numbers from {least} to {most}", accepts)


def sizes_per_level(meaning: str) -> Any:
    """Define a parameter that is left out, or a list a level with a size along each axis."""

    def accepts(value: Any) -> bool:
        return value is None or (_is_list(value) and all(_is_list(sizes) and _are_sizes(sizes) for sizes in value))

    return _parameter(None, meaning, f"a list a level, of whole numbers from 1 to {LARGEST_SIZE} each", accepts)


def _is_list(value: Any, least: float = 0, most: float = inf) -> bool:
    return isinstance(value, list | tuple) and least <= len(value) <= most


def _are_sizes(sizes: Collection[Any]) -> bool:
    return all(_is_whole(size, 1, LARGEST_SIZE) for size in sizes)


def number(default: float, meaning: str, *, must_be: str, accepts: Callable[[float], bool]) -> Any:
    """Define a parameter that is a number in a range."""

    def is_in_range(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and accepts(value)

    return _parameter(default, meaning, must_be, is_in_range)


def flag(default: bool, meaning: str) -> Any:
    """Define a parameter that is true or false."""
    return _parameter(default, meaning, "true or false", lambda value: isinstance(value, bool))


def choice(default: Any, meaning: str, choices: Mapping[Any, str]) -> Any:
    """Define a parameter that is one of ``choices``, each with its meaning."""

    def accepts(value: Any) -> bool:
        return any(type(value) is type(known) and value == known for known in choices)

    return _parameter(default, meaning, f"one of {', '.join(map(str, choices))}", accepts, choices)


def batch_norm(note: str) -> Any:
    """Define ``batch_norm``, which is off by default; ``note`` says a note on this network."""
    return flag(False, f"batch norm before each ReLU; {note}")


def dropout(where: str, aside: str = "") -> Any:
    """Define ``dropout``; ``where`` says after which layers, ``aside`` what else there is to say."""
    return number(
        0.5,
        f"probability with which training sets values {where} to zero" + (f"; {aside}" if aside else ""),
        must_be="a number from 0 to below 1",
        accepts=lambda value: 0 <= value < 1,
    )


@dataclass(frozen=True, kw_only=True)
class NetworkParameters(ABC):
    """A complete set of parameters of a network, and what follows from it without building the network.

    Attributes
    ----------
    path : tuple of Layer
        Layers along the path with the largest receptive field
        (`unetbio.geometry.receptive_field`).
    geometry : Geometry
        Context, stride and legal sizes.
    exact : bool
        Whether a tiled prediction equals that of the whole image.
    """

    ndim: int = choice(2, "spatial axes", {2: "images", 3: "stacks"})
    in_channels: int = whole_number(1, "channels of the image; training sets them", least=1, most=1024)
    num_classes: int = whole_number(
        2, "classes, the background included; training sets them by the target", least=2, most=1024
    )

    @property
    @abstractmethod
    def path(self) -> tuple[Layer, ...]:
        """See the class."""

    @property
    def geometry(self) -> Geometry:
        """See the class; the default is for a network that pads."""
        return padded_geometry(self.path)

    @property
    def exact(self) -> bool:
        """See the class; true by default."""
        return True

    @classmethod
    def of_width(cls, width: float) -> dict[str, Any]:
        """Parameters that make all feature maps of the paper's network ``width`` times as many; empty if none do."""
        return {"width": width} if "width" in described(cls) else {}

    def conflicts(self) -> Iterator[str]:
        """Messages about allowed values that exclude one another."""
        return iter(())

    def unused(self) -> Iterator[tuple[str, str]]:
        """Names of parameters that change nothing because of another one, and why."""
        return iter(())


@dataclass(frozen=True, kw_only=True)
class PlanarParameters(NetworkParameters):
    """Parameters of a network for images in the plane, whose feature maps scale with ``width``."""

    ndim: int = choice(2, "spatial axes", {2: "images"})
    width: float = number(
        1.0,
        "factor of all numbers of feature maps",
        must_be="a number above 0 and at most 4 (1 is the paper's)",
        accepts=lambda value: 0 < value <= 4,
    )


def described(parameters: type[NetworkParameters]) -> dict[str, Parameter]:
    """Every parameter by its name."""
    return {entry.name: entry.metadata["parameter"] for entry in fields(parameters)}


def shown(value: Any) -> str:
    """A value for messages: its Python representation, shortened."""
    short = Repr()
    short.maxstring = short.maxother = short.maxlong = 60
    return short.repr(value)
