"""The table of all cells, and the rows that jobs leave for it."""

import contextlib
import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unetbio.batch.journal import Entry
from unetbio.batch.measuring import SECTION, TableOptions, concatenate
from unetbio.batch.names import CELLS, CELLS_TEXT
from unetbio.batch.results import Outcome
from unetbio.files import atomic_path

if TYPE_CHECKING:
    import polars as pl

__all__ = ["CachedCells", "leave_cells", "remove_left_cells", "write_cells"]

LEFT = ".cells.{label}.{number}.parquet"
METADATA_KEY = "unetbio"


class CachedCells:
    """Rows that earlier runs measured, for images whose label image is still the same.

    They come from the table and from what jobs left that wrote no table. Files that are missing or were written by
    something else hold nothing.

    Parameters
    ----------
    out : pathlib.Path
        The output folder.
    rows_at_once : int, optional
        Keep no more rows of a file in memory, or those of one image where it has more: for who asks in the order of the
        table.
    """

    def __init__(self, out: Path, *, rows_at_once: int | None = None) -> None:
        table = _CellFile(out / CELLS, rows_at_once)
        self._options = table.options
        left = [_CellFile(path, rows_at_once) for path in _left_files(out)]
        self._files = sorted(
            [table, *(file for file in left if file.options == table.options)],
            key=lambda file: file.mtime_ns,
            reverse=True,
        )

    @property
    def options(self) -> TableOptions:
        """How the tables were made; whoever writes them next does it likewise."""
        return self._options

    def find(self, output: str, label_hash: str, measured_from: str | None = None) -> "pl.DataFrame | None":
        """The rows measured on the label image of this name and hash; from just these sources, where they are named."""
        file = self._newest(output)
        return None if file is None else file.find(output, label_hash, measured_from)

    def sources_of(self, output: str) -> str:
        """What the rows of a label image depend on beside it."""
        file = self._newest(output)
        return "" if file is None else file.sources_of(output)

    def _newest(self, output: str) -> "_CellFile | None":
        return next((file for file in self._files if output in file), None)


class _CellFile:
    """One file of rows; they are read when one of them is asked for."""

    def __init__(self, path: Path, rows_at_once: int | None) -> None:
        self._path = path
        self._rows_at_once = rows_at_once
        # The rows in memory, the first of them, and the columns of each layout; threads share them.
        self._table: pl.DataFrame | None = None
        self._first = 0
        self._of_layouts: dict[int, pl.DataFrame] = {}
        self._lock = threading.Lock()
        # By label image: its hash, its first row and their number, which columns are its own, and what it depends on.
        self._rows: dict[str, tuple[str, int, int, int, str]] = {}
        self._layouts: list[list[str]] = []
        self.options = TableOptions()
        self.mtime_ns = 0
        if path.is_file():
            self._load()

    def __contains__(self, output: str) -> bool:
        return output in self._rows

    def find(self, output: str, label_hash: str, measured_from: str | None) -> "pl.DataFrame | None":
        known, start, length, layout, sources = self._rows[output]
        if known != label_hash or (measured_from is not None and measured_from != sources):
            return None
        return self._slice(start, length, layout)

    def sources_of(self, output: str) -> str:
        return self._rows[output][-1]

    def _slice(self, start: int, length: int, layout: int) -> "pl.DataFrame | None":
        import polars as pl

        with self._lock:
            if self._table is None or not self._first <= start <= start + length <= self._first + len(self._table):
                rows = pl.scan_parquet(self._path)
                if self._rows_at_once is not None:
                    rows = rows.slice(start, max(length, self._rows_at_once))
                    self._first = start
                try:
                    self._table, self._of_layouts = rows.collect(), {}
                except (pl.exceptions.PolarsError, OSError):
                    # Its end, which describes the rows, is whole, and the rows are not.
                    self._rows = {}
                    return None
            if layout not in self._of_layouts:
                self._of_layouts[layout] = self._table.select(self._layouts[layout])
            return self._of_layouts[layout].slice(start - self._first, length)

    def _load(self) -> None:
        import polars as pl

        try:
            self.mtime_ns = self._path.stat().st_mtime_ns
            header = json.loads(pl.read_parquet_metadata(self._path)[METADATA_KEY])
            # Earlier versions did not note the sources.
            self._rows = {name: (*row, "")[:5] for name, row in header["rows"].items()}
            self._layouts = header["layouts"]
            self.options = _options_of(header)
        except (pl.exceptions.PolarsError, OSError, KeyError, ValueError, TypeError, AttributeError):
            self._rows = {}


def _options_of(header: Mapping[str, Any]) -> TableOptions:
    """What `_write_rows` noted; earlier versions did not."""
    options = dict(header.get("options", {}))
    if isinstance(options.get("pixel_size_um"), list):
        options["pixel_size_um"] = tuple(options["pixel_size_um"])
    return TableOptions(**options)


def write_cells(out: Path, outcomes: Sequence[Outcome], extra: Mapping[str, str], options: TableOptions) -> None:
    """Write the table of all cells, for programs and for people.

    Parameters
    ----------
    out : pathlib.Path
        The output folder.
    outcomes : sequence of Outcome
        All its images, in the order of the rows.
    extra : dict
        Columns of the user's, and what they are called in the table.
    options : TableOptions
        How the cells were measured.
    """
    table = _write_rows(out / CELLS, outcomes, extra, options)
    with atomic_path(out / CELLS_TEXT) as temporary:
        table.write_csv(temporary)


def leave_cells(out: Path, label: str, outcomes: Iterable[Outcome], options: TableOptions) -> None:
    """Leave rows for whoever writes the table, so that nothing is measured twice.

    Parameters
    ----------
    out : pathlib.Path
        The output folder.
    label : str
        Of the job; no other has it at the same time.
    outcomes : iterable of Outcome
        Those with cells are left.
    options : TableOptions
        How they were measured.
    """
    measured = [outcome for outcome in outcomes if outcome.cells is not None]
    if measured:
        paths = (out / LEFT.format(label=label, number=number) for number in count(1))
        _write_rows(next(path for path in paths if not path.exists()), measured, {}, options)


def remove_left_cells(out: Path) -> None:
    """Remove what jobs left, when the table has it."""
    for path in _left_files(out):
        with contextlib.suppress(OSError):
            path.unlink()


def _left_files(out: Path) -> list[Path]:
    return sorted(out.glob(LEFT.format(label="*", number="*")))


def _write_rows(
    path: Path, outcomes: Sequence[Outcome], extra: Mapping[str, str], options: TableOptions
) -> "pl.DataFrame":
    measured = [(outcome, outcome.cells) for outcome in outcomes if outcome.cells is not None]
    rows, start = {}, 0
    layouts: dict[tuple[str, ...], int] = {}
    for outcome, cells in measured:
        layout = layouts.setdefault(tuple(cells.columns), len(layouts))
        rows[outcome.entry.output] = (outcome.label_hash, start, len(cells), layout, outcome.measured_from)
        start += len(cells)
    table = _joined([(outcome.entry, cells) for outcome, cells in measured], extra)
    header = json.dumps({"rows": rows, "layouts": list(layouts), "options": asdict(options)})
    with atomic_path(path) as temporary:
        table.write_parquet(temporary, metadata={METADATA_KEY: header})
    return table


def _joined(measured: "Sequence[tuple[Entry, pl.DataFrame]]", extra: Mapping[str, str]) -> "pl.DataFrame":
    """All rows, with the columns of their images; added to all at once, since one by one they take longest of all."""
    import polars as pl

    if not measured:
        return pl.DataFrame(schema={"path": pl.String})
    entries, tables = zip(*measured, strict=True)
    images = pl.DataFrame(
        {
            "path": [entry.path for entry in entries],
            "series": pl.Series([entry.series for entry in entries], dtype=pl.Int64),
            **{called: [entry.columns.get(name, "") for entry in entries] for name, called in extra.items()},
        }
    )
    of_rows = images[np.repeat(np.arange(len(tables)), [len(table) for table in tables])]
    cells = concatenate(tables)
    first = ["path", "series", "t", *([SECTION] if SECTION in cells.columns else [])]
    own = [name for name in cells.columns if name not in first]
    return cells.hstack(of_rows).select(*first, *own, *extra.values())
