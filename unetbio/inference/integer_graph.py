"""An integer U-Net as a graph for ONNX Runtime, which gives the logits of the network bit by bit.

Quantized convolutions multiply 8-bit integers and add in 32 bits. The first and the last convolution run in float32:
their sums are integers that it holds exactly (`unetbio.networks.unet.integers`). All others read and write channels
last, ``(N, H, W, C)``, as their kernels do, so that no map between them is transposed: those are operations of ONNX
Runtime alone.
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

DOMAIN = "com.microsoft"
OF_DOMAIN = {"FusedMatMul", "NhwcMaxPool", "QLinearConv"}
"""Operations that ONNX Runtime has beside those of ONNX."""

FLOAT32 = 1
"""Number of the type in ONNX."""


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
        name = graph.node("NhwcMaxPool", name, kernel_shape=[factor] * 2, strides=[factor] * 2)
        size[:] = [length // factor for length in size]
    for layer in network.bottleneck.children():
        name = convolved(name, _integers(layer))
    for upsampler, convolutions, factor in zip(network.upsamplers, network.decoder, network.factors[::-1], strict=True):
        size[:] = [length * factor for length in size]
        skip, skip_size = skips.pop()
        lost = [(whole - kept) // 2 for whole, kept in zip(skip_size, size, strict=True)]
        skip = graph.cropped(skip, lost)
        name = graph.node("Concat", skip, graph.upsampled(name, _integers(upsampler), factor, skip), axis=3)
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
        domain = DOMAIN if operation in OF_DOMAIN else ""
        self._nodes.append(self._helper.make_node(operation, list(inputs), [name], domain=domain, **attributes))
        return name

    def steps(self, image: str) -> str:
        """Whole steps of the image, still as floats."""
        scaled = self.node("Mul", image, self.constant(np.float32(STEPS)))
        whole = self.node("Round", scaled)
        limits = (self.constant(np.float32(limit)) for limit in (-LARGEST_STEPS, LARGEST_STEPS))
        return self.node("Clip", whole, *limits)

    def whole_floats(self, name: str, layer: IntegerConvolution) -> str:
        """The first convolution: from whole floats ``(N, C, H, W)`` to integers ``(N, H, W, K)``."""
        sums = self.node("Conv", name, self._floats(layer.weight), self._floats(layer.bias))
        scaled = self.node("Mul", sums, self._floats(layer.scale[:, None, None]))
        maps = self.node("QuantizeLinear", scaled, self._one, self._zero)
        return self.node("Transpose", maps, perm=[0, 2, 3, 1])

    def convolution(self, name: str, layer: IntegerConvolution) -> str:
        """A convolution from integers to integers, whose clipping at 0 is the ReLU."""
        return self._quantized(name, layer.weight, layer.scale, layer.bias)

    def upsampled(self, name: str, layer: IntegerConvolution, factor: int, like: str) -> str:
        """A 1 x 1 convolution and the shuffle of its maps, to the height and width of other maps."""
        # Maps of one pixel in the order (row, column, map): those of a row then are pixels beside each other.
        tensors = (layer.weight, layer.scale, layer.bias)
        shuffled = (
            tensor.reshape(-1, factor, factor, *tensor.shape[1:]).movedim(0, 2).flatten(0, 2) for tensor in tensors
        )
        by_row = self.constant(np.array([0, 0, 0, factor, layer.out_channels // factor], np.int64))
        maps = self.node("Reshape", self._quantized(name, *shuffled), by_row)
        rows = self.node("Transpose", maps, perm=[0, 1, 3, 2, 4])
        channels = self.constant(np.array([layer.out_channels // factor**2], np.int64))
        return self.node("Reshape", rows, self.node("Concat", self.node("Shape", like, end=3), channels, axis=0))

    def cropped(self, name: str, lost: Sequence[int]) -> str:
        """Maps without as many pixels on either side of each axis."""
        if not any(lost):
            return name
        starts, axes = np.array(lost, np.int64), np.array([1, 2], np.int64)
        # From the end, since the size is not known here; 0 lost pixels there are all that it has.
        ends = np.where(starts > 0, -starts, np.iinfo(np.int64).max)
        return self.node("Slice", name, *map(self.constant, (starts, ends, axes)))

    def logits(self, name: str, head: IntegerConvolution) -> None:
        """The last convolution: from integers ``(N, H, W, C)`` to logits ``(N, K, H, W)``."""
        # A convolution of NHWC in float32 would be transposed twice. (N, H * W, C), and weights (K, C) -> (N, K, H * W)
        pixels = self.constant(np.array([0, -1, head.in_channels], np.int64))
        maps = self.node("Reshape", self.node("Cast", name, to=FLOAT32), pixels)
        sums = self.node("FusedMatMul", self._floats(head.weight.flatten(1)), maps, transB=1)
        planes = self.constant(np.array([0, head.out_channels], np.int64))
        shape = self.node("Concat", planes, self.node("Shape", name, start=1, end=3), axis=0)
        biased = self.node("Add", self.node("Reshape", sums, shape), self._floats(head.bias[:, None, None]))
        self.node("Mul", biased, self._floats(head.scale[:, None, None]), named=OUTPUT)

    def written(self, in_channels: int, num_classes: int) -> bytes:
        """Bytes of the graph."""
        described = [
            self._helper.make_tensor_value_info(name, FLOAT32, ["n", channels, f"{name}_height", f"{name}_width"])
            for name, channels in ((INPUT, in_channels), (OUTPUT, num_classes))
        ]
        graph = self._helper.make_graph(self._nodes, "unet", described[:1], described[1:], self._constants)
        opsets = [self._helper.make_opsetid("", OPSET), self._helper.make_opsetid(DOMAIN, 1)]
        model = self._helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        made: bytes = model.SerializeToString()
        return made

    def _quantized(self, name: str, weight: Tensor, scale: Tensor, bias: Tensor) -> str:
        scales = _numpy(scale).astype(np.float32)
        weights = (_numpy(weight), scales, np.zeros(scales.size, np.int8))
        constants = map(self.constant, weights)
        whole = (self._one, self._zero)
        return self.node("QLinearConv", name, *whole, *constants, *whole, self.constant(_numpy(bias)), channels_last=1)

    def _floats(self, tensor: Tensor) -> str:
        return self.constant(_numpy(tensor).astype(np.float32))


def _numpy(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.cpu().numpy()
    return array
