"""What an architecture is, and the list of all there are."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from unetbio.errors import UsageError
from unetbio.geometry import Geometry, Layer

__all__ = [
    "Architecture",
    "Published",
    "check_choices",
    "check_flags",
    "check_fractions",
    "check_planar",
    "check_whole_numbers",
    "check_width",
    "find",
    "names",
    "register",
]

Parameters = Mapping[str, Any]

AFFORDABLE_CONTEXT = 256
"""Pixels a side; beyond, a network is run over sliding windows unless exact tiles are asked for."""


@dataclass(frozen=True)
class Published:
    """Number of weights of a network as somebody else counted them.

    Parameters
    ----------
    count : int
        Trainable numbers.
    parameters : mapping
        For which they were counted, where they differ from the defaults.
    source : str
        Who says so.
    """

    count: int
    parameters: Parameters
    source: str


@dataclass(frozen=True)
class Architecture:
    """What can be known of a network before it is built.

    Parameters
    ----------
    name : str
        What the command line and model files call it.
    summary : str
        One line for lists.
    paper : str
        Where it was published.
    import_path : str
        ``module:Class``; the class takes ``parameters`` as keyword arguments.
    defaults : mapping
        Every parameter with its default.
    check : callable
        Raises UsageError when a complete set of parameters cannot be meant.
    geometry : callable
        From a complete set of parameters to the `Geometry`.
    exact : callable
        From a complete set of parameters to whether a tiled prediction equals that of the whole image.
    path : callable
        From a complete set of parameters to the layers along the path from input to output that sees furthest, from
        which the receptive field follows (`unetbio.geometry.receptive_field`).
    tricks, paper_tricks : tuple of int
        Tricks of the lecture that make this network up, as the lecture lists them and as its paper has them: 1
        deconvolution, 2 dilated convolution, 3 multi-scale context, 4 pyramid pooling, 5 CRF, 6 skip connection.
    published : tuple of Published
        Counts of weights to compare with.
    output : {"logits", "objects"}
        Whether the network classifies pixels, or finds objects, each with a box and a mask.
    """

    name: str
    summary: str
    paper: str
    import_path: str
    defaults: Parameters
    check: Callable[[Parameters], None]
    geometry: Callable[[Parameters], Geometry]
    exact: Callable[[Parameters], bool]
    path: Callable[[Parameters], tuple[Layer, ...]]
    tricks: tuple[int, ...] = ()
    paper_tricks: tuple[int, ...] = ()
    published: tuple[Published, ...] = ()
    output: Literal["logits", "objects"] = "logits"

    def complete(self, parameters: Parameters) -> dict[str, Any]:
        """Fill ``parameters`` up with the defaults and check them.

        Raises
        ------
        UsageError
            When a parameter is not one of this architecture, or has a value that it cannot have.
        """
        unknown = sorted(set(parameters) - set(self.defaults))
        if unknown:
            raise UsageError(
                f"{self.name} has no parameter {', '.join(unknown)}; it has {', '.join(sorted(self.defaults))}"
            )
        complete = {**self.defaults, **parameters}
        self.check(complete)
        return complete

    def is_tiled_exactly(self, parameters: Parameters) -> bool:
        """Whether the network is run over exact tiles unless asked otherwise: it can be, and its context is affordable.

        With ``c`` pixels of context a tile of ``n`` costs ``(1 + 2 c / n)**2`` times its own pixels.
        """
        return self.exact(parameters) and max(self.geometry(parameters).context) <= AFFORDABLE_CONTEXT

    def load(self) -> Callable[..., Any]:
        """Import the network's class."""
        module, _, attribute = self.import_path.partition(":")
        loaded: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
        return loaded


_REGISTRY: dict[str, Architecture] = {}


def register(architecture: Architecture) -> Architecture:
    """Add an architecture.

    Raises
    ------
    ValueError
        When the name is taken.
    """
    if architecture.name in _REGISTRY:
        raise ValueError(f"an architecture named {architecture.name!r} is registered already")
    _REGISTRY[architecture.name] = architecture
    return architecture


def names() -> tuple[str, ...]:
    """Names of all architectures, sorted."""
    return tuple(sorted(_REGISTRY))


def find(name: str) -> Architecture:
    """The architecture called ``name``.

    Raises
    ------
    UsageError
        When there is none; the message lists those there are.
    """
    if name not in _REGISTRY:
        raise UsageError(f"there is no network named {name!r}; there are: {', '.join(names())}")
    return _REGISTRY[name]


def check_whole_numbers(network: str, parameters: Parameters, least: Mapping[str, int]) -> None:
    """Refuse parameters that are not whole numbers from ``least`` on.

    Raises
    ------
    UsageError
        Naming network, parameter, value and what it must be.
    """
    for name, lowest in least.items():
        value = parameters[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
            raise UsageError(f"{network}: {name} is {value!r}; it must be a whole number from {lowest}")


def check_choices(network: str, parameters: Parameters, choices: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuse parameters that are none of their choices; raises as `check_whole_numbers`."""
    for name, known in choices.items():
        if parameters[name] not in known:
            raise UsageError(
                f"{network}: {name} is {parameters[name]!r}; it must be one of {', '.join(map(str, known))}"
            )


def check_flags(network: str, parameters: Parameters, names: tuple[str, ...]) -> None:
    """Refuse parameters that are neither true nor false; raises as `check_whole_numbers`."""
    for name in names:
        if not isinstance(parameters[name], bool):
            raise UsageError(f"{network}: {name} is {parameters[name]!r}; it must be true or false")


def check_fractions(network: str, parameters: Parameters, names: tuple[str, ...]) -> None:
    """Refuse parameters that are not numbers from 0 to below 1; raises as `check_whole_numbers`."""
    for name in names:
        value = parameters[name]
        if not isinstance(value, int | float) or not 0 <= value < 1:
            raise UsageError(f"{network}: {name} is {value!r}; it must be a number from 0 to below 1")


def check_width(network: str, parameters: Parameters) -> None:
    """Refuse a ``width`` that is not above 0 and at most 4; raises as `check_whole_numbers`."""
    width = parameters["width"]
    if not isinstance(width, int | float) or isinstance(width, bool) or not 0 < width <= 4:
        raise UsageError(f"{network}: width is {width!r}; it must be a number above 0 and at most 4 (1 is the paper's)")


def check_planar(network: str, parameters: Parameters) -> None:
    """Refuse what no network for images in the plane can have: other than two axes, no channel, one class, no width.

    Raises
    ------
    UsageError
        Naming network, parameter, value and what it must be.
    """
    check_choices(network, parameters, {"ndim": (2,)})
    check_whole_numbers(network, parameters, {"in_channels": 1, "num_classes": 2})
    check_width(network, parameters)
