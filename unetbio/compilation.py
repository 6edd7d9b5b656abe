"""Compiled loops, ready to be called from several threads at once.

numba is imported when the first loop is called: most commands start without it.
"""

import functools
import threading
from collections.abc import Callable
from types import CodeType
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
        # What numba makes of it, and the same once it can be called.
        self._made: Loop | None = None
        self._loop: Loop | None = None

    def __call__(self, *arguments: Any) -> Any:
        return (self._loop or self.compile())(*arguments)

    def compile(self) -> Loop:
        with _COMPILING:
            if self._made is None:
                from numba import njit

                try:
                    self._made = njit(nogil=True, cache=True)(self._function)
                except RuntimeError:
                    self._made = njit(nogil=True)(self._function)
                # After it is made: a loop may call itself.
                _make_called(self._function)
                self._loop = self._made
            return self._made


def _make_called(function: Any) -> None:
    """Put what numba understands in place of the loops that a loop calls by their names."""
    for name in _names(function.__code__):
        loop = function.__globals__.get(name)
        if isinstance(loop, _Compiled):
            function.__globals__[name] = loop.compile()


def _names(code: CodeType) -> set[str]:
    """Names that code reads, also those in functions and comprehensions within it."""
    return set(code.co_names).union(*(_names(inner) for inner in code.co_consts if isinstance(inner, CodeType)))
