"""Trained networks as graphs that other programs run: ONNX and TorchScript.

A graph takes a normalized image ``(N, C, *spatial)`` float32 of every legal size and gives the probabilities of its
pixels ``(N, K, *spatial)``. It holds no code of unetbio, no normalization and no post-processing.
"""

import copy
import importlib
import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unetbio import networks
from unetbio.errors import UsageError
from unetbio.files import write_bytes
from unetbio.inference.backends.graph import example_input, export_graph, is_equal
from unetbio.models.model_file import Model
from unetbio.networks.folding import fold_batch_norm

__all__ = ["OUTPUT", "need_packages", "onnx_graph", "probability_network", "torchscript_graph", "write_graph"]

OUTPUT = "probabilities"


def probability_network(model: Model) -> nn.Module:
    """Give the network with its batch norm folded and a softmax, in float32 on the CPU.

    Raises
    ------
    UsageError
        When the network finds objects: other programs have no way to run one.
    """
    if networks.find(model.info.architecture).output != "logits":
        raise UsageError(
            f"model {model.info.name} finds objects ({model.info.architecture}) and cannot be exported: "
            "give a model that classifies pixels"
        )
    if model.info.is_integer:
        raise UsageError(
            f"model {model.info.name} is in integers, which other programs would round otherwise: export the model "
            "that it was made of"
        )
    folded = fold_batch_norm(copy.deepcopy(model.network).cpu().double().eval()).float()
    return nn.Sequential(folded, nn.Softmax(dim=1)).eval()


def need_packages(*names: str) -> None:
    """Check that packages are installed.

    Raises
    ------
    UsageError
        When one is missing.
    """
    try:
        for name in names:
            importlib.import_module(name)
    except ImportError as error:
        raise UsageError(f'this export needs {" and ".join(names)} ({error}): pip install "unetbio[export]"') from error


def onnx_graph(model: Model) -> bytes:
    """Give the network as an ONNX graph from ``image`` to ``probabilities``, after a comparison with PyTorch.

    Raises
    ------
    UsageError
        When the packages of the extra ``export`` are missing, or the network has no equal graph.
    """
    need_packages("onnx", "onnxruntime")
    import onnxruntime

    network = probability_network(model)
    try:
        graph = export_graph(network, model.geometry, len(model.info.channels), output=OUTPUT)
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    # The exporter and the runtime raise errors of many kinds for operations that they do not have.
    except Exception as error:
        raise _without_graph(model, "ONNX", str(error).strip().partition("\n")[0]) from error

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"image": np.ascontiguousarray(images.numpy())})[0])

    if not is_equal(run, network, model.geometry, len(model.info.channels)):
        raise _without_graph(model, "ONNX", "it computes other values")
    return graph


def torchscript_graph(model: Model) -> bytes:
    """Give the network as a traced TorchScript module, after a comparison with the network itself.

    Raises
    ------
    UsageError
        When the network has no equal graph.
    """
    network = probability_network(model)
    channels = len(model.info.channels)
    trace: Any = torch.jit.trace  # without annotations in PyTorch
    file = io.BytesIO()
    with warnings.catch_warnings():
        # About sizes that become constants (`is_equal` checks the result), and about TorchScript's age
        warnings.simplefilter("ignore")
        try:
            with torch.inference_mode():
                traced = trace(network, example_input(model.geometry, channels, strides=1), check_trace=False)
            torch.jit.save(traced, file)
        except Exception as error:
            raise _without_graph(model, "TorchScript", str(error).strip().partition("\n")[0]) from error
        with torch.inference_mode():
            equal = is_equal(traced, network, model.geometry, channels)
    if not equal:
        raise _without_graph(model, "TorchScript", "it computes other values")
    return file.getvalue()


def _without_graph(model: Model, kind: str, reason: str) -> UsageError:
    return UsageError(f"model {model.info.name} ({model.info.architecture}) has no {kind} graph: {reason}")


def write_graph(model: Model, path: str | os.PathLike[str], kind: str) -> Path:
    """Write the network to a file.

    Parameters
    ----------
    model : Model
        A trained model that classifies pixels.
    path : path-like
        The file, replaced when it exists.
    kind : {"onnx", "torchscript"}
        Format.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    UsageError
        When a package is missing, or the network has no such graph.
    EnvironmentStoppedError
        When the file cannot be written.
    """
    write_bytes(path, (onnx_graph if kind == "onnx" else torchscript_graph)(model))
    return Path(path)
