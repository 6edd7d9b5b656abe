"""Devices: which is chosen, which is refused, and that all decide alike."""

from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from inference_cases import NETWORKS, FakePredictor, case_of, random_image, trained_looking

from unetbio import networks
from unetbio.errors import UsageError
from unetbio.inference.backends.base import MEMORY_BUDGETS, choose_device
from unetbio.inference.backends.torch import TorchPredictor
from unetbio.inference.prediction import decide
from unetbio.models.model_file import Model, ModelInfo
from unetbio.segmentation import Segmenter


def pretend(monkeypatch: pytest.MonkeyPatch, *, cuda: Sequence[str] = (), mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cuda))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cuda))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: cuda[device.index])
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("text", "cuda", "mps", "device", "reason"),
    [
        ("auto", ["A100"], True, "cuda:0", "A100 was found"),
        ("auto", [], True, "mps", "an Apple GPU was found"),
        ("auto", [], False, "cpu", "no CUDA device and no Apple GPU was found"),
        ("cpu", ["A100"], False, "cpu", "as asked"),
        ("cuda", ["A100"], False, "cuda:0", "A100, as asked"),
        ("cuda:1", ["A100", "T4"], False, "cuda:1", "T4, as asked"),
        ("mps", [], True, "mps", "as asked"),
    ],
)
def test_device_is_chosen_and_explained(monkeypatch, text, cuda, mps, device, reason):
    pretend(monkeypatch, cuda=cuda, mps=mps)
    assert choose_device(text) == (torch.device(device), reason)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cuda", "'cuda' is not available: PyTorch sees 0 CUDA devices; try --device auto"),
        ("cuda:3", "'cuda:3' is not available: PyTorch sees 0 CUDA devices"),
        ("mps", "PyTorch sees no Apple GPU"),
        ("gpu", "there is no device 'gpu': give auto, cpu, cuda, cuda:N or mps"),
        ("cuda:x", "there is no device 'cuda:x'"),
        ("cuda:", "there is no device 'cuda:'"),
        ("cpu:0", "there is no device 'cpu:0'"),
    ],
)
def test_missing_devices_are_refused(monkeypatch, text, message):
    pretend(monkeypatch)
    with pytest.raises(UsageError, match=message):
        choose_device(text)


def test_only_what_a_gpu_computes_has_its_memory(monkeypatch):
    pretend(monkeypatch, cuda=["A100"])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (64 << 30, 80 << 30))
    # Nothing can be moved to a device that is not there.
    monkeypatch.setattr(TorchPredictor, "_prepared", lambda self, network: network)
    found = {}
    for upsampling in ("transposed", "max_unpooling"):
        parameters = {"base_channels": 2, "depth": 1, "upsampling": upsampling}
        complete = networks.find("unet").complete(parameters)
        info = ModelInfo(name="m", architecture="unet", parameters=complete, channels=("0",))
        model = Model(info, trained_looking(parameters), "", Path("m.safetensors"))
        segmenter = Segmenter(model, "cuda", memory_budget=1000)
        found[upsampling] = (segmenter.decoder.runner.memory_budget, segmenter.memory_budget)
    # Max-unpooling is computed in float64, on the processor.
    assert found == {"transposed": (32 << 30, None), "max_unpooling": (MEMORY_BUDGETS[2], 1000)}


class LargePredictor(FakePredictor):
    """On a device of much more memory than the processor has, with large feature maps."""

    memory_budget = 1 << 50

    def memory_bytes(self, input_shape):
        return prod(input_shape) << 16


def test_decisions_in_float64_keep_to_the_memory_of_the_processor():
    predictor = LargePredictor()
    # All pixels are in doubt, so that large blocks pay.
    image = np.float32(0.5) + np.float32(1e-6) * random_image(80, 90)
    decide(image, predictor, [0.5])
    assert predictor.float64_shapes
    # Twice the bytes of float32
    assert max(2 * predictor.memory_bytes(shape[2:]) for shape in predictor.float64_shapes) <= MEMORY_BUDGETS[2]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", NETWORKS)
def test_cuda_decides_as_the_cpu(name):
    _, image, thresholds, probabilities, planes = case_of(name)
    predictor = TorchPredictor(trained_looking(NETWORKS[name][0]), "cuda")
    out = np.empty_like(probabilities)
    assert np.array_equal(decide(image, predictor, thresholds, tile=30, probabilities_out=out), planes)
    assert np.abs(out - probabilities).max() <= 1e-5
