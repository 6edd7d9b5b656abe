"""ONNX Runtime on the processor: float32 probabilities from an ONNX graph, float64 ones from PyTorch.

The graph is exported in memory from the network of the PyTorch backend; it takes tiles of any number, height and width.
"""

import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unetbio.errors import UsageError
from unetbio.geometry import Geometry
from unetbio.inference.backends.torch import TorchPredictor

__all__ = ["OnnxPredictor", "choose_device", "make"]

LARGEST_DIFFERENCE = 1e-4
"""Largest difference between the logits of graph and network, as a part of the largest logit; rounding gives a
tenth."""

OUT_OF_MEMORY = ("failed to allocate memory", "bad allocation", "bad_alloc")


class OnnxPredictor(TorchPredictor):
    """A network whose float32 pass runs in ONNX Runtime; parameters as of `TorchPredictor`.

    Raises
    ------
    UsageError
        When ONNX Runtime is not installed, or the network has no equal ONNX graph.
    """

    # Ten times the largest difference between float32 and float64 that was measured (`benchmarks/backends.py`).
    error_bound = 1e-5

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether a smaller input may succeed."""
        # ONNX Runtime has no exception of its own for this.
        return super().is_out_of_memory(error) or any(words in str(error).lower() for words in OUT_OF_MEMORY)

    def _prepared(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        runtime = _onnxruntime()
        try:
            graph = _export(network, self._network_geometry, self.in_channels)
            run = _session(runtime, graph)
            equal = _is_equal(run, network, self._network_geometry, self.in_channels)
        # Exporter and runtime raise errors of many kinds for operations that they do not have.
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            raise UsageError(f"this network has no ONNX graph ({reason}): choose --backend torch") from error
        if not equal:
            raise UsageError("the ONNX graph of this network computes other values: choose --backend torch")
        return run


make = OnnxPredictor


def choose_device(text: str = "auto") -> tuple[torch.device, str]:
    """Choose the processor; see `unetbio.inference.backends.base.choose_device`."""
    if text not in {"auto", "cpu"}:
        raise UsageError(f"backend onnx runs on the CPU and not on {text!r}: leave out --device or --backend")
    return torch.device("cpu"), "ONNX Runtime"


def _onnxruntime() -> Any:
    try:
        import onnx  # noqa: F401 - PyTorch's exporter needs it
        import onnxruntime
    except ImportError as error:
        raise UsageError('backend onnx needs the packages onnx and onnxruntime: pip install "unetbio[onnx]"') from error
    return onnxruntime


def _export(network: nn.Module, geometry: Geometry, in_channels: int) -> bytes:
    # The exporter by tracing takes a second. The newer one works out symbolic sizes, for a minute and more.
    image = _example(geometry, in_channels, strides=1)
    axes = {0: "n", **{axis + 2: f"size_{axis}" for axis in range(geometry.ndim)}}
    graph = io.BytesIO()
    file: Any = graph  # PyTorch's annotation knows paths alone, its documentation files too
    with warnings.catch_warnings():
        # About sizes that become constants (`_is_equal` checks the result), and about the newer exporter
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (image,),
            file,
            dynamo=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": axes, "logits": axes},
        )
    return graph.getvalue()


def _session(runtime: Any, graph: bytes) -> Callable[[Tensor], Tensor]:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that wait for the next tile would take the processors from the steps after the network.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        logits = session.run(None, {"image": np.ascontiguousarray(images.numpy())})[0]
        return torch.from_numpy(logits)

    return run


def _is_equal(run: Callable[[Tensor], Tensor], network: nn.Module, geometry: Geometry, in_channels: int) -> bool:
    """Whether graph and network give equal results for an input size other than that of the export."""
    image = _example(geometry, in_channels, strides=3)
    with torch.inference_mode():
        expected = network(image)
    found = run(image)
    if found.shape != expected.shape:
        return False
    scale = max(1.0, float(expected.abs().max()))
    return float((found - expected).abs().max()) <= LARGEST_DIFFERENCE * scale


def _example(geometry: Geometry, in_channels: int, *, strides: int) -> Tensor:
    """Noise of a legal size, with a different length along each axis."""
    sizes = zip(geometry.minimum, geometry.stride, strict=True)
    shape = [minimum + (strides + axis) * stride for axis, (minimum, stride) in enumerate(sizes)]
    return torch.rand((strides, in_channels, *shape), generator=torch.Generator().manual_seed(0))
