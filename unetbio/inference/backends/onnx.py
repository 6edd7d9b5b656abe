"""ONNX Runtime on the processor."""

import numpy as np
import torch
from torch import Tensor

from unetbio.inference.backends.graph import GraphPredictor, Run

__all__ = ["PACKAGES", "OnnxPredictor", "choose_device", "make"]

PACKAGES = ("onnx", "onnxruntime")


class OnnxPredictor(GraphPredictor):
    """A network whose float32 pass runs in ONNX Runtime; see `GraphPredictor`."""

    name = "onnx"
    title = "ONNX Runtime"
    packages = PACKAGES
    computes_integers = True
    # Ten times the largest difference between float32 and float64 that was measured (`benchmarks/backends.py`).
    error_bound = 1e-5

    def _compiled(self, graph: bytes) -> Run:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Threads that wait for the next tile would take the processors from the steps after the network.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if self._is_integer:
            # Its graph is written as it has to be computed. Optimizers would fold scales into weights, which then are
            # no integers, and copy maps from one layout to another.
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

        def run(images: Tensor) -> Tensor:
            logits = session.run(None, {"image": np.ascontiguousarray(images.numpy())})[0]
            return torch.from_numpy(logits)

        return run


make = OnnxPredictor
choose_device = OnnxPredictor.choose_device
