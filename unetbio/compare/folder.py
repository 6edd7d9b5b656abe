"""Compare networks on annotated images, into a folder of results."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from unetbio import networks
from unetbio.compare.variants import Variant, lesson_variants, parse_variants, training_config
from unetbio.errors import UsageError
from unetbio.files import lock
from unetbio.notes import say_without_effect
from unetbio.output_layout import LOCK
from unetbio.settings.base import read_mapping
from unetbio.settings.segmentation import Settings
from unetbio.settings.training import TrainingConfig, given_settings, load_training_config
from unetbio.settings.training_runs import CompareRun
from unetbio.training.data.pairs import AnnotatedFiles, find_pairs, list_pairs
from unetbio.training.without_effect import find_without_effect

if TYPE_CHECKING:
    from unetbio.compare.data import Examples
    from unetbio.compare.runs import Row

__all__ = ["Compared", "compare"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compared:
    """Rows of a comparison, and the file of its table."""

    rows: "Sequence[Row]"
    table: Path


def compare(data: Sequence[Path], output: Path, run: CompareRun, reading: Settings) -> Compared:
    """Train networks on the same split, seed and augmentation, measure them, and write tables and pages.

    Parameters
    ----------
    data : sequence of path
        As for `unetbio.training.data.pairs.find_pairs`.
    output : path
        Folder of the results.
    run : CompareRun
        The networks, and how they are trained.
    reading : Settings
        How images are read.

    Raises
    ------
    UsageError
        When there is nothing to compare, a network or setting is unknown, or images and masks do not fit.
    EnvironmentStoppedError
        When another run uses the folder, or it cannot be written.
    """
    if not run.networks and not run.lesson:
        raise UsageError("nothing to compare: give --networks all, --networks with names, or --lesson")
    config = load_training_config(run.config, given_settings(run))
    variants = _variants(run)
    configs = {variant: training_config(variant, config, run.width) for variant in variants}
    files = find_pairs(data, run.root, reading, with_test=True)
    list_pairs(files, partial(logger.info, "%s"))
    _say_without_effect(run, configs, files)
    # PyTorch is imported from here on, so that errors of the options come at once.
    from unetbio.compare.data import load
    from unetbio.compare.results import write_results
    from unetbio.compare.runs import CompareSettings, compare_variants
    from unetbio.inference.backends.base import choose_device
    from unetbio.training.data.checks.checks import check_examples, check_test_examples

    device, reason = choose_device(run.device)
    logger.info("%d networks on %s (%s)", len(variants), device, reason)
    examples = load(files, config)
    warnings = check_examples(examples.training, examples.validation, config, trust=run.trust_masks)
    if files.test:
        parts = (examples.training, examples.validation, examples.scored)
        warnings += check_test_examples(*parts, config, trust=run.trust_masks)
    for warning in warnings:
        logger.warning("%s", warning)
    with lock(output / LOCK):
        rows = compare_variants(
            variants,
            CompareSettings(files, config, run.minutes, run.width),
            examples,
            output,
            device,
            workers=run.workers,
            overwrite=run.overwrite,
            replace=run.replace,
        )
        scored_on = _scored_images(examples, bool(files.test))
        return Compared(rows, write_results(output, rows, examples, config, scored_on, run.lesson))


def _variants(run: CompareRun) -> list[Variant]:
    asked = parse_variants(run.networks) if run.networks else []
    return list(dict.fromkeys([*asked, *(variant for name in run.lesson for variant in lesson_variants(name))]))


def _say_without_effect(run: CompareRun, configs: Mapping[Variant, TrainingConfig], files: AnnotatedFiles) -> None:
    """Say which settings change nothing in any network, and which of its own change nothing in a network."""
    given = {**read_mapping(run.config), **given_settings(run)}
    shared = [find_without_effect(given, config, files, run.minutes) for config in configs.values()]
    for name, reason in shared[0].items():
        if all(name in others for others in shared):
            say_without_effect(name, reason)
    for variant, config in configs.items():
        parameters = networks.find(variant.network).defaults
        # In the name of a variant, parameters of the network stand without the section that holds them.
        own = {f"parameters.{name}" if name in parameters else name: name for name, _ in variant.settings}
        for name, reason in find_without_effect(own, config, files, run.minutes).items():
            if name in own:
                say_without_effect(f"{variant.name}: {own[name]}", reason)


def _scored_images(examples: "Examples", is_test: bool) -> str:
    """Name the images of the scores: test or validation."""
    count = len(examples.scored)
    images = f"{count} {'test' if is_test else 'validation'} image{'' if count == 1 else 's'}"
    return images + (" that chose nothing" if is_test else ", which also chose each network's best step and thresholds")
