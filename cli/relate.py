"""``unetbio relate``: nuclei and cells of the same images."""

import logging
from pathlib import Path

import click

from unetbio.cli import options as shared
from unetbio.cli.progress import Progress

__all__ = ["command"]

logger = logging.getLogger("unetbio.cli.relate")


@click.command()
@click.argument("nuclei", type=shared.LocalPath())
@click.argument("cells", type=shared.LocalPath())
@click.option(
    "-o",
    "--output",
    required=True,
    type=shared.OutputPath(file_okay=False),
    help="Folder for the tables, and the label images of the cytoplasm.",
)
@shared.failed_ok
def command(nuclei: Path, cells: Path, output: Path, failed_ok: bool) -> int | None:
    """Relate nuclei to their cells, and measure the cytoplasm.

    NUCLEI and CELLS are output folders of unetbio segment over the same images, with one model each. Masks that were
    edited by hand are related as they are now.

    \b
    parents.csv           a row for each nucleus: the cell that holds most of it, and the share that lies there
    cytoplasm.csv         a row for each cell: its nuclei, and size and mean grey values of the cell without nuclei
    x_cytoplasm.ome.tif   label images of the cells without nuclei, with the numbers of the cells
    """  # noqa: D301
    from unetbio.output_layout import PARENTS
    from unetbio.relations import relate_folders

    with Progress() as progress:
        done = relate_folders(nuclei, cells, output, progress.reporter(logger))
    if done.orphans:
        logger.info("%s without a cell", "1 nucleus is" if done.orphans == 1 else f"{done.orphans} nuclei are")
    counts = [(done.images, "image"), (done.cells, "cell")]
    click.echo(f"{done.nuclei} nuclei, {shared.summary_line(counts, done.failed, output / PARENTS)}")
    return shared.EXIT_SOME_FAILED if done.failed and not failed_ok else None
