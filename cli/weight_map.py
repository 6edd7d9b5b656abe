"""``unetbio weight-map``: weights of the pixels of label images in the loss, as files and pictures."""

from pathlib import Path

import click

from unetbio.cli import options as shared
from unetbio.cli.terminal import say
from unetbio.settings.training_runs import WeightMapRun

__all__ = ["command"]


@click.command("weight-map")
@click.argument("labels", nargs=-1, required=True)
@click.option("-o", "--output", required=True, type=shared.OutputPath(file_okay=False), help="Output folder.")
@shared.options(WeightMapRun)
@shared.collected(run=WeightMapRun)
def command(labels: tuple[str, ...], output: Path, run: WeightMapRun) -> int:
    """Write and draw the border-weight maps of label images.

    LABELS are files, folders or patterns. For x.tif, the output folder gets x_weights.tif (float32) and x_weights.png,
    the label image beside the weights. Background between cells that nearly touch weighs most (arXiv 1505.04597,
    equation 2); touching cells are parted by a line of background first.
    """
    from unetbio.report.weight_map_pictures import write_weight_maps

    written, failed = write_weight_maps(labels, output, run)
    say(shared.summary_line([(written, "weight map")], failed, output))
    return shared.EXIT_SOME_FAILED if failed else 0
