"""What tests of one backend and of all share."""

import pytest
import torch
from inference_cases import trained_looking

from unetbio.inference.backends.base import DEFAULT, Predictor, make_backend, names, packages

SMALL = {"base_channels": 4, "depth": 1}

OTHERS = [name for name in names() if name != DEFAULT]
"""Every backend but PyTorch."""


def needs(name: str) -> None:
    """Skip a test where the packages of a backend are missing."""
    for package in packages(name):
        pytest.importorskip(package, reason=f"backend {name} needs unetbio[{name}]")


def check_memory_errors(name: str, messages: tuple[str, ...]) -> None:
    """A backend takes errors with these messages for missing memory, and others not."""
    needs(name)
    predictor: Predictor = make_backend(trained_looking(SMALL), name)
    assert all(predictor.is_out_of_memory(RuntimeError(message)) for message in messages)
    assert predictor.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not predictor.is_out_of_memory(RuntimeError("Invalid rank for input: image"))
