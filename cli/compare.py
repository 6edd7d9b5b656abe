"""``unetbio compare``: networks trained and measured on the same images."""

import logging
from pathlib import Path

import click

from unetbio.cli import options as shared
from unetbio.cli.limits import check_limits
from unetbio.cli.terminal import say
from unetbio.machine import keep_freed_memory
from unetbio.settings.segmentation import READING, Settings
from unetbio.settings.training_runs import OF_TRAINING, CompareRun

__all__ = ["command"]

logger = logging.getLogger("unetbio.cli.compare")


@click.command(short_help="Train networks on the same images and compare them.")
@click.argument("data", nargs=-1, required=True, type=shared.AnnotatedPath())
@click.option("-o", "--output", metavar="OUT", required=True, type=shared.OutputPath(), help="Folder of the results.")
@shared.options(Settings, *READING, told=OF_TRAINING)
@shared.options(CompareRun)
@shared.collected(run=CompareRun, reading=Settings)
def command(data: tuple[Path, ...], output: Path, run: CompareRun, reading: Settings) -> int:
    """Train networks on the same split, seed and augmentation, and compare them.

    DATA is as for unetbio train: IMAGES and MASKS, one folder that holds images/ and masks/, or a table (csv, tsv) with
    the columns image, mask and, if wanted, split (training, validation or test). Scores are measured on the test images
    where there are any, otherwise on the validation images.

    NAMES are networks with settings after colons, and +crf for the fully connected CRF as a step after the network:
    unet,unet:skip=none,unet:depth=3:border_weight=0,fcn32s+crf. What is not a parameter of the network is a setting of
    training, such as augmentation.elastic_sigma=0.

    OUT gets comparison.md, comparison.csv, comparison.png and index.html, and a folder for each network. The same
    command goes on where it stopped.
    """
    from unetbio.compare.folder import compare

    check_limits()
    keep_freed_memory()
    done = compare(data, output, run, reading)
    failed = [row for row in done.rows if row.failure]
    for row in failed:
        logger.error("%s: %s", row.variant.name, row.failure)
    say(shared.summary_line([(len(done.rows), "network")], len(failed), done.table))
    return shared.EXIT_SOME_FAILED if failed else 0
