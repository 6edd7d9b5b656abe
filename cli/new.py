"""``unetbio new``: a folder with the workflow and its settings."""

from pathlib import Path

import click

from unetbio.cli import options as shared
from unetbio.cli.terminal import say

__all__ = ["command"]


@click.command()
@click.argument("project", type=shared.OutputPath(file_okay=False))
@click.option("--images", metavar="PATH", help="File, folder or pattern of images, for the settings.")
def command(project: Path, images: str | None) -> None:
    """Make a folder with the Snakemake workflow and its settings.

    PROJECT gets Snakefile, config/config.yaml, profiles for one machine and for SLURM, and a README that says how to
    run them. Snakemake comes with pip install 'unetbio[workflow]'.
    """
    from unetbio.pipelines.project import write_project

    settings = write_project(project, images)
    first = f"look at {settings}" if images else f"set images in {settings}"
    say(f"{project}: {first}, then run snakemake there (README.md)")
