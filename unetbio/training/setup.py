"""What a training builds before its first step: the parameters of the network, and the optimizer."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from unetbio import networks
from unetbio.errors import UsageError
from unetbio.geometry import anisotropic_levels
from unetbio.settings.training import TrainingConfig
from unetbio.targets.base import Learner
from unetbio.training.data.dataset import Example, common_pixel_size

__all__ = ["make_optimizer", "network_parameters"]


def network_parameters(training: Sequence[Example], config: TrainingConfig, learner: Learner) -> dict[str, Any]:
    """All parameters of the network: those of the config, and those that follow from the images."""
    architecture = networks.find(config.network)
    first = training[0]
    follow = {
        "ndim": first.label_image.ndim,
        "in_channels": len(first.image),
        "num_classes": len(learner.class_names),
    }
    parameters: dict[str, Any] = architecture.complete({**config.parameters, **follow})
    if parameters.get("arithmetic") == "int8":
        raise UsageError(
            "a network in integers cannot be trained: train one with arithmetic: float, and make its integers with "
            "unetbio models quantize"
        )
    voxel_size = common_pixel_size(training)
    if follow["ndim"] == 3 and voxel_size and not (parameters["kernel_sizes"] or parameters["poolings"]):
        kernel_sizes, poolings = anisotropic_levels(voxel_size, parameters["depth"])
        parameters |= {"kernel_sizes": kernel_sizes, "poolings": poolings}
    return parameters


def make_optimizer(network: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimizer that the settings name, for all parameters of a network."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            network.parameters(), lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
