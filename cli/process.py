"""Settings of the whole process, which only a command may change, not the library."""

import atexit
import gc
import os
import sys
from functools import cache

from unetbio.machine import available_cores

__all__ = ["freeze_at_exit", "keep_freed_memory", "limit_threads", "respect_quota"]

KEPT_BYTES = 1 << 30
"""Freed memory that the process keeps for the next feature map."""

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS",
)
"""Variables that libraries read when they are imported."""


def respect_quota() -> None:
    """Let libraries start no more threads than a container's quota gives; they count the processors of the machine.

    Variables that the user has set stay as they are.
    """
    cores = available_cores()
    if cores < (os.cpu_count() or 1):
        for name in THREAD_VARIABLES:
            os.environ.setdefault(name, str(cores))


def limit_threads(count: int) -> None:
    """Use so many threads for networks, and at most so many for compiled loops."""
    import torch

    from unetbio import compilation

    torch.set_num_threads(count)
    compilation.limit_threads(count)


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
