"""Plates of label images as OME-Zarr 0.5: the groups of the plate, its rows and its wells.

OME-NGFF 0.5, https://ngff.openmicroscopy.org/0.5/#hcs-layout. For ``p_labels.ome.zarr/A/1/0``, which
`unetbio.io.formats.zarr.writer` writes::

    p_labels.ome.zarr/       plate: rows, columns and wells
    p_labels.ome.zarr/A      a group
    p_labels.ome.zarr/A/1    well: its fields
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from unetbio.files import read_bytes, write_text
from unetbio.io.formats.zarr.writer import VERSION, group_text

__all__ = ["write_plate"]


def write_plate(folder: Path, fields: Sequence[str]) -> None:
    """Write the metadata of a plate for the fields that are there.

    Parameters
    ----------
    folder : pathlib.Path
        The plate.
    fields : sequence of str
        Row, column and field: ``A/1/0``.

    Raises
    ------
    EnvironmentStoppedError
        The disk is full or the folder cannot be written to.
    """
    wells: dict[tuple[str, str], list[str]] = {}
    for path in fields:
        row, column, field = path.split("/")
        wells.setdefault((row, column), []).append(field)
    rows, columns = _ordered(row for row, _ in wells), _ordered(column for _, column in wells)
    plate = {
        "version": VERSION,
        "name": folder.name.partition(".")[0],
        "rows": [{"name": row} for row in rows],
        "columns": [{"name": column} for column in columns],
        "wells": [
            {"path": f"{row}/{column}", "rowIndex": rows.index(row), "columnIndex": columns.index(column)}
            for row, column in wells
        ],
        "field_count": max(map(len, wells.values())),
    }
    _write(folder, {"plate": plate})
    for row in rows:
        _write(folder / row, {})
    for (row, column), images in wells.items():
        _write(folder / row / column, {"well": {"images": [{"path": field} for field in images]}})


def _ordered(names: Iterable[str]) -> list[str]:
    """Names of rows or columns, each once: numbers by their size, letters by their length and the alphabet."""
    return sorted(set(names), key=lambda name: (int(name) if name.isdecimal() else 0, len(name), name))


def _write(folder: Path, attributes: dict[str, Any]) -> None:
    """Write the metadata of a group, unless it holds the same already."""
    path = folder / "zarr.json"
    text = group_text({"ome": {"version": VERSION, **attributes}} if attributes else {})
    if not path.is_file() or read_bytes(path) != text.encode():
        write_text(path, text)
