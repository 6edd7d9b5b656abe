"""Read tables written by users: csv or tsv with a header."""

import csv
import io
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unetbio.errors import UsageError

__all__ = ["Row", "Table", "read_table_file", "warn_of_near_misses"]

logger = logging.getLogger(__name__)

TABS = (".tsv", ".tab")


@dataclass(frozen=True)
class Row:
    """A row: its line in the file, from 1, and its cells by the names of the columns."""

    line: int
    cells: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A table: the names of its columns, and its rows."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_table_file(path: Path) -> Table:
    """Read a table.

    Tabs separate the cells of ``.tsv`` and ``.tab`` files. Other files use commas, or the semicolons that
    spreadsheets write in languages with a decimal comma. Spaces around cells and column names are ignored, and empty
    rows are left out.

    Parameters
    ----------
    path : pathlib.Path
        UTF-8, with a header.

    Returns
    -------
    Table

    Raises
    ------
    UsageError
        When the file cannot be read, two columns share a name, or a row has more cells than the header.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not in UTF-8 (byte {error.start}): save it as CSV UTF-8") from error
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(path, text), skipinitialspace=True)
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise UsageError(f"{path} cannot be read as csv or tsv: {error}") from error
    lines = [(line, cells) for line, cells in lines if any(cells)]
    header = lines[0][1] if lines else []
    for name in header:
        if name and header.count(name) > 1:
            raise UsageError(f"{path} has {header.count(name)} columns {name!r}: rename or remove all but one")
    rows = tuple(Row(line, _cells(path, line, header, cells)) for line, cells in lines[1:])
    return Table(tuple(filter(None, header)), rows)


def warn_of_near_misses(path: Path, columns: Sequence[str], known: Sequence[str]) -> None:
    """Warn of columns whose names nearly match a known one."""
    meant = {_plain(name): name for name in known if name not in columns}
    for column in columns:
        if column not in known and _plain(column) in meant:
            name = meant[_plain(column)]
            logger.warning("%s: the column %r is not taken for %r; call it so if that is meant", path, column, name)


def _delimiter(path: Path, text: str) -> str:
    header = text.partition("\n")[0]
    if path.suffix.lower() in TABS:
        return "\t"
    return ";" if ";" in header and "," not in header else ","


def _cells(path: Path, line: int, header: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    beyond = [cell for name, cell in zip([*header, *[""] * len(cells)], cells, strict=False) if cell and not name]
    if beyond:
        raise UsageError(f"{path}, line {line}: {beyond[0]!r} stands in no column of the header: quote or remove it")
    given = dict(zip(header, cells, strict=False))
    return {name: given.get(name, "") for name in header if name}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())
