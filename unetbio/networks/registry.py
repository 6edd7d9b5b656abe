"""Registry of architectures."""

import importlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from unetbio.errors import UsageError
from unetbio.geometry import Geometry, Layer
from unetbio.networks.parameters import NetworkParameters, described, shown
from unetbio.networks.recipes import Recipe

__all__ = ["Architecture", "Published", "find", "names", "register"]

Parameters = Mapping[str, Any]

logger = logging.getLogger("unetbio.networks")

ENTRY_POINTS = "unetbio.networks"
"""Group of the entry points by which other packages name modules that register networks."""

AFFORDABLE_CONTEXT = 256
"""Pixels a side; beyond, a network is run over sliding windows unless exact tiles are asked for."""


@dataclass(frozen=True)
class Published:
    """Published number of weights of a network.

    Parameters
    ----------
    count : int
        Trainable numbers.
    parameters : mapping
        Parameters of the count that differ from the defaults.
    source : str
        Publication or software with the count.
    """

    count: int
    parameters: Parameters
    source: str


@dataclass(frozen=True)
class Architecture:
    """Description of a network, available before it is built.

    Parameters
    ----------
    name : str
        Name on the command line and in model files.
    summary : str
        One line for lists.
    paper : str
        Publication.
    import_path : str
        ``module:Class``; the class takes an instance of ``parameters``.
    parameters : type
        Class of its parameters.
    tricks, paper_tricks : tuple of int
        Tricks of the lecture that make this network up, as the lecture lists them and as its paper has them: 1
        deconvolution, 2 dilated convolution, 3 multi-scale context, 4 pyramid pooling, 5 CRF, 6 skip connection.
    published : tuple of Published
        Counts of weights to compare with.
    output : {"logits", "objects"}
        Whether the network classifies pixels, or finds objects, each with a box and a mask.
    recipe : Recipe, optional
        How its paper trained it.
    """

    name: str
    summary: str
    paper: str
    import_path: str
    parameters: type[NetworkParameters]
    tricks: tuple[int, ...] = ()
    paper_tricks: tuple[int, ...] = ()
    published: tuple[Published, ...] = ()
    output: Literal["logits", "objects"] = "logits"
    recipe: Recipe | None = None

    @property
    def defaults(self) -> dict[str, Any]:
        """Every parameter with its default."""
        return {name: parameter.default for name, parameter in described(self.parameters).items()}

    def complete(self, parameters: Parameters) -> dict[str, Any]:
        """Complete ``parameters`` with the defaults and check them.

        Raises
        ------
        UsageError
            When a parameter is unknown or its value is not allowed.
        """
        return self._completed(parameters)[0]

    def read(self, parameters: Parameters) -> NetworkParameters:
        """`complete` parameters as the network's constructor takes them; raises as `complete`."""
        return self._completed(parameters)[1]

    def _completed(self, parameters: Parameters) -> tuple[dict[str, Any], NetworkParameters]:
        known = described(self.parameters)
        unknown = sorted(map(str, set(parameters) - set(known)))
        if unknown:
            raise UsageError(f"{self.name} has no parameter {', '.join(unknown)}; it has {', '.join(sorted(known))}")
        complete = {**self.defaults, **parameters}
        for name, value in complete.items():
            if not known[name].accepts(value):
                raise UsageError(f"{self.name}: {name} is {shown(value)}; it must be {known[name].must_be}")
        typed = self.parameters(**complete)
        for conflict in typed.conflicts():
            raise UsageError(f"{self.name}: {conflict}")
        return complete, typed

    def geometry(self, parameters: Parameters) -> Geometry:
        """Context, stride and legal sizes."""
        return self.read(parameters).geometry

    def exact(self, parameters: Parameters) -> bool:
        """Whether a tiled prediction equals that of the whole image."""
        return self.read(parameters).exact

    def path(self, parameters: Parameters) -> tuple[Layer, ...]:
        """See `NetworkParameters`."""
        return self.read(parameters).path

    def is_tiled_exactly(self, parameters: Parameters) -> bool:
        """Whether tiles are exact by default: the network allows it, and its context is affordable.

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
    """Names of all architectures, those of installed packages included, sorted."""
    _load_entry_points()
    return tuple(sorted(_REGISTRY))


def find(name: str) -> Architecture:
    """The architecture called ``name``.

    Raises
    ------
    UsageError
        When there is none; the message lists those there are.
    """
    # Search other packages only when needed: reading all entry points takes time.
    if name not in _REGISTRY and name not in names():
        raise UsageError(f"there is no network named {name!r}; there are: {', '.join(names())}")
    return _REGISTRY[name]


@cache
def _load_entry_points() -> None:
    """Import the modules of other packages that register networks (entry points of the group `ENTRY_POINTS`)."""
    from importlib.metadata import entry_points

    for entry in entry_points(group=ENTRY_POINTS):
        try:
            entry.load()
        except Exception as error:
            # A broken package of others must not disable the networks that work.
            package = entry.dist.name if entry.dist else "a package"
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            logger.warning("%s: its network %s (%s) cannot be loaded: %s", package, entry.name, entry.value, reason)
