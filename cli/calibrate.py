"""``unetbio calibrate``: thresholds of a trained model, searched on annotated images."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unetbio.cli import options as shared
from unetbio.cli.terminal import say
from unetbio.settings.segmentation import READING, Settings
from unetbio.settings.training_runs import FEW_IMAGES, OF_CALIBRATION, CalibrateRun

if TYPE_CHECKING:
    from unetbio.training.calibration import Calibrated

__all__ = ["command"]

logger = logging.getLogger("unetbio.cli.calibrate")


@click.command(short_help="Search the thresholds of a model on annotated images.")
@click.argument("model")
@click.argument("inputs", nargs=-1, required=True, type=shared.AnnotatedPath())
@click.option("-o", "--output", required=True, type=shared.OutputPath(), help="Model file to write (*.safetensors).")
@shared.options(Settings, *READING, told=OF_CALIBRATION)
@shared.options(CalibrateRun)
@shared.collected(run=CalibrateRun, reading=Settings)
def command(model: str, inputs: tuple[Path, ...], output: Path, run: CalibrateRun, reading: Settings) -> None:
    """Search the thresholds of MODEL on annotated images, and write a model file with them.

    MODEL is a shipped model or a model file of cells. INPUTS are as for unetbio train; all images count, whatever split
    a table names. The network stays as it is, so this takes seconds. Thresholds stay where others are not clearly
    better. The new file says what it was calibrated on.
    """
    from unetbio.training.calibration import calibrate

    done = calibrate(model, inputs, output, run, reading)
    for warning in done.warnings:
        logger.warning("%s", warning)
    say(f"{output}: {_scores(done)}")


def _scores(done: "Calibrated") -> str:
    images = done.info.calibration["images"]
    rough = " (a rough figure)" if images < FEW_IMAGES else ""
    on = f"on the {shared.format_count(images, 'image')} that chose them{rough}"
    before, after = (each.scores[done.deciding] for each in (done.before, done.after))
    if done.before.postprocessing == done.after.postprocessing:
        return f"no thresholds are clearly better than the model's, {done.deciding} {after:.3f} {on}"
    found = done.after.postprocessing
    thresholds = ", ".join(f"{threshold:g}" for threshold in found.nested_thresholds)
    certain = f", {found.min_certain:.0%} of a cell's pixels certain" if found.min_certain else ""
    return f"{done.deciding} {after:.3f}, before {before:.3f}, {on}; thresholds {thresholds}{certain}"
