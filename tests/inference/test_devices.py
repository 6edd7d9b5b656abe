"""Devices: which is chosen, which is refused, and that all decide alike."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from inference_cases import NETWORKS, case_of, trained_looking

from unetbio.errors import UsageError
from unetbio.inference.backends.base import choose_device
from unetbio.inference.backends.torch import TorchPredictor
from unetbio.inference.prediction import decide


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


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", NETWORKS)
def test_cuda_decides_as_the_cpu(name):
    _, image, thresholds, probabilities, planes = case_of(name)
    predictor = TorchPredictor(trained_looking(NETWORKS[name][0]), "cuda")
    out = np.empty_like(probabilities)
    assert np.array_equal(decide(image, predictor, thresholds, tile=30, probabilities_out=out), planes)
    assert np.abs(out - probabilities).max() <= 1e-5
