"""The pixels of a mask that is looked at and corrected: in memory or, if it is large, in its file and on disk."""

import threading
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from unetbio.errors import ImageError
from unetbio.io.label_file import LabelFile
from unetbio.labels import label_hash
from unetbio.postprocessing.bands import parts_in_memory, planes_of
from unetbio.provenance import Provenance
from unetbio.results.corrections import RunMask, write_mask
from unetbio.results.disk_arrays import DiskArray
from unetbio.results.reuse import large_labels, read_label_file
from unetbio.viewer.edits import Change
from unetbio.viewer.pictures import label_tile

__all__ = ["MaskPixels"]


class MaskPixels:
    """A mask ``(T, Z, Y, X)``.

    A large one is read from its file where it is seen. The first correction unpacks it into a nameless file of as many
    bytes as its pixels have.

    Parameters
    ----------
    path : pathlib.Path
        The mask.
    provenance : Provenance, optional
        Of the run that made it.
    expected : tuple of int
        Shape that its image has.
    times : int
        Length of the first axis; 1 where the file has none.
    folder : pathlib.Path
        For the nameless file.

    Raises
    ------
    ImageError
        When it cannot be read, or ``shape_mismatch``.
    """

    def __init__(
        self, path: Path, provenance: Provenance | None, expected: tuple[int, ...], times: int, folder: Path
    ) -> None:
        self._path, self._provenance, self._folder = path, provenance, folder
        self._file = large_labels(path, provenance)
        labels = read_label_file(path, provenance) if self._file is None else self._file
        if labels.shape != expected:
            raise ImageError(
                "shape_mismatch", f"the mask is {labels.shape}, its image {expected}: give it the image's size"
            )
        self.shape = (times, prod(expected[:-2]) // times, *expected[-2:])
        self._stored_shape = expected
        self._array: Any = labels.reshape(self.shape) if isinstance(labels, np.ndarray) else None
        # Tiles are drawn while a correction changes pixels.
        self._lock = threading.Lock()

    # --- What is shown ------------------------------------------------------------------------------------------------

    def tile(self, t: int, z: int, level: int, x: int, y: int) -> bytes:
        """Tile of a plane; see `unetbio.viewer.pictures.label_tile`."""
        copies = () if self._file is None else (self._file, *self._file.copies)
        if level < len(copies):
            return label_tile(_part_of(copies[level], t, z), 0, x, y)
        with self._lock:
            return label_tile(planes_of(planes_of(self._unpacked, t), z), level, x, y)

    def frame(self, t: int, z: int | None) -> Any:
        """The plane of a section, or a whole frame, to measure it: a copy, or on disk."""
        if self._array is None and self._file is not None:
            return _part_of(self._file, t, z)
        with self._lock:
            frame = planes_of(self._array, t)
            part = frame if z is None else planes_of(frame, z)
            return part.copy() if isinstance(part, np.ndarray) else part

    def hash(self) -> str:
        """Hash of the pixels; see `unetbio.labels.label_hash`."""
        return label_hash(self._stored)

    # --- What is changed ----------------------------------------------------------------------------------------------

    def volume(self, t: int, z: int | None) -> Any:
        """A frame ``(Z, Y, X)``, or one of its sections, to correct it."""
        with self._lock:
            frame = planes_of(self._unpacked, t)
        return frame if z is None else planes_of(frame, slice(z, z + 1))

    def largest(self) -> int:
        """The largest id."""
        labels = self._stored
        return max(int(labels[part].max(initial=0)) for part in parts_in_memory(labels))

    def put(self, t: int, z: int | None, change: Change) -> None:
        """Change pixels of what `volume` gives."""
        with self._lock:
            if change.after.dtype.itemsize > self._unpacked.dtype.itemsize:
                self._array = self._copied(self._array, change.after.dtype)
            sections = change.box[0] if z is None else slice(z, z + 1)
            self._array[(t, sections, *change.box[1:])] = change.after

    def store(self, out: Path, mask: RunMask) -> None:
        """Write the mask; raises as `unetbio.results.corrections.write_mask`."""
        write_mask(out, mask, self._stored)
        if self._file is not None:
            self._file = large_labels(self._path, self._provenance)

    @property
    def _stored(self) -> Any:
        """All pixels, in the axes of the file."""
        return self._file if self._array is None else self._array.reshape(self._stored_shape)

    @property
    def _unpacked(self) -> Any:
        if self._array is None and self._file is not None:
            self._array = self._copied(self._file, self._file.dtype).reshape(self.shape)
        return self._array

    def _copied(self, labels: Any, dtype: Any) -> Any:
        """The same pixels in a type; on disk, unless they are in memory."""
        if isinstance(labels, np.ndarray):
            return labels.astype(dtype)
        array = DiskArray(self._folder, labels.shape, dtype)
        for part in parts_in_memory(labels):
            array[part] = labels[part]
        return array


def _part_of(labels: LabelFile, t: int, z: int | None) -> Any:
    """A frame of a file, or one of its sections, by the axes that it has."""
    part = planes_of(labels, t) if "T" in labels.axes else labels
    return planes_of(part, z) if "Z" in labels.axes and z is not None else part
