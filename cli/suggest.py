"""``unetbio suggest``: which images to annotate next."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unetbio.cli import options as shared
from unetbio.cli.terminal import say
from unetbio.settings.segmentation import READING, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unetbio.errors import ImageError
    from unetbio.results.items import Item
    from unetbio.suggestion import Suggested

__all__ = ["command"]

logger = logging.getLogger("unetbio.cli.suggest")


@click.command(short_help="Suggest which images to annotate next.")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@shared.model
@click.option("-n", "--number", default=10, show_default=True, type=shared.Integer(min=1), help="Images to suggest.")
@click.option("-o", "--output", type=shared.OutputPath(), help="Table to write (*.csv).")
@shared.options(Settings, *READING, "partial", "nan")
@shared.group
@shared.device
@shared.decode_timeout
@shared.failed_ok
@shared.collected(settings=Settings)
def command(
    inputs: tuple[str, ...],
    model: str,
    number: int,
    output: Path | None,
    settings: Settings,
    group: str,
    device: str,
    decode_timeout: float,
    failed_ok: bool,
) -> int:
    """Suggest which images to annotate next, the most useful first.

    INPUT is files, folders or patterns, as for unetbio segment. Each image is segmented with the model. Prints a path a
    line: images that together stand for most of the cells that the model expects to be wrong. Of a file that holds
    several images each is one, printed as x.czi (series 3).
    """
    from unetbio.errors import UsageError
    from unetbio.files import write_text
    from unetbio.io.decoding import decode_elsewhere
    from unetbio.suggestion import suggest

    if output is not None and output.suffix != ".csv":
        raise UsageError(f"-o {output}: the name of the table ends in .csv")
    with decode_elsewhere(decode_timeout):
        found = suggest(
            inputs,
            model,
            number,
            settings=settings,
            group=group,
            device=device,
            report=_say,
            report_failure=_say_failure,
        )
    for image in found.chosen:
        say(image.item.title)
    if output is not None:
        write_text(output, _table(found.chosen))
    of = shared.format_count(found.images, "image")
    logger.info("suggested %s of %s, %d failed", shared.format_count(len(found.chosen)), of, found.failed)
    return shared.EXIT_SOME_FAILED if found.failed and not failed_ok else 0


def _say(image: "Suggested") -> None:
    cells = shared.format_count(image.n_cells, "cell")
    logger.info("%s: %s, %.1f of them doubtful", image.item.title, cells, image.doubtful)


def _say_failure(item: "Item", error: "ImageError") -> None:
    logger.error("%s: %s [%s]", item.title, error, error.reason)


def _table(chosen: "tuple[Suggested, ...]") -> str:
    from unetbio.io.tables import csv_text

    # Images are named as in the tables of segment: by path, series, and their place on a plate or in a file.
    places = dict.fromkeys(name for image in chosen for name in image.item.place)
    columns = ("image", "path", "series", *places, "n_cells", "doubtful_cells")
    return csv_text([columns, *(_row(image, places) for image in chosen)])


def _row(image: "Suggested", places: "Iterable[str]") -> list[object]:
    from unetbio.files import utf8_text

    item = image.item
    place = (item.place.get(name, "") for name in places)
    return [utf8_text(item.source), item.path, item.series, *place, image.n_cells, f"{image.doubtful:.2f}"]
