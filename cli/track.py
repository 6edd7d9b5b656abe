"""``unetbio track``: cells over time."""

import logging
from pathlib import Path

import click

from unetbio.cli import options as shared
from unetbio.cli.progress import Progress
from unetbio.settings.runs import TrackRun

__all__ = ["command"]

logger = logging.getLogger("unetbio.cli.track")


@click.command()
@click.argument("out", type=shared.LocalPath())
@shared.options(TrackRun)
@shared.collected(run=TrackRun)
def command(out: Path, run: TrackRun) -> int | None:
    """Follow cells over the frames of time-lapses.

    OUT is the output folder of unetbio segment. Cells are linked by their distance (LapTrack: linear assignment, with
    gaps and divisions); masks that were edited by hand are tracked as they are now. Needs pip install "unetbio[track]".

    \b
    tracks.csv            a row for each cell: path, t, label, track, parent
    lineages.csv          a row for each track: parent, first and last time, children
    x_tracks.ome.tif      label images in which a cell has the number of its track
    overlays/x.tracks.jpg frames with outlines, a track in one colour; the page shows it

    unetbio export OUT --to ctc or trackmate writes the tracks for other programs.
    """  # noqa: D301
    from unetbio.output_layout import LINEAGES, PAGE
    from unetbio.report.film_strip import write_film_strip
    from unetbio.tracking.run import track_folder

    with Progress() as progress:
        done = track_folder(out, run, write_film_strip, progress.reporter(logger))
    if (out / PAGE).is_file():
        from unetbio.report.page import write_page

        write_page(out)
    counts = [(done.time_lapses, "time-lapse"), (done.tracks, "track"), (done.divisions, "division")]
    click.echo(shared.summary_line(counts, done.failed, out / LINEAGES))
    return shared.EXIT_SOME_FAILED if done.failed and not run.failed_ok else None
