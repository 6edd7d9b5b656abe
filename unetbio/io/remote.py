"""Inputs at addresses such as ``https://...`` and ``s3://...``: copied to this machine, and read from there.

fsspec reads them, with a package for each kind of storage (aiohttp, s3fs, gcsfs). Nothing is fetched unless an address
is given. Copies lie in the cache folder of the user, each with the address and the version that the storage states; one
that has not changed there is not fetched again.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from unetbio.errors import EnvironmentStoppedError, ImageError, UnetbioError, UsageError
from unetbio.files import (
    TEMPORARY,
    describe_download,
    lock,
    public_address,
    read_bytes,
    real_path,
    stopping,
    write_json,
)
from unetbio.io.formats import SUFFIXES
from unetbio.output_layout import OVERLAYS, is_output_folder

__all__ = ["ZARR", "address_of", "is_address", "is_copy", "list_addresses", "local_path", "name_of"]

logger = logging.getLogger(__name__)

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(?=[^/])")
_ONE_SLASH = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(?=[^/])")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^\s'\"<>]+")
_MAGIC = re.compile(r"[*?\[]")
ZARR = ".zarr"
VERSIONS = ("ETag", "etag", "LastModified", "last_modified", "modify", "mtime", "created", "generation", "updated")
"""What storages call the version of a file."""

WAIT_SECONDS = 0.2
"""Time between two looks whether another run has copied a file."""


def is_address(path: str | os.PathLike[str]) -> bool:
    """Whether a path is the address of a storage; paths of Windows have one letter before the colon."""
    return _ADDRESS.match(os.fspath(path)) is not None and not os.path.lexists(path)


def local_path(path: str | os.PathLike[str]) -> Path:
    """Give the path of a file or folder on this machine: as it is, or that of the copy of an address.

    Raises
    ------
    UsageError
        The package that reads such an address is missing.
    ImageError
        ``unreadable``: it cannot be fetched.
    """
    if not is_address(path):
        return Path(path)
    address = _with_two_slashes(path)
    copied: Path = _fetching(address, lambda files, inside: _copy(files, inside, address))
    return copied


def list_addresses(address: str) -> Iterator[tuple[str, PurePath]]:
    """List the images at an address: a file, an OME-Zarr folder, or all below a folder or that fit a pattern.

    Yields
    ------
    address : str
        Of one image.
    relative : pathlib.PurePath
        Its path below the given folder.

    Raises
    ------
    UsageError, ImageError
        As `local_path`; also when no image is found.
    """
    address = _with_two_slashes(address)
    found = _fetching(address, _list)
    if not found:
        raise UsageError(
            f"{public_address(address)} holds no image: give the address of a file, or of a folder with images"
        )
    yield from found


def is_copy(path: Path) -> bool:
    """Whether a path is one of a copied file, which may have been removed since."""
    return real_path(_cache()) in real_path(path).parents


def address_of(path: Path) -> str:
    """Address that a file was copied from; empty for others."""
    record = _recorded(path) if is_copy(path) else None
    return str(record["address"]) if record else ""


def name_of(address: str) -> str:
    """Name of the file or folder at an address, which leads to no other folder when it is a path on this machine."""
    name = address.partition("?")[0].rstrip("/").rpartition("/")[2]
    return name if name and _stays_below(name) else "image"


def _with_two_slashes(path: str | os.PathLike[str]) -> str:
    """An address as it was given; as a path it has lost a slash, and those of files of this machine two."""
    return _ONE_SLASH.sub(
        lambda found: f"{found[1]}:///" if found[1].lower() in ("file", "local") else f"{found[1]}://",
        os.fspath(path),
        count=1,
    )


def _fetching(address: str, use: Callable[[Any, str], Any]) -> Any:
    """Call a function with the storage of an address, and the path there."""
    try:
        return use(*_open_storage(address))
    except UnetbioError:
        raise
    except Exception as error:
        # Each storage has errors of its own.
        text = " ".join(f"{type(error).__name__}: {error}".split()).replace(address, public_address(address))
        # A library may quote the address in another form.
        text = _URL.sub(lambda found: public_address(found[0]), text)
        raise ImageError("unreadable", f"{public_address(address)} cannot be fetched: {text}") from error


def _open_storage(address: str) -> Any:
    try:
        import fsspec

        return fsspec.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise UsageError(describe_download(address)) from error


def _list(files: Any, inside: str) -> list[tuple[str, PurePath]]:
    if _is_web(files):
        # Web servers list no folders.
        return [(inside, PurePosixPath(name_of(inside)))]
    if _MAGIC.search(inside):
        return _named(files, sorted(files.glob(inside)), str(PurePosixPath(_MAGIC.split(inside)[0] + "x").parent))
    if not files.isdir(inside) or inside.rstrip("/").endswith(ZARR):
        return _named(files, [inside] if files.exists(inside) else [], str(PurePosixPath(inside).parent))
    return _named(files, _without_overlays(files.find(inside)), inside)


def _without_overlays(paths: list[str]) -> list[str]:
    """Leave out the pictures in output folders, which have a journal, as a search on this machine does."""
    runs = {path.removesuffix(name) for path in paths if is_output_folder([name := PurePosixPath(path).name])}
    pictures = tuple(f"{run}{OVERLAYS}/" for run in runs)
    return [path for path in paths if not path.startswith(pictures)]


def _named(files: Any, paths: list[str], root: str) -> list[tuple[str, PurePath]]:
    images = dict.fromkeys(_image_of(path) for path in paths if _stays_below(path))
    kept = [path for path in images if path.lower().endswith((*SUFFIXES, ZARR))]
    return [
        (files.unstrip_protocol(path), PurePosixPath(path.strip("/")).relative_to(root.strip("/"))) for path in kept
    ]


def _stays_below(path: str) -> bool:
    """Whether a name in a storage leads to no folder above when it is a path on this machine."""
    return not {"..", "."} & set(re.split(r"[/\\]", path))


def _image_of(path: str) -> str:
    """The OME-Zarr folder that a file lies in, or the file."""
    start, ending, _ = path.partition(f"{ZARR}/")
    return start + ZARR if ending else path


def _is_web(files: Any) -> bool:
    protocol = files.protocol if isinstance(files.protocol, str) else files.protocol[0]
    return str(protocol) in ("http", "https")


def _copy(files: Any, inside: str, address: str) -> Path:
    """Copy a file or folder; those of one folder stay together, since an image can be several files."""
    target, is_folder = _target_of(address), not _is_web(files) and files.isdir(inside)
    version = _version_of_folder(files, inside) if is_folder else _version(files.info(inside))
    if is_folder:
        # Another run may be reading an older version.
        target = target.parent / (version.get("files") or secrets.token_hex())[:20] / target.name
    record = {"address": public_address(address), "version": version}
    if _is_copied(target, record):
        return target
    if is_folder and not all(map(_stays_below, files.find(inside))):
        raise ImageError("unreadable", f"{public_address(address)} holds names that lead out of its folder")
    with _alone(target):
        if not _is_copied(target, record):
            _fetch(files, inside, target, record, is_folder)
    return target


def _fetch(files: Any, inside: str, target: Path, record: dict[str, Any], is_folder: bool) -> None:
    logger.info("fetching %s", record["address"])
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=target.parent) as scratch:
        copy = Path(scratch, target.name)
        if is_folder:
            files.get(inside.rstrip("/"), str(copy), recursive=True)
        else:
            files.get_file(inside, str(copy))
        with stopping(target):
            shutil.rmtree(target, ignore_errors=True)
            copy.replace(target)
    write_json(_record_of(target), record)


def _is_copied(target: Path, record: dict[str, Any]) -> bool:
    return bool(record["version"]) and target.exists() and _recorded(target) == record


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Wait until no other run copies this file or folder, and let none begin while the block runs."""
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(lock(target.with_name(f".{target.name}.lock"), what=target))
                break
            except EnvironmentStoppedError as error:
                if not isinstance(error.__cause__, BlockingIOError):
                    raise
                time.sleep(WAIT_SECONDS)
        yield


def _target_of(address: str) -> Path:
    folder = address.partition("?")[0].rstrip("/").rpartition("/")[0]
    query = address.partition("?")[2]
    return _cache() / hashlib.sha256(f"{folder}?{query}".encode()).hexdigest()[:20] / name_of(address)


def _record_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.address.json")


def _version(info: dict[str, Any]) -> dict[str, str]:
    """Size and version that a storage states of a file; empty if it states no version."""
    stated = {name: str(info[name]) for name in VERSIONS if info.get(name)}
    return {"size": str(info.get("size")), **stated} if stated else {}


def _version_of_folder(files: Any, inside: str) -> dict[str, str]:
    """Hash of the names, sizes and versions of all files of a folder; empty if one has no version."""
    versions = {name: _version(info) for name, info in files.find(inside, detail=True).items()}
    if not all(versions.values()):
        return {}
    return {"files": hashlib.sha256(json.dumps(versions, sort_keys=True).encode()).hexdigest()}


def _recorded(target: Path) -> Any:
    try:
        return json.loads(read_bytes(_record_of(target)))
    except (OSError, ValueError, RecursionError):
        return None


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unetbio" / "remote"
