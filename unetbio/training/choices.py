"""Settings of a training that follow from its images, where neither a file nor an option states them."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import ValidationError

from unetbio import networks, targets
from unetbio.errors import UsageError
from unetbio.settings.training import TrainingConfig
from unetbio.targets.cells import median_diameter
from unetbio.training.data.dataset import Example
from unetbio.training.data.patch_shapes import patch_shape

__all__ = ["CHOSEN", "choose", "describe", "take_over", "with_target"]

OF_CELLS = {"target": "centres", "border_weight": 4.0, "border_sigma": 4.0}
"""What a U-Net learns of cells: as the shipped models do, with an outline that has no border weights."""

OF_OTHER_TARGETS = ("target", "recipe", "class_names", "class_values", "class_weighting", "class_weight_cap")
"""Settings that say what is learned, or have a meaning for other targets alone."""

CHOSEN = (*OF_CELLS, "parameters", "patch_size", "batch_size", "steps", "validate_every", "learning_rate")
"""Settings that are chosen, or follow from the model to start from."""

# Output pixels of a patch along an axis; the lower end is that of the default patch of 252.
SMALLEST_OUTPUT, LARGEST_OUTPUT = 164, 356
CELLS_IN_OUTPUT = 6
"""Cells of the median diameter that lie beside each other in the output of a patch."""

LARGEST_DIAMETER = "augmentation.largest_diameter"
"""Setting that follows from the model to start from."""

OUTPUT_PIXELS = 4 * SMALLEST_OUTPUT**2
"""Supervised pixels of a step."""

SMALLEST_BATCH, LARGEST_BATCH = 2, 8

WIDE_CELL = 50.0
"""Median diameter in pixels, from which a fourth pooling is worth its context: 92 pixels in place of 44."""

PASSES = 40
"""How often a training sees each pixel; the augmentation makes each time another one of it."""

FEWEST_STEPS, MOST_STEPS = 1000, 6000
FINE_TUNING_STEPS = 0.3
"""Of as many steps, where a trained model is the start."""


def with_target(config: TrainingConfig, stated: Collection[str]) -> TrainingConfig:
    """Choose the target and its border weights for a U-Net that begins anew, where nothing says what it learns."""
    if config.network != "unet" or any(name in stated for name in OF_OTHER_TARGETS):
        return config
    return _with(config, stated, **OF_CELLS)


def choose(
    config: TrainingConfig,
    stated: Collection[str],
    training: Sequence[Example],
    *,
    is_fine_tuning: bool,
    minutes: float | None,
) -> TrainingConfig:
    """Choose what is not stated: depth, patches, steps and validations; for planes and the networks' own patches.

    Parameters
    ----------
    config : TrainingConfig
        Settings, with the defaults of those that are not stated.
    stated : collection of str
        Names of the settings that a file or an option states. They stay.
    training : sequence of Example
        Images to train on.
    is_fine_tuning : bool
        Whether the training starts from a trained model, whose depth stays.
    minutes : float, optional
        Length of the training in place of steps.
    """
    diameter = _median_diameter(training, config)
    if diameter and config.network == "unet" and "parameters" not in stated and training[0].label_image.ndim == 2:
        depth = config.parameters["depth"] + (diameter >= WIDE_CELL)
        config = _with(config, stated, parameters={**config.parameters, "depth": depth})
    if training[0].label_image.ndim == 2:
        config = _with_patches(config, stated, training, diameter)
    if minutes is None:
        steps = _steps(training, config) * (FINE_TUNING_STEPS if is_fine_tuning else 1)
        largest = max(config.restarts, default=0) + 1
        config = _with(config, stated, steps=max(largest, round(steps)))
    return _with(config, stated, validate_every=None)


def _with(config: TrainingConfig, stated: Collection[str], **values: Any) -> TrainingConfig:
    return config.model_copy(update={name: value for name, value in values.items() if name not in stated})


def _with_patches(
    config: TrainingConfig, stated: Collection[str], training: Sequence[Example], diameter: float | None
) -> TrainingConfig:
    """Patches whose output holds several cells and is not wider than the images, and as many as a step affords.

    Only networks without padding: the others learn from the whole patch, and have a size that their authors chose.
    """
    known = networks.find(config.network)
    geometry = known.geometry({**config.parameters, "ndim": 2, "in_channels": len(training[0].image)})
    if geometry.padding != "valid" or known.output != "logits":
        return config
    widest = float(np.median([max(example.label_image.shape) for example in training]))
    wanted = min(max(SMALLEST_OUTPUT, CELLS_IN_OUTPUT * (diameter or 0)), LARGEST_OUTPUT)
    output = max(geometry.stride[0], min(wanted, widest))
    patch = geometry.nearest_legal(round(output) + 2 * geometry.context[0], 0)[-1]
    config = _with(config, stated, patch_size=int(patch))
    pixels = output**2
    if "patch_size" in stated:
        shape = patch_shape(geometry, config.patch_size)
        pixels = math.prod(size - 2 * lost for size, lost in zip(shape, geometry.context, strict=True))
    return _with(config, stated, batch_size=int(np.clip(OUTPUT_PIXELS // pixels, SMALLEST_BATCH, LARGEST_BATCH)))


def _steps(training: Sequence[Example], config: TrainingConfig) -> float:
    pixels = sum(example.label_image.size for example in training)
    return float(np.clip(PASSES * pixels / OUTPUT_PIXELS, FEWEST_STEPS, MOST_STEPS))


def _median_diameter(examples: Sequence[Example], config: TrainingConfig) -> float | None:
    """Of the cells of all examples; None without cells."""
    if targets.find(config.target, config.network).masks != "instances":
        return None
    return median_diameter([example.label_image for example in examples], config)


def describe(config: TrainingConfig, stated: Collection[str], minutes: float | None) -> str:
    """One line that says what was chosen, and what was stated."""
    facts = {
        "target": f"target {config.target}",
        "parameters": f"{config.network} {', '.join(f'{name} {value}' for name, value in config.parameters.items())}",
        "patch_size": f"patches of {config.patch_size} px" if config.patch_size else "patches of the usual size",
        "batch_size": f"{config.batch_size} a step",
        "steps": f"{config.steps} steps",
        "validate_every": "twelve validations",
        "learning_rate": f"learning rate {config.learning_rate:g}",
    }
    chosen = [text for name, text in facts.items() if name not in stated and not (name == "steps" and minutes)]
    return f"chosen, since nothing is stated: {', '.join(chosen)}" if chosen else "all settings are stated"


def take_over(
    config: TrainingConfig, stated: Collection[str], earlier: Mapping[str, Any] | None, *, starts: bool = False
) -> TrainingConfig | None:
    """Settings of an earlier run in place of choices, if it agrees in all that is stated; None if not.

    So a run goes on from its checkpoint whatever this version would choose; or, where it ``starts`` from a model, would
    take from that.
    """
    if not earlier:
        return None
    unstated = {name: earlier[name] for name in CHOSEN if name in earlier and name not in stated}
    values = config.model_dump()
    augmentation = earlier.get("augmentation")
    if starts and LARGEST_DIAMETER not in stated and isinstance(augmentation, Mapping):
        values["augmentation"]["largest_diameter"] = augmentation.get("largest_diameter")
    try:
        taken = TrainingConfig.model_validate({**values, **unstated})
        is_same = _comparable(taken) == _comparable(TrainingConfig.model_validate(earlier))
    except (ValidationError, UsageError):
        return None
    return taken if is_same else None


def _comparable(config: TrainingConfig) -> dict[str, Any]:
    """All that decides the training, with all parameters of the network."""
    parameters = networks.find(config.network).complete(config.parameters)
    return {**config.model_dump(mode="json", exclude={"name"}), "parameters": json.loads(json.dumps(parameters))}
