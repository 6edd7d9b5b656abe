"""Finished bands of a large image in files, so that a run that was killed goes on where it was."""

import hashlib
import json
import shutil
import zlib
from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.files import read_bytes, stopping, write_bytes

__all__ = ["BandFiles", "remove_bands"]

FAST = 1
"""Level of the compression: most pixels are background, and writing must not take time."""

DIGEST_BYTES = 32


class BandFiles:
    """Arrays of finished bands: each is a file with a hash, whole or absent.

    Parameters
    ----------
    out : pathlib.Path
        The output folder.
    result : str
        Path of the results of the image below it. Bands of one image lie in one folder.
    facts : dict
        All that the bands depend on, as JSON has it. Bands of other facts are removed.
    """

    def __init__(self, out: Path, result: str, facts: dict[str, Any]) -> None:
        self._folder = _folder(out, result)
        self._key = _digest(json.dumps(facts, sort_keys=True))
        self._remove_others()

    def take(self, name: str) -> Iterator[NDArray[Any]] | None:
        """Arrays of a band, one after another; None if it was not finished, or its file is damaged."""
        try:
            content = memoryview(read_bytes(self._path(name)))
        except OSError:
            return None
        digest, packed = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        return _unpacked(zlib.decompress(packed)) if hashlib.sha256(packed).digest() == digest else None

    def keep(self, name: str, arrays: Iterable[NDArray[Any]]) -> None:
        """Write the arrays of a finished band.

        Raises
        ------
        EnvironmentStoppedError
            When the disk is full or the folder cannot be written to; the bands before it stay.
        """
        packer = zlib.compressobj(FAST)
        packed = b"".join(packer.compress(part) for array in arrays for part in _packed(array)) + packer.flush()
        with stopping(self._folder):
            self._folder.mkdir(exist_ok=True)
        write_bytes(self._path(name), hashlib.sha256(packed).digest() + packed)

    def _path(self, name: str) -> Path:
        return self._folder / f"{self._key}-{name}"

    def _remove_others(self) -> None:
        for path in self._folder.glob("*"):
            if not path.name.startswith(f"{self._key}-"):
                path.unlink(missing_ok=True)


def remove_bands(out: Path, result: str) -> None:
    """Remove the bands of an image whose result is written; parameters as those of `BandFiles`."""
    shutil.rmtree(_folder(out, result), ignore_errors=True)


def _folder(out: Path, result: str) -> Path:
    return out / f".bands-{_digest(result)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _packed(array: NDArray[Any]) -> Iterator[bytes]:
    """Shape and type of an array in a line, and its bytes: eight decisions in each."""
    yield f"{json.dumps([array.shape, array.dtype.str])}\n".encode()
    yield (np.packbits(array) if array.dtype == np.bool_ else array).tobytes()


def _unpacked(content: bytes) -> Iterator[NDArray[Any]]:
    start = 0
    while start < len(content):
        end = content.index(b"\n", start)
        shape, name = json.loads(content[start:end])
        dtype, pixels = np.dtype(name), prod(shape)
        size = -(-pixels // 8) if dtype == np.bool_ else pixels * dtype.itemsize
        start = end + 1 + size
        stored = np.frombuffer(content[end + 1 : start], np.uint8 if dtype == np.bool_ else dtype)
        yield (np.unpackbits(stored, count=pixels).view(np.bool_) if dtype == np.bool_ else stored).reshape(shape)
