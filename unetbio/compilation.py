"""Compiled loops, ready to be called from several threads at once."""

from collections.abc import Callable
from typing import Any

from numba import njit

__all__ = ["compiled"]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a loop over arrays with numba, without the interpreter lock.

    The result is cached on disk beside the module or in the user's cache folder. Where neither can be written (a
    read-only installation in a container) numba refuses to cache, and the function is compiled once a process instead.
    """
    try:
        loop: Callable[..., Any] = njit(nogil=True, cache=True)(function)
    except RuntimeError:
        loop = njit(nogil=True)(function)
    return loop
