"""Loops compiled with numba, and a thread pool that runs them.

Import numba on the first call only, so that most commands start without it.

A compiled loop may call compiled loops of its own file only: numba caches a loop together with its callees, but checks
only the caller's file for changes, so it would miss a change in another file. Small loops may therefore exist twice.
Nor does it see that a constant of another file has changed, as the columns of a table of runs: such constants stay as
they are. Python code may call compiled loops of any file.
"""

import functools
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import CodeType
from typing import Any

__all__ = ["compiled", "in_threads", "limit_threads"]

SERIAL_PIXELS = 1 << 20  # below this, threads cost more than they save; training draws many small patches at a time

Loop = Callable[..., Any]

_COMPILING = threading.RLock()

_most_threads: int | None = None


def limit_threads(count: int) -> None:
    """Let `in_threads` use at most so many threads in this process."""
    global _most_threads
    _most_threads = count


def _threads() -> int:
    import numba

    counted: int = numba.config.NUMBA_NUM_THREADS
    return counted if _most_threads is None else min(counted, _most_threads)


def compiled(function: Loop) -> Loop:
    """Compile a loop over arrays with numba when it is first called; it runs without the interpreter lock.

    The result is cached on disk beside the module or in the user's cache folder. Where neither can be written (a
    read-only installation in a container) numba refuses to cache, and the function is compiled once a process instead.
    """
    return _Compiled(function)


class _Compiled:
    def __init__(self, function: Loop) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        # The dispatcher of numba, and the same once its callees are compiled.
        self._dispatcher: Loop | None = None
        self._loop: Loop | None = None

    def __call__(self, *arguments: Any) -> Any:
        return (self._loop or self.compile())(*arguments)

    def compile(self) -> Loop:
        with _COMPILING:
            if self._dispatcher is None:
                from numba import njit

                try:
                    self._dispatcher = njit(nogil=True, cache=True)(self._function)
                except RuntimeError:
                    self._dispatcher = njit(nogil=True)(self._function)
                # Last, since a loop may call itself.
                _compile_callees(self._function)
                self._loop = self._dispatcher
            return self._dispatcher


def in_threads(work: Callable[[int, int], None], length: int, pixels: int, largest: int | None = None) -> None:
    """Call ``work(start, stop)`` over parts of ``range(length)``, in threads when the image is large.

    Parameters
    ----------
    work : callable
        Runs a compiled loop. Every part writes pixels of its own and reads none that another part writes, so that
        neither their number nor their order changes the result.
    length : int
        Number of lines, planes or pixels to divide into parts.
    pixels : int
        Size of the image.
    largest : int, optional
        Largest part.

    Notes
    -----
    Python threads, since the compiled functions hold no interpreter lock: numba's own threads abort the process when
    two Python threads use them at once (workqueue) or when it forks afterwards (OpenMP).
    """
    threads = 1 if pixels < SERIAL_PIXELS else _threads()
    # Several parts a thread, since cells are not spread evenly.
    size = length if threads == 1 else math.ceil(length / (4 * threads))
    size = size if largest is None else min(size, largest)
    parts = [(start, min(start + size, length)) for start in range(0, length, size)]
    if threads == 1:
        for start, stop in parts:
            work(start, stop)
        return
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(work, start, stop) for start, stop in parts]:
            future.result()


def _compile_callees(function: Any) -> None:
    """Replace the loops that a loop calls by their numba dispatchers."""
    for name in _names(function.__code__):
        loop = function.__globals__.get(name)
        if isinstance(loop, _Compiled):
            function.__globals__[name] = loop.compile()


def _names(code: CodeType) -> set[str]:
    """Names that code reads, also those in functions and comprehensions within it."""
    return set(code.co_names).union(*(_names(inner) for inner in code.co_consts if isinstance(inner, CodeType)))
