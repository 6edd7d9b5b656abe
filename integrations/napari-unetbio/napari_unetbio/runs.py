"""Output folders of ``unetbio segment``: their images, masks and rows, and corrected masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import unetbio
from unetbio.errors import UsageError
from unetbio.files import Stamp, stamp
from unetbio.io.grey_pictures import PICTURES
from unetbio.labels import label_dtype
from unetbio.output_layout import is_output_folder, provenance_name
from unetbio.preprocessing.selection import ImageSelection
from unetbio.provenance import read_provenance
from unetbio.results.corrections import RunMask, describe_mask, find_masks_of_run, store_correction
from unetbio.results.entries import known_entries
from unetbio.results.journal import Entry, hold_output
from unetbio.results.reuse import read_label_file
from unetbio.results.tables.cells import CachedCells, known_options
from unetbio.results.tables.collect_tables import reuse_or_measure
from unetbio.results.tables.measure_cells import channel_columns, open_input

__all__ = ["LoadedImage", "find_run", "list_images", "load_image", "save_correction", "update_tables"]

COLOURS = PICTURES[:2]


@dataclass(frozen=True)
class LoadedImage:
    """Image of a run with its mask.

    Parameters
    ----------
    out : pathlib.Path
        The output folder.
    mask : RunMask
        Axes, planes and pixel size of the label image.
    labels : ndarray
        The label image.
    channels : dict
        Grey values with the shape of the label image, by name of the channel. A colour picture is one entry with a
        further axis. Empty if the image is missing.
    is_colour : bool
        Whether it is a colour picture.
    table : pandas.DataFrame
        Rows of the cells.
    stamp : unetbio.files.Stamp or None
        Size and times of the file of the mask when it was read; None if it was missing.
    """

    out: Path
    mask: RunMask
    labels: NDArray[Any]
    channels: dict[str, NDArray[Any]]
    is_colour: bool
    table: pd.DataFrame
    stamp: Stamp | None

    @property
    def numbers(self) -> dict[str, tuple[int | None, ...]]:
        """Number in the tables of each time and section of the label image, by axis."""
        return {"T": self.mask.times, "Z": self.mask.sections}

    @property
    def times(self) -> tuple[int | None, ...]:
        """Time of each frame of the label image."""
        return self.mask.times if "T" in self.mask.axes else ()


def list_images(out: Path) -> list[Entry]:
    """Images of an output folder that have label images, by path.

    Raises
    ------
    UsageError
        When there are none.
    """
    return find_masks_of_run(out)


def find_run(mask: Path) -> tuple[Path, Entry] | None:
    """The output folder that a label image lies in, and its entry there; None for other files."""
    mask = mask.absolute()
    folder = next((folder for folder in mask.parents if _is_output_folder(folder)), None)
    if folder is None:
        return None
    own = (entry for entry in known_entries(folder).values() if folder / entry.output == mask)
    return next(((folder, entry) for entry in own), None)


def _is_output_folder(folder: Path) -> bool:
    try:
        return is_output_folder(path.name for path in folder.iterdir())
    except OSError:
        return False


def load_image(out: Path, entry: Entry) -> LoadedImage:
    """Read an image, its mask and its rows; rows of a corrected mask are measured.

    Raises
    ------
    ImageError
        When the mask cannot be read.
    """
    provenance = read_provenance(out / provenance_name(entry.output))
    # Before the mask is read: a change in between is noticed then.
    read_at = _stamp_of(out / entry.output)
    labels = read_label_file(out / entry.output, provenance)
    opened = open_input(out, entry, provenance, None)
    channels, is_colour = _channels(opened) if opened else ({}, False)
    measured = reuse_or_measure(out, entry, CachedCells(out)).cells
    table = pd.DataFrame() if measured is None else pd.DataFrame(measured.to_dict(as_series=False))
    return LoadedImage(out, describe_mask(out, entry), labels, channels, is_colour, table, read_at)


def _stamp_of(mask: Path) -> Stamp | None:
    try:
        return stamp(mask)
    except OSError:
        return None


def _channels(opened: ImageSelection) -> tuple[dict[str, NDArray[Any]], bool]:
    """Channels as they were segmented: sections picked or projected; those that have a file at some time."""
    numbers = sorted({number for t in opened.times for number in opened.present_channels(t)})
    if not numbers:
        return {}, False
    frames = [_frame(opened, t, numbers) for t in opened.times]
    stack = np.stack(frames, axis=1) if len(frames) > 1 else frames[0]
    names = opened.image.channel_names
    if names in COLOURS and stack.dtype == np.uint8 and len(numbers) == len(names):
        return {"colours": np.moveaxis(stack, 0, -1)}, True
    titles = channel_columns(names)
    return {titles[number]: pixels for number, pixels in zip(numbers, stack, strict=True)}, False


def _frame(opened: ImageSelection, t: int | None, numbers: Sequence[int]) -> NDArray[Any]:
    """Channels of one time, black where the file of one is missing."""
    present = opened.present_channels(t)
    found = dict(zip(present, opened.read_channels(t, present), strict=True))
    black = np.zeros(opened.shape, opened.image.dtype)
    return np.stack([found.get(number, black) for number in numbers])


def save_correction(loaded: LoadedImage, labels: NDArray[Any]) -> bool:
    """Replace the mask of an image, as ``unetbio import --into`` does; returns whether it changed.

    Raises
    ------
    EnvironmentStoppedError
        When a run works in the folder, or it cannot be written.
    UsageError
        When another program has changed the mask since it was loaded.
    """
    stored = labels.astype(label_dtype(int(labels.max(initial=0))), copy=False)
    with hold_output(loaded.out, None):
        if _stamp_of(loaded.out / loaded.mask.entry.output) != loaded.stamp:
            raise UsageError("another program has changed this mask: load the image again to see it")
        return store_correction(loaded.out, loaded.mask, stored)


def update_tables(out: Path) -> None:
    """Measure the masks that changed and write the tables of a run, with the columns that they have now."""
    options = known_options(out)
    unetbio.measure(out, expand=options.expand_um, pixel_size=options.pixel_size_um, features=options.features)
