"""Which images of an output folder failed, to try them again."""

import csv
from collections.abc import Sequence
from pathlib import Path

from unetbio.batch.journal import read_journals
from unetbio.batch.plan import Item
from unetbio.batch.tables import SUMMARY

__all__ = ["select_failed"]


def select_failed(items: Sequence[Item], out: Path) -> list[Item]:
    """The items that failed in an earlier run, by its journals, or when they were measured, by its summary.

    Parameters
    ----------
    items : sequence of Item
        All that are asked for now: what failed and is not among them has gone.
    out : pathlib.Path
        The output folder; one that is missing knows of no failure.
    """
    written = {name for name, entry in read_journals(out).items() if entry.status == "failed"}
    measured = _failed_rows(out / SUMMARY)
    return [item for item in items if item.labels in written or (item.path, _text(item.settings.series)) in measured]


def _failed_rows(summary: Path) -> set[tuple[str, str]]:
    """Path and series of each row that failed."""
    if not summary.is_file():
        return set()
    with open(summary, encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(stream)
        return {(row["path"], row["series"]) for row in rows if row.get("status") == "failed"}


def _text(series: int | None) -> str:
    return "" if series is None else str(series)
