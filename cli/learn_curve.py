"""``unetbio learn-curve``: how the score grows with annotated images."""

from pathlib import Path

import click

from unetbio.cli import options as shared
from unetbio.cli.limits import check_limits
from unetbio.cli.terminal import say
from unetbio.machine import keep_freed_memory
from unetbio.settings.segmentation import READING, Settings
from unetbio.settings.training_runs import FEW_IMAGES, OF_TRAINING, LearnCurveRun

__all__ = ["command"]


@click.command(short_help="Measure how the score grows with annotated images.")
@click.argument("inputs", nargs=-1, required=True, type=shared.AnnotatedPath())
@click.option("-o", "--output", metavar="OUT", required=True, type=shared.OutputPath(), help="Folder of the results.")
@shared.options(Settings, *READING, told=OF_TRAINING)
@shared.options(LearnCurveRun)
@shared.collected(run=LearnCurveRun, reading=Settings)
def command(inputs: tuple[Path, ...], output: Path, run: LearnCurveRun, reading: Settings) -> None:
    """Train on nested parts of annotated images, and say how the score grows with their number.

    INPUTS are as for unetbio train. Each part holds the smaller ones; all are trained with the same settings, for the
    same steps or minutes, and are scored on the same validation images. Frames of a time-lapse and sections of a stack
    count as images, and a part has all or none of a file. Another --seed draws other parts. OUT gets
    learning_curve.csv, learning_curve.png, and the model and checkpoint of each training. The same command goes on
    where it stopped.
    """
    from unetbio.training.learning_curve import TABLE, learn_curve

    check_limits()
    keep_freed_memory()
    curve = learn_curve(inputs, output, run, reading)
    rough = " (a rough figure)" if curve.validation_images < FEW_IMAGES else ""
    for point in curve.points:
        say(f"{shared.format_count(point.images, 'image')}: {curve.deciding} {point.scores[curve.deciding]:.3f}")
    on = shared.format_count(curve.validation_images, "validation image")
    say(f"{curve.advice()}; on {on}{rough}: {output / TABLE}")
