"""Images of the tests of training, discs and halves, and a trainer on them."""

import dataclasses
from pathlib import Path

import numpy as np
import torch

from unetbio.preprocessing import normalization
from unetbio.settings.training import TrainingConfig
from unetbio.supervision.annotations import UNANNOTATED
from unetbio.targets.cells import median_diameter
from unetbio.training.data.dataset import Example
from unetbio.training.trainer import Trainer

CONFIG = TrainingConfig(
    parameters={"base_channels": 4, "depth": 2, "batch_norm": True, "dropout": 0.0},
    patch_size=76,
    batch_size=2,
    steps=60,
    validate_every=30,
    learning_rate=0.01,
)


CPU = torch.device("cpu")


def discs(seed: int, ndim: int = 2) -> Example:
    """Four discs (or balls) in the quarters of a noisy image; neighbours nearly touch."""
    rng = np.random.default_rng(seed)
    size = 64 if ndim == 2 else 48
    grid = np.stack(np.meshgrid(*[np.arange(size)] * ndim, indexing="ij"))
    label_image = np.zeros((size,) * ndim, np.uint16)
    for label in range(1, 5):
        centre = [size // 2] * (ndim - 2) + [size // 4 + size // 2 * bit for bit in divmod(label - 1, 2)]
        distance = np.sqrt(sum((axis - middle) ** 2 for axis, middle in zip(grid, centre, strict=True)))
        label_image[distance < size / 4 - 1 - rng.uniform(0, 3)] = label
    image = (100 + 400 * (label_image > 0) + rng.normal(0, 20, label_image.shape)).astype(np.uint16)[None]
    scaling = normalization.measure(image, CONFIG.normalization)
    diameter = median_diameter([label_image], CONFIG)
    return Example(f"disc{seed}", image, scaling, label_image, annotated_diameter_px=diameter)


def halves(seed: int, ndim: int = 2) -> Example:
    """The discs, of which those on the right are dark and another class; a few pixels are not annotated."""
    example = discs(seed, ndim)
    classes = (example.label_image > 0).astype(np.uint8)
    right = np.broadcast_to(np.arange(classes.shape[-1]) >= classes.shape[-1] // 2, classes.shape)
    classes[right & (classes > 0)] = 2
    image = np.where(classes == 2, 250, example.image[0])[None].astype(np.uint16)
    classes[..., :2, :5] = UNANNOTATED
    scaling = normalization.measure(image, CONFIG.normalization)
    return dataclasses.replace(example, image=image, label_image=classes, scaling=scaling, annotated_diameter_px=None)


def trainer(checkpoint: Path, config: TrainingConfig = CONFIG, **options: object) -> Trainer:
    return Trainer([discs(seed) for seed in range(4)], [discs(9)], config, device=CPU, checkpoint=checkpoint, **options)
