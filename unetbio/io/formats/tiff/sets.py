"""Find the file that represents an OME-TIFF image stored in several files, each of which describes all.

An image belongs to the file that its first TiffData element names. A file to which none of the images belongs is a
piece of others' and no input of its own. Only the first page's description is read, and only of files whose names end
as those of OME-TIFF do: of 100 000 plain TIFF files none is opened.
"""

import html
import os
import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from unetbio.files import open_regular, read_bytes
from unetbio.io.formats.tiff.format import COMPANION

__all__ = ["find_pieces"]

SUFFIXES = (".ome.tif", ".ome.tiff")

IMAGE_DESCRIPTION = 270
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
        if path.name.endswith(COMPANION):
            pieces |= dict.fromkeys(_described(path), path)
        elif path.name.lower().endswith(SUFFIXES):
            folders.setdefault(os.path.dirname(path), []).append(path)  # noqa: PTH120 -- ten times as fast
    for files in folders.values():
        by_name = {path.name: path for path in files}
        for path in files if len(files) > 1 else ():
            owners = [by_name.get(name) for name in _owners(path)]
            if owners and path not in owners and (others := [owner for owner in owners if owner]):
                pieces[path] = others[0]
    # A file that another takes for a piece may itself be one where their descriptions differ: it stays.
    return {piece: owner for piece, owner in pieces.items() if owner not in pieces}


def _described(companion: Path) -> Iterator[Path]:
    """Files that a companion describes: they are one image, which the companion stands for."""
    if not companion.is_file():
        return  # its reader reports the error
    for name in _FILE_NAME.findall(read_bytes(companion).decode("utf-8", "replace")):
        yield companion.parent / html.unescape(name)


def _owners(path: Path) -> Iterator[str]:
    """Names of the files that the images of a file's OME-XML belong to."""
    text = _description(path)
    if master := _MASTER.search(text):
        yield html.unescape(master[1])
    if "FileName" not in text:
        return
    root = _ROOT_UUID.search(text)
    for image in _IMAGE.split(text)[1:]:
        # What stands before the first is of no interest, and of the first no more than up to the second.
        blocks = _TIFF_DATA.split(image, maxsplit=2)
        uuid = _UUID.search(blocks[1]) if len(blocks) > 1 else None
        name = _FILE_NAME.search(uuid[1]) if uuid else None
        # A file that was renamed is still known by its UUID.
        is_own = uuid is None or name is None or (root is not None and uuid[2].strip() == root[1])
        yield path.name if is_own or name is None else html.unescape(name[1])


def _description(path: Path) -> str:
    """Description of the first page; empty where the file is no whole TIFF, which its reader will say."""
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
            count = struct.unpack(f"{order}{count_format}", os.pread(file.fileno(), size, start))[0]
            width = struct.calcsize(f"={entry_format}")
            entries = os.pread(file.fileno(), width * min(count, 4096), start + size)
            for tag, _, length, value in struct.iter_unpack(f"{order}{entry_format}", entries):
                if tag == IMAGE_DESCRIPTION and len(value) < length <= LONGEST:
                    offset = struct.unpack(offset_format, value)[0]
                    return os.pread(file.fileno(), length, offset).decode("utf-8", errors="replace")
    except (OSError, struct.error, KeyError):
        pass
    return ""
