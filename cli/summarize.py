"""``unetbio summarize``: list of failures, and the summaries of several models in one table."""

import logging
from pathlib import Path

import click

from unetbio.cli import options as shared
from unetbio.cli.terminal import say

__all__ = ["command"]

logger = logging.getLogger("unetbio.cli.summarize")


@click.command()
@click.argument("folders", nargs=-1, required=True, metavar="FOLDER...", type=shared.LocalPath(file_okay=False))
@click.option("-o", "--output", type=shared.OutputPath(dir_okay=False), help="Put all into this table (csv).")
@shared.failed_ok
def command(folders: tuple[Path, ...], output: Path | None, failed_ok: bool) -> int | None:
    """Name the images that failed, and put the summaries of several output folders into one table.

    Each FOLDER is an output folder of unetbio segment, named after the model it was made with: its name is the first
    column, with as many folders above it as tell it from another of the same name. The rows of one image stand below
    each other. Exit code 3 when images failed.
    """
    from unetbio.results.tables.collect_summaries import collect_summaries, describe_failures

    rows = collect_summaries(folders, output)
    for line in describe_failures(rows, folders):
        logger.error("%s", line)
    failed = sum(row["status"] == "failed" for row in rows)
    where = output or " ".join(map(str, folders))
    rows_of = f"{shared.format_count(len(rows), 'row')} of {shared.format_count(len(folders), 'folder')}"
    say(f"{rows_of}, {failed} failed: {where}")
    return shared.EXIT_SOME_FAILED if failed and not failed_ok else None
