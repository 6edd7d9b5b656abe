"""Settings of the whole process, which only a command may change, not the library."""

import atexit
import gc
import os
from functools import cache

from unetbio.machine import available_cores

__all__ = ["freeze_at_exit", "limit_threads", "respect_quota"]

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

    # More threads than processors only wait, and thousands of them take the machine.
    count = min(count, os.cpu_count() or count)
    torch.set_num_threads(count)
    compilation.limit_threads(count)


@cache
def freeze_at_exit() -> None:
    """Let the process end without a last search for cycles: with PyTorch that takes half a second."""
    atexit.register(gc.freeze)
