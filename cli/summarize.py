"""``unetbio summarize``: the summaries of several models in one table."""

import csv
import io
from pathlib import Path

import click

from unetbio.errors import UsageError

__all__ = ["command"]


@click.command()
@click.argument(
    "folders", nargs=-1, required=True, metavar="FOLDER...", type=click.Path(file_okay=False, path_type=Path)
)
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Table (csv).")
def command(folders: tuple[Path, ...], output: Path) -> None:
    """Put the summaries of several output folders into one table.

    Each FOLDER is an output folder of unetbio segment, named after the model it was made with: its name is the first
    column. The rows of one image stand below each other.
    """
    from unetbio.batch.tables import SUMMARY
    from unetbio.files import write_text

    rows: list[dict[str, str]] = []
    for folder in folders:
        path = folder / SUMMARY
        try:
            with open(path, encoding="utf-8", newline="") as file:
                rows += [{"model": folder.name, **row} for row in csv.DictReader(file)]
        except OSError as error:
            raise UsageError(f"{path} cannot be read ({error.strerror}): unetbio measure writes it") from error
    # Models of classes have columns of their own.
    columns = list(dict.fromkeys(name for row in rows for name in row)) or ["model"]
    order = {folder.name: number for number, folder in enumerate(folders)}
    rows.sort(key=lambda row: (row["path"], row["series"], order[row["model"]]))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(output, stream.getvalue())
    click.echo(f"{len(rows)} rows of {len(folders)} folders: {output}")
