"""What a training builds before its first step: parameters of the network, optimizer, description of the model."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import nn

from unetbio import networks
from unetbio.errors import UsageError
from unetbio.geometry import anisotropic_levels
from unetbio.io.grey_pictures import COLOURS
from unetbio.models.model_file import ModelInfo, first_problem
from unetbio.settings.training import TrainingConfig
from unetbio.targets.base import Learner
from unetbio.training.data.dataset import Example, annotation_as_learned, common_pixel_size

__all__ = ["describe_model", "make_optimizer", "network_parameters"]


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
        # Settings from a model state its dimensions, and kernels of None too; those of a comparison are of planes.
        is_of_model = config.parameters.get("ndim") == 3 and {"kernel_sizes", "poolings"} <= config.parameters.keys()
        is_flat = any(1 in sizes for sizes in (*kernel_sizes, *poolings))
        if not (is_of_model and is_flat):
            parameters |= {"kernel_sizes": kernel_sizes, "poolings": poolings}
    return parameters


def make_optimizer(network: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimizer that the settings name, for all parameters of a network."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            network.parameters(), lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)


def describe_model(
    training: Sequence[Example],
    config: TrainingConfig,
    learner: Learner,
    parameters: dict[str, Any],
    window: tuple[int, ...],
) -> ModelInfo:
    """What is known of the model before it is trained; its sizes are those at the scale at which it sees the images.

    Raises
    ------
    UsageError
        When a model file cannot say it: a name, licence, pixel size or number of channels is out of its limits.
    """
    seen = [annotation_as_learned(example, config.augmentation) for example in training]
    try:
        return ModelInfo(
            name=config.name,
            architecture=config.network,
            parameters=parameters,
            # By these, an exported model says how pictures are scaled.
            channels=COLOURS if training[0].is_picture else training[0].channel_names,
            pixel_size_um=_pixel_size(training, seen),
            normalization=config.normalization,
            window=window,
            licence=config.licence,
            version=version("unetbio"),
            target=config.target,
            class_names=learner.class_names,
            cell_diameter_px=_cell_diameter(seen, learner),
        )
    except ValidationError as error:
        raise UsageError(f"no model file can say this of the model: {first_problem(error)}; correct it") from error


def _pixel_size(training: Sequence[Example], seen: Sequence[Example]) -> tuple[float, ...] | None:
    """Pixel size of the images as they are seen; the median of those that were reduced, each by itself."""
    if common_pixel_size(training) is None:
        return None
    sizes = [example.pixel_size_um for example in seen if example.pixel_size_um is not None]
    return common_pixel_size(seen) or tuple(float(size) for size in np.median(sizes, axis=0))


def _cell_diameter(training: Sequence[Example], learner: Learner) -> float | None:
    """The diameter that was given, otherwise the measured one."""
    given = [example.diameter_px for example in training if example.diameter_px is not None]
    if given:
        return float(np.median(given))
    return learner.cell_diameter([example.label_image for example in training])
