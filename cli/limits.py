"""Limits of the system that would abort a command in its middle: they are refused at its start."""

import threading

from unetbio.errors import EnvironmentStoppedError
from unetbio.machine import available_cores

__all__ = ["check_limits"]

ADDRESS_SPACE = 4 << 30
"""Bytes that PyTorch, its threads and a process that decodes map at most; they use a quarter of it."""

THREADS = 8
"""Threads beside those that the network starts, one for each processor that may be used."""


def check_limits() -> None:
    """Refuse limits below which libraries end the process without a word.

    Raises
    ------
    EnvironmentStoppedError
        Naming the limit and what is needed.
    """
    _check_address_space()
    _check_threads(THREADS + available_cores())


def _check_address_space() -> None:
    try:
        import resource
    except ImportError:
        return
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < ADDRESS_SPACE:
        raise EnvironmentStoppedError(
            f"the limit of virtual memory (ulimit -v) is {limit} bytes, {ADDRESS_SPACE} are needed: raise it; a "
            "container, or --mem of a job, limits the memory that is used instead"
        )


def _check_threads(count: int) -> None:
    """Start as many threads as the command will, for a moment."""
    ended = threading.Event()
    threads: list[threading.Thread] = []
    try:
        for _ in range(count):
            threads.append(threading.Thread(target=ended.wait, daemon=True))
            threads[-1].start()
    except RuntimeError as error:
        raise EnvironmentStoppedError(
            f"the system starts {len(threads) - 1} threads and no more, {count} are needed: raise the limit of "
            "processes (ulimit -u, or that of the container)"
        ) from error
    finally:
        ended.set()
