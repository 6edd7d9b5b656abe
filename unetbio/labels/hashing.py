"""What "byte for byte" means for label images."""

import hashlib
import math
from typing import Any

import numpy as np

__all__ = ["label_hash"]

HASHED_AT_ONCE = 1 << 22
"""Pixels that are hashed together: a label image on disk need not fit into memory."""


def label_hash(label_image: Any) -> str:
    """SHA-256 of shape, dtype and little-endian pixels, as 64 hexadecimal digits: "byte for byte" means this.

    The dtype is hashed by its little-endian name (``<u2``), so that byte order and memory layout do not count.
    """
    array: Any = label_image if hasattr(label_image, "shape") else np.asarray(label_image)
    little = array.dtype.newbyteorder("<")
    digest = hashlib.sha256(f"{tuple(array.shape)}{little.str}".encode())
    if not array.shape:
        array = array[np.newaxis]
    rows = max(1, HASHED_AT_ONCE // max(1, math.prod(array.shape[1:])))
    for start in range(0, array.shape[0], rows):
        part = np.ascontiguousarray(array[start : start + rows], dtype=little)
        digest.update(part.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
