"""Networks: one file a family; built by name with `build`."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from unetbio import architectures

__all__ = ["build", "parameter_count"]


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
        ``(N, K, *output)``.

    Raises
    ------
    UsageError
        When the name or a parameter is unknown.
    """
    architecture = architectures.find(name)
    complete = architecture.complete(parameters or {})
    network: nn.Module = architecture.load()(**complete, geometry=architecture.geometry(complete))
    return network


def parameter_count(network: nn.Module) -> int:
    """Number of trainable numbers in ``network``."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
