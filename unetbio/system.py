"""What operating systems do in different ways: locks of files, and opening files without waiting for them."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

try:
    import fcntl as _fcntl
except ImportError:
    fcntl: ModuleType | None = None
else:
    fcntl = _fcntl

__all__ = ["hold_lock", "regular_opener", "set_blocking"]

# Without it, opening a pipe waits for its other end. Windows has no such files.
_AT_ONCE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def set_blocking(descriptor: int, blocking: bool) -> None:
    """`os.set_blocking`, where the system has it."""
    if hasattr(os, "set_blocking"):
        os.set_blocking(descriptor, blocking)


def regular_opener(path: str, flags: int) -> int:
    """Open a file, for `open`; a pipe, a socket or a device is refused instead of waited for.

    Raises
    ------
    OSError
        When it is missing, no file, or cannot be opened.
    """
    descriptor = os.open(path, flags | _AT_ONCE, 0o666)
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
        os.close(descriptor)
        name = Path(path).name
        raise OSError(errno.EINVAL, f"{name} is a pipe or a device, not a file: write it to a file first", path)
    set_blocking(descriptor, True)
    return descriptor


@contextlib.contextmanager
def hold_lock(path: Path, *, shared: bool) -> Iterator[None]:
    """Hold a lock on a file while the block runs; the system frees it when the process dies.

    Parameters
    ----------
    path : pathlib.Path
        The lock file; made when it is missing.
    shared : bool
        Any number of processes may hold it at once, but none beside an exclusive one.

    Raises
    ------
    BlockingIOError
        When another process holds the lock.
    OSError
        When the file cannot be made, or its file system has no locks.
    """
    with _locked_by_sqlite(path, shared=shared) if fcntl is None else _locked_by_kernel(path, shared=shared):
        yield


@contextlib.contextmanager
def _locked_by_kernel(path: Path, *, shared: bool) -> Iterator[None]:
    assert fcntl is not None
    # Readable too: network file systems grant shared locks on readable files alone.
    stream = open(path, "a+", opener=regular_opener)  # noqa: SIM115 -- closed below
    try:
        fcntl.flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        yield
    finally:
        # The lock is free even where this fails.
        with contextlib.suppress(OSError):
            stream.close()


@contextlib.contextmanager
def _locked_by_sqlite(path: Path, *, shared: bool) -> Iterator[None]:
    # The locks that Python reaches on Windows are never shared; those of SQLite are.
    from filelock import ReadWriteLock, Timeout

    lock = ReadWriteLock(path, blocking=False, is_singleton=False)
    try:
        (lock.acquire_read if shared else lock.acquire_write)()
    except Timeout as error:
        raise BlockingIOError(str(error)) from error
    try:
        yield
    finally:
        lock.release()
        lock.close()
