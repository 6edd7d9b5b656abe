"""Predictors that inference is tested with: fakes whose answer is known, and real networks."""

from functools import cache
from math import prod

import numpy as np
import torch
from torch import nn

from unetbio.geometry import Geometry, unet_geometry
from unetbio.inference.backends.torch import TorchPredictor
from unetbio.inference.prediction import decide, predict
from unetbio.networks import build

DEPTH_2 = unet_geometry([(3, 3)] * 3, [(2, 2)] * 2)


class FakePredictor:
    """Two classes whose probabilities are those of one pixel of the image: ``1 - x`` and ``x``."""

    num_classes = 2
    memory_budget = 1 << 40

    exact = True
    error_bound = 1e-5
    inputs_at_once = 1
    is_out_of_memory = TorchPredictor.is_out_of_memory

    def release_memory(self):
        pass

    def __init__(self, geometry: Geometry = DEPTH_2):
        self.geometry = geometry
        self.shapes: list[tuple[int, ...]] = []
        self.float64_shapes: list[tuple[int, ...]] = []

    def inner(self, batch):
        self.geometry.check(batch.shape[2:])
        return batch[
            (
                slice(None),
                0,
                *(slice(lost, size - lost) for lost, size in zip(self.geometry.context, batch.shape[2:], strict=True)),
            )
        ]

    def probabilities(self, batch):
        self.shapes.append(batch.shape)
        inner = self.inner(batch)
        return np.stack([1 - inner, inner], axis=1)

    def probabilities_float64(self, batch):
        self.float64_shapes.append(batch.shape)
        inner = self.inner(batch.astype(np.float64))
        return np.stack([1 - inner, inner], axis=1)

    def multiply_adds(self, input_shape):
        return prod(input_shape)

    def memory_bytes(self, input_shape):
        return prod(input_shape)


class NoisyPredictor(FakePredictor):
    """Float32 probabilities off by up to 1e-6, otherwise in each call; exact in float64."""

    def probabilities(self, batch):
        answer = super().probabilities(batch)
        noise = np.random.default_rng(len(self.shapes)).uniform(-1e-6, 1e-6, answer.shape)
        return (answer + noise).astype(np.float32)


class SmallPredictor(FakePredictor):
    """A device whose memory ends at a number of pixels."""

    def __init__(self, largest: int, error: Exception):
        super().__init__()
        self.largest = largest
        self.error = error

    def probabilities(self, batch):
        if prod(batch.shape) > self.largest:
            self.shapes.append(batch.shape)
            raise self.error
        return super().probabilities(batch)

    def probabilities_float64(self, batch):
        if prod(batch.shape) > self.largest:
            raise self.error
        return super().probabilities_float64(batch)


def random_image(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((1, *shape), dtype=np.float32)


NETWORKS = {
    "2-D": ({"base_channels": 6, "depth": 2, "batch_norm": True}, (75, 98)),
    "2-D, depth 3": ({"base_channels": 4, "depth": 3}, (95, 71)),
    "2-D, two channels, nearest": (
        {"base_channels": 4, "depth": 1, "in_channels": 2, "upsampling": "nearest"},
        (61, 40),
    ),
    "2-D, bilinear": ({"base_channels": 4, "depth": 2, "upsampling": "bilinear"}, (50, 63)),
    "2-D, padded": ({"base_channels": 4, "depth": 2, "padding": "same", "batch_norm": True}, (57, 66)),
    "2-D, one pixel": ({"base_channels": 4, "depth": 2}, (1, 1)),
    "3-D": ({"ndim": 3, "base_channels": 3, "depth": 1, "batch_norm": True}, (11, 26, 17)),
    "3-D, anisotropic": (
        {
            "ndim": 3,
            "base_channels": 3,
            "depth": 2,
            "kernel_sizes": ((1, 3, 3), (3, 3, 3), (3, 3, 3)),
            "poolings": ((1, 2, 2), (2, 2, 2)),
        },
        (7, 24, 33),
    ),
}


def trained_looking(parameters: dict[str, object], seed: int = 0) -> nn.Module:
    """A network with random weights, and batch norm statistics as if it had seen images."""
    torch.manual_seed(seed)
    network = build("unet", parameters)
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(std=0.3)
    return network.eval()


@cache
def case_of(name: str):
    """Predictor, image, thresholds that are hard to meet, and the answers for the whole image."""
    parameters, shape = NETWORKS[name]
    predictor = TorchPredictor(trained_looking(parameters))
    image = np.random.default_rng(1).random((predictor.in_channels, *shape), dtype=np.float32)
    probabilities = predict(image, predictor)
    # Probabilities that occur, so that some pixel always lies on the threshold, but few do: quantiles in the tails
    thresholds = [float(value) for value in np.quantile(probabilities[1], [0.05, 0.5, 0.99], method="nearest")]
    thresholds = [min(max(value, 1e-3), 1 - 1e-3) for value in thresholds]
    planes = decide(image, predictor, thresholds)
    return predictor, image, thresholds, probabilities, planes
