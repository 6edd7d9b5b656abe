"""Files that are read as a whole or as a stream; devices and pipes are refused."""

import contextlib
import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, overload

from unetbio.files.failures import system_error
from unetbio.system import regular_opener

__all__ = ["find_special", "naming", "open_regular", "read_bytes"]

MAX_WHOLE_BYTES = 1 << 30
"""Largest file that is read as a whole: longer tables, metadata or settings are taken for another file."""


@overload
def open_regular(path: str | os.PathLike[str], mode: Literal["rb"] = "rb", *, buffering: int = -1) -> BinaryIO: ...
@overload
def open_regular(path: str | os.PathLike[str], mode: str, **options: Any) -> IO[Any]: ...
def open_regular(path: str | os.PathLike[str], mode: str = "rb", **options: Any) -> IO[Any]:
    """`open` a file; a pipe, a socket or a device is refused instead of waited for.

    Raises
    ------
    OSError
        When it is missing, no file, or cannot be opened.
    """
    if mode not in {"r", "rb"}:
        return open(path, mode, opener=regular_opener, **options)
    raw = _NamedFile(os.fspath(path), "rb", opener=regular_opener)
    if options.pop("buffering", -1) == 0:
        return raw
    buffered = io.BufferedReader(raw)
    return buffered if mode == "rb" else io.TextIOWrapper(buffered, **options)


class _NamedFile(io.FileIO):
    """A file whose errors of reads name it, as those of opening do."""

    def readinto(self, buffer: Any) -> int | None:
        """See `io.FileIO`."""
        with naming(self.name):
            return super().readinto(buffer)

    def read(self, size: int | None = -1) -> bytes:
        """See `io.FileIO`."""
        with naming(self.name):
            return super().read(-1 if size is None else size)

    def readall(self) -> bytes:
        """See `io.FileIO`."""
        with naming(self.name):
            return super().readall()


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Give errors of the system the name of the file that is read, where they have none."""
    try:
        yield
    except OSError as error:
        found = error if error.errno is not None else system_error(error)
        if found is None or found.filename is not None:
            raise
        raise OSError(found.errno, found.strerror, os.fspath(path)) from error


def read_bytes(path: str | os.PathLike[str], *, limit: int = MAX_WHOLE_BYTES) -> bytes:
    """All bytes of a file; raises as `open_regular`, and where there are more than ``limit`` bytes."""
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > limit:
            raise OSError(errno.EFBIG, f"it has {size} bytes, at most {limit} are read", os.fspath(path))
        content: bytes = stream.read()
    return content


def find_special(folder: str | os.PathLike[str]) -> Path | None:
    """Find a pipe, a socket or a device below a folder, which would block a library that opens it.

    Links are followed, each folder once; files that are linked to nothing count for none. A link to a folder elsewhere
    is found as well: what lies there could be the whole file system.
    """
    root = os.path.realpath(folder)
    seen = {root}
    left = [os.fspath(folder)]
    while left:
        with os.scandir(left.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
                    if entry.is_symlink() and os.path.commonpath([root, real]) != root:
                        return Path(entry.path)
                    if not entry.is_symlink() or real not in seen:
                        seen.add(real)
                        left.append(entry.path)
                elif not entry.is_file() and os.path.exists(entry.path):  # noqa: PTH110 - thousands of chunks
                    return Path(entry.path)
    return None
