"""Interface of networks in inference, and the list of backends that run them.

A backend is a module of this folder, and has the module's name. It offers
``make(network, device, *, exact, window, precision)``, which returns a `Predictor`, ``choose_device(text)`` and
``PACKAGES``, the packages that it needs and PyTorch does not; an extra of its name installs them. Listing backends
imports none of them.
"""

import importlib
import pkgutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import UsageError
from unetbio.geometry import Geometry

if TYPE_CHECKING:
    import torch

__all__ = [
    "AUTO",
    "BFLOAT16",
    "DEFAULT",
    "FLOAT32",
    "MEMORY_BUDGETS",
    "Predictor",
    "Runner",
    "check_choice",
    "check_name",
    "choose_device",
    "make_backend",
    "names",
    "packages",
]

DEFAULT = "torch"

FLOAT32, BFLOAT16 = "float32", "bfloat16"

AUTO = "auto"
"""In place of a backend: the one that suits a model, as `unetbio.segmentation.Segmenter` chooses it."""

_SHARED = {"base", "graph"}
"""Modules of this folder that are no backends."""

MEMORY_BUDGETS = {2: 400 << 20, 3: 1 << 30}
"""Bytes of feature maps a tile may hold, by number of axes: in 3-D, context costs more, so that larger tiles pay. Twice
as much would save 7 % of the time of a large stack, and the run would take more than 4 GB."""


class Runner(Protocol):
    """Network over tiles or windows: the properties that planning needs."""

    @property
    def geometry(self) -> Geometry:
        """Context, stride and legal sizes."""

    @property
    def exact(self) -> bool:
        """Whether the result is the same for every tiling; if not, the context is 0 and windows overlap."""

    @property
    def window(self) -> tuple[int, ...] | None:
        """Pixels along each axis that the network predicted at once in training, if known."""

    @property
    def memory_budget(self) -> int:
        """Bytes that a tile may take unless the caller gives a budget."""

    def multiply_adds(self, input_shape: Sequence[int]) -> int:
        """Work for one input of this spatial shape."""

    def memory_bytes(self, input_shape: Sequence[int]) -> int:
        """Memory for one input of this spatial shape."""


class Predictor(Runner, Protocol):
    """A network that gives probabilities of pixels, on one backend."""

    @property
    def num_classes(self) -> int:
        """Number of probabilities a pixel."""

    @property
    def error_bound(self) -> float:
        """Largest difference between `probabilities` and `probabilities_float64`, for input up to 1.

        It grows with the largest grey value of the input. It holds for the sum of the probabilities of any classes too:
        their softmax p changes by p (1 - p) times a change of logits, as that of one class does. It is infinite in
        reduced precision: then decisions stay as they were computed.
        """

    @property
    def inputs_at_once(self) -> int:
        """Calls of the next two methods that it computes at the same time; above 1 they come from threads."""

    def probabilities(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(N, C, *input) -> (N, K, *(input - 2 * context))``."""

    def probabilities_float64(self, batch: NDArray[np.float32]) -> NDArray[np.float64]:
        """The same, computed in float64."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether an error of the two methods above means that a smaller input may succeed."""

    def release_memory(self) -> None:
        """Return freed memory to the device, after a pass ran out of memory."""


def names() -> list[str]:
    """Names of all backends."""
    return sorted({module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])} - _SHARED)


def check_name(name: str) -> str:
    """Check the name of a backend.

    Raises
    ------
    UsageError
        When there is no backend of this name; the message lists them.
    """
    if name not in names():
        raise UsageError(f"there is no backend {name!r}: give one of {', '.join(names())}")
    return name


def check_choice(text: str) -> str:
    """Check what a user gives as a backend: `AUTO`, or a name as of `check_name`, which raises."""
    return text if text == AUTO else check_name(text)


def packages(name: str = DEFAULT) -> tuple[str, ...]:
    """Packages that a backend needs and PyTorch does not; raises UsageError when there is no such backend."""
    needed: tuple[str, ...] = _load(name).PACKAGES
    return needed


def choose_device(text: str = "auto", backend: str = DEFAULT) -> "tuple[torch.device, str]":
    """Choose the device that a user asks for.

    Parameters
    ----------
    text : str
        ``auto`` (the fastest that the machine and the backend have), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    backend : str
        Name of a backend.

    Returns
    -------
    torch.device, str
        The device and, for the log, the reason.

    Raises
    ------
    UsageError
        When the backend or the device is unknown, or this machine does not have it.
    """
    device: tuple[torch.device, str] = _load(backend).choose_device(text)
    return device


def make_backend(
    network: "torch.nn.Module",
    name: str = DEFAULT,
    device: "torch.device | str" = "cpu",
    *,
    exact: bool = True,
    window: tuple[int, ...] | None = None,
    precision: str = FLOAT32,
) -> Predictor:
    """Prepare a network for inference.

    Parameters
    ----------
    network : torch.nn.Module
        With the attribute ``geometry``; logits out. It is copied.
    name : str
        Name of a backend.
    device : torch.device or str
        Where the network runs.
    exact : bool
        Whether pixels that have seen the network's padding are cropped, so that tiles are exact.
    window : tuple of int, optional
        Pixels along each axis that the network predicted at once in training.
    precision : str
        `FLOAT32`, or `BFLOAT16`, where tiles may change decisions. A network of integers takes the first.

    Raises
    ------
    UsageError
        When the backend is unknown, is not installed, or cannot run this network, or not in this precision.
    """
    predictor: Predictor = _load(name).make(network, device, exact=exact, window=window, precision=precision)
    return predictor


def _load(name: str) -> Any:
    return importlib.import_module(f"unetbio.inference.backends.{check_name(name)}")
