"""Load public weights of an encoder by their names in the file."""

import os
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from unetbio.errors import ModelError, UsageError
from unetbio.tensor_file import load_tensors

__all__ = ["find_encoder", "load_public_weights"]

COLOURS = 3

Encoder = TypeVar("Encoder", bound=nn.Module)


def find_encoder(network: nn.Module, kind: type[Encoder], name: str) -> Encoder:
    """The first encoder of a kind in a network, or the network itself.

    Parameters
    ----------
    network : torch.nn.Module
        Network to load weights into.
    kind : type
        Class of the encoder.
    name : str
        Name of the encoder for users.

    Raises
    ------
    UsageError
        When there is none.
    """
    for module in network.modules():
        if isinstance(module, kind):
            return module
    raise UsageError(f"{type(network).__name__} has no {name} encoder: weights of {name} cannot be loaded into it")


def load_public_weights(
    path: str | os.PathLike[str],
    encoder: Mapping[str, Tensor],
    *,
    layout: str,
    classifier: str,
    heads: Mapping[str, Tensor] | None = None,
) -> tuple[str, ...]:
    """Copy all tensors of an encoder from a safetensors file; on errors, copy none.

    Parameters
    ----------
    path : path
        The file.
    encoder : mapping of str to torch.Tensor
        Tensors to be filled, by their names in the file, the first convolution's weights first. If these have one
        channel and the file's three, they get the sum over the colours, which equals a grey image shown as red, green
        and blue. The batch counter of batch norm is left out.
    layout : str
        Source of the names, for messages.
    classifier : str
        Prefix of tensors in the file that the network may lack.
    heads : mapping of str to torch.Tensor, optional
        Tensors of the classifier, filled if their size and number of outputs equal those in the file.

    Returns
    -------
    tuple of str
        Names of the tensors that were loaded.

    Raises
    ------
    ModelError
        When the file cannot be read, or a tensor is missing, superfluous or of another shape. Nothing is loaded then.
    """
    tensors, _ = load_tensors(path)
    wanted = {name: tensor for name, tensor in encoder.items() if not _is_counter(name)}
    first = next(iter(wanted))
    given = dict(tensors)
    if first in given and given[first].shape[1:2] == (COLOURS,) and wanted[first].shape[1] == 1:
        given[first] = given[first].sum(dim=1, keepdim=True)
    for name, target in wanted.items():
        if name not in given:
            raise ModelError(f"{path} has no tensor {name}: the network needs the weights of {layout}")
        if given[name].shape != target.shape:
            raise ModelError(
                f"{path}: {name} has the shape {tuple(tensors[name].shape)}, the network needs {tuple(target.shape)}: "
                f"the weights of {layout} fit a width of 1 and one or three channels"
            )
    for name in given:
        if name not in wanted and not name.startswith(classifier) and not _is_counter(name):
            raise ModelError(f"{path}: the network has no {name}: it needs the weights of {layout}")
    for name, target in (heads or {}).items():
        if name in given and len(given[name]) == len(target) and given[name].numel() == target.numel():
            wanted[name] = target
    with torch.no_grad():
        for name, target in wanted.items():
            target.copy_(given[name].reshape(target.shape))
    return tuple(wanted)


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")
