"""The images of an output folder in the order in which a person looks at them, and the table to train on."""

import contextlib
import itertools
import logging
import os
import shlex
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unetbio.errors import EnvironmentStoppedError, ImageError, ModelError, UsageError
from unetbio.files import Stamp, sha256_file, write_text
from unetbio.io.tables import csv_text, read_table_file
from unetbio.models import model_path, shipped_models
from unetbio.models.model_file import CHECKPOINT_SUFFIX, read_info
from unetbio.output_layout import CORRECTIONS, provenance_name
from unetbio.provenance import Provenance, read_provenance
from unetbio.results.corrections import find_masks_of_run
from unetbio.results.journal import Entry, hold_output
from unetbio.results.reuse import hash_labels, state_of_labels
from unetbio.settings.image_tables import LABEL_HASH, PART_COLUMNS
from unetbio.settings.segmentation import READING
from unetbio.viewer.review import Review, read_review, review_path, stamp_review

__all__ = [
    "ListedImage",
    "hold_for_view",
    "list_again",
    "list_images",
    "training_command",
    "why_read_only",
    "write_corrections",
]

logger = logging.getLogger(__name__)

COLUMNS = ("image", "mask", *READING)
"""Columns of the table to train on, with those of parts of images; users may add others, such as ``split``."""

OF_MODEL = (".safetensors", CHECKPOINT_SUFFIX, ".png")
"""Endings of the files of a training that another one does not replace by itself."""

PATIENCE = 0.5
"""Seconds."""

Cells = dict[str, str]

# A folder's lock is one a process: this one keeps the threads of the server apart.
_THREADS = threading.Lock()


@dataclass(frozen=True)
class ListedImage:
    """An image of a run.

    Parameters
    ----------
    entry : Entry
        Line in the journal.
    doubtful : float, optional
        How many of its cells the model expects to be wrong; None if its confidences are unknown.
    is_edited : bool
        Whether its mask was edited by hand.
    accepted_hash : str
        Hash of its mask if a person accepted it as it is now; else empty.
    review_stamp : Stamp, optional
        Of the file of the review that says so; None if there was none.
    """

    entry: Entry
    doubtful: float | None
    is_edited: bool
    accepted_hash: str
    review_stamp: Stamp | None

    @property
    def is_accepted(self) -> bool:
        """Whether a person accepted its mask as it is now."""
        return bool(self.accepted_hash)

    @property
    def name(self) -> str:
        """Path in the tables, with the number of the image if the file holds several."""
        series = self.entry.series
        return self.entry.path if series is None else f"{self.entry.path} ({series})"

    def reviewed(self, review_stamp: Stamp | None, review: Review, *, is_edited: bool) -> "ListedImage":
        """The image after a correction."""
        accepted_hash = review.label_hash if review.is_accepted else ""
        return replace(self, is_edited=is_edited, accepted_hash=accepted_hash, review_stamp=review_stamp)


def list_images(out: Path) -> list[ListedImage]:
    """Images of an output folder that have label images: first those in which the model is least sure.

    Raises
    ------
    UsageError
        When there are none.
    """
    images = [_listed(out, entry) for entry in find_masks_of_run(out)]
    return sorted(images, key=lambda image: -1.0 if image.doubtful is None else image.doubtful, reverse=True)


def list_again(out: Path, images: Sequence[ListedImage]) -> list[ListedImage]:
    """The images, those read again whose reviews another program has changed since they were listed."""
    return [image if _is_as_listed(out, image) else _listed(out, image.entry) for image in images]


def _is_as_listed(out: Path, image: ListedImage) -> bool:
    return stamp_review(review_path(out, image.entry.output)) == image.review_stamp


def _listed(out: Path, entry: Entry) -> ListedImage:
    # Stamped before it is read, so that a change meanwhile shows.
    review_stamp = stamp_review(review_path(out, entry.output))
    review = read_review(review_path(out, entry.output))
    provenance = read_provenance(out / provenance_name(entry.output))
    is_edited = state_of_labels(out / entry.output, provenance) == "edited"
    is_accepted = _is_accepted(review, out / entry.output, provenance, is_edited=is_edited)
    accepted_hash = review.label_hash if is_accepted else ""
    return ListedImage(entry, _doubtful(provenance), is_edited, accepted_hash, review_stamp)


def _is_accepted(review: Review, mask: Path, provenance: Provenance | None, *, is_edited: bool) -> bool:
    """Whether a person accepted the mask as it is now, not another one before it."""
    if not review.is_accepted:
        return False
    if provenance is not None and not is_edited:
        return review.label_hash == provenance.output.label_hash
    try:
        return review.label_hash == hash_labels(mask, provenance)
    except ImageError:
        return False


def _doubtful(provenance: Provenance | None) -> float | None:
    frames = provenance.frames if provenance else ()
    known = any(frame.confidences for frame in frames)
    return sum(frame.doubtful for frame in frames) if known else None


@contextlib.contextmanager
def hold_for_view(out: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Lock the output folder against other runs, and wait for the other threads of this one.

    Another view holds it for as long as it takes to store a correction.

    Raises
    ------
    EnvironmentStoppedError
        When another run holds it, or it cannot be written.
    """
    with _THREADS, hold_output(out, None, patience=patience):
        yield


def why_read_only(out: Path) -> str:
    """Why masks of an output folder cannot be corrected now; empty if they can."""
    try:
        with hold_for_view(out):
            return ""
    except EnvironmentStoppedError as error:
        return str(error)


def write_corrections(out: Path, images: Sequence[ListedImage]) -> None:
    """Write the table of accepted images for ``unetbio train``; the caller holds the lock of the folder.

    Other columns, and rows of masks that are not of this run, stay. A table of another kind is left alone.
    """
    try:
        before = _read_corrections(out)
    except UsageError as error:
        logger.warning("%s", error)
        return
    listed = {image.entry.output for image in images}
    rows = {mask: row for mask, row in before.items() if mask not in listed and (out / mask).exists()}
    for image in images:
        if image.is_accepted:
            rows[image.entry.output] = before.get(image.entry.output, {}) | _row(out, image)
    named = (name for row in [*before.values(), *rows.values()] for name in row)
    columns = list(dict.fromkeys([*COLUMNS, LABEL_HASH, *named]))
    lines = sorted([row.get(name, "") for name in columns] for row in rows.values())
    write_text(out / CORRECTIONS, csv_text([columns, *lines]))


def _read_corrections(out: Path) -> dict[str, Cells]:
    """Rows of the table of accepted images by their masks; none if there is no table yet.

    Raises
    ------
    UsageError
        When the table is of another kind.
    """
    path = out / CORRECTIONS
    if not path.exists():
        return {}
    table = read_table_file(path)
    if not set(COLUMNS) <= set(table.columns):
        raise UsageError(
            f"{path} is not the table of accepted images and is left as it is: rename it to get one to train on"
        )
    return {row.cells["mask"]: row.cells for row in table.rows}


def _row(out: Path, image: ListedImage) -> Cells:
    entry = image.entry
    provenance = read_provenance(out / provenance_name(entry.output))
    found = provenance.input.find((out / entry.output).parent) if provenance else None
    settings = provenance.settings if provenance else {}
    path = str((found or Path(entry.input)).resolve())
    reading = {name: _cell(settings.get(name)) for name in READING}
    return {"image": path, "mask": entry.output, **reading, LABEL_HASH: image.accepted_hash, **_part(provenance)}


def _part(provenance: Provenance | None) -> Cells:
    """Columns of the part of a file that was segmented; none if it was all of it."""
    if provenance is None or provenance.input.part is None:
        return {}
    # The level that was chosen, since training has no model to choose one.
    values = {"level": str(provenance.input.part.level), "region": ";".join(provenance.settings.get("region", ()))}
    return {column: values[name] for column, name in PART_COLUMNS.items()}


def _cell(value: object) -> str:
    """A setting as tables of images have it."""
    if value is None or value == "auto":
        return ""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def training_command(out: Path, images: Sequence[ListedImage]) -> str:
    """The command that trains on accepted images, beginning with the model that made their masks.

    Raises
    ------
    UsageError
        When the table to train on is not of ``unetbio view``.
    """
    _read_corrections(out)
    chosen = next((image for image in images if image.is_accepted), images[0])
    start = _start(read_provenance(out / provenance_name(chosen.entry.output)))
    new = f"{_free_name(start)}.safetensors"
    return shlex.join(["unetbio", "train", str(out / CORRECTIONS), *start, "-o", new, "--steps", "1000"])


def _free_name(start: Sequence[str]) -> str:
    """Name of no model yet, neither here nor beside the model to start from, as in the second round of corrections."""
    folders = [Path(), *(Path(model).parent for model in start[1:])]
    names = ("mine" if number == 1 else f"mine{number}" for number in itertools.count(1))
    return next(name for name in names if not any(_holds_model(folder, name) for folder in folders))


def _holds_model(folder: Path, name: str) -> bool:
    # A folder that cannot be looked into is none to train in.
    return any(os.path.exists(folder / f"{name}{ending}") for ending in OF_MODEL)  # noqa: PTH110


def _start(provenance: Provenance | None) -> list[str]:
    if provenance is None:
        return []
    model = provenance.model
    if _is_shipped(model.name, model.sha256, model.path):
        return ["--start", model.name]
    try:
        quantized = read_info(model.path).training.get("quantized")
    except ModelError:
        quantized = None
    if isinstance(quantized, dict):
        # Integers cannot be trained; the model that they were made of can, wherever it is. The name alone tells a
        # shipped one, since earlier versions have other hashes.
        made_of = str(quantized.get("model"))
        return ["--start", made_of if made_of in shipped_models() else "MODEL"]
    return ["--start", model.path]


def _is_shipped(name: str, sha256: str, path: str) -> bool:
    """Whether a model is the shipped one of its name, of an earlier version too; a model of a user may be called so."""
    if name not in shipped_models():
        return False
    shipped = model_path(name)
    return sha256_file(shipped) == sha256 or Path(path).parts[-3:] == shipped.parts[-3:]
