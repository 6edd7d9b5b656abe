"""The images of an output folder in the order in which a person looks at them, and the table to train on."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unetbio.errors import EnvironmentStoppedError, ImageError
from unetbio.files import write_text
from unetbio.io.tables import csv_text
from unetbio.labels import label_hash
from unetbio.models import shipped_models
from unetbio.output_layout import CORRECTIONS, provenance_name, result_name, review_name
from unetbio.provenance import Provenance, read_provenance
from unetbio.results.corrections import find_masks_of_run
from unetbio.results.journal import Entry, hold_output
from unetbio.results.reuse import read_label_file, state_of_labels
from unetbio.settings.segmentation import READING
from unetbio.viewer.review import Review, read_review

__all__ = ["ListedImage", "list_images", "training_command", "why_read_only", "write_corrections"]


@dataclass(frozen=True)
class ListedImage:
    """An image of a run.

    Parameters
    ----------
    entry : Entry
        Line in the journal.
    doubtful : float, optional
        How many of its cells the model expects to be wrong; None if its confidences are unknown.
    is_edited, is_accepted : bool
        Whether its mask was edited by hand, and whether a person accepted it.
    """

    entry: Entry
    doubtful: float | None
    is_edited: bool
    is_accepted: bool

    @property
    def name(self) -> str:
        """Path in the tables, with the number of the image if the file holds several."""
        series = self.entry.series
        return self.entry.path if series is None else f"{self.entry.path} ({series})"

    def reviewed(self, review: Review, *, is_edited: bool) -> "ListedImage":
        """The image after a correction."""
        return replace(self, is_edited=is_edited, is_accepted=review.is_accepted)


def list_images(out: Path) -> list[ListedImage]:
    """Images of an output folder that have label images: first those in which the model is least sure.

    Raises
    ------
    UsageError
        When there are none.
    """
    images = [_listed(out, entry) for entry in find_masks_of_run(out)]
    return sorted(images, key=lambda image: -1.0 if image.doubtful is None else image.doubtful, reverse=True)


def _listed(out: Path, entry: Entry) -> ListedImage:
    provenance = read_provenance(out / provenance_name(entry.output))
    is_edited = state_of_labels(out / entry.output, provenance) == "edited"
    return ListedImage(
        entry, _doubtful(provenance), is_edited, _is_accepted(out, entry, provenance, is_edited=is_edited)
    )


def _is_accepted(out: Path, entry: Entry, provenance: Provenance | None, *, is_edited: bool) -> bool:
    """Whether a person accepted the mask as it is now, not another one before it."""
    review = read_review(out / review_name(result_name(entry.output)))
    if not review.is_accepted:
        return False
    if provenance is not None and not is_edited:
        return review.label_hash == provenance.output.label_hash
    try:
        return review.label_hash == label_hash(read_label_file(out / entry.output, provenance))
    except ImageError:
        return False


def _doubtful(provenance: Provenance | None) -> float | None:
    frames = provenance.frames if provenance else ()
    known = any(frame.confidences for frame in frames)
    return sum(frame.doubtful for frame in frames) if known else None


def why_read_only(out: Path) -> str:
    """Why masks of an output folder cannot be corrected now; empty if they can."""
    try:
        with hold_output(out, None):
            return ""
    except EnvironmentStoppedError as error:
        return str(error)


def write_corrections(out: Path, images: Sequence[ListedImage]) -> None:
    """Write the table of accepted images for ``unetbio train``; the caller holds the lock of the folder."""
    rows = [_row(out, image) for image in images if image.is_accepted]
    write_text(out / CORRECTIONS, csv_text([("image", "mask", *READING), *sorted(rows)]))


def _row(out: Path, image: ListedImage) -> tuple[str, ...]:
    entry = image.entry
    provenance = read_provenance(out / provenance_name(entry.output))
    found = provenance.input.find((out / entry.output).parent) if provenance else None
    settings = provenance.settings if provenance else {}
    return str((found or Path(entry.input)).resolve()), entry.output, *(_cell(settings.get(name)) for name in READING)


def _cell(value: object) -> str:
    """A setting as tables of images have it."""
    if value is None or value == "auto":
        return ""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def training_command(out: Path, images: Sequence[ListedImage]) -> str:
    """The command that trains on accepted images, beginning with the model that made their masks."""
    chosen = next((image for image in images if image.is_accepted), images[0])
    start = _start(read_provenance(out / provenance_name(chosen.entry.output)))
    return shlex.join(["unetbio", "train", str(out / CORRECTIONS), *start, "-o", "mine.safetensors", "--steps", "1000"])


def _start(provenance: Provenance | None) -> list[str]:
    if provenance is None:
        return []
    model = provenance.model
    return ["--start", model.name if model.name in shipped_models() else model.path]
