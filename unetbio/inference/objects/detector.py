"""Detector of the objects of one window: its interface, and the PyTorch network behind it."""

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from unetbio.geometry import Geometry
from unetbio.inference.backends.base import MEMORY_BUDGETS
from unetbio.inference.cost import NetworkCost, measure_cost, values_held
from unetbio.networks.detection import Objects, RegionHead
from unetbio.networks.folding import fold_batch_norm

__all__ = ["Detector", "TorchDetector"]

BYTES_A_VALUE = 4


class Detector(Protocol):
    """Interface of networks that find objects; tests replace it by simple detectors."""

    @property
    def geometry(self) -> Geometry:
        """Legal sizes."""

    @property
    def in_channels(self) -> int:
        """Channels of the image."""

    def find_objects(self, image: Tensor) -> Objects:
        """Objects of an image ``(1, C, H, W)``, with masks of any size, the same for all."""


class TorchDetector:
    """Network for windows: evaluation mode, batch norm folded into the convolutions, channels last.

    The network is copied, so later changes to it have no effect here.

    Parameters
    ----------
    network : torch.nn.Module
        One that finds objects: with ``find_objects`` and ``region_heads``, as `unetbio.networks.detection` has them.
    device : torch.device or str
        Where it runs.

    Attributes
    ----------
    exact : bool
        False: the result depends on the windows.
    window : None
        None: the window does not depend on the training. Boxes are found alike in any window, and a larger one cuts
        fewer.
    """

    exact = False
    window = None

    def __init__(self, network: nn.Module, device: torch.device | str = "cpu") -> None:
        original: Any = network
        stride = original.geometry.stride
        self.geometry = Geometry((0, 0), stride, stride, "same")
        self.in_channels: int = original.in_channels
        self.device = torch.device(device)
        # Folded in float64 and rounded once; Apple's GPUs have no float64.
        folded: Any = fold_batch_norm(copy.deepcopy(network).cpu().double().eval()).float()
        self._network = folded.to(self.device, memory_format=torch.channels_last)

    @cached_property
    def _cost(self) -> NetworkCost:
        return measure_cost(_WholeImagePart(self._network), self.geometry, self.in_channels)

    @property
    def memory_budget(self) -> int:
        """Bytes of feature maps that a window may hold."""
        return MEMORY_BUDGETS[2]

    def find_objects(self, image: Tensor) -> Objects:
        """Objects of an image ``(1, C, H, W)``, on the device."""
        with torch.inference_mode():
            found: Objects = self._network.find_objects(image.to(self.device))
        return found

    def multiply_adds(self, input_shape: Sequence[int]) -> int:
        """Multiply-adds for one window, without the heads that run on each object."""
        return self._cost.multiply_adds(input_shape)

    def memory_bytes(self, input_shape: Sequence[int]) -> int:
        """Most bytes of feature maps that are held at once for one window, for any number of objects."""
        maps = self._cost.bytes_at_end(input_shape)
        aligning, looking = self._box_bytes
        return max(self._cost.memory_bytes(input_shape), maps + max(maps + aligning, looking))

    @cached_property
    def _box_bytes(self) -> tuple[int, int]:
        """Most bytes held for boxes, while features are aligned to them and while the heads run on them."""
        heads: Sequence[RegionHead] = self._network.region_heads
        return (
            max(head.most_boxes * head.bytes_a_box for head in heads),
            max(head.most_boxes * BYTES_A_VALUE * values_held(head.network, head.features) for head in heads),
        )


class _WholeImagePart(nn.Module):
    """Part of a network that runs on the whole window; its cost grows with the window's size."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.end = nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        # The whole output is held while the last layer runs and while the heads run on boxes.
        features = self.network(image)
        finest: Tensor = self.end(features.pyramid[0])
        return finest
