"""``unetbio compare``: networks trained and measured on the same images."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unetbio.cli import options as shared
from unetbio.cli.process import keep_freed_memory
from unetbio.cli.terminal import say
from unetbio.compare.lessons import LESSONS
from unetbio.errors import UsageError
from unetbio.settings.runs import CompareRun
from unetbio.settings.segmentation import READING, Settings

if TYPE_CHECKING:
    from unetbio.compare.data import Examples

__all__ = ["command"]

logger = logging.getLogger("unetbio.cli.compare")


@click.command(short_help="Train networks on the same images and compare them.")
@click.argument("data", nargs=-1, required=True, type=shared.ExistingPath())
@click.option("-n", "--networks", metavar="NAMES", help="all, or names with commas between; see below.")
@click.option(
    "--lesson",
    "lessons",
    multiple=True,
    type=click.Choice(tuple(LESSONS)),
    help="Compare what shows one trick of the lecture; can be given more than once.",
)
@click.option(
    "-o", "--output", metavar="OUT", required=True, type=click.Path(path_type=Path), help="Folder of the results."
)
@shared.options(Settings, *READING)
@shared.options(CompareRun)
@shared.collected(run=CompareRun, reading=Settings)
def command(
    data: tuple[Path, ...],
    networks: str | None,
    lessons: tuple[str, ...],
    output: Path,
    run: CompareRun,
    reading: Settings,
) -> int:
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
    if not networks and not lessons:
        raise UsageError("nothing to compare: give --networks all, --networks with names, or --lesson")

    from unetbio.compare.variants import lesson_variants, parse_variants, training_config
    from unetbio.settings.training import given_settings, load_training_config

    config = load_training_config(run.config, given_settings(run))
    asked = parse_variants(networks) if networks else []
    variants = list(dict.fromkeys([*asked, *(variant for name in lessons for variant in lesson_variants(name))]))
    for variant in variants:
        training_config(variant, config, run.width)

    # Check options before torch is imported, so that errors come at once.
    from unetbio.training.pairs import find_pairs

    files = find_pairs(data, run.root, reading, with_test=True)

    from unetbio.compare.data import load
    from unetbio.compare.results import write_results
    from unetbio.compare.runs import CompareSettings, compare_variants
    from unetbio.files import lock
    from unetbio.inference.backends.base import choose_device
    from unetbio.output_layout import LOCK
    from unetbio.training.data_checks.checks import check_examples

    keep_freed_memory()
    torch_device, reason = choose_device(run.device)
    logger.info("%d networks on %s (%s)", len(variants), torch_device, reason)
    settings = CompareSettings(files, config, run.minutes, run.width)
    examples = load(files, config)
    for warning in check_examples(examples.training, examples.validation, config, trust=run.trust_masks):
        logger.warning("%s", warning)
    with lock(output / LOCK):
        rows = compare_variants(
            variants,
            settings,
            examples,
            output,
            torch_device,
            workers=run.workers,
            overwrite=run.overwrite,
            replace=run.replace,
        )
        table = write_results(output, rows, examples, _describe(examples, bool(files.test)), lessons)
    failed = [row for row in rows if row.failure]
    for row in failed:
        logger.error("%s: %s", row.variant.name, row.failure)
    say(shared.summary_line([(len(rows), "network")], len(failed), table))
    return shared.EXIT_SOME_FAILED if failed else 0


def _describe(examples: "Examples", is_test: bool) -> str:
    """Name the images of the scores: test or validation."""
    count = len(examples.scored)
    if is_test:
        return f"{shared.format_count(count, 'test image')} that chose nothing"
    return f"{shared.format_count(count, 'validation image')}, which also chose each network's best step and thresholds"
