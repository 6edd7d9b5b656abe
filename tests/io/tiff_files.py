"""TIFF files of the tests, and how they are refused."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unetbio.errors import ImageError
from unetbio.io import read_image

__all__ = ["ramp", "refused", "write_by_hand"]


def ramp(*shape: int, dtype: Any = np.uint16) -> np.ndarray:
    """Every pixel another value, as far as the type goes."""
    return np.arange(np.prod(shape)).astype(dtype).reshape(shape)


def refused(path: Path, **options: Any) -> ImageError:
    with pytest.raises(ImageError) as caught:
        read_image(path, **options).read()
    assert "\n" not in str(caught.value)
    return caught.value


def write_by_hand(
    path: Path, pixels: bytes, *, width: int, height: int, bits: int, photometric: int, **more: int
) -> None:
    """The smallest TIFF there is: one strip behind the header, then one page, for what no writer would write."""
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height}
    tags |= {279: len(pixels)} | {int(k[1:]): v for k, v in more.items()}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    start = 8 + len(pixels) + len(pixels) % 2
    content = struct.pack("<2sHI", b"II", 42, start) + pixels + b"\0" * (len(pixels) % 2)
    path.write_bytes(content + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0))
