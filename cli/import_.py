"""``unetbio import``: masks that were drawn or corrected in other programs."""

import logging
from pathlib import Path
from typing import Any

import click

from unetbio.cli import options as shared
from unetbio.cli.progress import Progress
from unetbio.settings.runs import ImportRun
from unetbio.settings.segmentation import Settings

__all__ = ["command"]

logger = logging.getLogger("unetbio.cli.import")


@click.command("import")
@click.argument("annotations", nargs=-1, required=True, type=shared.LocalPath())
@click.option("-o", "--output", type=shared.OutputPath(file_okay=False), help="Folder for the label images.")
@shared.options(ImportRun)
@shared.options(Settings, "series", "t", "z", "axes")
@shared.collected(run=ImportRun, reading=Settings)
def command(annotations: tuple[Path, ...], output: Path | None, run: ImportRun, reading: Settings) -> Any:
    """Turn annotations of other programs into label images.

    ANNOTATIONS are files or folders. Each file belongs to the image of its name: x.zip, x_RoiSet.zip, x.geojson or
    x_masks.png to x.tif. Formats:

    \b
    imagej    regions of ImageJ and Fiji: .roi, RoiSet.zip
    geojson   objects of QuPath
    coco      polygons, and run lengths
    labelme, via, labkit    their JSON files
    cvat, imagescope        their XML files
    napari    shapes (csv)
    cellpose  outlines (_cp_outlines.txt)
    masks     label images (Cellpose, napari, Imaris), one colour a cell, one picture a cell
    ctc       results of the Cell Tracking Challenge: x_RES/mask000.tif ... for the time-lapse x

    A pixel that several regions cover belongs to the smallest of them. With --into, the masks of a run are replaced and
    count as edited by hand.
    """  # noqa: D301
    from unetbio.imports.run import import_annotations

    with Progress() as progress:
        done = import_annotations(annotations, output, run, reading, progress.reporter(logger))
    if done.unchanged:
        logger.info("%s as before", shared.format_count(done.unchanged, "mask"))
    if run.into:
        logger.info("unetbio measure %s writes the tables of these masks", run.into)
    counts = [(done.images, "image"), (done.cells, "cell")]
    click.echo(shared.summary_line(counts, done.failed, run.into or output))
    return shared.EXIT_SOME_FAILED if done.failed and not run.failed_ok else None
