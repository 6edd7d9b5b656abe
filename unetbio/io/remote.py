"""Inputs at addresses such as ``https://...`` and ``s3://...``: copied to this machine, and read from there.

fsspec reads them, with a package for each kind of storage (aiohttp, s3fs, gcsfs). Nothing is fetched unless an address
is given. Copies lie in the cache folder of the user, each with the address and the version that the storage states; one
that has not changed there is not fetched again.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from unetbio.errors import ImageError, UnetbioError, UsageError
from unetbio.files import TEMPORARY, describe_download, read_bytes, real_path, stopping, write_json
from unetbio.io.formats import SUFFIXES

__all__ = ["address_of", "is_address", "list_addresses", "local_path"]

logger = logging.getLogger(__name__)

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(?=[^/])")
_MAGIC = re.compile(r"[*?\[]")
ZARR = ".zarr"
VERSIONS = ("ETag", "etag", "LastModified", "mtime", "created", "generation", "updated")
"""What storages call the version of a file."""


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
        raise UsageError(f"{address} holds no image: give the address of a file, or of a folder with images")
    yield from found


def address_of(path: Path) -> str:
    """Address that a file was copied from; empty for others."""
    record = _recorded(path) if real_path(_cache()) in real_path(path).parents else None
    return str(record["address"]) if record else ""


def _with_two_slashes(path: str | os.PathLike[str]) -> str:
    """An address as it was given; as a path it has lost a slash."""
    return _ADDRESS.sub(r"\1://", os.fspath(path), count=1)


def _fetching(address: str, use: Callable[[Any, str], Any]) -> Any:
    """Call a function with the storage of an address, and the path there."""
    try:
        import fsspec

        files, inside = fsspec.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise UsageError(describe_download(address)) from error
    try:
        return use(files, inside)
    except UnetbioError:
        raise
    except Exception as error:
        # Each storage has errors of its own.
        text = " ".join(f"{type(error).__name__}: {error}".split()).replace(address, _public(address))
        raise ImageError("unreadable", f"{_public(address)} cannot be fetched: {text}") from error


def _public(address: str) -> str:
    """An address without the parts that can hold a password or a signature."""
    scheme, _, rest = address.partition("?")[0].partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _list(files: Any, inside: str) -> list[tuple[str, PurePath]]:
    if _is_web(files):
        # Web servers list no folders.
        return [(inside, PurePosixPath(PurePosixPath(inside).name))]
    if _MAGIC.search(inside):
        return _named(files, sorted(files.glob(inside)), str(PurePosixPath(_MAGIC.split(inside)[0] + "x").parent))
    if not files.isdir(inside) or inside.rstrip("/").endswith(ZARR):
        return _named(files, [inside] if files.exists(inside) else [], str(PurePosixPath(inside).parent))
    return _named(files, files.find(inside), inside)


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
    target = _target_of(address)
    is_folder = not _is_web(files) and files.isdir(inside)
    version = {} if is_folder else _version(files.info(inside))
    record = {"address": _public(address), "version": version}
    if version and target.exists() and _recorded(target) == record:
        return target
    if is_folder and not all(map(_stays_below, files.find(inside))):
        raise ImageError("unreadable", f"{_public(address)} holds names that lead out of its folder")
    logger.info("fetching %s", _public(address))
    with stopping(target):
        target.parent.mkdir(parents=True, exist_ok=True)
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
    return target


def _target_of(address: str) -> Path:
    folder, _, name = address.partition("?")[0].rstrip("/").rpartition("/")
    query = address.partition("?")[2]
    return (
        _cache()
        / hashlib.sha256(f"{folder}?{query}".encode()).hexdigest()[:20]
        / (name if _stays_below(name) and name else "image")
    )


def _record_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.address.json")


def _version(info: dict[str, Any]) -> dict[str, str]:
    """Size and version that a storage states of a file; empty if it states no version."""
    stated = {name: str(info[name]) for name in VERSIONS if info.get(name)}
    return {"size": str(info.get("size")), **stated} if stated else {}


def _recorded(target: Path) -> Any:
    try:
        return json.loads(read_bytes(_record_of(target)))
    except (OSError, ValueError):
        return None


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unetbio" / "remote"
