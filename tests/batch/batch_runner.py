"""Runs batches over one folder into one output folder, and looks at what came of them."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from unetbio.batch.plan import found_items, select_part
from unetbio.batch.run import BatchOptions, run_batch
from unetbio.io import read_labels, write_labels
from unetbio.labels import label_hash
from unetbio.results.journal import Entry
from unetbio.results.result_files import Outcome
from unetbio.results.reuse import Policy
from unetbio.results.tables import collect_tables
from unetbio.results.tables.collect_tables import Summary
from unetbio.segmentation import Segmenter
from unetbio.settings.segmentation import Settings

Array = NDArray[Any]
Rows = list[dict[str, str]]


class Runner:
    """Runs batches over one folder into one output folder."""

    def __init__(self, images: Path, out: Path, segmenter: Segmenter) -> None:
        self.images = images
        self.out = out
        self.segmenter = segmenter
        self.outcomes: dict[str, Outcome] = {}

    def __call__(self, settings: Settings | None = None, segmenter: Segmenter | None = None, **options: Any) -> Summary:
        self.outcomes = {}
        policy = Policy(**{key: options.pop(key) for key in list(options) if key in Policy.__dataclass_fields__})
        items = found_items([self.images], settings or Settings(), self.out)
        part = options.get("part")
        items = select_part(items, part) if part else items
        batch_options = BatchOptions(policy=policy, **options)
        return run_batch(items, self.out, segmenter or self.segmenter, batch_options, self._note)

    def _note(self, outcome: Outcome) -> None:
        self.outcomes[outcome.entry.path] = outcome

    def became(self) -> dict[str, tuple[str, str]]:
        """Status and reason of each image in the last run."""
        return {path: (outcome.entry.status, outcome.entry.reason) for path, outcome in self.outcomes.items()}

    def made(self) -> set[str]:
        """Images that the last run segmented."""
        return {path for path, (status, _) in self.became().items() if status == "done"}

    def summary(self) -> Rows:
        with open(self.out / "summary.csv", newline="") as stream:
            return list(csv.DictReader(stream))

    def hashes(self) -> dict[str, str]:
        """Hash of every label image, as it lies there."""
        paths = sorted(self.out.rglob("*_labels.*.tif"))
        return {path.relative_to(self.out).as_posix(): label_hash(read_labels(path)) for path in paths}


def edit(path: Path) -> None:
    """As a person would: one cell is taken out."""
    labels = read_labels(path)
    write_labels(path, np.where(labels == 1, 0, labels))


def measured_again(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images that are measured from now on, other than by the run that segments them."""
    measured: list[str] = []
    measure_again = collect_tables.measure_again

    def measuring(out: Path, entry: Entry, *arguments: Any, **options: Any) -> Any:
        measured.append(entry.path)
        return measure_again(out, entry, *arguments, **options)

    monkeypatch.setattr(collect_tables, "measure_again", measuring)
    return measured


def left_cells(out: Path) -> list[str]:
    """Files of cells that wait for the tables."""
    return sorted(path.name for path in out.glob(".cells.*"))


def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No table of cells can be written from now on."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise pl.exceptions.ComputeError("No space left on device (os error 28)")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", refuse)
