"""Settings of the whole process, which only a command may change, not the library."""

import atexit
import gc
import sys
from functools import cache

__all__ = ["freeze_at_exit", "keep_freed_memory", "limit_threads"]

KEPT_BYTES = 1 << 30
"""Freed memory that the process keeps for the next feature map."""


@cache
def freeze_at_exit() -> None:
    """Let the process end without a last search for cycles: with PyTorch that takes half a second."""
    atexit.register(gc.freeze)


@cache
def keep_freed_memory() -> None:
    """Keep up to 1 GiB of freed memory, on Linux: for commands that run networks on the CPU.

    Left to itself, glibc gives a feature map of more than 32 MiB back to the system when it is freed, and the system
    clears every page before it hands it out again: up to a third of the time of large tiles.
    """
    import ctypes

    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is not None:
        trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
        set_option(trim_threshold, KEPT_BYTES)
        set_option(mmap_threshold, KEPT_BYTES)


def limit_threads(count: int) -> None:
    """Let PyTorch compute with as many threads."""
    import torch

    torch.set_num_threads(count)
