"""What libraries that run an ONNX graph share: export, the check of the graph, memory errors, the processor as device.

The graph is exported in memory from the network of the PyTorch backend; it takes tiles of any number, height and width.
"""

import importlib
import io
import re
import warnings
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from unetbio.errors import UsageError
from unetbio.geometry import Geometry
from unetbio.inference.backends.base import FLOAT32
from unetbio.inference.backends.torch import TorchPredictor
from unetbio.inference.integer_graph import integer_graph
from unetbio.networks.unet.integers import IntegerUNet

__all__ = ["GraphPredictor", "Run", "example_input", "export_graph", "is_equal"]

Run = Callable[[Tensor], Tensor]

LARGEST_DIFFERENCE = 1e-4
"""Largest difference between the logits of graph and network, as a part of the largest logit; rounding gives a
tenth."""

OUT_OF_MEMORY = re.compile(r"failed to allocate (memory|\d+ bytes)|could not allocate memory|bad.alloc", re.IGNORECASE)


class GraphPredictor(TorchPredictor):
    """A network whose float32 pass runs as a graph on the processor; its float64 pass is PyTorch's.

    Parameters as of `TorchPredictor`.

    Raises
    ------
    UsageError
        When the library is not installed, or the network has no equal ONNX graph.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    computes_integers: ClassVar[bool] = False

    @abstractmethod
    def _compiled(self, graph: bytes) -> Run:
        """Logits of a batch, from the bytes of an ONNX graph with one input and one output."""

    @classmethod
    def choose_device(cls, text: str = "auto") -> tuple[torch.device, str]:
        """Choose the processor; see `unetbio.inference.backends.base.choose_device`."""
        if text not in {"auto", "cpu"}:
            raise UsageError(f"backend {cls.name} runs on the CPU and not on {text!r}: leave out --device or --backend")
        return torch.device("cpu"), cls.title

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether a smaller input may succeed."""
        # These libraries have no exception of their own for this.
        return super().is_out_of_memory(error) or OUT_OF_MEMORY.search(str(error)) is not None

    def _prepared(self, network: nn.Module) -> Run:
        self._check_packages()
        if self.precision != FLOAT32:
            raise UsageError(
                f"backend {self.name} does not compute in {self.precision}: leave out --backend or --precision"
            )
        if isinstance(network, IntegerUNet) and not self.computes_integers:
            raise UsageError(f"backend {self.name} does not compute models in integers: leave out --backend")
        try:
            if isinstance(network, IntegerUNet):
                graph = integer_graph(network)
            else:
                graph = export_graph(network, self._network_geometry, self.in_channels)
            run = self._compiled(graph)
            equal = is_equal(run, network, self._network_geometry, self.in_channels)
        # Exporter and libraries raise errors of many kinds for operations that they do not have.
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            raise UsageError(f"this network has no ONNX graph ({reason}): choose --backend torch") from error
        if not equal:
            raise UsageError("the ONNX graph of this network computes other values: choose --backend torch")
        return run

    def _check_packages(self) -> None:
        try:
            for package in self.packages:
                importlib.import_module(package)
        except ImportError as error:
            raise UsageError(
                f"backend {self.name} needs the packages {' and '.join(self.packages)}: "
                f'pip install "unetbio[{self.name}]"'
            ) from error


def export_graph(network: nn.Module, geometry: Geometry, in_channels: int, *, output: str = "logits") -> bytes:
    """Give a network as an ONNX graph that takes inputs of every legal size.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode, on the CPU.
    geometry : Geometry
        Legal sizes of its input.
    in_channels : int
        Channels of its input.
    output : str
        Name of the output; that of the input is ``image``.

    Returns
    -------
    bytes
        The graph.
    """
    # The exporter by tracing takes a second. The newer one works out symbolic sizes, for a minute and more.
    image = example_input(geometry, in_channels, strides=1)
    axes = {0: "n", **{axis + 2: f"size_{axis}" for axis in range(geometry.ndim)}}
    graph = io.BytesIO()
    file: Any = graph  # PyTorch's annotation knows paths alone, its documentation files too
    with warnings.catch_warnings():
        # About sizes that become constants (`is_equal` checks the result), and about the newer exporter
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (image,),
            file,
            dynamo=False,
            input_names=["image"],
            output_names=[output],
            dynamic_axes={"image": axes, output: axes},
        )
    return graph.getvalue()


def is_equal(run: Run, network: nn.Module, geometry: Geometry, in_channels: int) -> bool:
    """Whether graph and network give equal results for an input size other than that of the export.

    Those of an integer network have to be equal bit by bit.
    """
    image = example_input(geometry, in_channels, strides=3)
    with torch.inference_mode():
        expected = network(image)
    found = run(image)
    if found.shape != expected.shape:
        return False
    if isinstance(network, IntegerUNet):
        return torch.equal(found, expected)
    scale = max(1.0, float(expected.abs().max()))
    return float((found - expected).abs().max()) <= LARGEST_DIFFERENCE * scale


def example_input(geometry: Geometry, in_channels: int, *, strides: int) -> Tensor:
    """Noise of a legal size, with a different length along each axis."""
    sizes = zip(geometry.minimum, geometry.stride, strict=True)
    shape = [minimum + (strides + axis) * stride for axis, (minimum, stride) in enumerate(sizes)]
    return torch.rand((strides, in_channels, *shape), generator=torch.Generator().manual_seed(0))
