"""One image of a run with its mask: pictures, rows, corrections with undo. Each correction is saved at once."""

import itertools
import logging
import math
import os
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.classes import hex_colours, order_classes
from unetbio.errors import EnvironmentStoppedError, ImageError, UsageError
from unetbio.files import Stamp, stamp
from unetbio.io.cell_classes import read_cell_classes
from unetbio.io.grey_pictures import PICTURES, picture_names
from unetbio.measurement.table_schema import SECTION
from unetbio.output_layout import provenance_name
from unetbio.preprocessing.selection import ImageSelection
from unetbio.provenance import CELL_CLASSES, read_provenance
from unetbio.results.corrections import describe_mask
from unetbio.results.journal import Entry
from unetbio.results.reuse import is_large, state_of_labels
from unetbio.results.tables.cells import known_options
from unetbio.results.tables.confidences import objects_path, read_classes, read_evidence
from unetbio.results.tables.measure_cells import measure_frame, open_input, sections_unlinked, segmented_channels
from unetbio.viewer import edits
from unetbio.viewer.edits import Change
from unetbio.viewer.folder import hold_for_view
from unetbio.viewer.mask_pixels import MaskPixels
from unetbio.viewer.pictures import TILE, Layer, contrast, draw_tile
from unetbio.viewer.planes import ImagePlanes
from unetbio.viewer.review import Review, read_review, review_path, stamp_review, write_review

__all__ = ["Correction", "Document"]

logger = logging.getLogger(__name__)

UNDO_STEPS = 200
UNDO_BYTES = 1 << 28
DIGITS = 5
WHITE = "#ffffff"
OTHERS = ("#40a0ff", "#50ff50", "#ff50ff", "#ffd23c", "#3cffff", "#ff5a5a")
OF_PICTURES = {"red": "#ff0000", "green": "#00ff00", "blue": "#0000ff", "": WHITE}
"""Colours of the channels of pictures; transparency is not shown."""

Columns = dict[str, list[Any]]

Correction = Callable[[NDArray[Any], int, int], Change]

# Of all images, so that no window takes a mask for one that it has seen before.
_VERSIONS = itertools.count(1)


@dataclass(frozen=True)
class _Step:
    """A correction of a volume, and the review before and after it."""

    volume: int
    change: Change | None
    before: Review
    after: Review

    @property
    def undone(self) -> "_Step":
        return _Step(self.volume, self.change and self.change.undone, self.after, self.before)


class Document:
    """An image of a run with its mask.

    Planes are numbered over times, then sections. Planes that share the ids of their cells are a volume: all sections
    of a time if they are linked, each plane alone if not.

    Parameters
    ----------
    out : pathlib.Path
        The output folder.
    entry : Entry
        Line of the image in the journal.

    Raises
    ------
    ImageError
        When the image or its mask cannot be read, or they do not fit.
    """

    def __init__(self, out: Path, entry: Entry) -> None:
        self._out, self._entry = out, entry
        self._provenance = read_provenance(out / provenance_name(entry.output))
        self._mask = describe_mask(out, entry)
        opened = open_input(out, entry, self._provenance, known_options(out).pixel_size_um)
        if opened is None:
            raise ImageError("unreadable", f"{entry.input} cannot be read: put it back to see its mask")
        self._opened = replace(opened, channels=opened.present_channels(opened.times[0]))
        # Corrections follow each other.
        self._correcting = threading.Lock()
        self._planes = ImagePlanes(self._opened, self._folder)
        self._undo: list[_Step] = []
        self._redo: list[_Step] = []
        self.version = next(_VERSIONS)
        self._load()

    def _load(self) -> None:
        """Read the mask, and the review if it belongs to it."""
        path = self._out / self._entry.output
        self._stamp: Stamp = stamp(path)
        self.review_stamp = stamp_review(self._review_path)
        times = len(self._opened.times)
        expected = ((times,) if times > 1 else ()) + self._opened.shape
        self._pixels = MaskPixels(path, self._provenance, expected, times, self._folder)
        state = state_of_labels(path, self._provenance)
        self.is_edited = state == "edited"
        is_known = self._provenance is not None and state == "intact"
        digest = self._provenance.output.label_hash if self._provenance and is_known else self._pixels.hash()
        review = read_review(self._review_path)
        fits = review.label_hash == digest
        self.review = review if fits else Review()
        # Of a mask that another program changed, it is unknown which cells are as the model left them.
        self._knows_changes = fits or not self.is_edited
        self._largest_of_table = self._read_largest_of_table()

    def _read_largest_of_table(self) -> int:
        """The largest id in the table of classes of cells; 0 without one."""
        try:
            classes = read_cell_classes(objects_path(self._out, self._entry))
        except ImageError:
            return 0
        return max((number for names in classes.values() for number in names), default=0)

    @property
    def is_current(self) -> bool:
        """Whether no other program has changed mask or review since they were read or saved here."""
        return self._is_mask_current and self._is_review_current

    @property
    def _is_mask_current(self) -> bool:
        try:
            return stamp(self._out / self._entry.output) == self._stamp
        except OSError:
            return False

    @property
    def _is_review_current(self) -> bool:
        return stamp_review(self._review_path) == self.review_stamp

    @property
    def _folder(self) -> Path:
        """For what is too large for memory."""
        return self._out if os.access(self._out, os.W_OK) else Path(tempfile.gettempdir())

    @property
    def _review_path(self) -> Path:
        return review_path(self._out, self._entry.output)

    # --- What is shown ------------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """Sizes, channels and the state of the corrections, for the page."""
        times, sections, height, width = self._pixels.shape
        return {
            "width": width,
            "height": height,
            "times": times,
            "sections": sections,
            # As tables number them: a run may have left out others.
            "time_numbers": [time or 0 for time in self._opened.times],
            "first_section": self._opened.first_section,
            "planes_of_volume": self._planes_of_volume,
            "channels": self._describe_channels(),
            "pixel_size_um": self._opened.trusted_pixel_size_um.get("X"),
            **self.state(),
        }

    def state(self) -> dict[str, Any]:
        """State of the corrections, which changes with each."""
        return {
            "version": self.version,
            "can_undo": len(self._undo),
            "can_redo": len(self._redo),
            "is_edited": self.is_edited,
            "is_accepted": self.review.is_accepted,
            "accepted": self.review.accepted,
        }

    def _describe_channels(self) -> list[dict[str, Any]]:
        """Name, contrast and colour of each channel: at first those are shown that the model saw."""
        image, segmented = self._opened.image, segmented_channels(self._opened, self._provenance)
        stored = picture_names(image)
        of_pictures = OF_PICTURES if stored in PICTURES else None
        found = []
        for channel in self._opened.channels:
            name = image.channel_names[channel]
            low, high, smallest, largest = contrast(self._planes.samples(channel))
            if of_pictures:
                low, high = 0.0, float(np.iinfo(image.dtype).max) if image.dtype.kind in "ui" else 1.0
            colour = WHITE if channel in segmented else OTHERS[channel % len(OTHERS)]
            shown = {
                "channel": channel,
                "name": name or f"channel {channel}",
                "low": low,
                "high": high,
                "smallest": min(smallest, low),
                "largest": max(largest, high),
                "colour": of_pictures.get(stored[channel], WHITE) if of_pictures else colour,
                "is_shown": stored[channel] in of_pictures if of_pictures else channel in segmented,
            }
            found.append(shown)
        return found

    def tile(self, plane: int, level: int, x: int, y: int, layers: Mapping[int, Layer]) -> bytes:
        """Tile of the image as JPEG; see `unetbio.viewer.pictures.draw_tile`."""
        if not layers or not set(layers) <= set(self._opened.channels):
            raise UsageError("there is no such channel")
        self._check_plane(plane)
        # Without channels that are missing at this time. If all are, the error of reading them says so.
        layers = {channel: layers[channel] for channel in layers if self._planes.holds(plane, channel)} or layers
        levels = [self._planes.levels(plane, channel) for channel in layers]
        if level >= len(levels[0]) or any(
            at * TILE >= size for at, size in zip((y, x), levels[0][level].shape, strict=True)
        ):
            raise UsageError("there is no such tile")
        return draw_tile([each[level] for each in levels], [*layers.values()], x, y)

    def label_tile(self, plane: int, level: int, x: int, y: int) -> bytes:
        """Tile of the label image; see `unetbio.viewer.pictures.label_tile`."""
        return self._pixels.tile(*self._place(plane), level, x, y)

    # --- Planes and volumes -------------------------------------------------------------------------------------------

    @property
    def _is_apart(self) -> bool:
        """Whether each section has its own cells."""
        return self._provenance is not None and sections_unlinked(self._provenance)

    @property
    def _planes_of_volume(self) -> int:
        """Number of planes that share the ids of their cells."""
        return 1 if self._is_apart else self._pixels.shape[1]

    def _check_plane(self, plane: int) -> None:
        if not 0 <= plane < self._pixels.shape[0] * self._pixels.shape[1]:
            raise UsageError(f"there is no plane {plane}")

    def _place(self, plane: int) -> tuple[int, int]:
        self._check_plane(plane)
        t, z = divmod(plane, self._pixels.shape[1])
        return t, z

    def _volume_of(self, plane: int) -> int:
        """Number of the volume that a plane belongs to."""
        self._check_plane(plane)
        return plane // self._planes_of_volume

    def _place_of_volume(self, volume: int) -> tuple[int, int | None]:
        """Time of a volume, and its section if it is one."""
        return self._place(volume) if self._is_apart else (volume, None)

    # --- The table ----------------------------------------------------------------------------------------------------

    def rows(self, plane: int) -> Columns:
        """Columns of the table for the cells of a plane's volume, measured as they are now.

        Without rings and further features: the page asks after each correction, and those take seconds.
        """
        import polars as pl

        t, z = self._place(plane)
        is_stack = len(self._opened.shape) == 3 and not self._is_apart
        opened = self._section(z) if self._is_apart else self._opened
        time = opened.times[t]
        frame = self._pixels.frame(t, None if is_stack else z)
        raw: NDArray[Any] | None = None
        # A channel may be missing at this time alone.
        is_whole = opened.channels == opened.present_channels(time)
        if is_whole and not is_stack and not is_large(self._opened.shape[-2:]):
            raw = np.stack([np.asarray(self._planes.levels(plane, channel)[0]) for channel in opened.channels])
        table = measure_frame(opened, time, frame, raw)
        confidences, classes = self._confidences(plane), self.classes(plane)
        cells = table["label"].to_list()
        known = [confidences.get(cell) for cell in cells]
        table = table.with_columns(pl.Series("confidence", known, pl.Float64)).drop("t", SECTION, strict=False)
        if classes is not None:
            table = table.with_columns(pl.Series("class", [classes.get(cell) for cell in cells], pl.String))
        return {name: [_rounded(value) for value in table[name].to_list()] for name in table.columns}

    def _section(self, z: int) -> ImageSelection:
        """The image as if one section had been selected."""
        return replace(self._opened.section, settings=replace(self._opened.settings, z=z))

    def classes(self, plane: int) -> Mapping[int, str] | None:
        """Class of each cell of a plane's volume; None where the model has no classes of cells."""
        time = self._opened.times[self._place(plane)[0]]
        return read_classes(objects_path(self._out, self._entry), self._provenance, time)

    def class_colours(self, plane: int) -> dict[str, str]:
        """Colour of each class of cells by its name, as overlays have them; the model's classes first."""
        known = self._provenance.settings.get(CELL_CLASSES) or () if self._provenance else ()
        names = order_classes((self.classes(plane) or {}).values(), known)
        return dict(zip(names, hex_colours(len(names) + 1)[1:], strict=True))

    def _confidences(self, plane: int) -> Mapping[int, float]:
        """Confidences of the cells that are as the model left them."""
        t = self._place(plane)[0]
        if self._provenance is None or not self._knows_changes:
            return {}
        # The table of objects names times of a time-lapse alone.
        time = self._opened.times[t] if len(self._opened.times) > 1 else None
        record = self._provenance.frames[t]
        evidence = read_evidence(self._out, self._entry, self._provenance, time, record, edited=False)
        changed = set(self.review.changed.get(str(self._volume_of(plane)), ()))
        return {cell: value for cell, value in (evidence.of_cells or {}).items() if cell not in changed}

    # --- Corrections --------------------------------------------------------------------------------------------------

    def correct(self, plane: int, version: int, correction: Correction) -> dict[str, Any]:
        """Change cells, and save the mask.

        Parameters
        ----------
        plane : int
            The plane that is seen.
        version : int
            Of the mask that is seen.
        correction : callable
            Called with the volume, the index of the plane in it, and the largest id that the image has or had.

        Returns
        -------
        dict
            `state`, the box of the changed pixels (rows and columns, ends excluded), and the changed cells.

        Raises
        ------
        UsageError
            When the correction cannot be made.
        EnvironmentStoppedError
            When the mask cannot be saved; it stays as it was.
        """
        with self._correcting:
            self._check_version(version)
            volume = self._volume_of(plane)
            section = 0 if self._is_apart else self._place(plane)[1]
            change = correction(self._pixels.volume(*self._place_of_volume(volume)), section, self._largest_id())
            review = self.review.with_changed(volume, edits.changed_ids(change))
            gone = set(self.review.accepted.get(str(volume), ())) & edits.changed_ids(change)
            review = review.with_accepted(volume, gone, accept=False) if gone else review
            return self._do(_Step(volume, change, self.review, review))

    def _largest_id(self) -> int:
        """The largest id of a cell, also of deleted ones, whose rows and classes a new cell must not get."""
        changed = (number for ids in self.review.changed.values() for number in ids)
        return max(self._pixels.largest(), self._largest_of_table, *changed)

    def accept(self, plane: int, version: int, ids: Sequence[int], *, accept: bool) -> dict[str, Any]:
        """Accept cells, or accept them no longer."""
        with self._correcting:
            self._check_version(version)
            volume = self._volume_of(plane)
            review = self.review.with_accepted(volume, ids, accept=accept)
            return self._do(_Step(volume, None, self.review, review))

    def accept_image(self, version: int, *, accept: bool) -> dict[str, Any]:
        """Accept the whole image: its mask is ready to train on."""
        with self._correcting:
            self._check_version(version)
            review = self.review.model_copy(update={"is_accepted": accept})
            return self._do(_Step(0, None, self.review, review))

    def undo(self, version: int) -> dict[str, Any]:
        """Take the last correction back.

        Raises
        ------
        UsageError
            When there is none.
        """
        return self._go_back(version, self._undo, self._redo, "undo")

    def redo(self, version: int) -> dict[str, Any]:
        """Make the correction again that was taken back last; raises as `undo`."""
        return self._go_back(version, self._redo, self._undo, "redo")

    def _go_back(self, version: int, source: list[_Step], target: list[_Step], word: str) -> dict[str, Any]:
        with self._correcting:
            self._check_version(version)
            if not source:
                raise UsageError(f"there is nothing to {word}")
            step = source[-1].undone
            self._apply(step)
            source.pop()
            target.append(step)
            return {**self.state(), **_seen(step.change)}

    def _do(self, step: _Step) -> dict[str, Any]:
        self._apply(step)
        self._undo = _within_memory([*self._undo, step][-UNDO_STEPS:])
        self._redo = []
        return {**self.state(), **_seen(step.change)}

    def _apply(self, step: _Step) -> None:
        """Change pixels and review, and save them; nothing changes if they cannot be saved."""
        self._put(step.volume, step.change)
        try:
            self._save(step)
        except BaseException:
            self._put(step.volume, step.change and step.change.undone)
            raise
        self.version = next(_VERSIONS)

    def _put(self, volume: int, change: Change | None) -> None:
        if change is not None:
            self._pixels.put(*self._place_of_volume(volume), change)

    def _save(self, step: _Step) -> None:
        path = self._out / self._entry.output
        with hold_for_view(self._out):
            if not self._is_mask_current:
                raise UsageError("another program has changed this mask: load the image again to see it")
            if not self._is_review_current:
                raise UsageError("another program has changed what is accepted here: load the image again to see it")
            if step.change is not None:
                self._pixels.store(self._out, self._mask)
                self._stamp = stamp(path)
            digest = self._pixels.hash()
            self.is_edited = self._provenance is None or digest != self._provenance.output.label_hash
            self._save_review(step.after.model_copy(update={"label_hash": digest}), is_needed=step.change is None)

    def _save_review(self, review: Review, *, is_needed: bool) -> None:
        """Save the review; beside a corrected mask, which is saved already, it may fail."""
        try:
            write_review(self._review_path, review)
        except EnvironmentStoppedError as error:
            if is_needed:
                raise
            logger.warning("the mask is saved, and which of its cells are accepted is not: %s", error)
        self.review, self.review_stamp = review, stamp_review(self._review_path)

    def _check_version(self, version: int) -> None:
        if version != self.version:
            raise UsageError("this mask was corrected in another window: load the image again to see it")


def _within_memory(steps: list[_Step]) -> list[_Step]:
    """The last steps whose pixels take at most `UNDO_BYTES`, at least one."""
    sizes = [step.change.before.nbytes + step.change.after.nbytes if step.change else 0 for step in reversed(steps)]
    count = sum(total <= UNDO_BYTES for total in itertools.accumulate(sizes))
    return steps[-max(1, count) :]


def _seen(change: Change | None) -> dict[str, Any]:
    """The box of the changed pixels, and the cells that gained or lost pixels, for the page."""
    if change is None:
        return {}
    rows, columns = change.box[-2:]
    return {"box": [rows.start, rows.stop, columns.start, columns.stop], "cells": sorted(edits.changed_ids(change))}


def _rounded(value: Any) -> Any:
    """A value for JSON, which has neither NaN nor infinity."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
