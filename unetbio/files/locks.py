"""Locks that the kernel frees when their process dies."""

import contextlib
import errno
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

from unetbio.errors import EnvironmentStoppedError
from unetbio.files.failures import stopped
from unetbio.system import hold_lock

__all__ = ["lock"]

# What file systems of clusters answer when they are mounted without locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.02


@contextlib.contextmanager
def lock(
    path: str | os.PathLike[str],
    *,
    shared: bool = False,
    what: str | os.PathLike[str] | None = None,
    patience: float = 0.0,
) -> Iterator[None]:
    """Hold a lock on the file ``path`` while the block runs; the kernel frees it when the process dies.

    Parameters
    ----------
    path : path-like
        The lock file; made when it is missing.
    shared : bool
        Any number of processes may hold it at once, but none beside an exclusive one.
    what : path-like, optional
        What the lock is for, in messages; the folder of ``path`` by default.
    patience : float
        Seconds to wait for a process that holds the lock.

    Raises
    ------
    EnvironmentStoppedError
        When another process holds the lock, or the file cannot be made.
    """
    path = Path(path)
    with contextlib.ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _wait_for(held, path, shared, time.monotonic() + patience)
        except BlockingIOError as error:
            raise EnvironmentStoppedError(
                f"{what or path.parent} is in use by another unetbio run (lock file {path.name}): "
                f"wait for that run to end or choose another output{'' if what else ' folder'}"
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise stopped(Path(what or path), error) from error
            logger.warning("%s: this file system has no locks; let no other run write there", path.parent)
        yield


def _wait_for(held: contextlib.ExitStack, path: Path, shared: bool, until: float) -> None:
    """Enter the lock once it is free; raises as `hold_lock` when the time is over."""
    while True:
        try:
            held.enter_context(hold_lock(path, shared=shared))
            return
        except BlockingIOError:
            if time.monotonic() >= until:
                raise
        time.sleep(POLL_SECONDS)
