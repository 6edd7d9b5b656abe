"""``unetbio train``: a network from annotated images."""

from pathlib import Path

import click

from unetbio.cli import options as shared
from unetbio.cli.limits import check_limits
from unetbio.cli.terminal import say
from unetbio.machine import keep_freed_memory
from unetbio.settings.options import given
from unetbio.settings.segmentation import READING, Settings
from unetbio.settings.training_runs import FEW_IMAGES, OF_TRAINING, TrainRun

__all__ = ["command"]


@click.command(short_help="Train a network on images and label images.")
@click.argument("inputs", nargs=-1, required=True, type=shared.AnnotatedPath())
@click.option("-o", "--output", required=True, type=shared.OutputPath(), help="Model file to write (*.safetensors).")
@shared.options(Settings, *READING, told=OF_TRAINING)
@shared.options(TrainRun)
@shared.collected(run=TrainRun, reading=Settings)
def command(inputs: tuple[Path, ...], output: Path, run: TrainRun, reading: Settings) -> None:
    """Train a network on images and label images, or on images and class masks.

    INPUTS are IMAGES and MASKS (folders or files, paired by name), or one folder that holds images/ and masks/, or a
    table (csv, tsv) with the columns image, mask and, if wanted, split (training or validation). Its columns channel,
    channel_names, series, t, z, axes, pixel_size_um and diameter_px override the options for their row.

    Beside the model stand its loss curve (.png), the log, and a checkpoint from which the same command goes on when it
    was interrupted, or is given more minutes.
    """
    from unetbio.training.run import train

    check_limits()
    keep_freed_memory()
    result = train(inputs, output, **vars(run), **given(reading))
    scores = ", ".join(f"{name} {value:.3f}" for name, value in result.info.scores["validation"].items())
    count = result.info.training["validation_images"]
    folds = result.info.training["config"]["folds"]
    on = (
        shared.format_count(count, "image") + f" in {folds} folds"
        if folds
        else shared.format_count(count, "validation image")
    )
    on += " (a rough figure)" if count < FEW_IMAGES else ""
    warnings = result.info.training.get("warnings", ())
    log = output.with_suffix(".log")
    warned = f"; {shared.format_count(len(warnings), 'warning')}: {log}" if warnings else ""
    say(f"{output}: {scores} on {on}{warned}")
