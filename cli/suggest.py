"""``unetbio suggest``: which images to annotate next."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unetbio.cli import options as shared
from unetbio.cli.terminal import say
from unetbio.settings.segmentation import Settings

if TYPE_CHECKING:
    from unetbio.errors import ImageError
    from unetbio.suggestion import Suggested

__all__ = ["command"]

logger = logging.getLogger("unetbio.cli.suggest")


@click.command(short_help="Suggest which images to annotate next.")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@shared.model
@click.option("-n", "--number", default=10, show_default=True, type=click.IntRange(min=1), help="Images to suggest.")
@click.option("-o", "--output", type=shared.OutputPath(), help="Table to write (*.csv).")
@shared.options(Settings, "channel")
@shared.device
@shared.failed_ok
@shared.collected(settings=Settings)
def command(
    inputs: tuple[str, ...],
    model: str,
    number: int,
    output: Path | None,
    settings: Settings,
    device: str,
    failed_ok: bool,
) -> int:
    """Suggest which images to annotate next, the most useful first.

    INPUT is files, folders or patterns, as for unetbio segment. Each image is segmented with the model. Prints a path a
    line: images in which the model expects many of its cells to be wrong, and which are unlike those before.
    """
    from unetbio.errors import UsageError
    from unetbio.files import write_text
    from unetbio.io import find_inputs
    from unetbio.suggestion import suggest

    if output is not None and output.suffix != ".csv":
        raise UsageError(f"-o {output}: the name of the table ends in .csv")
    paths = [found.path for found in find_inputs(inputs)]
    found = suggest(
        paths, model, number, device=device, channel=settings.channel, report=_say, report_failure=_say_failure
    )
    for image in found.chosen:
        say(image.path)
    if output is not None:
        write_text(output, _table(found.chosen))
    of = shared.format_count(found.images, "image")
    logger.info("suggested %s of %s, %d failed", shared.format_count(len(found.chosen)), of, found.failed)
    return shared.EXIT_SOME_FAILED if found.failed and not failed_ok else 0


def _say(image: "Suggested") -> None:
    logger.info("%s: %s, %.1f of them doubtful", image.path, shared.format_count(image.n_cells, "cell"), image.doubtful)


def _say_failure(path: Path, error: "ImageError") -> None:
    logger.error("%s: %s [%s]", path, error, error.reason)


def _table(chosen: "tuple[Suggested, ...]") -> str:
    from unetbio.io.tables import csv_text

    rows = [(str(image.path), image.n_cells, f"{image.doubtful:.2f}") for image in chosen]
    return csv_text([("image", "n_cells", "doubtful_cells"), *rows])
