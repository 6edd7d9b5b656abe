"""The result of one image: label image, provenance, probabilities and objects, each file written whole."""

import contextlib
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unetbio.files import TEMPORARY, remove_path, replace_path, sha256_path, stamp, stopping, write_text
from unetbio.io import write_labels, write_probabilities
from unetbio.io.tables import csv_text
from unetbio.labels import label_hash
from unetbio.output_layout import FORMATS
from unetbio.postprocessing.objects import ObjectTable
from unetbio.preprocessing.selection import ImageSelection
from unetbio.provenance import (
    PROBABILITIES,
    FrameRecord,
    InputRecord,
    OutputRecord,
    Provenance,
    count_cells,
    read_provenance,
    write_provenance,
)
from unetbio.results.disk_arrays import reserved_file
from unetbio.results.items import Item
from unetbio.results.journal import Entry
from unetbio.results.reuse import has_objects, other_format, state_of_labels

if TYPE_CHECKING:
    import polars as pl

__all__ = ["LabelStack", "Outcome", "pending_path", "write_image_probabilities", "write_result"]

# A time-lapse whose labels take more than this many bytes is collected on disk.
STACK_BYTES_IN_MEMORY = 256 << 20


@dataclass(frozen=True)
class Outcome:
    """Rows of one image for the journal and the tables.

    Parameters
    ----------
    entry : Entry
        Line in the journal.
    frames : tuple of FrameRecord
        Rows of the summary; none for a failed image.
    pixel_size_um : float, optional
        In the plane, if it can be trusted.
    label_hash : str
        Of the label image that was measured.
    cells : polars.DataFrame, optional
        One row for each cell; None for class masks and failed images, and if nothing was measured.
    measured_from : str
        See `unetbio.results.tables.measured_from.sources_of`; empty if unknown.
    input_gone : bool
        Whether the cells come from an earlier run because the input is missing.
    measured_on : InputRecord, optional
        The input as it was segmented, where the file was measured again.
    """

    entry: Entry
    frames: tuple[FrameRecord, ...] = ()
    pixel_size_um: float | None = None
    label_hash: str = ""
    cells: "pl.DataFrame | None" = None
    measured_from: str = ""
    input_gone: bool = False
    measured_on: InputRecord | None = None

    @property
    def n_cells(self) -> int | None:
        """Cells in all frames; None for class masks."""
        return count_cells(self.frames)

    def for_summary(self) -> "Outcome":
        """The outcome without what only the table of cells needs, which would take most of the memory of long runs."""
        frames = tuple(frame.model_copy(update={"confidences": ()}) for frame in self.frames)
        return replace(self, frames=frames, cells=None, measured_from="", measured_on=None)


class LabelStack:
    """Collect the label images of a file's frames, from any thread; large stacks lie on disk.

    Parameters
    ----------
    count : int
        Number of frames.
    shape : tuple of int
        Of a frame.
    folder : pathlib.Path
        Folder for large stacks.
    """

    def __init__(self, count: int, shape: tuple[int, ...], folder: Path) -> None:
        self._count = count
        self._shape = shape
        self._folder = folder
        self._lock = threading.Lock()
        self._frames: NDArray[Any] | None = None

    def store(self, index: int, label_image: NDArray[Any]) -> None:
        """Store a frame; the stack becomes uint32 when one frame needs it.

        Raises
        ------
        EnvironmentStoppedError
            When the disk has no room for the stack.
        """
        with self._lock:
            if self._count == 1:
                self._frames = label_image
                return
            if self._frames is None:
                self._frames = self._allocate(label_image.dtype)
            elif label_image.dtype.itemsize > self._frames.dtype.itemsize:
                narrow, self._frames = self._frames, self._allocate(label_image.dtype)
                self._frames[...] = narrow
            self._frames[index] = label_image

    @property
    def label_image(self) -> NDArray[Any]:
        """All frames, ``(T, *spatial)``; the frame itself when there is one."""
        if self._frames is None:
            raise ValueError("no frame has been stored")
        return self._frames

    def _allocate(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        shape = (self._count, *self._shape)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if size <= STACK_BYTES_IN_MEMORY:
            return np.zeros(shape, dtype)
        with reserved_file(self._folder, size) as file:
            return np.memmap(file, dtype, mode="r+", shape=shape)


def pending_path(out: Path, item: Item) -> Path:
    """Where the label image of an item is written before it gets its name; the longest name of its results."""
    final = out / item.labels
    pending = final.with_name(f"{TEMPORARY}pending-{final.name}")
    # A field of a plate has no ending; that of the temporary name chooses the format.
    return pending.with_name(f"{pending.name}{FORMATS['ome-zarr']}") if item.in_plate else pending


def write_result(
    out: Path,
    item: Item,
    opened: ImageSelection,
    label_image: NDArray[Any],
    described: Mapping[str, Any],
    *,
    with_probabilities: bool = False,
    objects: Sequence[ObjectTable] = (),
) -> Provenance:
    """Write a label image and its provenance; after a kill at any moment both are complete, or the next run makes both.

    The label image is written under a temporary name, an older one is removed, the provenance is written, and the label
    image gets its name. A killed run therefore never leaves a label image that differs from its provenance; such a
    label image was edited by hand.

    Parameters
    ----------
    out, item, opened
        The output folder, the image and its opened file.
    label_image : ndarray
        All frames.
    described : dict
        Fields of `Provenance` except the output.
    with_probabilities : bool
        Keep the probabilities, which have just been written. Those of an older label image are removed.
    objects : sequence of dict
        Table of the objects of each frame, for models that find objects. That of an older label image is removed.

    Raises
    ------
    EnvironmentStoppedError
        When the disk is full or the folder cannot be written.
    """
    final, pending = out / item.labels, pending_path(out, item)
    try:
        write_labels(
            pending,
            label_image,
            axes=opened.label_axes,
            pixel_size_um=opened.trusted_pixel_size_um,
            affine=opened.affine,
            name="classes" if item.masks == "classes" else "cells",
            start=opened.start,
        )
        size, mtime_ns, _ = stamp(pending)
        record = OutputRecord(
            name=os.path.relpath(final, (out / item.provenance).parent).replace(os.sep, "/"),
            label_hash=label_hash(label_image),
            size=size,
            mtime_ns=mtime_ns,
            sha256=sha256_path(pending),
        )
        provenance = Provenance(output=record, **described)
        with stopping(final):
            if (older := read_provenance(out / item.provenance)) is not None:
                _remove_older(out, item, older, opened.times, fresh=with_probabilities)
            remove_path(final)
        write_provenance(out / item.provenance, provenance)
        if objects:
            write_text(out / item.objects, _objects_text(objects, opened.times))
        with stopping(final):
            replace_path(pending, final)
    finally:
        with contextlib.suppress(OSError):
            remove_path(pending)
    return provenance


def _remove_older(out: Path, item: Item, older: Provenance, times: Sequence[int | None], *, fresh: bool) -> None:
    """Remove what an earlier run wrote beside a label image; ``fresh`` probabilities of ``times`` stay.

    Files that it did not write are those of other programs, but for the table of an edited label image: `unetbio
    import` writes both.
    """
    other = other_format(out, item, older)
    names: set[str] = set()
    if older.run.get(PROBABILITIES, True):
        of_times = set(item.probabilities_names(times))
        names |= {item.probabilities_of(None), *item.probabilities_names([frame.t for frame in older.frames])}
        names = names - of_times if fresh else names | of_times
    if has_objects(older) or state_of_labels(other or out / item.labels, older) == "edited":
        names.add(item.objects)
    if other is not None:
        remove_path(other)
    for name in names:
        (out / name).unlink(missing_ok=True)


def _objects_text(objects: Sequence[ObjectTable], times: Sequence[int | None]) -> str:
    """One row for each object; in a time-lapse the first column is the time."""
    is_series = len(times) > 1
    lines: list[list[Any]] = [[*(["t"] if is_series else []), *objects[0]]]
    for table, t in zip(objects, times, strict=True):
        rows = zip(*(column.tolist() for column in table.values()), strict=True)
        lines += [[*([t] if is_series else []), *row] for row in rows]
    return csv_text(lines)


def write_image_probabilities(
    out: Path,
    item: Item,
    opened: ImageSelection,
    t: int | None,
    probabilities: NDArray[np.float32],
    class_names: Sequence[str],
) -> None:
    """Write the probabilities of one frame, at the size that the model saw; each time is one file."""
    name = item.probabilities_of(t if len(opened.times) > 1 else None)
    sizes = {
        axis: opened.trusted_pixel_size_um[axis] / zoom
        for axis, zoom in zip(opened.axes, opened.zoom, strict=True)
        if axis in opened.trusted_pixel_size_um
    }
    # The affine describes the image's own grid.
    affine = opened.affine if opened.grid == opened.shape else None
    write_probabilities(out / name, probabilities, tuple(class_names), pixel_size_um=sizes, affine=affine)
