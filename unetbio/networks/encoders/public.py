"""Public weights of an encoder, whichever encoder a network has."""

import os
from pathlib import Path

from torch import nn

from unetbio.errors import ModelError, UsageError
from unetbio.networks.encoders.resnet.network import ResNet, load_resnet
from unetbio.networks.encoders.vgg.network import VGG16, load_vgg16

__all__ = ["load_encoder"]

PICKLED = (".pth", ".pt", ".bin", ".ckpt")


def load_encoder(network: nn.Module, path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Load public weights into the VGG-16 or ResNet encoder of a network.

    Parameters
    ----------
    network : torch.nn.Module
        A network with such an encoder.
    path : path
        Safetensors file in torchvision's layout; see `load_vgg16` and `load_resnet`.

    Returns
    -------
    tuple of str
        Names of the tensors that were loaded.

    Raises
    ------
    UsageError
        When the network has no such encoder.
    ModelError
        When the file cannot be read, is a pickle, or does not fit.
    """
    if Path(path).suffix.lower() in PICKLED:
        raise ModelError(
            f"{path} is a pickled file, which can run code when it is read: convert it to safetensors "
            "(docs/training.md says how)"
        )
    for kind, load in ((VGG16, load_vgg16), (ResNet, load_resnet)):
        if any(isinstance(module, kind) for module in network.modules()):
            return load(network, path)
    raise UsageError(
        f"{type(network).__name__} has no VGG-16 or ResNet encoder to load {path} into: choose another --network, such "
        "as fcn8s or deeplab_v3plus, or leave out --encoder"
    )
