"""Open an image of any supported format, told by its first bytes."""

import os
from pathlib import Path

from unetbio.errors import ImageError
from unetbio.io.image import Image

__all__ = ["SUFFIXES", "read_image"]

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".nii", ".nii.gz", ".svs", ".lsm", ".companion.ome")
"""Endings of file names that are looked for in folders."""

SUPPORTED = "TIFF (plain, OME, ImageJ), PNG, JPEG, NIfTI and OME-Zarr"

_OTHERS = (
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"8BPS", "a Photoshop file"),
    (b"\x00\x00\x01\x00", "an icon"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"\x00\x00\x00\x0cjP", "a JPEG 2000 picture"),
    (b"\x89HDF", "an HDF5 file"),
    (b"ZISRAWFILE", "a Zeiss CZI file"),
    (b"\x70\x00\x00\x00", "a Leica LIF file"),
    (b"\xda\xce\xbe\x0a", "a Nikon ND2 file"),
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
        A TIFF, PNG, JPEG or NIfTI file, whose first bytes decide, not the name; or an OME-Zarr folder.
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
        with open(path, "rb") as stream:
            head = stream.read(512)
        return _open(path, head, axes, series)
    except OSError as error:
        raise ImageError("unreadable", f"cannot be opened: {error.strerror or error}") from error
    except MemoryError as error:
        raise ImageError("too_large", "does not fit into memory") from error


def _open_folder(path: Path, axes: str | None, series: int) -> Image:
    from unetbio.io.zarr_metadata import is_zarr_folder

    if not is_zarr_folder(path):
        raise ImageError("unsupported_format", f"a folder, not an image: {SUPPORTED} are read")
    from unetbio.io.zarr import read_zarr

    return read_zarr(path, axes=axes, series=series)


def _open(path: Path, head: bytes, axes: str | None, series: int) -> Image:
    # Each format's library is imported when the first such file is met.
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        from unetbio.io.tiff import read_tiff

        return read_tiff(path, axes=axes, series=series)
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        from unetbio.io.raster import read_raster

        return read_raster(path, axes=axes, series=series)
    if path.name.endswith((".nii", ".nii.gz")) and (head[:2] == b"\x1f\x8b" or _is_nifti(head)):
        from unetbio.io.nifti import read_nifti

        return read_nifti(path, axes=axes, series=series)
    if path.name.endswith(".companion.ome"):
        from unetbio.io.tiff import read_companion

        return read_companion(path, axes=axes, series=series)
    raise _refusal(path, head)


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
