"""Columns of cells that come from other commands: their tracks (`track`) and their parents (`relate`).

``x_tracks.json`` and ``.parents.parquet`` hold them. Rows of a label image that has changed since get none, until the
command runs again.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unetbio.files import atomic_path
from unetbio.output_layout import PARENTS_RECORD, TRACKS, result_name
from unetbio.results.result_files import Outcome
from unetbio.results.tables.lineages import Lineage, read_lineage

if TYPE_CHECKING:
    import polars as pl

__all__ = ["TRACK_COLUMNS", "Links", "read_links", "write_parents"]

TRACK_COLUMNS = ("track", "parent_track")
PARENT_COLUMNS = ("parent", "parent_overlap")
_KEY = ("output", "label_hash", "t", "label")


class Links:
    """Tracks and parents of the cells of an output folder.

    Parameters
    ----------
    tables : sequence of polars.DataFrame
        With the columns ``output``, ``label_hash``, ``t`` and ``label``, and those to add.
    """

    def __init__(self, tables: "Sequence[pl.DataFrame]") -> None:
        self.columns = tuple(name for table in tables for name in table.columns if name not in _KEY)
        self._tables: list[Mapping[tuple[str, str], pl.DataFrame]] = [
            {(str(key[0]), str(key[1])): rows for key, rows in table.group_by("output", "label_hash")}
            for table in tables
        ]

    def add(self, outcome: Outcome, cells: "pl.DataFrame") -> "pl.DataFrame":
        """Cells of an image with their tracks and parents; as they are where there are none."""
        for table in self._tables:
            rows = table.get((outcome.entry.output, outcome.label_hash))
            if rows is not None:
                cells = _joined(cells, rows, has_times=len(outcome.frames) > 1)
        return cells


def _joined(cells: "pl.DataFrame", rows: "pl.DataFrame", *, has_times: bool) -> "pl.DataFrame":
    """Rows have the times of the table where the label image has several."""
    on = ["t", "label"] if has_times else ["label"]
    added = [name for name in rows.columns if name not in (*_KEY, *cells.columns)]
    return cells.join(rows.select(*on, *added), on=on, how="left", nulls_equal=True, maintain_order="left")


def read_links(out: Path, outputs: Sequence[str]) -> Links:
    """Read the tracks and parents of label images.

    Parameters
    ----------
    out : pathlib.Path
        The output folder.
    outputs : sequence of str
        Label images.
    """
    return Links([table for table in (_tracks(out, outputs), _parents(out)) if table is not None])


def _tracks(out: Path, outputs: Sequence[str]) -> "pl.DataFrame | None":
    import polars as pl

    if not (out / TRACKS).is_file():
        return None
    lineages = [read_lineage(out, result_name(output)) for output in outputs]
    rows = [row for lineage in lineages if lineage is not None for row in _cells(lineage)]
    whole = dict.fromkeys(("t", "label", *TRACK_COLUMNS), pl.Int64)
    table = pl.DataFrame(rows, schema={"output": pl.String, "label_hash": pl.String, **whole}, orient="row")
    # Until version 0.2.0 the records of a grouping of files by time stayed beside those of the next one.
    return table.unique(_KEY, keep="last", maintain_order=True)


def _cells(lineage: Lineage) -> Iterator[tuple[str, str, int, int, int, int | None]]:
    for track in lineage.tracks:
        for place, label in track.cells:
            frame = lineage.frames[place]
            yield frame.output, frame.label_hash, frame.t, label, track.number, track.parent


def _parents(out: Path) -> "pl.DataFrame | None":
    import polars as pl

    try:
        return pl.read_parquet(out / PARENTS_RECORD, columns=[*_KEY, *PARENT_COLUMNS])
    except (OSError, pl.exceptions.PolarsError):
        return None


def write_parents(out: Path, table: "pl.DataFrame") -> None:
    """Write the parents of all nuclei of an output folder.

    Parameters
    ----------
    out : pathlib.Path
        The output folder.
    table : polars.DataFrame
        With the columns ``output``, ``label_hash`` (of the label image), ``t``, ``label``, ``parent`` and
        ``parent_overlap``.
    """
    with atomic_path(out / PARENTS_RECORD) as temporary:
        table.select(*_KEY, *PARENT_COLUMNS).write_parquet(temporary)
