"""Formats that are not read: how their files begin and end, so that a message can name them."""

from unetbio.errors import ImageError
from unetbio.io.formats import SUFFIXES, SUPPORTED

__all__ = ["UNREAD_STARTS", "UNREAD_SUFFIXES", "refusal"]

UNREAD_STARTS = (
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

# Without formats that begin like TIFF (.ndpi, .vsi ...): some of them can be read when given by name.
_ENDINGS = (
    *(".avif", ".bmp", ".gif", ".heic", ".j2k", ".jp2", ".jxl", ".pgm", ".pnm", ".ppm", ".psd", ".tga", ".webp"),
    *(".dcm", ".dicom", ".fits", ".mha", ".mhd", ".nrrd"),
    *(".dv", ".ics", ".ims", ".lof", ".mrxs", ".oib", ".oif", ".oir", ".sld", ".zvi"),
)
UNREAD_SUFFIXES = tuple(ending for ending in _ENDINGS if ending not in SUFFIXES)
"""Endings of unsupported image formats, which a search counts."""


def refusal(head: bytes) -> ImageError:
    """Error for a file of an unsupported format, by its first bytes."""
    if not head:
        return ImageError("unreadable", "the file is empty (0 bytes): copy or write it again")
    if head.startswith(b"version https://git-lfs"):
        return ImageError("unreadable", "a git-lfs pointer, not the image itself: run git lfs pull")
    for start, title in UNREAD_STARTS:
        if head.startswith(start):
            return ImageError("unsupported_format", f"{title}: {SUPPORTED} are read; convert it")
    if not any(head[:4]):
        return ImageError("unreadable", "begins with zeros, not with an image: copy or write it again")
    try:
        head[:256].decode("ascii")
    except UnicodeDecodeError:
        return ImageError("unreadable", f"not an image that is known: {SUPPORTED} are read")
    return ImageError("unreadable", f"a text file, not an image: {SUPPORTED} are read")
