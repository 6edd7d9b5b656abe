"""An integer U-Net as an ONNX graph of integer operations, which gives the logits of the network bit by bit.

Quantized convolutions multiply 8-bit integers and add in 32 bits. The first and the last convolution run in float32:
their sums are integers that it holds exactly (`unetbio.networks.unet.integers`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from unetbio.networks.unet.integers import LARGEST_STEPS, STEPS, IntegerConvolution, IntegerUNet

__all__ = ["integer_graph"]

INPUT, OUTPUT = "image", "logits"

OPSET = 17
IR_VERSION = 8
"""Of ONNX 1.12, which all libraries of the last years read."""


def integer_graph(network: IntegerUNet) -> bytes:
    """Give an integer network as an ONNX graph from ``image`` to ``logits``, for batches of every legal size."""
    graph = _Graph()
    first = next(layer for layer in network.modules() if isinstance(layer, IntegerConvolution))
    size = list(network.geometry.minimum)

    def convolved(name: str, layer: IntegerConvolution) -> str:
        size[:] = [length - kernel + 1 for length, kernel in zip(size, layer.kernel_size, strict=True)]
        return graph.whole_floats(name, layer) if layer is first else graph.convolution(name, layer)

    name = graph.steps(INPUT)
    skips = []
    for convolutions, factor in zip(network.encoder, network.factors, strict=True):
        for layer in convolutions.children():
            name = convolved(name, _integers(layer))
        skips.append((name, tuple(size)))
        name = graph.node("MaxPool", name, kernel_shape=[factor] * 2, strides=[factor] * 2)
        size[:] = [length // factor for length in size]
    for layer in network.bottleneck.children():
        name = convolved(name, _integers(layer))
    for upsampler, convolutions, factor in zip(network.upsamplers, network.decoder, network.factors[::-1], strict=True):
        name = graph.node("DepthToSpace", convolved(name, _integers(upsampler)), blocksize=factor, mode="CRD")
        size[:] = [length * factor for length in size]
        skip, skip_size = skips.pop()
        lost = [(whole - kept) // 2 for whole, kept in zip(skip_size, size, strict=True)]
        name = graph.node("Concat", graph.cropped(skip, lost), name, axis=1)
        for layer in convolutions.children():
            name = convolved(name, _integers(layer))
    graph.logits(name, network.head)
    return graph.written(first.in_channels, network.head.out_channels)


def _integers(layer: Any) -> IntegerConvolution:
    assert isinstance(layer, IntegerConvolution)
    return layer


class _Graph:
    """Nodes of a graph, one after the other; each gives the name of its result."""

    def __init__(self) -> None:
        from onnx import helper, numpy_helper

        self._helper = helper
        self._to_tensor = numpy_helper.from_array
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._one = self.constant(np.float32(1))
        self._zero = self.constant(np.uint8(0))

    def constant(self, value: "NDArray[Any] | np.generic") -> str:
        """Name of a constant."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(self._to_tensor(np.asarray(value), name))
        return name

    def node(self, operation: str, *inputs: str, named: str | None = None, **attributes: Any) -> str:
        """Add a node with one result."""
        name = named or f"{operation}_{len(self._nodes)}"
        self._nodes.append(self._helper.make_node(operation, list(inputs), [name], **attributes))
        return name

    def steps(self, image: str) -> str:
        """Whole steps of the image, still as floats."""
        scaled = self.node("Mul", image, self.constant(np.float32(STEPS)))
        whole = self.node("Round", scaled)
        limits = (self.constant(np.float32(limit)) for limit in (-LARGEST_STEPS, LARGEST_STEPS))
        return self.node("Clip", whole, *limits)

    def whole_floats(self, name: str, layer: IntegerConvolution) -> str:
        """The first convolution: from whole floats to integers."""
        return self.node("QuantizeLinear", self._scaled(name, layer), self._one, self._zero)

    def convolution(self, name: str, layer: IntegerConvolution) -> str:
        """A convolution from integers to integers, whose clipping at 0 is the ReLU."""
        scale = _numpy(layer.scale).astype(np.float32)
        weights = [self.constant(_numpy(layer.weight)), self.constant(scale), self.constant(np.zeros(scale.size, "i1"))]
        bias = self.constant(_numpy(layer.bias))
        return self.node("QLinearConv", name, self._one, self._zero, *weights, self._one, self._zero, bias)

    def cropped(self, name: str, lost: Sequence[int]) -> str:
        """Maps without as many pixels on either side of each axis."""
        if not any(lost):
            return name
        starts, axes = np.array(lost, np.int64), np.array([2, 3], np.int64)
        # From the end, since the size is not known here; 0 lost pixels there are all that it has.
        ends = np.where(starts > 0, -starts, np.iinfo(np.int64).max)
        return self.node("Slice", name, *map(self.constant, (starts, ends, axes)))

    def logits(self, name: str, head: IntegerConvolution) -> None:
        """The last convolution: from integers to logits."""
        self._scaled(self.node("DequantizeLinear", name, self._one), head, named=OUTPUT)

    def written(self, in_channels: int, num_classes: int) -> bytes:
        """Bytes of the graph."""
        float32 = 1
        described = [
            self._helper.make_tensor_value_info(name, float32, ["n", channels, f"{name}_height", f"{name}_width"])
            for name, channels in ((INPUT, in_channels), (OUTPUT, num_classes))
        ]
        graph = self._helper.make_graph(self._nodes, "unet", described[:1], described[1:], self._constants)
        opset = self._helper.make_opsetid("", OPSET)
        model = self._helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
        made: bytes = model.SerializeToString()
        return made

    def _scaled(self, name: str, layer: IntegerConvolution, named: str | None = None) -> str:
        weight, bias = (self.constant(_numpy(tensor).astype(np.float32)) for tensor in (layer.weight, layer.bias))
        sums = self.node("Conv", name, weight, bias)
        scale = _numpy(layer.scale).astype(np.float32)[:, None, None]
        return self.node("Mul", sums, self.constant(scale), named=named)


def _numpy(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.cpu().numpy()
    return array
