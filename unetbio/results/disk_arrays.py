"""Arrays in a nameless file, for what is as large as an image that does not fit into memory."""

import contextlib
import copy
import os
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.files import stopped

__all__ = ["DiskArray", "reserved_file"]

ZEROS_AT_ONCE = 1 << 20


class DiskArray:
    """An array of zeros on disk, of which parts are read and written; from any thread, if the parts are apart.

    The file has no name, so nothing is left of it when the array or the process ends.

    Parameters
    ----------
    folder : pathlib.Path
        Of the file.
    shape : tuple of int
        None of them 0.
    dtype : dtype
        Of the elements.

    Raises
    ------
    EnvironmentStoppedError
        When the disk has no room for the array, or the file system maps no files.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self._file = reserved_file(folder, int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize)
        weakref.finalize(self, self._file.close)
        self._of: DiskArray | None = None
        """The array whose file this one shares, which keeps it open."""
        try:
            self._mapped()
        except OSError as error:
            raise stopped(folder, error, what="arrays in mapped files") from error

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def reshape(self, shape: tuple[int, ...]) -> "DiskArray":
        """The same elements in another shape."""
        other = copy.copy(self)
        other.shape, other._of = tuple(shape), self
        return other

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Read a part of the array: a copy."""
        return np.array(self._mapped()[index])

    def __setitem__(self, index: Any, values: Any) -> None:
        """Write a part of the array."""
        self._mapped()[index] = values

    def _mapped(self) -> NDArray[Any]:
        # Mapped for each access: the pages of a mapping that is kept count as memory of the process.
        return np.memmap(self._file, self.dtype, mode="r+", shape=self.shape)


def reserved_file(folder: Path, size: int) -> Any:
    """Open a nameless file of ``size`` bytes, whose space is reserved now.

    A mapped page that finds the disk full would end the process.

    Raises
    ------
    EnvironmentStoppedError
        When the disk has no room.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
            _reserve_space(file.fileno(), size)
        except OSError as error:
            raise stopped(folder, error, what=f"{size} bytes in {folder}") from error
        # Kept open for the caller.
        stack.pop_all()
    return file


def _reserve_space(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    # macOS and Windows have no such call, so zeros are written.
    zeros = bytes(min(size, ZEROS_AT_ONCE))
    while size:
        size -= os.write(descriptor, zeros[:size])
