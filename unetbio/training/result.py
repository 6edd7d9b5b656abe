"""The result of a training, and what its model file records of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from unetbio.models.model_file import ModelInfo
from unetbio.preprocessing.grey_values import GreyFingerprint
from unetbio.training.data.dataset import PatchSampler
from unetbio.training.history import History

__all__ = ["TrainingResult", "training_record"]


@dataclass(frozen=True)
class TrainingResult:
    """Network of the best validation, with the content of its model file.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode.
    info : ModelInfo
        Settings and scores.
    history : History
        Of the whole run.
    new_steps : int
        Number of steps in this session, without those before the checkpoint.
    """

    network: nn.Module
    info: ModelInfo
    history: History
    new_steps: int


def training_record(
    sampler: PatchSampler, validation_images: int, identity: Mapping[str, Any], run: Mapping[str, Any]
) -> dict[str, Any]:
    """Facts of the training images, and of the run: its steps, seconds, precision and settings."""
    training = sampler.examples
    lows = [low for example in training for low in example.scaling.low]
    highs = [high for example in training for high in example.scaling.high]
    return {
        "images": len(training),
        "validation_images": validation_images,
        sampler.learner.place_name: len(sampler.places),
        "class_weights": list(sampler.class_weights),
        "images_sha256": identity["images"]["training"],
        **run,
        "low_range": [min(lows), max(lows)],
        "high_range": [min(highs), max(highs)],
        "grey_values": GreyFingerprint.of_images(example.image for example in training).as_record(),
        "config": identity["config"],
    }
