"""Class of each cell of a label image, in a table beside it: ``x_objects.csv`` with the columns label and class.

The table is the one that a segmentation with a model of cell classes writes, so that its results can be corrected and
trained on. In a time-lapse a column ``t`` holds the time.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path

from unetbio.errors import ImageError, UsageError
from unetbio.files import write_text
from unetbio.io.mask_names import MASK_SUFFIXES, stem
from unetbio.io.tables import Row, csv_text, read_table_file
from unetbio.output_layout import objects_name

__all__ = ["CellClasses", "cell_classes_path", "check_one_image", "read_cell_classes", "write_cell_classes"]

CellClasses = Mapping[int | None, Mapping[int, str]]
"""Class by id, for each time; for None in an image without times."""

COLUMNS = ("label", "class")


def cell_classes_path(mask: str | os.PathLike[str]) -> Path:
    """Table beside a mask: ``x_objects.csv`` for ``x.tif``, ``x_labels.ome.tif``, ``x_mask.png`` ..."""
    path = Path(mask)
    plain = stem(path)
    ending = next((one for one in MASK_SUFFIXES if plain.endswith(one) and len(plain) > len(one)), "")
    return path.with_name(objects_name(plain.removesuffix(ending)))


def check_one_image(series_count: int) -> None:
    """Refuse files of several images, whose cells one table cannot tell apart.

    Raises
    ------
    ImageError
        ``several_images``.
    """
    if series_count > 1:
        raise ImageError("several_images", "classes of cells are of files with one image: save each as a file")


def read_cell_classes(path: Path) -> CellClasses:
    """Read a table of cells with their classes; cells without a class are left out.

    Raises
    ------
    ImageError
        ``no_classes``: the table is missing, cannot be read, or lacks a column or a whole number.
    """
    try:
        table = read_table_file(path, (*COLUMNS, "t"))
    except UsageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            text = f"{path} is missing: write a table with the columns label and class"
            raise ImageError("no_classes", text) from error
        raise ImageError("no_classes", str(error)) from error
    missing = [name for name in COLUMNS if table.rows and name not in table.columns]
    if missing:
        raise ImageError("no_classes", f"{path} has no column {missing[0]}: it needs label and class")
    found: dict[int | None, dict[int, str]] = {}
    for row in table.rows:
        if name := row.cells["class"]:
            number = _whole(path, row, "label")
            t = _whole(path, row, "t") if row.cells.get("t") else None
            found.setdefault(t, {}).setdefault(number, name)
    return found


def _whole(path: Path, row: Row, column: str) -> int:
    text = row.cells[column]
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number.is_integer():
        raise ImageError("no_classes", f"{path}, line {row.line}: {column} is {text!r}, a whole number is needed")
    return int(number)


def write_cell_classes(path: Path, classes: CellClasses) -> None:
    """Write a table of cells with their classes."""
    rows = [(t, number, name) for t, table in classes.items() for number, name in table.items()]
    if set(classes) <= {None}:
        write_text(path, csv_text([COLUMNS, *(row[1:] for row in rows)]))
    else:
        write_text(path, csv_text([("t", *COLUMNS), *rows]))
