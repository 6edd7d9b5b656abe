"""``unetbio weight-map``: weights of the pixels of label images in the loss, as files and pictures."""

import math
from pathlib import Path
from typing import Any

import click

from unetbio.cli import options as shared
from unetbio.cli.terminal import say

__all__ = ["command"]


def _numbers(ctx: click.Context, parameter: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    """``A,B`` as numbers; None for the default."""
    if text in (None, "auto"):
        return None
    try:
        numbers = tuple(map(float, str(text).split(",")))
    except ValueError:
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)):
        raise click.BadParameter(f"{text!r}: needs finite numbers with commas between them, such as 2,1,1")
    return numbers


@click.command("weight-map")
@click.argument("labels", nargs=-1, required=True)
@click.option("-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="Output folder.")
@click.option(
    "--border-weight",
    default=10.0,
    show_default=True,
    type=shared.Number(min=0),
    help="w0, the largest border term; 0 leaves it out.",
)
@click.option(
    "--border-sigma",
    default=5.0,
    show_default=True,
    type=shared.Number(min=0, min_open=True),
    help="How far borders reach, in in-plane pixels.",
)
@click.option(
    "--spacing",
    "--pixel-size",
    "spacing",
    metavar="[Z,]Y,X",
    callback=_numbers,
    help="Size of a pixel along each axis, in any unit. Default: what the file says, or the same along all axes.",
)
@click.option(
    "--class-weights",
    metavar="auto|A,B",
    default="auto",
    show_default=True,
    callback=_numbers,
    help="Weight of background and of cells; auto balances their pixels over all files given.",
)
@click.option("--ignore-label", type=click.IntRange(min=1), help="Value of pixels that are not annotated: weight 0.")
@click.option("--split-components", is_flag=True, help="Masks of 0 and 1 (or 255): each connected part is a cell.")
@click.option("--axes", help="What the axes of the files are, such as ZYX, where they do not say it.")
@click.option("--overwrite", is_flag=True, help="Replace weight maps that are there already.")
def command(labels: tuple[str, ...], output: Path, **options: Any) -> int:
    """Write and draw the border-weight maps of label images.

    LABELS are files, folders or patterns. For x.tif, the output folder gets x_weights.tif (float32) and x_weights.png,
    the label image beside the weights. Background between cells that nearly touch weighs most (arXiv 1505.04597,
    equation 2); touching cells are parted by a line of background first.
    """
    from unetbio.report.weight_maps import write_weight_maps

    written, failed = write_weight_maps(labels, output, **options)
    say(shared.summary_line([(written, "weight map")], failed, output))
    return shared.EXIT_SOME_FAILED if failed else 0
