"""Files that are whole or absent: atomic writes, hashes, locks."""

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unetbio.errors import EnvironmentStoppedError

__all__ = ["atomic_path", "lock", "sha256_file", "stopped", "stopping", "write_bytes", "write_json", "write_text"]

HASH_CHUNK_BYTES = 1 << 20

# What file systems of clusters answer when they are mounted without locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)

# No room on the disk, or none left of what this user may take.
_FULL = (errno.ENOSPC, errno.EDQUOT)

logger = logging.getLogger(__name__)

# The mask can only be read by setting it, which is not safe with threads: once, at import. mkstemp makes private files,
# and results should follow the user's mask.
_UMASK = os.umask(0)
os.umask(_UMASK)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path in the folder of ``path`` and rename it to ``path`` when the block succeeds.

    The file is flushed to disk before it is renamed, so that a name that exists is a file that is whole. When the
    block raises, the temporary file is removed and ``path`` stays as it was.

    Parameters
    ----------
    path : path-like
        The final name; missing parent folders are made.

    Yields
    ------
    pathlib.Path
        The temporary name to write to; it keeps the suffix of ``path``, since writers choose formats by it.

    Raises
    ------
    EnvironmentStoppedError
        When the folder cannot be written to or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        suffix = "".join(path.suffixes[-2:])
        descriptor, name = tempfile.mkstemp(prefix=".unetbio-", suffix=suffix, dir=path.parent)
        os.close(descriptor)
    except OSError as error:
        raise stopped(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_UMASK)
        os.replace(temporary, path)
    except OSError as error:
        raise stopped(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike[str], content: str) -> None:
    """Write ``content`` to ``path`` atomically, as UTF-8 with the line ends it has."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write ``content`` to ``path`` atomically as indented JSON; NaN and infinity are refused."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sha256_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def lock(path: str | os.PathLike[str], *, shared: bool = False) -> Iterator[None]:
    """Hold a lock on the file ``path`` while the block runs; the kernel frees it when the process dies.

    Parameters
    ----------
    path : path-like
        The lock file; made when it is missing.
    shared : bool
        Any number of processes may hold it at once, but none beside an exclusive one.

    Raises
    ------
    EnvironmentStoppedError
        When another process holds the lock, or the file cannot be made.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Readable too: network file systems grant shared locks on readable files alone.
        stream = open(path, "a+")  # noqa: SIM115 - closed by the block below
    except OSError as error:
        raise stopped(path, error) from error
    with stream:
        try:
            fcntl.flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EnvironmentStoppedError(
                f"{path.parent} is in use by another unetbio run (lock file {path.name}): "
                "wait for that run to end or choose another output folder"
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise stopped(path, error) from error
            logger.warning("%s: this file system has no locks; let no other run write there", path.parent)
        yield


def stopped(path: Path, error: OSError, *, what: str | None = None) -> EnvironmentStoppedError:
    """The error to raise where the system refuses to write ``path``; it speaks of space only where space is missing."""
    advice = "free space or choose" if error.errno in _FULL else "choose"
    return EnvironmentStoppedError(
        f"cannot write {what or path}: {error.strerror or error}; {advice} another output folder, then run again"
    )


@contextlib.contextmanager
def stopping(path: Path) -> Iterator[None]:
    """Turn what the system says of ``path`` into an `EnvironmentStoppedError`."""
    try:
        yield
    except OSError as error:
        raise stopped(path, error) from error
