"""The table of all cells, and the files in which jobs leave rows for it."""

import contextlib
import json
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from unetbio.errors import EnvironmentStoppedError
from unetbio.files import atomic_path, system_error
from unetbio.io.tables import FORMULA
from unetbio.measurement.table_schema import SECTION
from unetbio.output_layout import CELLS, CELLS_TEXT, EVERY_JOB_CELLS, job_cells_name
from unetbio.results.journal import Entry, Part
from unetbio.results.result_files import Outcome
from unetbio.results.tables.links import Links
from unetbio.results.tables.measure_cells import concatenate
from unetbio.results.tables.measured_from import TableOptions

if TYPE_CHECKING:
    import polars as pl

__all__ = ["CachedCells", "CellStore", "known_options", "remove_job_cells", "safe_text", "write_cells"]

logger = logging.getLogger(__name__)

METADATA_KEY = "unetbio"

IMAGES_IN_MEMORY = 256
ROWS_IN_MEMORY = 20_000
"""A run that holds the cells of so many images, or so many cells, writes them into a file before it takes more."""


class CachedCells:
    """Rows of cells that earlier runs measured.

    They come from the table, and from the files of jobs that wrote no table. Missing and damaged files count as empty.

    Parameters
    ----------
    out : pathlib.Path
        The output folder.
    rows_at_once : int, optional
        Keep no more rows of a file in memory (but always those of one image): for readers that follow the order of the
        table.
    """

    def __init__(self, out: Path, *, rows_at_once: int | None = None) -> None:
        table = _CellFile(out / CELLS, rows_at_once)
        self._options = table.options
        jobs = [_CellFile(path, rows_at_once) for path in _job_files(out)]
        files = [table, *(file for file in jobs if file.options == table.options)]
        # Later files override earlier ones.
        self._file_of = {output: file for file in sorted(files, key=lambda file: file.mtime_ns) for output in file.rows}

    @property
    def options(self) -> TableOptions:
        """How the tables were made."""
        return self._options

    def find(self, output: str, label_hash: str) -> "pl.DataFrame | None":
        """The rows measured on the label image of this name and hash."""
        file = self._file_of.get(output)
        return None if file is None else file.find(output, label_hash)

    def sources_of(self, output: str) -> str:
        """What the rows of a label image depend on beside it; empty if unknown."""
        file = self._file_of.get(output)
        return "" if file is None else file.rows[output].sources


def known_options(out: Path) -> TableOptions:
    """How the tables of an output folder were made."""
    return _CellFile(out / CELLS, None).options


class _Rows(NamedTuple):
    """Place of a label image's rows in a file, its columns, and what the rows depend on."""

    label_hash: str
    start: int
    length: int
    layout: int
    sources: str = ""  # Earlier versions did not record them.


class _CellFile:
    """One file of rows, by label image; rows are read on request."""

    def __init__(self, path: Path, rows_at_once: int | None) -> None:
        self._path = path
        self._rows_at_once = rows_at_once
        # Rows in memory, index of the first, and the rows with the columns of each layout. Threads share them.
        self._table: pl.DataFrame | None = None
        self._first = 0
        self._of_layouts: dict[int, pl.DataFrame] = {}
        self._lock = threading.Lock()
        self._layouts: list[list[str]] = []
        self.rows: Mapping[str, _Rows] = {}
        self.options = TableOptions()
        self.mtime_ns = 0
        if path.is_file():
            self._load()

    def find(self, output: str, label_hash: str) -> "pl.DataFrame | None":
        rows = self.rows.get(output)
        if rows is None or rows.label_hash != label_hash:
            return None
        import polars as pl

        with self._lock:
            try:
                return self._slice(rows)
            except (pl.exceptions.PolarsError, OSError):
                # The footer is intact, the rows are damaged.
                return None

    def restore(self, outcome: Outcome) -> Outcome:
        """An outcome with the cells that this run wrote."""
        cells = self.find(outcome.entry.output, outcome.label_hash)
        if cells is None:
            raise EnvironmentStoppedError(
                f"{self._path}: rows that this run wrote are missing or damaged: run again, which measures them again"
            )
        return replace(outcome, cells=cells, measured_from=self.rows[outcome.entry.output].sources)

    def _slice(self, rows: _Rows) -> "pl.DataFrame":
        import polars as pl

        end = rows.start + rows.length
        if self._table is None or not self._first <= rows.start <= end <= self._first + len(self._table):
            # Folders may be called exp[3], which is no pattern here.
            scan = pl.scan_parquet(self._path, glob=False)
            if self._rows_at_once is not None:
                scan = scan.slice(rows.start, max(rows.length, self._rows_at_once))
                self._first = rows.start
            self._table, self._of_layouts = scan.collect(), {}
        if rows.layout not in self._of_layouts:
            self._of_layouts[rows.layout] = self._table.select(self._layouts[rows.layout])
        return self._of_layouts[rows.layout].slice(rows.start - self._first, rows.length)

    def _load(self) -> None:
        import polars as pl

        try:
            self.mtime_ns = self._path.stat().st_mtime_ns
            header = json.loads(pl.read_parquet_metadata(self._path)[METADATA_KEY])
            rows = {name: _Rows(*row) for name, row in header["rows"].items()}
            self._layouts, self.options, self.rows = header["layouts"], _options_of(header), rows
        except (pl.exceptions.PolarsError, OSError, KeyError, ValueError, TypeError, AttributeError, RecursionError):
            return


def _options_of(header: Mapping[str, Any]) -> TableOptions:
    """Options that `_write_rows` recorded; earlier versions did not."""
    options = dict(header.get("options", {}))
    if isinstance(options.get("pixel_size_um"), list):
        options["pixel_size_um"] = tuple(options["pixel_size_um"])
    return TableOptions(**options)


class CellStore:
    """Cells of the images of a run, until the tables are written.

    Those of the last images are in memory, all others in files of the output folder. So memory does not grow with the
    number of images, and a run that goes on after a kill need not measure them again.

    Parameters
    ----------
    out : pathlib.Path
        The output folder.
    part : Part, optional
        The run is one of several jobs.
    options : TableOptions
        How the cells are measured.
    """

    def __init__(self, out: Path, part: Part | None, options: TableOptions) -> None:
        self.options = options
        label = part.label if part else "rest"
        self._paths = (out / job_cells_name(label, number) for number in count(1))
        self._in_memory: dict[str, Outcome] = {}
        self._in_files: dict[str, Path] = {}
        self._rows = 0
        self._columns: set[str] = set()

    @property
    def columns(self) -> frozenset[str]:
        """Columns of the cells of all images."""
        return frozenset(self._columns)

    def add(self, outcome: Outcome) -> Outcome:
        """Store the cells of an image, and return what its rows of the summary need.

        Raises
        ------
        EnvironmentStoppedError
            When the disk is full.
        """
        if outcome.cells is not None:
            if len(self._in_memory) >= IMAGES_IN_MEMORY or self._rows >= ROWS_IN_MEMORY:
                self._write()
            self._in_memory[outcome.entry.output] = outcome
            self._rows += len(outcome.cells)
            self._columns.update(outcome.cells.columns)
        return outcome.for_summary()

    def keep(self) -> None:
        """Write all cells into files, for a later `measure`, which on a full disk has to measure them again."""
        try:
            self._write()
        except EnvironmentStoppedError as error:
            logger.warning("the cells of this job will have to be measured again: %s", error)

    def restore(self, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
        """Those of the outcomes that `add` returned whose images were measured, with their cells.

        Raises
        ------
        EnvironmentStoppedError
            When a file of cells is missing or damaged.
        """
        file_of = cache(partial(_CellFile, rows_at_once=None))
        for outcome in outcomes:
            name = outcome.entry.output
            if name in self._in_memory:
                yield self._in_memory[name]
            elif name in self._in_files:
                yield file_of(self._in_files[name]).restore(outcome)

    def _write(self) -> None:
        if self._in_memory:
            path = next(path for path in self._paths if not path.exists())
            _write_rows(path, self._in_memory.values(), {}, self.options, Links([]))
            self._in_files |= dict.fromkeys(self._in_memory, path)
            self._in_memory, self._rows = {}, 0


def write_cells(
    out: Path, outcomes: Sequence[Outcome], extra: Mapping[str, str], cells: CellStore, links: Links
) -> None:
    """Write the table of all cells as Parquet and as csv.

    Parameters
    ----------
    out : pathlib.Path
        The output folder.
    outcomes : sequence of Outcome
        All images of the folder, in the order of the rows.
    extra : dict
        The user's columns, and their names in the table.
    cells : CellStore
        Cells of the images.
    links : Links
        Tracks and parents of the cells.
    """
    table = _write_rows(out / CELLS, cells.restore(outcomes), extra, cells.options, links)
    with _writing(out / CELLS_TEXT) as temporary:
        table.with_columns(safe_text()).write_csv(temporary)


def safe_text() -> "pl.Expr":
    """Text columns as `unetbio.io.tables.csv_text` writes them."""
    import polars as pl

    text = pl.col(pl.String)
    is_number = text.cast(pl.Float64, strict=False).is_not_null()
    return pl.when(is_number).then(text).otherwise(text.str.replace(FORMULA, "'$1")).name.keep()


def remove_job_cells(out: Path) -> None:
    """Remove the rows of jobs once the table holds them."""
    for path in _job_files(out):
        with contextlib.suppress(OSError):
            path.unlink()


def _job_files(out: Path) -> list[Path]:
    return sorted(out.glob(EVERY_JOB_CELLS))


def _write_rows(
    path: Path, outcomes: Iterable[Outcome], extra: Mapping[str, str], options: TableOptions, links: Links
) -> "pl.DataFrame":
    """Write the rows of outcomes with cells, and where in the file those of each are."""
    rows: dict[str, tuple[Any, ...]] = {}
    layouts: dict[tuple[str, ...], int] = {}
    entries, tables, start = [], [], 0
    for group in _groups(outcomes):
        for outcome, cells in group:
            layout = layouts.setdefault(tuple(cells.columns), len(layouts))
            rows[outcome.entry.output] = (outcome.label_hash, start, len(cells), layout, outcome.measured_from)
            entries.append((outcome.entry, len(cells)))
            start += len(cells)
        tables.append(_compact(concatenate([links.add(outcome, cells) for outcome, cells in group])))
    table = _joined(entries, tables, extra)
    header = json.dumps({"rows": rows, "layouts": list(layouts), "options": asdict(options)})
    with _writing(path) as temporary:
        table.write_parquet(temporary, metadata={METADATA_KEY: header})
    return table


def _groups(outcomes: Iterable[Outcome]) -> "Iterator[list[tuple[Outcome, pl.DataFrame]]]":
    """Outcomes with their cells, as many at a time as a run keeps in memory."""
    measured = ((outcome, outcome.cells) for outcome in outcomes if outcome.cells is not None)
    while group := list(islice(measured, IMAGES_IN_MEMORY)):
        yield group


def _compact(table: "pl.DataFrame") -> "pl.DataFrame":
    """A table that was many small ones, which take far more memory than their rows, in one piece."""
    return table.rechunk() if len(table) <= ROWS_IN_MEMORY else table


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """As `atomic_path`; polars reports a full disk as an error of its own."""
    import polars as pl

    with atomic_path(path) as temporary:
        try:
            yield temporary
        except pl.exceptions.PolarsError as error:
            raise (system_error(error) or OSError(" ".join(str(error).split()))) from error


def _joined(
    images: Sequence[tuple[Entry, int]], tables: "Sequence[pl.DataFrame]", extra: Mapping[str, str]
) -> "pl.DataFrame":
    """All rows, with the columns of their images; these are joined at once, which is much faster than one by one.

    ``images`` has the number of rows of each.
    """
    import polars as pl

    if not images:
        return pl.DataFrame(schema={"path": pl.String})
    entries, lengths = zip(*images, strict=True)
    further = [entry.further_columns for entry in entries]
    of_images = pl.DataFrame(
        {
            "path": [entry.path for entry in entries],
            "series": pl.Series([entry.series for entry in entries], dtype=pl.Int64),
            **{called: [own.get(name, "") for own in further] for name, called in extra.items()},
        }
    )
    of_rows = of_images[np.repeat(np.arange(len(entries)), lengths)]
    cells = concatenate(tables)
    first = ["path", "series", "t", *([SECTION] if SECTION in cells.columns else [])]
    own = [name for name in cells.columns if name not in first]
    return cells.hstack(of_rows).select(*first, *own, *extra.values())
