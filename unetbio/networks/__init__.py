"""Networks: one file a family; built by name with `build`."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from unetbio import architectures

__all__ = ["build", "parameter_count", "training_logits"]


def build(name: str, parameters: Mapping[str, Any] | None = None) -> nn.Module:
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
        ``(N, K, *output)``. Where it has ``needs_float64`` and that is true, rounding decides something in it (the
        place of a maximum), and inference computes in float64. Where it has ``training_logits``, that method returns
        what is trained on: pairs of logits and their share of the loss.

    Raises
    ------
    UsageError
        When the name or a parameter is unknown.
    """
    architecture = architectures.find(name)
    complete = architecture.complete(parameters or {})
    network: nn.Module = architecture.load()(**complete, geometry=architecture.geometry(complete))
    return network


def training_logits(network: nn.Module, image: Tensor) -> list[tuple[Tensor, float]]:
    """Logits to train on and their shares of the loss: the network's own, and auxiliary ones where it has them."""
    auxiliary: Callable[[Tensor], list[tuple[Tensor, float]]] | None = getattr(network, "training_logits", None)
    return [(network(image), 1.0)] if auxiliary is None else auxiliary(image)


def parameter_count(network: nn.Module) -> int:
    """Number of trainable numbers in ``network``."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
