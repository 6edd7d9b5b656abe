"""``unetbio segment``: images to label images, with provenance, tables and a page."""

from pathlib import Path

import click

from unetbio.cli import options as shared
from unetbio.cli.limits import check_limits
from unetbio.cli.outcomes import lines_of, view
from unetbio.cli.terminal import say
from unetbio.machine import keep_freed_memory
from unetbio.models import DEFAULT_MODEL
from unetbio.settings.options import options_of
from unetbio.settings.runs import RunOptions
from unetbio.settings.segmentation import READING, Settings

__all__ = ["command"]

_CELL_OPTIONS = [name for name in options_of(Settings) if name not in READING]
_RUN_OPTIONS = [name for name in options_of(RunOptions) if name != "metadata_regex"]


@click.command()
@click.argument("inputs", nargs=-1, metavar="INPUT...")
@click.option("-o", "--output", "out", required=True, type=shared.OutputPath(file_okay=False), help="Folder.")
@click.option("--table", type=shared.LocalPath(), help="csv or tsv with a column image, instead of INPUT.")
@shared.metadata_regex
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    default=(DEFAULT_MODEL,),
    show_default=DEFAULT_MODEL,
    metavar="NAME|FILE",
    help="Shipped model or model file; twice for nuclei and then cells.",
)
@shared.options(Settings, *READING, *_CELL_OPTIONS)
@shared.options(RunOptions, *_RUN_OPTIONS)
@shared.collected(settings=Settings, run=RunOptions)
def command(
    inputs: tuple[str, ...], out: Path, table: Path | None, models: tuple[str, ...], settings: Settings, run: RunOptions
) -> int | None:
    """Segment images: label images or class masks, provenance, tables and a page of overlays.

    INPUT is files, folders (searched with all folders below) or patterns in quotes. For a/b/x.tif, OUT gets
    a/b/x_labels.ome.tif and a/b/x_labels.json; a model of classes makes a/b/x_classes.ome.tif. Masks of the same
    input, model and settings are kept; so are masks edited by hand.

    With --model given twice, the results of each model are in the folder OUT/NAME of its name, and OUT/related says
    which object of the first (nuclei) lies in which of the second (cells), as unetbio relate does.

    \b
    Examples:
      unetbio segment plate1/ -o results/ --channel DAPI
      unetbio segment cells.czi -o results/ --model mine.safetensors --diameter 40
      unetbio segment plate1/ -o results/ --dry-run
    """  # noqa: D301
    from unetbio.batch.folders import SegmentRequest, segment_folders
    from unetbio.io.decoding import decode_elsewhere

    check_limits()
    keep_freed_memory()
    request = SegmentRequest(inputs, table, out, settings, run)
    failed = 0
    # Its process starts while this one imports PyTorch.
    with decode_elsewhere(run.decode_timeout):
        for finished in segment_folders(request, models, view()):
            say(*lines_of(finished, as_json=run.as_json, part=run.part))
            failed += finished.failed
    return shared.EXIT_SOME_FAILED if failed and not run.failed_ok else None
