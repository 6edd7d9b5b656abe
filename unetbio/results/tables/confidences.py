"""Confidence of each cell: from the provenance, the table of objects or the probabilities."""

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unetbio.classes import CELL_CLASS
from unetbio.errors import ImageError
from unetbio.files import open_regular, stamp
from unetbio.io import read_image
from unetbio.io.cell_classes import read_cell_classes
from unetbio.io.labels import label_suffix
from unetbio.output_layout import objects_name, probabilities_name, result_name
from unetbio.postprocessing.objects import ObjectTable
from unetbio.provenance import CELL_CLASSES, PROBABILITIES, FrameRecord, Provenance
from unetbio.results.journal import Entry

__all__ = [
    "Evidence",
    "classes_by_id",
    "confidences_by_id",
    "objects_path",
    "probability_path",
    "read_classes",
    "read_evidence",
]

logger = logging.getLogger(__name__)


class Evidence(NamedTuple):
    """Probability of each pixel, at the size that the model saw, or confidence of each cell by its id; or neither.

    ``knots`` calibrate confidences that are measured from the probability. ``classes`` are the classes of cells by
    their ids; None where cells have none.
    """

    probability: NDArray[Any] | None = None
    of_cells: Mapping[int, float] | None = None
    knots: Sequence[tuple[float, float]] = ()
    classes: Mapping[int, str] | None = None


def objects_path(out: Path, entry: Entry) -> Path:
    """Path of the table of objects of an image."""
    return out / objects_name(result_name(entry.output))


def probability_path(out: Path, entry: Entry, t: int | None) -> Path:
    """Path of the probabilities of one time of an image."""
    return out / probabilities_name(result_name(entry.output), t, label_suffix(entry.output))


def confidences_by_id(confidences: Sequence[float], objects: ObjectTable | None) -> Mapping[int, float] | None:
    """Confidence of each cell: the score of its object, if there is one; None if unknown."""
    if objects is not None and "score" in objects:
        return dict(zip(objects["label"].tolist(), objects["score"].tolist(), strict=True))
    return dict(enumerate(confidences, 1)) or None


def classes_by_id(objects: ObjectTable | None) -> Mapping[int, str] | None:
    """Class of each cell, where the table of its objects names classes; None where it does not."""
    if objects is None or "class" not in objects or objects["class"].dtype.kind != "U":
        return None
    return dict(zip(objects["label"].tolist(), objects["class"].tolist(), strict=True))


def read_evidence(
    out: Path, entry: Entry, provenance: Provenance | None, t: int | None, record: FrameRecord, *, edited: bool
) -> Evidence:
    """Confidences in the record of a frame, or scores or probabilities in files beside the label image.

    Confidences belong to the generated labels, so they are ignored for edited masks. Earlier versions recorded none.
    Classes belong to ids, which users can correct in the table of objects; a cell with a new id has none.
    """
    if provenance is None:
        return Evidence()
    classes = read_classes(objects_path(out, entry), provenance, t)
    if not edited:
        objects = None if record.confidences else _read_scores(objects_path(out, entry), t)
        if of_cells := confidences_by_id(record.confidences, objects):
            return Evidence(of_cells=of_cells, classes=classes)
    probability = _read_probability(probability_path(out, entry, t), out / entry.output, provenance)
    return Evidence(probability, knots=_knots(provenance), classes=classes)


def read_classes(path: Path, provenance: Provenance | None, t: int | None) -> Mapping[int, str] | None:
    """Class of each cell at a time, from the table of objects; None where the model has no classes of cells."""
    if provenance is None or CELL_CLASSES not in provenance.settings:
        return None
    try:
        tables = read_cell_classes(path)
        # Imports of earlier versions named the time of a single frame.
        time = provenance.frames[0].t if t is None else t
        return tables.get(time, tables.get(None, {}))
    except ImageError as error:
        logger.warning("no classes of cells: %s", error)
        return {}


def _knots(provenance: Provenance) -> Sequence[tuple[float, float]]:
    """Calibration of the model's confidences; earlier versions recorded none."""
    try:
        return [(float(mean), float(share)) for mean, share in provenance.run.get("confidence", ())]
    except (TypeError, ValueError):
        return ()


def _read_probability(path: Path, labels: Path, provenance: Provenance) -> NDArray[Any] | None:
    if not provenance.run.get(PROBABILITIES, True):
        return None
    try:
        written = provenance.output.mtime_ns
        # Newer probabilities come from a run that was killed before it wrote its label image.
        if path.stat().st_mtime_ns > written == stamp(labels).mtime_ns:
            return None
        # Models can have several classes in cells; the first class of all is the background.
        of_cells: NDArray[Any] = read_image(path).read()[CELL_CLASS:].sum(axis=0)
        return of_cells
    except OSError:
        return None
    except ImageError as error:
        logger.warning("%s: no confidences: %s", path, error)
        return None


def _read_scores(path: Path, t: int | None) -> ObjectTable | None:
    try:
        with open_regular(path, "r", encoding="utf-8", newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if t is None or row["t"] == str(t)]
        labels = np.array([int(row["label"]) for row in rows], dtype=np.int64)
        return {"label": labels, "score": np.array([float(row["score"]) for row in rows], dtype=np.float64)}
    except (OSError, KeyError, TypeError, ValueError):
        return None
