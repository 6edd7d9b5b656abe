"""Cost of a network for an input of any shape: multiply-adds and memory, from two small passes.

In a fully convolutional network the size of every feature map grows by a fixed number of pixels when the input grows by
one stride. Two passes, at the smallest legal input and at one that is a stride larger along each axis, therefore give
the size of every feature map for every legal input. The work of each convolution and the memory in use follow from
these sizes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from unetbio.geometry import Geometry

__all__ = ["NetworkCost", "measure_cost", "values_held"]

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)

FLOAT32_BYTES = 4


@dataclass(frozen=True)
class NetworkCost:
    """Multiply-adds and memory of one image, as functions of the input shape.

    Parameters
    ----------
    geometry : Geometry
        Of the network.
    num_classes : int
        Channels of the output.
    work : ndarray of int
        ``(L,)``: multiply-adds of each convolution for one pixel of the feature map that it walks over.
    work_sizes, work_growth : ndarray of int
        ``(L, ndim)``: shape of that map for the smallest legal input, and its growth for each stride of input.
    held : ndarray of bool
        ``(moments, T)``: which of the feature maps are held while each layer runs.
    channels : ndarray of int
        ``(T,)``: of each feature map.
    map_sizes, map_growth : ndarray of int
        ``(T, ndim)``: shape of each feature map, and its growth for each stride of input.
    """

    geometry: Geometry
    num_classes: int
    work: NDArray[np.int64]
    work_sizes: NDArray[np.int64]
    work_growth: NDArray[np.int64]
    held: NDArray[np.bool_]
    channels: NDArray[np.int64]
    map_sizes: NDArray[np.int64]
    map_growth: NDArray[np.int64]

    def multiply_adds(self, input_shape: Sequence[int]) -> int:
        """Multiply-adds of all convolutions for one input of a legal spatial shape."""
        strides = self._strides(input_shape)
        return int((self.work * (self.work_sizes + strides * self.work_growth).prod(axis=1)).sum())

    def memory_bytes(self, input_shape: Sequence[int]) -> int:
        """Most bytes of feature maps that are held at once for one input of a legal spatial shape."""
        return int(self._values(input_shape).max()) * FLOAT32_BYTES

    def bytes_at_end(self, input_shape: Sequence[int]) -> int:
        """Bytes of feature maps that are still held when the last layer has run."""
        return int(self._values(input_shape)[-1]) * FLOAT32_BYTES

    def _values(self, input_shape: Sequence[int]) -> NDArray[np.int64]:
        """Values held at each moment: ``(moments,)``."""
        sizes = self.channels * (self.map_sizes + self._strides(input_shape) * self.map_growth).prod(axis=1)
        return np.asarray((self.held * sizes).sum(axis=1))

    def _strides(self, input_shape: Sequence[int]) -> NDArray[np.int64]:
        self.geometry.check(input_shape)
        minimum, stride = np.array(self.geometry.minimum), np.array(self.geometry.stride)
        return np.asarray((np.array(input_shape) - minimum) // stride, dtype=np.int64)


@dataclass
class _Record:
    """Record of one pass; it holds storages by weak references, so that recording keeps no memory alive."""

    work: list[int] = field(default_factory=list)
    work_shapes: list[tuple[int, ...]] = field(default_factory=list)
    map_shapes: list[tuple[int, ...]] = field(default_factory=list)
    storages: list[StorageWeakRef] = field(default_factory=list)
    held: list[list[int]] = field(default_factory=list)

    def see(self, *tensors: Tensor) -> None:
        """Note feature maps and which of all noted ones are held now."""
        held = [index for index, storage in enumerate(self.storages) if not storage.expired()]  # type: ignore[no-untyped-call]
        for tensor in tensors:
            storage = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
            if not any(self.storages[index].cdata == storage.cdata for index in held):
                held.append(len(self.storages))
                self.storages.append(storage)
                self.map_shapes.append(tuple(tensor.shape[1:]))
        self.held.append(held)

    def count(self, layer: nn.Module, features: Tensor, result: Tensor) -> None:
        """Note the work of a convolution: a transposed one with stride = kernel walks over its input."""
        walked = features if isinstance(layer, _TRANSPOSED) else result
        weight: Any = layer.weight
        self.work.append(weight.numel())
        self.work_shapes.append(tuple(walked.shape[2:]))


def measure_cost(network: nn.Module, geometry: Geometry, in_channels: int) -> NetworkCost:
    """Measure the cost of a network.

    Parameters
    ----------
    network : torch.nn.Module
        Fully convolutional and in evaluation mode; run twice, on the device where its weights are.
    geometry : Geometry
        Of the network.
    in_channels : int
        Channels of its input.

    Returns
    -------
    NetworkCost
        Without the weights, and without the scratch space of a device's own convolution routines.
    """
    larger = [minimum + stride for minimum, stride in zip(geometry.minimum, geometry.stride, strict=True)]
    small, num_classes = _record(network, geometry.minimum, in_channels)
    large, _ = _record(network, larger, in_channels)
    held = np.zeros((len(small.held), len(small.map_shapes)), dtype=bool)
    for moment, indices in enumerate(small.held):
        held[moment, indices] = True
    work_sizes, map_shapes = np.array(small.work_shapes), np.array(small.map_shapes)
    return NetworkCost(
        geometry=geometry,
        num_classes=num_classes,
        work=np.array(small.work),
        work_sizes=work_sizes,
        work_growth=np.array(large.work_shapes) - work_sizes,
        held=held,
        channels=map_shapes[:, 0],
        map_sizes=map_shapes[:, 1:],
        map_growth=(np.array(large.map_shapes) - map_shapes)[:, 1:],
    )


def values_held(part: nn.Module, shape: Sequence[int]) -> int:
    """Largest number of feature-map values that a part of a network holds at once, for each example of a batch.

    Parameters
    ----------
    part : torch.nn.Module
        In evaluation mode; run once, on the device where its weights are.
    shape : sequence of int
        ``(C, *spatial)`` of an example; examples lie in memory with the channels last.

    Returns
    -------
    int
        The input is included.
    """
    channels, *spatial = shape
    record = _Record()
    with _recorded(part, record) as device:
        features = torch.zeros((1, *spatial, channels), device=device).movedim(-1, 1)
        record.see(features)
        part(features)
    return max(sum(prod(record.map_shapes[index]) for index in held) for held in record.held)


def _record(network: nn.Module, shape: Sequence[int], in_channels: int) -> tuple[_Record, int]:
    record = _Record()
    with _recorded(network, record) as device, _empty_convolutions(network):
        result = network(torch.zeros((1, in_channels, *shape), device=device))
    return record, int(result.shape[1])


@contextmanager
def _empty_convolutions(network: nn.Module) -> Iterator[None]:
    """Convolutions give zeros inside the block: sizes alone are recorded, and arithmetic in 3-D would take seconds."""
    layers = [layer for layer in network.modules() if isinstance(layer, _CONVOLUTIONS)]
    changed = [layer for layer in layers if not isinstance(layer.padding, str)]
    for layer in changed:
        vars(layer)["forward"] = partial(_zeros, layer)
    try:
        yield
    finally:
        for layer in changed:
            del vars(layer)["forward"]


def _zeros(layer: Any, features: Tensor) -> Tensor:
    """Zeros in the shape of the result of a convolution: ``(N, C, *spatial) -> (N, K, *output)``."""
    amounts = zip(
        features.shape[2:],
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.output_padding,
        strict=True,
    )
    transposed = isinstance(layer, _TRANSPOSED)
    sizes = [_output_size(*amount, transposed=transposed) for amount in amounts]
    return features.new_zeros((len(features), layer.out_channels, *sizes))


def _output_size(
    size: int, kernel: int, stride: int, padding: int, dilation: int, added: int, *, transposed: bool
) -> int:
    reach = dilation * (kernel - 1)
    if transposed:
        return (size - 1) * stride - 2 * padding + reach + added + 1
    return (size + 2 * padding - reach - 1) // stride + 1


@contextmanager
def _recorded(network: nn.Module, record: _Record) -> Iterator[torch.device]:
    """Record the layers that run inside the block; yields the device of the network."""

    def before(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        record.see(inputs[0])

    def after(layer: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> None:
        record.see(inputs[0], result)
        if isinstance(layer, _CONVOLUTIONS):
            record.count(layer, inputs[0], result)

    leaves = [layer for layer in network.modules() if not any(True for _ in layer.children())]
    handles = [leaf.register_forward_pre_hook(before) for leaf in leaves]
    handles += [leaf.register_forward_hook(after) for leaf in leaves]
    try:
        with torch.inference_mode():
            # An integer network has buffers alone.
            yield next(chain(network.parameters(), network.buffers())).device
    finally:
        for handle in handles:
            handle.remove()
