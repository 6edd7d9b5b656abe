"""Read tables written by users, as spreadsheets of any language save them, and write csv without formulas."""

import codecs
import csv
import difflib
import functools
import io
import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from unetbio.errors import UsageError
from unetbio.files import read_bytes
from unetbio.io.remote import is_address, local_path

__all__ = ["FORMULA", "TABLES", "Row", "Table", "csv_text", "file_of_cell", "plain_cell", "read_csv", "read_table_file"]

logger = logging.getLogger(__name__)

FORMULA = r"^('*[=+\-@\t\r])"
"""Start of a text that a spreadsheet takes for a formula; apostrophes in front of one count, so that none is lost."""

TABLES = (".csv", ".tsv", ".tab", ".txt")
"""Endings of tables."""

TABS = (".tsv", ".tab")
CLOSE = 0.8
"""Likeness of two names (`difflib`) from which one may be a slip of the other: ``channels``, ``pixel_size``."""

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
WINDOWS = "cp1252"
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""First bytes of xlsx and ods, and of xls."""

DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")


@dataclass(frozen=True)
class Row:
    """A row: its line in the file, from 1, and its cells by the names of the columns."""

    line: int
    cells: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A table: the names of its columns, its rows, and the character between its cells."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    delimiter: str = ","


def read_table_file(path: Path, known: Sequence[str] = ()) -> Table:
    """Read a table.

    Cells are separated by tabs, commas, or the semicolons that spreadsheets write in languages with a decimal comma;
    the header decides. Spaces around cells and column names are ignored, and empty rows are left out.

    Parameters
    ----------
    path : pathlib.Path
        UTF-8, UTF-16, or Windows-1252, which a message names; with a header.
    known : sequence of str
        Columns with a meaning. A column that differs from one of them in capital letters, spaces and signs alone, such
        as ``Pixel size (um)``, is taken for it, and a message says so; names of one letter have to be equal.

    Returns
    -------
    Table

    Raises
    ------
    UsageError
        When the file cannot be read, two columns share a name, or a row has more cells than the header.
    """
    text = _text(path)
    delimiter, text, before = _delimiter(path, text)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        lines = [(reader.line_num + before, [plain_cell(cell.strip()) for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise UsageError(f"{path} cannot be read as csv or tsv: {error}") from error
    lines = [(line, cells) for line, cells in lines if any(cells)]
    header = _renamed(path, lines[0][1] if lines else [], known)
    counts = Counter(header)
    for name in header:
        if name and counts[name] > 1:
            raise UsageError(f"{path} has {counts[name]} columns {name!r}: rename or remove all but one")
    rows = tuple(Row(line, _cells(path, line, header, cells)) for line, cells in lines[1:])
    return Table(tuple(filter(None, header)), rows, delimiter)


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
    # Spreadsheets put a mark in front where they save a table again.
    text = read_bytes(path).decode("utf-8-sig")
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


def file_of_cell(folder: Path, cell: str) -> str:
    """Path of a cell as this system writes it, where only this one leads to a file below ``folder``; copies an address.

    Backslashes become slashes, letters with accents are composed or taken apart, as another system stored them, and
    capital letters count only where names differ by them alone.

    Raises
    ------
    UsageError
        For a path with the letter of a drive, or of a Windows share, that is not here; and as
        `unetbio.io.remote.local_path`.
    ImageError
        As `unetbio.io.remote.local_path`.
    """
    if is_address(cell):
        return str(local_path(cell))
    if (folder / cell).exists():
        return cell
    for name in _spellings(cell):
        if (folder / name).exists():
            return name
    if found := _in_other_letters(folder, cell.replace("\\", "/")):
        return found
    if DRIVE.match(cell):
        raise UsageError(f"{cell} is a path of Windows that is not here: write the paths relative to the table")
    return cell


def _spellings(cell: str) -> Iterator[str]:
    slashed = cell.replace("\\", "/")
    yield slashed
    for form in ("NFC", "NFD"):
        yield unicodedata.normalize(form, slashed)  # type: ignore[arg-type]


def _in_other_letters(folder: Path, name: str) -> str:
    """The only path that differs from a name in capital letters alone, as Windows may write it; else empty."""
    if not name or DRIVE.match(name) or name.startswith("/"):
        return ""
    found = [folder]
    for part in PurePosixPath(name).parts:
        found = [below for above in found for below in _called(above, part)]
    return os.path.relpath(found[0], folder) if len(found) == 1 else ""


def _called(folder: Path, part: str) -> list[Path]:
    if part == ".." or (folder / part).exists():
        return [folder / part]
    if not folder.is_dir():
        return []
    return [folder / name for name in _by_small_letters(folder, folder.stat().st_mtime_ns).get(part.casefold(), ())]


@functools.lru_cache(maxsize=32)
def _by_small_letters(folder: Path, changed: int) -> dict[str, list[str]]:
    """Names in a folder by these in small letters; ``changed`` is the time of its last change."""
    found: dict[str, list[str]] = {}
    for name in os.listdir(folder):  # noqa: PTH208 -- names are what is needed
        found.setdefault(name.casefold(), []).append(name)
    return found


def _text(path: Path) -> str:
    try:
        content = read_bytes(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    if content.startswith(WORKBOOKS):
        raise UsageError(f"{path} is a workbook of a spreadsheet, not a text: save the sheet as CSV UTF-8")
    encoding = _utf_16(content)
    try:
        text = content.decode(encoding or "utf-8-sig")
    except UnicodeDecodeError as error:
        if encoding:
            raise UsageError(f"{path} is no text (byte {error.start}): save it as CSV UTF-8") from error
        text = _decode_windows(path, content)
    if "\0" in text:
        raise UsageError(f"{path} holds a NUL byte, which is no text: save it as CSV UTF-8")
    return text


def _decode_windows(path: Path, content: bytes) -> str:
    logger.info("%s is not in UTF-8: read as Windows-1252; if letters are wrong, save it as CSV UTF-8", path)
    # Five bytes have no letter in Windows-1252, and one in Latin-1.
    return content.decode(WINDOWS if _fits(content) else "latin-1")


def _utf_16(content: bytes) -> str:
    """Encoding of a text in UTF-16; empty for others. Without a mark, its first letter, of a header, has a NUL byte."""
    if content.startswith(UTF_16):
        return "utf-16"
    first, second = (content[at : at + 1] == b"\0" for at in (0, 1))
    return "utf-16-le" if second and not first else "utf-16-be" if first and not second else ""


def _fits(content: bytes) -> bool:
    try:
        content.decode(WINDOWS)
    except UnicodeDecodeError:
        return False
    return True


def _delimiter(path: Path, text: str) -> tuple[str, str, int]:
    """Character between cells, the text without a line ``sep=;`` of a spreadsheet, and the lines left out."""
    if found := re.match(r'"?sep=(.)"?\r?\n', text):
        return found[1], text[found.end() :], 1
    header = next((line for line in text.splitlines() if line.strip()), "")
    if "\t" in header or (path.suffix.lower() in TABS and not {",", ";"} & set(header)):
        return "\t", text, 0
    return ";" if ";" in header and not _splits(header, ",") else ",", text, 0


def _splits(header: str, delimiter: str) -> bool:
    """Whether a header has this delimiter outside of quotes, and not just within its other columns' names."""
    cells = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])
    return len(cells) > 1 and all(";" not in cell for cell in cells)


def _renamed(path: Path, header: Sequence[str], known: Sequence[str]) -> list[str]:
    """Names of the columns, as the program knows them."""
    missing = [name for name in known if name not in header]
    meant = {_plain(name): name for name in missing}
    renamed = []
    for column in header:
        name = column if column in known else meant.get(_plain(column), column)
        if name != column and len(name) == 1:
            logger.warning("%s: the column %r is not taken for %r; call it so if that is meant", path, column, name)
            name = column
        elif name != column:
            logger.info("%s: the column %r is taken for %r", path, column, name)
        elif name not in known:
            _say_if_close(path, column, missing)
        renamed.append(name)
    return renamed


def _say_if_close(path: Path, column: str, known: Sequence[str]) -> None:
    """Say that a column such as ``pixel_size`` is not one with a meaning, whose name it nearly has."""
    close = {_plain(name): name for name in known if len(name) > 1}
    if found := difflib.get_close_matches(_plain(column), close, n=1, cutoff=CLOSE):
        logger.warning(
            "%s: the column %r is not taken for %r; call it so if that is meant", path, column, close[found[0]]
        )


def _cells(path: Path, line: int, header: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    beyond = [cell for name, cell in zip([*header, *[""] * len(cells)], cells, strict=False) if cell and not name]
    if beyond:
        raise UsageError(f"{path}, line {line}: {beyond[0]!r} stands in no column of the header: quote or remove it")
    given = dict(zip(header, cells, strict=False))
    return {name: given.get(name, "") for name in header if name}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold().replace("µ", "u").replace("\u03bc", "u"))
