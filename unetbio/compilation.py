"""Compiled loops, ready to be called from several threads at once.

numba is imported when the first loop is called: most commands start without it.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["compiled"]

Loop = Callable[..., Any]

_COMPILING = threading.RLock()


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
        self._loop: Loop | None = None

    def __call__(self, *arguments: Any) -> Any:
        return (self._loop or self.compile())(*arguments)

    def compile(self) -> Loop:
        with _COMPILING:
            if self._loop is None:
                from numba import njit

                _compile_called(self._function)
                try:
                    self._loop = njit(nogil=True, cache=True)(self._function)
                except RuntimeError:
                    self._loop = njit(nogil=True)(self._function)
            return self._loop


def _compile_called(function: Any) -> None:
    """Put what numba understands in place of the loops that a loop calls by their names."""
    names = function.__globals__
    for name in function.__code__.co_names:
        loop = names.get(name)
        if isinstance(loop, _Compiled):
            names[name] = loop.compile()
