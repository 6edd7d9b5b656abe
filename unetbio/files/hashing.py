"""Hashes and stamps of files and folders."""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from unetbio.files.folders import list_contents
from unetbio.files.reading import open_regular

__all__ = ["Stamp", "sha256_file", "sha256_path", "stamp"]

HASH_CHUNK_BYTES = 1 << 20


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
