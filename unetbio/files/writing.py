"""Files and folders that are whole or absent: atomic writes, and what killed runs leave."""

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unetbio.files.failures import stopped, stopping
from unetbio.files.folders import paths_below

__all__ = [
    "TEMPORARY",
    "atomic_folder",
    "atomic_path",
    "remove_path",
    "remove_stale",
    "replace_path",
    "utf8_text",
    "write_bytes",
    "write_json",
    "write_text",
]

TEMPORARY = ".unetbio-"
"""Start of the names of files and folders that are still being written."""

STALE_SECONDS = 3600.0
"""Temporary files that were not written to for so long are of a run that was killed."""


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
    with stopping(path):
        temporary = _temporary_beside(path)
        temporary.touch(exist_ok=False)
    try:
        yield temporary
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise stopped(path, error, written=_size(temporary)) from error
    finally:
        # The file is whole, or the error is known already; a later run removes what stays.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _temporary_beside(path: Path) -> Path:
    """A new name in the folder of ``path``, with its suffixes.

    Files and folders made here follow the umask; those of `tempfile` are private, and the umask cannot be read without
    a change that other threads see.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(TEMPORARY + os.urandom(8).hex() + "".join(path.suffixes[-2:]))


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike[str], content: str) -> None:
    """Write ``content`` to ``path`` atomically, in UTF-8 (`utf8_text`), with the line ends it has."""
    write_bytes(path, utf8_text(content).encode("utf-8"))


def utf8_text(text: str | os.PathLike[str]) -> str:
    r"""Text, or a path, with bytes that are no UTF-8 as ``\udcff``: tables and JSON cannot hold them."""
    return os.fspath(text).encode("utf-8", "backslashreplace").decode("utf-8")


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write ``content`` to ``path`` atomically as indented JSON; NaN and infinity are refused."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def remove_path(path: Path) -> None:
    """Remove a file or a whole folder; nothing happens where there is none.

    A folder gets a temporary name first, so that no part of it is ever seen under its own.
    """
    if path.is_dir() and not path.is_symlink():
        leaving = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=path.parent))
        path.replace(leaving / path.name)
        shutil.rmtree(leaving)
    else:
        path.unlink(missing_ok=True)


def replace_path(source: Path, target: Path) -> None:
    """Rename a file or folder, in place of what has the name; a folder there is removed first."""
    if target.is_dir() or source.is_dir():
        remove_path(target)
    source.replace(target)


def remove_stale(folder: Path, *, below: bool = False) -> None:
    """Remove temporary files that killed runs left in a folder that other runs may be writing to.

    They are known by their age, `STALE_SECONDS`.

    Parameters
    ----------
    folder : pathlib.Path
        May be missing.
    below : bool
        Whether to look into all folders below it too.
    """
    pattern = f"{TEMPORARY}*"
    for path in paths_below(folder, pattern) if below else folder.glob(pattern):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < time.time() - STALE_SECONDS:
                path.unlink()


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """As `atomic_path`, for a folder: everything in it is flushed to disk before it gets its name.

    A folder that has the name already is removed just before.

    Yields
    ------
    pathlib.Path
        An empty folder, whose name ends like that of ``path``.

    Raises
    ------
    EnvironmentStoppedError
        When the folder cannot be written to or the disk is full.
    """
    path = Path(path)
    with stopping(path):
        temporary = _temporary_beside(path)
        temporary.mkdir()
    try:
        yield temporary
        for parent, _, names in os.walk(temporary, topdown=False):
            for name in names:
                _flush(Path(parent, name))
            _flush(Path(parent))
        replace_path(temporary, path)
    except OSError as error:
        raise stopped(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _flush(path: Path) -> None:
    # Windows flushes files that are open for writing, and no folders.
    windows = os.name == "nt"
    if windows and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
