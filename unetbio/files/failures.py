"""Errors of the system while files are written, as messages that say what to do."""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from unetbio.errors import EnvironmentStoppedError

__all__ = ["stopped", "stopping", "system_error"]

# No room on the disk, or none left of what this user may take.
_FULL = (errno.ENOSPC, errno.EDQUOT)


def stopped(
    path: Path, error: OSError, *, what: str | None = None, written: int | None = None
) -> EnvironmentStoppedError:
    """The error to raise where the system refuses to write ``path``; it speaks of space only where space is missing."""
    if error.errno is None:
        error = system_error(error) or error
    advice = "free space or choose" if error.errno in _FULL else "choose"
    space = _space(path, written) if error.errno == errno.ENOSPC else []
    return EnvironmentStoppedError(
        f"cannot write {what or path}: {error.strerror or error}; {advice} another output folder, then run again"
        + (f" ({', '.join(space)})" if space else "")
    )


def system_error(error: Exception) -> OSError | None:
    """The error of the system that a library in Rust reports as text, ``(os error 28)``; None if it is another."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else None


def _space(path: Path, written: int | None) -> list[str]:
    """Bytes of a file that were written, and bytes that are free where it is."""
    found = [] if written is None else [f"{written} bytes written"]
    with contextlib.suppress(OSError, StopIteration):
        folder = next(parent for parent in path.parents if parent.exists())
        found.append(f"{shutil.disk_usage(folder).free} bytes free")
    return found


@contextlib.contextmanager
def stopping(path: Path) -> Iterator[None]:
    """Convert system errors about ``path`` into an `EnvironmentStoppedError`."""
    try:
        yield
    except OSError as error:
        raise stopped(path, error) from error
