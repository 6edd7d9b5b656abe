"""Tables that list images: one meaning of each column for all commands."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_origin

from unetbio.errors import UsageError
from unetbio.io.remote import is_address
from unetbio.io.tables import Row, file_of_cell, read_table_file
from unetbio.settings.options import Option, options_of
from unetbio.settings.regions import is_region_file
from unetbio.settings.segmentation import PARTS, READING, Settings

__all__ = ["COLUMNS", "LABEL_HASH", "PART_COLUMNS", "ImageRow", "ImageTable", "read_image_table"]

PART_COLUMNS = {f"image_{name}": name for name in PARTS}
"""Columns of a part of a large image, and their settings: tables of users have columns ``region`` and ``level``."""

OVER_SETTINGS = {**{name: name for name in READING}, **PART_COLUMNS}
"""Columns whose cells stand over the settings of the run where they are not empty, and these settings."""

COLUMNS = ("image", "mask", *OVER_SETTINGS)
"""Columns with a meaning for every command; ``mask`` is that of a training."""

LABEL_HASH = "label_hash"
"""Column of a table to train on: the label hash of the mask that a person accepted."""

NO_NUMBER = ("na", "n/a", "#n/a", "nan", "null")
"""What R, pandas and spreadsheets write, in small letters, where a number is missing."""

UNITS = {"um": re.compile(r"\s*[u\u00b5\u03bc]m$"), "px": re.compile(r"\s*(?:px|pixels?)$", re.IGNORECASE)}
"""Units that cells may repeat after their number, by the end of the column's name."""

WHOLE = re.compile(r"^(\d+)\.0*$")
"""Whole numbers as a column with empty cells has them."""


@dataclass(frozen=True)
class ImageRow:
    """A row: its line in the file, its cells, and the settings of a run with those of the row over them."""

    line: int
    cells: dict[str, str]
    settings: Settings


@dataclass(frozen=True)
class ImageTable:
    """A table of images: its columns and rows."""

    columns: tuple[str, ...]
    rows: tuple[ImageRow, ...]


def read_image_table(
    path: Path, settings: Settings, needed: Sequence[str] = ("image",), further: Sequence[str] = ()
) -> ImageTable:
    """Read a table of images.

    Parameters
    ----------
    path : pathlib.Path
        See `unetbio.io.tables.read_table_file`.
    settings : Settings
        Settings of the run. The cells of `OVER_SETTINGS` override them where they are not empty. Several channels stand
        with commas between, several regions with semicolons; files of regions count from the folder of the table. In
        tables with semicolons or tabs a number may have a decimal comma, and the distance of sections stands before the
        pixel size with a space between (``2 0,5``).
    needed : sequence of str
        Columns that no row may leave empty.
    further : sequence of str
        Columns with a meaning for this command alone.

    Raises
    ------
    UsageError
        When the table cannot be read, lacks a column, has no rows, or a cell cannot be used.
    """
    table = read_table_file(path, (*COLUMNS, *further))
    for column in needed:
        if column not in table.columns:
            raise UsageError(f"{path} has no column {column!r}; it has {', '.join(table.columns) or 'none'}")
    if not table.rows:
        raise UsageError(f"{path} has a header but no rows")
    return ImageTable(
        table.columns, tuple(_image_row(path, row, settings, needed, table.delimiter) for row in table.rows)
    )


def _image_row(path: Path, row: Row, settings: Settings, needed: Sequence[str], delimiter: str) -> ImageRow:
    try:
        for column in needed:
            if not row.cells[column]:
                raise UsageError(f"the column {column!r} is empty")
        options = options_of(Settings)
        changes = {
            name: _value(options[name], column, row.cells[column], delimiter)
            for column, name in OVER_SETTINGS.items()
            if not _is_empty(options[name], row.cells.get(column, ""))
        }
        if "region" in changes:
            changes["region"] = tuple(_below(path.parent, text) for text in changes["region"])
        return ImageRow(row.line, row.cells, replace(settings, **changes))
    except (ValueError, UsageError) as error:
        raise UsageError(f"{path}, line {row.line}: {error}") from error


def _is_empty(option: Option, text: str) -> bool:
    """Whether a cell holds nothing, or the word of another program for that where numbers stand."""
    of_numbers = bool({int, float} & set(option.kinds)) and str not in option.kinds
    return not text or (of_numbers and text.casefold() in NO_NUMBER)


def _below(folder: Path, region: str) -> str:
    """A region; the name of a file counts from the folder of the table, as that of an image, and an address stays."""
    if not is_region_file(region) or is_address(region):
        return region
    return str(folder / file_of_cell(folder, region))


def _value(option: Option, column: str, text: str, delimiter: str) -> Any:
    """Value of a cell, as the option of the command reads it."""
    if option.field == "region":
        return tuple(part.strip() for part in text.split(";") if part.strip())
    if option.default == ():
        return tuple(WHOLE.sub(r"\1", part.strip()) for part in text.split(",") if part.strip())
    if text in option.words:
        return text
    if unit := UNITS.get(column.rpartition("_")[2]):
        text = unit.sub("", text)
    if float in option.kinds and delimiter != ",":
        is_pair = any(get_origin(kind) is tuple for kind in option.kinds)
        if is_pair and delimiter == "\t":
            _refuse_ambiguous(column, text)
        text = _with_points(text)
    if option.read is not None:
        try:
            return option.read(WHOLE.sub(r"\1", text) if int in option.kinds else text)
        except ValueError as error:
            raise ValueError(f"{column} {error}") from error
    kind = int if int in option.kinds else float
    try:
        return kind(WHOLE.sub(r"\1", text) if kind is int else text)
    except ValueError as error:
        needed = "a whole number" if kind is int else "a number"
        raise ValueError(f"{column} {text!r} is not {' or '.join((needed, *option.words))}") from error


def _refuse_ambiguous(column: str, text: str) -> None:
    """Refuse a comma between two numbers above 0 that may be a decimal comma."""
    if re.fullmatch(r"[1-9]\d*,[1-9]\d*", text):
        first, second = text.split(",")
        raise ValueError(
            f"{column} {text!r} can be {first}.{second}, or {first} and {second}: write {first}.{second} for one "
            f"number, or {first}.0,{second}.0 for two"
        )


def _with_points(text: str) -> str:
    """Numbers with decimal points and commas between, from those of a spreadsheet with decimal commas."""
    return text if "." in text else ",".join(number.replace(",", ".") for number in text.split())
