"""OpenVINO on the processor."""

import io

import numpy as np
import torch
from torch import Tensor

from unetbio.inference.backends.graph import GraphPredictor, Run

__all__ = ["PACKAGES", "OpenVinoPredictor", "choose_device", "make"]

PACKAGES = ("onnx", "openvino")


class OpenVinoPredictor(GraphPredictor):
    """A network whose float32 pass runs in OpenVINO; see `GraphPredictor`."""

    name = "openvino"
    title = "OpenVINO"
    packages = PACKAGES
    # Measured: float32 within 3.8e-7 of float64 (`benchmarks/backends.py`). The same margin as of PyTorch is declared.
    error_bound = 1e-5

    def _compiled(self, graph: bytes) -> Run:
        import openvino

        properties = {
            # By default OpenVINO computes in bfloat16 or float16 where the processor has them.
            "INFERENCE_PRECISION_HINT": "f32",
            "EXECUTION_MODE_HINT": "ACCURACY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        core = openvino.Core()
        network = core.compile_model(core.read_model(io.BytesIO(graph)), "CPU", properties)

        def run(images: Tensor) -> Tensor:
            # A request holds one input, so that calls from two threads need two.
            results = network.create_infer_request().infer([np.ascontiguousarray(images.numpy())])
            return torch.from_numpy(results[0])

        return run


make = OpenVinoPredictor
choose_device = OpenVinoPredictor.choose_device
