"""The type of number in which a training computes."""

from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["computes_in_bfloat16"]

MULTIPLY_BFLOAT16 = ("avx512_bf16", "amx_bf16")
"""Instructions with which a processor multiplies bfloat16; without them a training is slower in it than in float32."""


def computes_in_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether a training computes in bfloat16: as asked, or by itself where that is faster.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16"}
        As in the settings.
    device : torch.device
        Of the training.
    """
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cpu":
        # Older versions of PyTorch do not say what the processor has.
        has: Mapping[str, Any] = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        return any(has.get(name) for name in MULTIPLY_BFLOAT16)
    return device.type == "cuda"
