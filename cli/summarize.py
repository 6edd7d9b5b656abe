"""``unetbio summarize``: the summaries of several models in one table."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import click

from unetbio.errors import UsageError

__all__ = ["command"]

NEEDED = ("path", "series", "status")
"""Columns by which a table is known to be a summary."""

MODEL = "model"


@click.command()
@click.argument(
    "folders", nargs=-1, required=True, metavar="FOLDER...", type=click.Path(file_okay=False, path_type=Path)
)
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Table (csv).")
def command(folders: tuple[Path, ...], output: Path) -> None:
    """Put the summaries of several output folders into one table.

    Each FOLDER is an output folder of unetbio segment, named after the model it was made with: its name is the first
    column, with as many folders above it as tell it from another of the same name. The rows of one image stand below
    each other.
    """
    from unetbio.batch.tables import SUMMARY
    from unetbio.files import write_text

    names = _distinct_names(folders)
    rows: list[dict[str, str]] = []
    for folder, name in zip(folders, names, strict=True):
        path = folder / SUMMARY
        if path.resolve() == output.resolve():
            raise UsageError(f"{output} is one of the summaries that are read: choose another --output")
        rows += [{MODEL: name, **row} for row in _read(path)]
    # Models of classes have columns of their own.
    columns = list(dict.fromkeys(name for row in rows for name in row)) or [MODEL]
    order = {name: number for number, name in enumerate(names)}
    rows.sort(key=lambda row: (row["path"], row["series"], order[row[MODEL]]))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(output, stream.getvalue())
    click.echo(f"{len(rows)} rows of {len(folders)} folders: {output}")


def _distinct_names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that differ: ``nuclei``; of two such folders ``old/nuclei`` and ``new/nuclei``."""
    whole = [folder.resolve() for folder in folders]
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


def _read(path: Path) -> list[dict[str, str]]:
    """Rows of a summary; a column of the user's that is called as ours gets ``table_`` in front, as elsewhere."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            rows = list(reader)
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
