"""Open an image; its first bytes decide the format."""

import os
from pathlib import Path

from unetbio.errors import ImageError
from unetbio.files import find_special, open_regular
from unetbio.io.decoding import open_elsewhere
from unetbio.io.formats import SUPPORTED, Format, find_file, find_folder
from unetbio.io.formats.unread import refusal
from unetbio.io.image import Image
from unetbio.io.remote import local_path

__all__ = ["find_format", "read_image"]

HEAD_BYTES = 512
"""Bytes read to recognize the format of a file."""


def read_image(
    path: str | os.PathLike[str], *, axes: str | None = None, series: int = 0, labels: bool = False
) -> Image:
    """Open an image; its pixels are read later, by `Image.read`.

    Parameters
    ----------
    path : path-like
        A file of one of the formats (`unetbio.io.formats.FORMATS`), whose first bytes decide, not the name; or an
        OME-Zarr folder.
    axes : str, optional
        Names for the stored axes, slowest first (``ZYX``, ``TYX``, ``CYX`` ...), instead of those in the file.
    series : int, optional
        Which image of a file that holds several, from 0.
    labels : bool, optional
        Open the label image within an OME-Zarr image instead of the image.

    Returns
    -------
    Image
        The image.

    Raises
    ------
    ImageError
        ``unreadable``, ``truncated``, ``unsupported_format`` and the reasons of the reader of the format.
    """
    path = local_path(path)
    if image := open_elsewhere(path, axes, series, labels):
        return image
    try:
        return find_format(path).open(path, axes=axes, series=series, labels=labels)
    except OSError as error:
        raise ImageError("unreadable", f"cannot be opened: {error.strerror or error}") from error
    except MemoryError as error:
        raise ImageError("too_large", "does not fit into memory") from error


def find_format(path: Path) -> Format:
    """The format of a file or folder; raises as `read_image`."""
    if path.is_dir():
        if found := find_folder(path):
            if special := find_special(path):
                raise ImageError(
                    "unreadable",
                    f"{special.relative_to(path)} is a pipe, a device or a link to a folder elsewhere: copy the image "
                    "with its files",
                )
            return found
        raise ImageError("unsupported_format", f"a folder, not an image: {SUPPORTED} are read")
    head = _head(path)
    if found := find_file(path.name, head):
        return found
    raise refusal(head)


def _head(path: Path) -> bytes:
    with open_regular(path) as stream:
        head: bytes = stream.read(HEAD_BYTES)
    return head
