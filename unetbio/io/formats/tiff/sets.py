"""Find the file that represents an OME-TIFF image stored in several files, each of which describes all.

An image belongs to the file that its first TiffData element names; if that is missing, to the first that is there. A
file to which none of the images belongs is a piece of others' and no input of its own. Only the first page's
description is read, and only of files whose names end as those of OME-TIFF do: of 100 000 plain TIFF files none is
opened.
"""

import functools
import html
import os
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from unetbio.files import Stamp, open_regular, read_bytes, stamp
from unetbio.io.formats.tiff.format import COMPANION

__all__ = ["IMAGE_DESCRIPTION", "find_pieces", "is_one_image", "list_pieces"]

SUFFIXES = (".ome.tif", ".ome.tiff")

IMAGE_DESCRIPTION = 270
"""Tag of the text that says what the pages are."""

LONGEST = 256 << 20
"""Upper limit of the bytes of a description."""

_ROOT_UUID = re.compile(r'<(?:\w+:)?OME\b[^>]*\bUUID\s*=\s*"([^"]*)"')
_IMAGE = re.compile(r"<(?:\w+:)?Image\b")
_TIFF_DATA = re.compile(r"<(?:\w+:)?TiffData\b")
_UUID = re.compile(r"<(?:\w+:)?UUID\b([^>]*)>([^<]*)<")
_MASTER = re.compile(r'<(?:\w+:)?BinaryOnly\b[^>]*\bMetadataFile\s*=\s*"([^"]*)"')
_FILE_NAME = re.compile(r'\bFileName\s*=\s*"([^"]*)"')


def find_pieces(paths: Iterable[Path]) -> dict[Path, Path]:
    """Find files that hold only pieces of images that other files represent.

    Parameters
    ----------
    paths : iterable of pathlib.Path
        All files that were found.

    Returns
    -------
    dict of Path to Path
        By piece, the file that stands for its first image. That file is always among the paths: a piece alone stands
        for the whole.
    """
    pieces: dict[Path, Path] = {}
    folders: dict[str, list[Path]] = {}
    for path in paths:
        if path.name.lower().endswith(COMPANION):
            pieces |= dict.fromkeys(_described(path), path)
        elif path.name.lower().endswith(SUFFIXES):
            folders.setdefault(os.path.dirname(path), []).append(path)  # noqa: PTH120 -- ten times as fast
    for files in folders.values():
        by_name = {path.name: path for path in files}
        for path in files if len(files) > 1 else ():
            found = (next((by_name[name] for name in names if name in by_name), None) for names in _owners(path))
            owners = [owner for owner in found if owner]
            if owners and path not in owners:
                pieces[path] = owners[0]
    # A file that another takes for a piece may itself be one where their descriptions differ: it stays.
    return {piece: owner for piece, owner in pieces.items() if owner not in pieces}


def list_pieces(path: Path) -> list[Path]:
    """List the other files that a file is read with, as its description names them; some may be missing.

    In a set in which each file describes all, these are the files of the images that the file is a part of.
    """
    if not path.name.lower().endswith((COMPANION, *SUFFIXES)):
        return []
    try:
        return list(_pieces_as_of(path, stamp(path)))
    except OSError:
        return []  # its reader reports the error


@functools.cache
def _pieces_as_of(path: Path, _: Stamp) -> list[Path]:
    """`list_pieces` of a file as it is now: workflows ask for each rule, and descriptions of large sets are long."""
    if path.name.lower().endswith(COMPANION):
        return list(_described(path))
    images = map(set, _owners(path))
    return [path.parent / name for names in images if path.name in names for name in sorted(names - {path.name})]


def _described(companion: Path) -> Iterator[Path]:
    """Files that a companion describes: they are one image, which the companion stands for."""
    try:
        text = read_bytes(companion).decode("utf-8", "replace")
    except OSError:
        return  # its reader reports the error
    for name in _FILE_NAME.findall(text):
        yield companion.parent / html.unescape(name)


def _owners(path: Path) -> Iterator[Iterator[str]]:
    """Names of the files of each image of a file's OME-XML, in the order of its planes."""
    text = _description(path)
    if master := _MASTER.search(text):
        yield iter([html.unescape(master[1])])
    if "FileName" not in text:
        return
    root = _ROOT_UUID.search(text)
    for image in _IMAGE.split(text)[1:]:
        yield _files(image, path.name, root[1] if root else None)


def _files(image: str, own: str, own_uuid: str | None) -> Iterator[str]:
    """Names of the files of one image, one at a time; a file that was renamed is still known by its UUID."""
    start = _TIFF_DATA.search(image)
    while start:
        following = _TIFF_DATA.search(image, start.end())
        uuid = _UUID.search(image, start.end(), following.start() if following else len(image))
        start = following
        name = _FILE_NAME.search(uuid[1]) if uuid else None
        is_own = uuid is None or name is None or uuid[2].strip() == own_uuid
        yield own if is_own or name is None else html.unescape(name[1])


def is_one_image(path: Path) -> bool:
    """Whether a TIFF file is seen to hold one image: one page, or a description of one image.

    Files of which that cannot be seen in the first page may hold one, too.
    """
    page = _first_page(path)
    if page is None or path.name.lower().endswith(COMPANION):
        return False
    text = page.description
    if "<OME" in text or "OME>" in text:
        return len(_IMAGE.findall(text)) == 1
    return text.startswith("ImageJ=") or page.is_last


@dataclass(frozen=True)
class _FirstPage:
    """Description of the first page, and whether no page follows it."""

    description: str
    is_last: bool


def _description(path: Path) -> str:
    """Description of the first page; empty where the file is no whole TIFF, which its reader will say."""
    page = _first_page(path)
    return page.description if page else ""


def _first_page(path: Path) -> _FirstPage | None:
    try:
        with open_regular(path, buffering=0) as file:
            head = file.read(16)
            order = {b"II": "<", b"MM": ">"}[head[:2]]
            is_big = struct.unpack(f"{order}H", head[2:4])[0] == 43
            # Number of entries, entry (tag, type, count, value), place of the first page.
            count_format, entry_format, place = ("Q", "HHQ8s", head[8:16]) if is_big else ("H", "HHI4s", head[4:8])
            offset_format = f"{order}{'Q' if is_big else 'I'}"
            start = struct.unpack(offset_format, place)[0]
            size = struct.calcsize(f"={count_format}")
            count = struct.unpack(f"{order}{count_format}", _read_at(file, size, start))[0]
            width = struct.calcsize(f"={entry_format}")
            used = width * min(count, 4096)
            entries = _read_at(file, used + len(place), start + size)
            following = struct.unpack(offset_format, entries[used:])[0]
            text = ""
            for tag, _, length, value in struct.iter_unpack(f"{order}{entry_format}", entries[:used]):
                if tag == IMAGE_DESCRIPTION and len(value) < length <= LONGEST:
                    offset = struct.unpack(offset_format, value)[0]
                    text = _read_at(file, length, offset).decode("utf-8", errors="replace")
            return _FirstPage(text, following == 0)
    except (OSError, OverflowError, struct.error, KeyError):
        return None


def _read_at(file: IO[bytes], size: int, start: int) -> bytes:
    file.seek(start)
    return file.read(size)
