"""Class of each cell of a label image, in a table beside it: ``x_objects.csv`` with the columns label and class.

The table is the one that a segmentation with a model of cell classes writes, so that its results can be corrected and
trained on. In a time-lapse a column ``t`` holds the time.
"""

import csv
import os
from collections.abc import Mapping
from pathlib import Path

from unetbio.errors import ImageError
from unetbio.files import open_regular, write_text
from unetbio.io.mask_names import MASK_SUFFIXES, stem
from unetbio.io.tables import csv_text, plain_cell
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
        with open_regular(path, "r", encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except FileNotFoundError as error:
        raise ImageError("no_classes", f"{path} is missing: write a table with the columns label and class") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ImageError("no_classes", f"{path} cannot be read as a table: {error}") from error
    missing = [name for name in COLUMNS if rows and name not in rows[0]]
    if missing:
        raise ImageError("no_classes", f"{path} has no column {missing[0]}: it needs label and class")
    found: dict[int | None, dict[int, str]] = {}
    for line, row in enumerate(rows, start=2):
        t = row.get("t")
        name = plain_cell(row["class"] or "").strip()
        if name:
            number = _whole(path, line, "label", row["label"])
            found.setdefault(_whole(path, line, "t", t) if t else None, {}).setdefault(number, name)
    return found


def _whole(path: Path, line: int, column: str, text: str | None) -> int:
    try:
        return int(float(text or ""))
    except (ValueError, OverflowError) as error:
        raise ImageError(
            "no_classes", f"{path}, line {line}: {column} is {text!r}, a whole number is needed"
        ) from error


def write_cell_classes(path: Path, classes: CellClasses) -> None:
    """Write a table of cells with their classes."""
    rows = [(t, number, name) for t, table in classes.items() for number, name in table.items()]
    if set(classes) <= {None}:
        write_text(path, csv_text([COLUMNS, *(row[1:] for row in rows)]))
    else:
        write_text(path, csv_text([("t", *COLUMNS), *rows]))
