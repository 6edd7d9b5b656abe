"""The tensors of a checkpoint: weights, state of the optimizer, and states of the random number generators."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

__all__ = ["part", "random_state_kept", "take_up", "tensors_of"]

Scalars = dict[str, dict[str, Any]]
"""Values of an optimizer that are no tensors, by number of its parameter."""


def tensors_of(
    parts: Mapping[str, Mapping[str, Tensor]], optimizer: torch.optim.Optimizer, device: torch.device
) -> tuple[dict[str, Tensor], Scalars]:
    """Tensors of a checkpoint by name, such as ``network.head.weight``, and the scalars of the optimizer.

    Parameters
    ----------
    parts : mapping
        Tensors by name, for each part of the state.
    optimizer : torch.optim.Optimizer
        Its state is added, as ``optimizer.N.name``.
    device : torch.device
        Whose random numbers belong to the state.
    """
    tensors = {f"{name}.{key}": tensor for name, state in parts.items() for key, tensor in state.items()}
    scalars: Scalars = {}
    for number, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{number}.{name}"] = value
            else:
                scalars.setdefault(str(number), {})[name] = value
    tensors["random.cpu"] = torch.get_rng_state()
    if device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    return tensors, scalars


def part(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Tensors of one part of the state, by their names in it."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def take_up(
    tensors: Mapping[str, Tensor], scalars: Scalars, optimizer: torch.optim.Optimizer, device: torch.device
) -> None:
    """Restore the optimizer and the random number generators from a checkpoint."""
    state: dict[int, dict[str, Any]] = {int(number): dict(values) for number, values in scalars.items()}
    for name, tensor in part(tensors, "optimizer").items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["random.cpu"])
    if device.type == "cuda" and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"], device)


def random_state_kept(device: torch.device) -> AbstractContextManager[None]:
    """What is drawn inside the block does not change what is drawn after it."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])
