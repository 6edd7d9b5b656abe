"""Networks: one folder a family, each with a spec (name, parameters, geometry, paper; no torch) and a network.

The registry lists them without importing torch; `build` constructs one.
"""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unetbio.networks.registry import Architecture, Published, find, names, register

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "Architecture",
    "Published",
    "build",
    "find",
    "names",
    "needs_float64",
    "parameter_count",
    "register",
    "training_logits",
    "weight_shapes",
]


def _register_families() -> None:
    """Import each spec below this folder; it registers its networks itself."""
    root = Path(__file__).parent
    for path in sorted(root.rglob("spec.py")):
        importlib.import_module(".".join((__name__, *path.relative_to(root).with_suffix("").parts)))


_register_families()


def build(name: str, parameters: Mapping[str, Any] | None = None) -> "nn.Module":
    """Build a network with fresh random weights.

    Parameters
    ----------
    name : str
        A registered architecture.
    parameters : mapping, optional
        Parameters that differ from the architecture's defaults.

    Returns
    -------
    torch.nn.Module
        With the attribute ``geometry``; ``forward`` takes ``(N, C, *spatial)`` of a legal size and returns logits
        ``(N, K, *output)``. If ``needs_float64`` is true, rounding could move the
        place of a maximum, and inference computes in float64. If it has ``training_logits``, that method returns
        pairs of logits and their share of the training loss.

    Raises
    ------
    UsageError
        When the name or a parameter is unknown.
    """
    architecture = find(name)
    network: nn.Module = architecture.load()(architecture.read(parameters or {}))
    return network


def weight_shapes(name: str, parameters: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of all weights of a network by their names, without the memory for them; raises as `build`."""
    torch = importlib.import_module("torch")
    blocks = importlib.import_module("unetbio.networks.blocks")
    with torch.device("meta"), blocks.Undrawn():
        return {key: tuple(weight.shape) for key, weight in build(name, parameters).state_dict().items()}


def needs_float64(network: "nn.Module") -> bool:
    """Whether rounding could move the place of a maximum in a network, so that inference computes in float64."""
    return bool(getattr(network, "needs_float64", False))


def training_logits(network: "nn.Module", image: "Tensor") -> "list[tuple[Tensor, float]]":
    """Logits to train on and their shares of the loss, auxiliary logits included."""
    auxiliary: Callable[[Tensor], list[tuple[Tensor, float]]] | None = getattr(network, "training_logits", None)
    return [(network(image), 1.0)] if auxiliary is None else auxiliary(image)


def parameter_count(network: "nn.Module") -> int:
    """Number of trainable weights of ``network``."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
