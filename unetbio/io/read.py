"""Open an image of any supported format, told by its first bytes."""

import dataclasses
import importlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from unetbio.errors import ImageError
from unetbio.io.image import Image

__all__ = ["FORMATS", "SUFFIXES", "Format", "read_image"]


@dataclasses.dataclass(frozen=True)
class Format:
    """A format that is read.

    Attributes
    ----------
    title : str
        What people call it.
    suffixes : tuple of str
        Endings of its files or folders.
    reader : str
        ``module:function``; the module, and with it the format's library, is imported when the first such file is met.
    """

    title: str
    suffixes: tuple[str, ...]
    reader: str


COMPANION = ".companion.ome"

FORMATS = {
    "tiff": Format(
        "TIFF (plain, OME, ImageJ)",
        (".tif", ".tiff", ".svs", ".lsm", COMPANION),
        "unetbio.io.formats.tiff.reader:read_tiff",
    ),
    "png": Format("PNG", (".png",), "unetbio.io.formats.raster.reader:read_raster"),
    "jpeg": Format("JPEG", (".jpg", ".jpeg"), "unetbio.io.formats.raster.reader:read_raster"),
    "nifti": Format("NIfTI", (".nii", ".nii.gz"), "unetbio.io.formats.nifti.reader:read_nifti"),
    "czi": Format("CZI", (".czi",), "unetbio.io.formats.czi.reader:read_czi"),
    "lif": Format("LIF", (".lif",), "unetbio.io.formats.lif.reader:read_lif"),
    "nd2": Format("ND2", (".nd2",), "unetbio.io.formats.nd2.reader:read_nd2"),
    "zarr": Format("OME-Zarr", (".zarr",), "unetbio.io.formats.zarr.reader:read_zarr"),
}
"""What is read, by the name that `Image.format` has for it."""

SUFFIXES = tuple(suffix for name, kind in FORMATS.items() if name != "zarr" for suffix in kind.suffixes)
"""Endings of file names that are looked for in folders; OME-Zarr is a folder itself."""

SUPPORTED = " and ".join(", ".join(kind.title for kind in FORMATS.values()).rsplit(", ", 1))

_STARTS = (
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"ZISRAWFILE\0", "czi"),
    (b"\xda\xce\xbe\x0a", "nd2"),
)
_LOF = "LMS_Object_File".encode("utf-16-le")

_OTHERS = (
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"8BPS", "a Photoshop file"),
    (b"\x00\x00\x01\x00", "an icon"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"\x00\x00\x00\x0cjP", "a JPEG 2000 picture"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x70\x00\x00\x00", "a piece of a Leica file (LOF)"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\xd0\xcf\x11\xe0", "a Zeiss ZVI or Olympus OIB file"),
    (b"%PDF", "a PDF document"),
    (b"\x93NUMPY", "a numpy array"),
    (b"RIFF", "a WebP picture or a film"),
)


def read_image(path: str | os.PathLike[str], *, axes: str | None = None, series: int = 0) -> Image:
    """Open an image; its pixels are read later, by `Image.read`.

    Parameters
    ----------
    path : path-like
        A file of one of the `FORMATS`, whose first bytes decide, not the name; or an OME-Zarr folder.
    axes : str, optional
        Names for the stored axes, slowest first (``ZYX``, ``TYX``, ``CYX`` ...), where the file does not say or errs.
    series : int, optional
        Which image of a file that holds several, from 0.

    Returns
    -------
    Image
        The image.

    Raises
    ------
    ImageError
        ``unreadable``, ``truncated``, ``unsupported_format`` and the others of the format's reader: the message says
        what the file looks like and what to do.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return _open_folder(path, axes, series)
        if not stat.S_ISREG(path.stat().st_mode):
            # A pipe that nobody writes to would be waited for for ever.
            raise ImageError("unreadable", "a pipe or a device, not a file: write it to a file first")
        with open(path, "rb") as stream:
            head = stream.read(512)
        return _open(path, head, axes, series)
    except OSError as error:
        raise ImageError("unreadable", f"cannot be opened: {error.strerror or error}") from error
    except MemoryError as error:
        raise ImageError("too_large", "does not fit into memory") from error


def _open_folder(path: Path, axes: str | None, series: int) -> Image:
    from unetbio.io.formats.zarr.metadata import is_zarr_folder

    if not is_zarr_folder(path):
        raise ImageError("unsupported_format", f"a folder, not an image: {SUPPORTED} are read")
    return _reader(FORMATS["zarr"].reader)(path, axes=axes, series=series)


def _open(path: Path, head: bytes, axes: str | None, series: int) -> Image:
    if path.name.endswith(COMPANION):
        return _reader("unetbio.io.formats.tiff.reader:read_companion")(path, axes=axes, series=series)
    name = _format(path, head)
    if name is None:
        raise _refusal(path, head)
    return _reader(FORMATS[name].reader)(path, axes=axes, series=series)


def _reader(place: str) -> Callable[..., Image]:
    module, _, function = place.partition(":")
    found: Callable[..., Image] = getattr(importlib.import_module(module), function)
    return found


def _format(path: Path, head: bytes) -> str | None:
    if path.name.endswith((".nii", ".nii.gz")) and (head[:2] == b"\x1f\x8b" or _is_nifti(head)):
        return "nifti"
    if head[:4] == b"\x70\0\0\0" and head[8:9] == b"\x2a" and not head[13:].startswith(_LOF):
        return "lif"
    return next((name for start, name in _STARTS if head.startswith(start)), None)


def _is_nifti(head: bytes) -> bool:
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0")


def _refusal(path: Path, head: bytes) -> ImageError:
    if not head:
        return ImageError("unreadable", "the file is empty (0 bytes): copy or write it again")
    if head.startswith(b"version https://git-lfs"):
        return ImageError("unreadable", "a git-lfs pointer, not the image itself: run git lfs pull")
    for magic, name in _OTHERS:
        if head.startswith(magic):
            return ImageError("unsupported_format", f"{name}: {SUPPORTED} are read; convert it")
    if not any(head[:4]):
        return ImageError("unreadable", "begins with zeros, not with an image: copy or write it again")
    try:
        head[:256].decode("ascii")
    except UnicodeDecodeError:
        return ImageError("unreadable", f"not an image that is known: {SUPPORTED} are read")
    return ImageError("unreadable", f"a text file, not an image: {SUPPORTED} are read")
