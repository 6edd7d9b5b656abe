"""Read tables written by users, csv or tsv with a header, and write csv that spreadsheets do not take for formulas."""

import csv
import io
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetbio.errors import UsageError
from unetbio.files import read_bytes

__all__ = ["FORMULA", "Row", "Table", "csv_text", "plain_cell", "read_csv", "read_table_file", "warn_of_near_misses"]

logger = logging.getLogger(__name__)

FORMULA = r"^('*[=+\-@\t\r])"
"""Start of a text that a spreadsheet takes for a formula; apostrophes in front of one count, so that none is lost."""

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
        text = read_bytes(path).decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not in UTF-8 (byte {error.start}): save it as CSV UTF-8") from error
    if "\0" in text:
        raise UsageError(f"{path} holds a NUL byte, which is no text: save it as CSV UTF-8")
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(path, text), skipinitialspace=True)
        lines = [(reader.line_num, [plain_cell(cell.strip()) for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise UsageError(f"{path} cannot be read as csv or tsv: {error}") from error
    lines = [(line, cells) for line, cells in lines if any(cells)]
    header = lines[0][1] if lines else []
    for name in header:
        if name and header.count(name) > 1:
            raise UsageError(f"{path} has {header.count(name)} columns {name!r}: rename or remove all but one")
    rows = tuple(Row(line, _cells(path, line, header, cells)) for line, cells in lines[1:])
    return Table(tuple(filter(None, header)), rows)


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Rows as csv. Text that a spreadsheet would take for a formula gets an apostrophe in front; numbers do not."""
    return "".join(_csv_line([_safe_cell(value) for value in row]) for row in rows)


def _csv_line(cells: Sequence[Any]) -> str:
    stream = io.StringIO(newline="")
    # The module quotes a carriage return only if it is in the line end.
    csv.writer(stream, lineterminator="\r\n").writerow(cells)
    return stream.getvalue().removesuffix("\r\n") + "\n"


def read_csv(path: Path) -> list[list[str]]:
    """Rows of a table that `csv_text` wrote.

    Raises
    ------
    OSError, UnicodeDecodeError, csv.Error
        When it cannot be read.
    """
    text = read_bytes(path).decode()
    return [[plain_cell(cell) for cell in row] for row in csv.reader(io.StringIO(text, newline=""))]


def _safe_cell(value: Any) -> Any:
    if not isinstance(value, str) or not re.match(FORMULA, value) or _is_number(value):
        return value
    return f"'{value}"


def plain_cell(text: str) -> str:
    """Text of a cell without the apostrophe of `csv_text`."""
    return text[1:] if text.startswith("'") and re.match(FORMULA, text[1:]) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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
