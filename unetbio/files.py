"""Files that are whole or absent: atomic writes, hashes, locks."""

import contextlib
import errno
import fnmatch
import functools
import hashlib
import io
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, NamedTuple, overload

from unetbio.errors import EnvironmentStoppedError, UsageError
from unetbio.system import hold_lock, regular_opener

__all__ = [
    "TEMPORARY",
    "Stamp",
    "atomic_folder",
    "atomic_path",
    "cached_real_path",
    "find_special",
    "is_remote",
    "list_contents",
    "lock",
    "naming",
    "open_regular",
    "paths_below",
    "public_address",
    "read_bytes",
    "real_path",
    "refuse_remote",
    "remove_path",
    "remove_stale",
    "replace_path",
    "sha256_file",
    "sha256_path",
    "stamp",
    "stopped",
    "stopping",
    "system_error",
    "utf8_text",
    "walk",
    "write_bytes",
    "write_json",
    "write_text",
]

_CURL, _GSUTIL, _AZCOPY, _SFTP = "curl -O ADDRESS", "gsutil cp -r ADDRESS .", "azcopy copy ADDRESS .", "sftp ADDRESS"
_DOWNLOADS = {
    **dict.fromkeys(("http", "https", "ftp"), _CURL),
    "s3": "aws s3 cp --recursive ADDRESS .",
    **dict.fromkeys(("gs", "gcs"), _GSUTIL),
    **dict.fromkeys(("az", "abfs", "abfss"), _AZCOPY),
    **dict.fromkeys(("sftp", "ssh"), _SFTP),
}
"""Programs that download, by the first part of an address."""

TEMPORARY = ".unetbio-"
"""Start of the names of files and folders that are still being written."""

STALE_SECONDS = 3600.0
"""Temporary files that were not written to for so long are of a run that was killed."""

HASH_CHUNK_BYTES = 1 << 20

MAX_WHOLE_BYTES = 1 << 30
"""Largest file that is read as a whole: longer tables, metadata or settings are taken for another file."""

# Name and password before the host; as a path an address has one slash.
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+:/{1,2})(?!/)[^/\s]*@")

# Files that file managers write into folders; they belong to no image.
_NOT_CONTENT = (".DS_Store", "Thumbs.db", "desktop.ini")

# What file systems of clusters answer when they are mounted without locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)

# No room on the disk, or none left of what this user may take.
_FULL = (errno.ENOSPC, errno.EDQUOT)

logger = logging.getLogger(__name__)


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
        temporary = _temporary_beside(path)
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise stopped(path, error) from error
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


def sha256_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open_regular(path) as stream:
        while chunk := stream.read(HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


class Stamp(NamedTuple):
    """Bytes of a file, and its times in nanoseconds: of the last change of the content, and of the inode."""

    size: int
    mtime_ns: int
    ctime_ns: int


def stamp(path: str | os.PathLike[str]) -> Stamp:
    """Size and times of a file; of a folder, the sum of the sizes and the newest times of all files below it.

    Raises
    ------
    OSError
        When it is missing or cannot be read.
    """
    path = Path(path)
    stats = [file.stat() for _, file in list_contents(path)] if path.is_dir() else [path.stat()]
    return Stamp(
        sum(each.st_size for each in stats),
        max((each.st_mtime_ns for each in stats), default=0),
        max((each.st_ctime_ns for each in stats), default=0),
    )


def sha256_path(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, or of a folder, as 64 hexadecimal digits.

    That of a folder is the SHA-256 of the lines that ``sha256sum`` prints for the files below it: hash, two spaces,
    path from the folder with forward slashes, newline; sorted by the bytes of the path. Neither the folder's own name
    nor any time counts; files that file managers leave there (``.DS_Store``, ``Thumbs.db``, ``desktop.ini``) do not
    count either, and links to folders are not followed.
    """
    path = Path(path)
    if not path.is_dir():
        return sha256_file(path)
    digest = hashlib.sha256()
    for name, file in list_contents(path):
        digest.update(f"{sha256_file(file)}  {name}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def list_contents(folder: Path, *, everything: bool = False) -> list[tuple[str, Path]]:
    """Files below a folder by their paths from it, sorted; links to folders are not followed.

    ``everything`` lists those links too, and the files that file managers leave.
    """
    found = []
    for parent, folders, names in walk(folder, onerror=_raise):
        links = [name for name in folders if Path(parent, name).is_symlink()] if everything else []
        for name in (*names, *links):
            if everything or name not in _NOT_CONTENT:
                file = Path(parent, name)
                found.append((file.relative_to(folder).as_posix(), file))
    return sorted(found, key=lambda item: os.fsencode(item[0]))


def _raise(error: OSError) -> None:
    raise error


def walk(
    folder: str | os.PathLike[str], *, follow_links: bool = False, onerror: Callable[[OSError], object] | None = None
) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk` from above, for folders in folders of any depth: before Python 3.12 that ends at about 1000.

    Parameters
    ----------
    folder : path-like
        Where to begin.
    follow_links : bool
        Go into folders that are links.
    onerror : callable, optional
        Called with the error of a folder that cannot be listed, which is passed over.

    Yields
    ------
    tuple
        A folder, the names of the folders in it, of which those that the caller removes are left out, and of the files.
    """
    left = [os.fspath(folder)]
    while left:
        parent = left.pop()
        folders: list[str] = []
        names: list[str] = []
        try:
            with os.scandir(parent) as entries:
                for entry in entries:
                    (folders if _is_folder(entry) else names).append(entry.name)
        except OSError as error:
            if onerror is not None:
                onerror(error)
            continue
        yield parent, folders, names
        below = [os.path.join(parent, name) for name in reversed(folders)]  # noqa: PTH118 - text is faster
        left += [path for path in below if follow_links or not os.path.islink(path)]  # noqa: PTH114


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link that leads to itself
        return False


def paths_below(folder: Path, pattern: str = "*") -> Iterator[Path]:
    """Files and folders below a folder, at any depth, whose names match; links to folders are not followed."""
    for parent, folders, names in walk(folder):
        for name in (*folders, *names):
            if fnmatch.fnmatchcase(name, pattern):
                yield Path(parent, name)


def refuse_remote(path: str | os.PathLike[str]) -> None:
    """Refuse an address such as ``https://...`` or ``s3://...``, also as a path, which has one slash.

    Raises
    ------
    UsageError
        Saying how to get the file.
    """
    if is_remote(path):
        raise UsageError(describe_download(os.fspath(path)))


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is the address of a known storage, also as a path, which has one slash."""
    scheme, colon, rest = os.fspath(path).partition(":")
    return bool(colon) and rest.startswith("/") and scheme.lower() in _DOWNLOADS


def public_address(address: str) -> str:
    """An address without the parts that can hold a password or a signature."""
    return _USER.sub(r"\1", address.partition("?")[0])


def describe_download(address: str) -> str:
    """Say how to get a file that is not on this machine."""
    address = public_address(address)
    tool = _DOWNLOADS.get(address.partition(":")[0].lower(), _CURL)
    return (
        f"{address} is not on this machine: download it first (such as {tool}), or mount the storage as a folder; "
        'unetbio segment, check and train fetch images with pip install "unetbio[remote]" (and s3fs for s3://, gcsfs '
        "for gs://)"
    )


def real_path(path: str | os.PathLike[str]) -> Path:
    """Give the absolute path with all links followed; a link that leads to itself stays as it is.

    `pathlib.Path.resolve` raises a `RuntimeError` for such links before Python 3.13.
    """
    return Path(os.path.realpath(path))


def cached_real_path() -> Callable[[str | os.PathLike[str]], Path]:
    """`real_path` for many files of few folders, of which each is looked up once."""
    folders = functools.cache(os.path.realpath)

    def real(path: str | os.PathLike[str]) -> Path:
        folder, name = os.path.split(path)
        if name in ("", os.curdir, os.pardir) or os.path.islink(path):  # noqa: PTH114 -- fast
            return real_path(path)
        return Path(os.path.join(folders(folder), name))  # noqa: PTH118 -- fast

    return real


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
    try:
        temporary = _temporary_beside(path)
        temporary.mkdir()
    except OSError as error:
        raise stopped(path, error) from error
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


@contextlib.contextmanager
def lock(
    path: str | os.PathLike[str], *, shared: bool = False, what: str | os.PathLike[str] | None = None
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

    Raises
    ------
    EnvironmentStoppedError
        When another process holds the lock, or the file cannot be made.
    """
    path = Path(path)
    with contextlib.ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(hold_lock(path, shared=shared))
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
