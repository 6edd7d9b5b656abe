"""PyTorch backend: batch norm folded, channels last, full precision, with a float64 twin and a cost estimate."""

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from functools import cache, cached_property
from itertools import pairwise
from math import inf, prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from unetbio import networks
from unetbio.errors import ImageError, UsageError
from unetbio.geometry import Geometry
from unetbio.inference.backends.base import BFLOAT16, FLOAT32, MEMORY_BUDGETS
from unetbio.inference.cost import NetworkCost, measure_cost
from unetbio.inference.tiling import read_mirrored
from unetbio.networks.blocks import crop
from unetbio.networks.folding import fold_batch_norm
from unetbio.networks.unet.integers import IntegerUNet

__all__ = ["PACKAGES", "TorchPredictor", "choose_device", "make"]

PACKAGES = ()

ERROR_BOUND = 1e-5
"""Ten times the largest difference between float32 and float64 that was measured (`benchmarks/exactness.py`)."""

SOFTMAX_ROUNDING = 2e-6
"""Largest difference of the probabilities of equal logits, with a margin: of integer networks."""

FUSED_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 5e-2}
"""Largest difference of a fused convolution from the two layers, for values of about 1."""

OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")

COLUMN_BYTES = 4 << 20
"""Scratch memory of a float64 convolution on the CPU: a matrix that stays in the cache is multiplied faster."""


class TorchPredictor:
    """Network for tiles: evaluation mode, batch norm folded into the convolutions, channels last.

    The network is copied, so later changes to it have no effect here.

    Parameters
    ----------
    network : torch.nn.Module
        With the attribute ``geometry``; logits out. One that pads (``geometry.padding == "same"``) is cropped by the
        context.
    device : torch.device or str
        Where it runs. Decisions in float64 run on the CPU, so that all devices give the same masks.
    exact : bool
        Crop pixels that depend on the padding, so that tiles are exact. If False, every pixel of an input gets a
        result: the input is mirrored for a network that does not pad.
    window : tuple of int, optional
        Pixels along each axis that the network predicted at once in training.
    precision : str
        ``float32``, or ``bfloat16``: weights and feature maps have 8 bits of precision, and nothing is decided again.

    Raises
    ------
    UsageError
        When the network cannot run on the device, or in this precision.
    """

    error_bound = ERROR_BOUND
    inputs_at_once = 1

    def __init__(
        self,
        network: nn.Module,
        device: torch.device | str = "cpu",
        *,
        exact: bool = True,
        window: tuple[int, ...] | None = None,
        precision: str = FLOAT32,
    ) -> None:
        geometry: Any = network.geometry
        self._network_geometry: Geometry = geometry
        self.exact = exact
        self.geometry = self._network_geometry if exact else _without_context(self._network_geometry)
        self.window = window
        self.device = torch.device(device)
        self.precision = precision
        # Folded in float64 and rounded once; the float64 twin is made of the rounded weights, so both are one network.
        self._folded = fold_batch_norm(copy.deepcopy(network).cpu().double().eval()).float()
        self.in_channels = _in_channels(self._folded)
        self._is_integer = isinstance(network, IntegerUNet)
        self._needs_float64 = networks.needs_float64(network)
        if self._is_integer:
            if self.device.type != "cpu":
                raise UsageError(
                    f"models in integers run on the CPU and not on {str(self.device)!r}: give --device cpu, or the "
                    "model that it was made of"
                )
            self.error_bound = SOFTMAX_ROUNDING
        if precision == BFLOAT16:
            if self._is_integer or self._needs_float64:
                kind = "in integers" if self._is_integer else "with max-unpooling, in which rounding decides,"
                raise UsageError(f"a network {kind} does not compute in bfloat16: leave out --precision bfloat16")
            self.error_bound = inf
        self._network = self._prepared(copy.deepcopy(self._folded))

    @property
    def _memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.geometry.ndim == 2 else torch.channels_last_3d

    @property
    def _dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == BFLOAT16 else torch.float32

    def _prepared(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """Prepare a network for inference in its precision, in place."""
        # The overload with a memory format is missing in PyTorch's annotations.
        movable: Any = network
        placed: nn.Module = movable.to(self.device, self._dtype, memory_format=self._memory_format)
        if self.device.type == "cpu" and _can_fuse(self._dtype):
            _fuse_relu(placed)
        return placed

    @cached_property
    def _cost(self) -> NetworkCost:
        return measure_cost(self._folded, self._network_geometry, self.in_channels)

    @cached_property
    def _network_float64(self) -> Callable[[Tensor], Tensor]:
        if self._is_integer:
            # It rounds no sum in float32 either; the softmax alone gains from float64.
            return lambda images: self._network(images.float()).double()
        return _in_slabs(copy.deepcopy(self._folded).double())

    @property
    def num_classes(self) -> int:
        """Number of probabilities a pixel."""
        return self._cost.num_classes

    @property
    def memory_budget(self) -> int:
        """Bytes of feature maps that a tile may hold; on a CUDA device half of the free memory, if that is more.

        A network in which rounding decides computes in float64, and so on the CPU.
        """
        budget = MEMORY_BUDGETS[self.geometry.ndim]
        if self.device.type == "cuda" and not self._needs_float64:
            free, _ = torch.cuda.mem_get_info(self.device)
            return max(budget, free // 2)
        return budget

    def probabilities(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Softmax of the logits; of those in float64 for a network in which rounding decides.

        Parameters
        ----------
        batch : ndarray of float32
            ``(N, C, *input)``, of a legal size.

        Returns
        -------
        ndarray of float32
            ``(N, K, *(input - 2 * context))``.

        Raises
        ------
        ImageError
            When the number of channels is not that of the network.
        GeometryError
            When the size is not legal.
        """
        if self._needs_float64:
            return self.probabilities_float64(batch).astype(np.float32)
        with _full_precision(self.device):
            images = self._checked(batch).to(self.device, self._dtype).contiguous(memory_format=self._memory_format)
            return self._softmax(self._network(images).float(), batch.shape[2:]).cpu().numpy()

    def probabilities_float64(self, batch: NDArray[np.float32]) -> NDArray[np.float64]:
        """Softmax of the logits in float64 on the CPU; parameters, shape and errors as of `probabilities`."""
        with _full_precision(torch.device("cpu")):
            # One image at a time: a batch is not faster here, and so its size cannot matter.
            images = self._checked(batch).double()
            results = [
                self._softmax(self._network_float64(images[i : i + 1]), batch.shape[2:]) for i in range(len(images))
            ]
            return torch.cat(results).numpy()

    def multiply_adds(self, input_shape: Sequence[int]) -> int:
        """Multiply-adds of all convolutions for one input of this spatial shape."""
        return self._cost.multiply_adds(self._network_input(input_shape))

    def memory_bytes(self, input_shape: Sequence[int]) -> int:
        """Bytes of feature maps that are held at once for one input of this spatial shape."""
        return self._cost.memory_bytes(self._network_input(input_shape))

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether a smaller input may succeed."""
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
            return True
        # The allocator of the CPU raises a plain RuntimeError.
        message = str(error).lower()
        return isinstance(error, RuntimeError) and any(words in message for words in OUT_OF_MEMORY)

    def release_memory(self) -> None:
        """Return freed memory to the CUDA devices."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _network_input(self, input_shape: Sequence[int]) -> Sequence[int]:
        """Network input: the batch itself, or mirrored at its border if the network does not pad."""
        if self.exact or self._network_geometry.padding == "same":
            return input_shape
        return self._network_geometry.input_size(input_shape)

    def _checked(self, batch: NDArray[np.float32]) -> Tensor:
        if batch.shape[1] != self.in_channels:
            raise ImageError(
                "wrong_channels",
                f"the image has {batch.shape[1]} channels and the network takes {self.in_channels}: "
                "choose channels, or a model for this kind of image",
            )
        self.geometry.check(batch.shape[2:])
        wanted = self._network_input(batch.shape[2:])
        if tuple(wanted) != batch.shape[2:]:
            start = [-context for context in self._network_geometry.context]
            batch = np.stack([read_mirrored(image, start, wanted) for image in batch])
        return torch.from_numpy(batch)

    def _softmax(self, logits: Tensor, input_shape: Sequence[int]) -> Tensor:
        if self.geometry.padding == "same":
            sizes = [size - 2 * lost for size, lost in zip(input_shape, self.geometry.context, strict=True)]
            if self.exact:
                return crop(logits, sizes).softmax(dim=1)
            # A network that does not pad may give more, where its smallest legal input is larger than was needed.
            for axis, size in enumerate(sizes, start=2):
                logits = logits.narrow(axis, 0, size)
        return logits.softmax(dim=1)


make = TorchPredictor


def _without_context(geometry: Geometry) -> Geometry:
    return Geometry((0,) * geometry.ndim, geometry.stride, geometry.stride, "same")


def _in_channels(network: nn.Module) -> int:
    return next(layer.in_channels for layer in network.modules() if isinstance(layer, (nn.Conv2d, nn.Conv3d)))


class _ConvolutionReLU(nn.Module):
    """Convolution with a fused ReLU, which saves one pass over the feature map."""

    def __init__(self, layer: nn.Conv2d | nn.Conv3d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features: Tensor) -> Tensor:
        """``(N, C, *spatial) -> (N, K, *output)``."""
        layer = self.layer
        # The operation that PyTorch's own compiler emits for a convolution and a ReLU
        fused: Tensor = torch.ops.mkldnn._convolution_pointwise(
            features,
            layer.weight,
            layer.bias,
            list(layer.padding),
            list(layer.stride),
            list(layer.dilation),
            layer.groups,
            "relu",
            [],
            "",
        )
        return fused


def _fuse_relu(network: nn.Module) -> None:
    """Replace each convolution that a ReLU follows by a `_ConvolutionReLU`, in place."""
    for block in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        layers = [index for index, layer in enumerate(block) if not isinstance(layer, nn.Identity)]
        for index, following in pairwise(layers):
            layer = block[index]
            if not isinstance(layer, (nn.Conv2d, nn.Conv3d)) or isinstance(layer.padding, str):
                continue
            if layer.padding_mode != "zeros":
                continue
            if isinstance(block[following], nn.ReLU):
                block[index], block[following] = _ConvolutionReLU(layer), nn.Identity()


@cache
def _can_fuse(dtype: torch.dtype) -> bool:
    """Whether PyTorch has the fused operation on this processor, with about the same result as the two layers."""
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        block = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).to(dtype)
        image = torch.randn(1, 3, 9, 9).to(dtype)
        expected = block(image)
        try:
            _fuse_relu(block)
            return torch.allclose(block(image), expected, rtol=0, atol=FUSED_TOLERANCE[dtype])
        except (AttributeError, RuntimeError):
            return False


class _SlabConvolution(nn.Module):
    """A convolution done slab by slab along its first spatial axis.

    The float64 convolution of the CPU first copies every kernel window of the image into a column, 27 times the memory
    of the image for a 3 x 3 x 3 kernel: slabs bound that.
    """

    def __init__(self, layer: nn.Conv2d | nn.Conv3d, padding: tuple[int, ...]) -> None:
        super().__init__()
        self.layer = layer
        # Zeros for functional.pad, which counts axes from the last
        self.zeros = [pixels for amount in reversed(padding) for pixels in (amount, amount)]
        layer.padding = (0,) * len(padding)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, C, *spatial) -> (N, K, *output)``, as the replaced convolution."""
        features = functional.pad(features, self.zeros) if any(self.zeros) else features
        kernel = self.layer.kernel_size
        reach = self.layer.dilation[0] * (kernel[0] - 1)
        rows = features.shape[2] - reach
        column_bytes = features.element_size() * prod(kernel) * prod(features.shape) // features.shape[2]
        slab = max(1, COLUMN_BYTES // column_bytes)
        if slab >= rows:
            result: Tensor = self.layer(features)
            return result
        parts = [self.layer(features[:, :, row : row + slab + reach]) for row in range(0, rows, slab)]
        return torch.cat(parts, dim=2)


def _in_slabs(network: nn.Module) -> nn.Module:
    for module in list(network.modules()):
        for name, layer in list(module.named_children()):
            if not isinstance(layer, (nn.Conv2d, nn.Conv3d)) or isinstance(layer.padding, str):
                continue
            if layer.padding_mode != "zeros":
                continue
            if {*layer.stride} == {1}:
                setattr(module, name, _SlabConvolution(layer, tuple(map(int, layer.padding))))
    return network


@contextlib.contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    # TF32 (on by default in cuDNN's convolutions) and autocast keep 10 bits or fewer: far above the tolerance.
    with (
        torch.inference_mode(),
        torch.autocast(device.type, enabled=False),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
    ):
        yield


def choose_device(text: str = "auto") -> tuple[torch.device, str]:
    """Choose the device that a user asks for.

    Parameters
    ----------
    text : str
        ``auto`` (a CUDA device, else MPS, else the CPU), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Returns
    -------
    torch.device, str
        The device and, for the log, why.

    Raises
    ------
    UsageError
        When the device is unknown or this machine does not have it.
    """
    kind, _, number = text.partition(":")
    if kind not in {"auto", "cpu", "cuda", "mps"} or (":" in text and not (kind == "cuda" and number.isdecimal())):
        raise UsageError(f"there is no device {text!r}: give auto, cpu, cuda, cuda:N or mps")
    cuda_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if kind == "cuda" and int(number or 0) >= cuda_devices:
        raise UsageError(
            f"device {text!r} is not available: PyTorch sees {cuda_devices} CUDA devices; try --device auto"
        )
    if kind == "mps" and not mps:
        raise UsageError("device 'mps' is not available: PyTorch sees no Apple GPU; try --device auto")
    if kind == "cuda" or (kind == "auto" and cuda_devices):
        device = torch.device("cuda", int(number or 0))
        return device, f"{torch.cuda.get_device_name(device)}{' was found' if kind == 'auto' else ', as asked'}"
    if kind == "mps" or (kind == "auto" and mps):
        return torch.device("mps"), "an Apple GPU was found" if kind == "auto" else "as asked"
    return torch.device("cpu"), "no CUDA device and no Apple GPU was found" if kind == "auto" else "as asked"
