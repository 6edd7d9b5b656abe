"""Summaries of several output folders as one table, and the images that failed."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from unetbio.errors import UsageError
from unetbio.files import real_path, write_text
from unetbio.io.tables import csv_text, read_csv
from unetbio.output_layout import SUMMARY
from unetbio.results.journal import read_journals

__all__ = ["collect_summaries", "describe_failures"]

Row = dict[str, str]

NEEDED = ("path", "series", "status")
"""Columns by which a table is known to be a summary."""

MODEL = "model"


def collect_summaries(folders: Sequence[Path], output: Path | None = None) -> list[Row]:
    """Read the summaries of output folders, and write them as one table where ``output`` is given.

    The first column names the folder, with as many folders above it as tell it from another of the same name.

    Raises
    ------
    UsageError
        When a summary is missing or damaged, a folder is given twice, or ``output`` is one of the summaries.
    """
    names = _distinct_names(folders)
    rows: list[Row] = []
    for folder, name in zip(folders, names, strict=True):
        path = folder / SUMMARY
        if output is not None and real_path(path) == real_path(output):
            raise UsageError(f"{output} is one of the summaries that are read: choose another --output")
        rows += [{MODEL: name, **row} for row in _read(path)]
    if output is not None:
        _write(output, rows, names)
    return rows


def describe_failures(rows: Sequence[Row], folders: Sequence[Path]) -> Iterator[str]:
    """One line an image: why it failed, by the journals where they know, and with which models if there are several."""
    of = dict(zip(_distinct_names(folders), folders, strict=True))
    rows = [row for row in rows if row["status"] == "failed"]
    messages = {
        (name, entry.path, "" if entry.series is None else str(entry.series)): entry.message
        for name in {row[MODEL] for row in rows}
        for entry in read_journals(of[name]).values()
        if entry.message
    }
    images: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        images.setdefault((row["path"], row["series"]), []).append(row)
    for (path, series), failed in images.items():
        message = messages.get((failed[0][MODEL], path, series), "")
        where = f"{path} (series {series})" if series else path
        text = " ".join(filter(None, (f"{where}:", message, f"[{failed[0].get('reason', '')}]")))
        yield text + (f" with {', '.join(row[MODEL] for row in failed)}" if len(folders) > 1 else "")


def _write(output: Path, rows: list[Row], names: Sequence[str]) -> None:
    # Models of classes have columns of their own.
    columns = list(dict.fromkeys(name for row in rows for name in row)) or [MODEL]
    order = {name: number for number, name in enumerate(names)}
    rows.sort(key=lambda row: (row["path"], row["series"], order[row[MODEL]]))
    write_text(output, csv_text([columns, *([row.get(name, "") for name in columns] for row in rows)]))


def _distinct_names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that differ: ``nuclei``; of two such folders ``old/nuclei`` and ``new/nuclei``."""
    whole = [real_path(folder) for folder in folders]
    twice = next((folder for folder, path in zip(folders, whole, strict=True) if whole.count(path) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice} is given twice: name each folder once")
    lengths = [1] * len(whole)
    while True:
        names = ["/".join(path.parts[-length:]) for path, length in zip(whole, lengths, strict=True)]
        same = [names.count(name) > 1 for name in names]
        if not any(same):
            return names
        lengths = [length + is_same for length, is_same in zip(lengths, same, strict=True)]


def _read(path: Path) -> list[Row]:
    """Rows of a summary; a column of the user's that is called as ours gets ``table_`` in front, as elsewhere."""
    try:
        header, *rows = read_csv(path) or [[]]
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): unetbio measure writes it") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} is no summary ({error}): unetbio measure writes it") from error
    missing = [name for name in NEEDED if name not in header]
    if missing:
        raise UsageError(f"{path} is no summary (no column {missing[0]!r}): unetbio measure writes it")
    if any(len(row) != len(header) for row in rows):
        raise UsageError(f"{path} is damaged (rows of different lengths): unetbio measure writes it")
    columns = [f"table_{name}" if name == MODEL else name for name in header]
    return [dict(zip(columns, row, strict=True)) for row in rows]
