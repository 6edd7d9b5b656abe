"""Corrected masks in an output folder: replace the label image of an image, and keep its provenance.

A label image that differs from its provenance counts as edited by hand (`unetbio.results.reuse`): it is kept, measured,
exported and trained on.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError, UsageError
from unetbio.io import read_image, write_labels
from unetbio.io.grey_pictures import plane_counts
from unetbio.output_layout import holds_classes, provenance_name
from unetbio.provenance import CELL_CLASSES, PartRecord, Provenance, read_provenance
from unetbio.results.entries import check_folder, known_entries
from unetbio.results.journal import Entry
from unetbio.results.reuse import affine_of_mask, layout_of, read_label_file

__all__ = ["RunMask", "describe_mask", "find_masks_of_run", "store_correction", "stored_planes", "write_mask"]


@dataclass(frozen=True)
class RunMask:
    """Label image of an image in an output folder.

    Parameters
    ----------
    entry : Entry
        Line in the journal.
    axes : str
        Of the label image.
    shape : tuple of int
        Of the label image.
    times, sections : tuple
        Time and section of each plane; ``(None,)`` if the image has no such axis.
    stored : dict
        Lengths of the axes C, Z and T of the image, as ImageJ counts them.
    pixel_size_um : dict
        Micrometres by axis, if they can be trusted.
    has_cell_classes : bool
        Whether the table of objects holds the classes of cells.
    part : PartRecord, optional
        What it shows of the file, if not all of it at full resolution.
    is_recorded : bool
        Whether a provenance says what it shows of the file; without one its planes are counted from 0.
    """

    entry: Entry
    axes: str
    shape: tuple[int, ...]
    times: tuple[int | None, ...]
    sections: tuple[int | None, ...]
    stored: dict[str, int]
    pixel_size_um: dict[str, float]
    has_cell_classes: bool = False
    part: PartRecord | None = None
    is_recorded: bool = True

    @property
    def start(self) -> tuple[int, int]:
        """Row and column of the upper left corner in the file."""
        return (0, 0) if self.part is None else (self.part.rows[0], self.part.columns[0])


def find_masks_of_run(out: Path) -> list[Entry]:
    """Images of an output folder that have label images.

    Raises
    ------
    UsageError
        When there are none.
    """
    check_folder(out)
    entries = [
        entry
        for entry in known_entries(out).values()
        if entry.has_mask and (out / entry.output).exists() and not holds_classes(entry.output)
    ]
    if not entries:
        raise UsageError(f"{out} holds no label images of unetbio segment")
    return sorted(entries, key=lambda entry: entry.order)


def describe_mask(out: Path, entry: Entry) -> RunMask:
    """Axes and planes of a label image.

    Raises
    ------
    ImageError
        When the label image has no provenance and cannot be read.
    """
    provenance = read_provenance(out / provenance_name(entry.output))
    if provenance is None:
        image = read_image(out / entry.output, labels=True)
        times, sections = (tuple(range(image.size(axis))) if image.size(axis) > 1 else (None,) for axis in "TZ")
        stored = {axis: image.size(axis) for axis in "ZT"}
        return RunMask(entry, image.axes, image.shape, times, sections, stored, {}, is_recorded=False)
    axes, shape = layout_of(provenance)
    given = provenance.input
    sizes = dict(zip(given.axes, given.shape, strict=True))
    trusted = given.pixel_size_um if given.pixel_size_trusted else {}
    pixel_size = {axis: size for axis, size in trusted.items() if axis in axes}
    return RunMask(
        entry,
        axes,
        shape,
        _times(provenance, sizes),
        _sections(provenance, sizes, axes),
        stored_planes(provenance),
        pixel_size,
        CELL_CLASSES in provenance.settings,
        given.part,
    )


def stored_planes(provenance: Provenance) -> dict[str, int]:
    """Lengths of the axes C, Z and T in the file of a label image, as ImageJ counts planes."""
    given = provenance.input
    stored = plane_counts(given.axes, given.shape, given.dtype, given.channel_names)
    # Sections that were left out are in the file; of those behind, none is drawn on.
    stored["Z"] += provenance.first_section
    return stored


def _times(provenance: Provenance, sizes: dict[str, int]) -> tuple[int | None, ...]:
    return tuple(frame.t for frame in provenance.frames) if sizes.get("T", 1) > 1 else (None,)


def _sections(provenance: Provenance, sizes: dict[str, int], axes: str) -> tuple[int | None, ...]:
    if "Z" in axes:
        return tuple(range(provenance.first_section, provenance.first_section + sizes["Z"]))
    return (provenance.single_section,)


def store_correction(out: Path, mask: RunMask, label_image: NDArray[Any]) -> bool:
    """Replace a label image; returns whether it changed.

    Raises
    ------
    ImageError
        When the label image does not have the shape of the image.
    """
    provenance = read_provenance(out / provenance_name(mask.entry.output))
    if label_image.shape != mask.shape:
        raise ImageError("size_differs", f"the mask is {label_image.shape}, its image {mask.shape}: give it that size")
    try:
        before = read_label_file(out / mask.entry.output, provenance)
    except ImageError:
        before = None
    if before is not None and np.array_equal(before, label_image):
        return False
    write_mask(out, mask, label_image)
    return True


def write_mask(out: Path, mask: RunMask, label_image: Any, folder: Path | None = None) -> None:
    """Write a label image in memory or on disk, of the shape of the mask, in its place, or under its name elsewhere.

    Parameters
    ----------
    out : path
        The output folder.
    mask : RunMask
        Of the label image there, whose axes, pixel size and place are kept.
    label_image : array
        What is written.
    folder : path, optional
        Another folder to write to.

    Raises
    ------
    EnvironmentStoppedError
        When the disk is full or the folder cannot be written to; the file stays as it was.
    """
    path, affine = (folder or out) / mask.entry.output, _affine(out, mask.entry.output)
    write_labels(path, label_image, axes=mask.axes, pixel_size_um=mask.pixel_size_um, affine=affine, start=mask.start)


def _affine(out: Path, output: str) -> NDArray[np.float64] | None:
    """Matrix of a NIfTI label image, which its image has too."""
    try:
        return affine_of_mask(out / output, read_provenance(out / provenance_name(output)))
    except ImageError:
        return None
