"""``unetbio export``: cells for QuPath, ImageJ, and programs that read COCO or AnnData."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unetbio.cli import options as shared
from unetbio.cli.progress import Progress
from unetbio.cli.terminal import say

if TYPE_CHECKING:
    from unetbio.results.journal import Entry

__all__ = ["command"]

logger = logging.getLogger("unetbio.cli.export")


@click.command()
@click.argument("out", type=shared.LocalPath())
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Choice(["geojson", "imagej", "coco", "anndata", "ctc", "trackmate"]),
    help="QuPath detections, ImageJ's RoiSet.zip, COCO, AnnData, or tracks.",
)
@click.option(
    "-o",
    "--output",
    "folder",
    type=shared.OutputPath(file_okay=False),
    help="Folder for the files.  [default: OUT, beside the label images]",
)
@shared.metadata_regex
@shared.failed_ok
def command(out: Path, target: str, folder: Path | None, metadata_regex: str | None, failed_ok: bool) -> int | None:
    """Write the cells of an output folder for other programs.

    OUT is the output folder of unetbio segment. Outlines run along the edges of the pixels, so that each encloses just
    the pixels of its cell; parts and holes are kept. Masks that were edited by hand are exported as they are now.

    \b
    geojson  x_cells.geojson for each image: detections with the columns of the table, for QuPath
    imagej   x_RoiSet.zip for each image: regions for the ROI manager of ImageJ and Fiji
    coco     coco.json for all images: run lengths, box and area of each cell
    ctc      x_RES for each tracked time-lapse: masks and res_track.txt of the Cell Tracking Challenge
    trackmate  x_TrackMate.xml for each tracked time-lapse
    anndata  cells.h5ad for all images: the table of cells, with their positions
    """  # noqa: D301
    from unetbio.export.run import export_folder

    def report(entry: "Entry") -> None:
        progress.clear()
        if entry.status == "failed":
            logger.error("%s: %s [%s]", entry.path, entry.message, entry.reason)
        progress.advance(failed=entry.status == "failed")

    with Progress() as progress:
        done = export_folder(out, target, folder or out, report, metadata_regex=metadata_regex)
    counts = [(done.images, "image"), (done.outlines, "outline")]
    say(shared.summary_line(counts, done.failed, folder or out))
    return shared.EXIT_SOME_FAILED if done.failed and not failed_ok else None
