"""``unetbio measure``: the tables of an output folder, also of one filled by many jobs."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unetbio.cli import options as shared
from unetbio.cli.progress import Progress
from unetbio.cli.terminal import say
from unetbio.settings.runs import MeasureRun

if TYPE_CHECKING:
    from unetbio.results.result_files import Outcome

__all__ = ["command"]

logger = logging.getLogger("unetbio.cli.measure")


@click.command()
@click.argument("out", type=shared.LocalPath())
@shared.options(MeasureRun)
@shared.collected(run=MeasureRun)
def command(out: Path, run: MeasureRun) -> int | None:
    """Measure the cells of a finished output folder and write its tables.

    OUT is the output folder of unetbio segment, or of all jobs of --part. Masks that were edited by hand are measured
    as they are now. Writes summary.csv, cells.csv and cells.parquet.

    With --expand, the part of the background that lies within so many micrometres of a cell, and nearer to it than to
    any other, is measured in columns that begin with ring_. Nothing is segmented again for --pixel-size.

    With --features, more columns are measured: shape (axes, orientation, Feret diameters ...), texture (smallest,
    largest, standard deviation, sum and edge of the grey values, and Haralick features), or all.

    Rows of images that have been measured like this and have not changed since are kept.
    """
    from unetbio.io.decoding import decode_elsewhere
    from unetbio.results.tables.collect_tables import measure

    def report(outcome: "Outcome") -> None:
        progress.clear()
        if outcome.entry.status == "failed":
            logger.error("%s: %s [%s]", outcome.entry.path, outcome.entry.message, outcome.entry.reason)
        progress.advance(failed=outcome.entry.status == "failed")

    with Progress() as progress, decode_elsewhere(run.decode_timeout):
        summary = measure(
            out,
            expand=run.expand,
            pixel_size=run.pixel_size,
            features=run.features,
            metadata_regex=run.metadata_regex,
            overwrite=run.overwrite,
            workers=run.workers,
            on_outcome=report,
        )
    say(shared.summary_line(shared.counts(summary), summary.failed, summary.table))
    return shared.EXIT_SOME_FAILED if summary.failed and not run.failed_ok else None
