"""``unetbio report``: the offline page of an output folder."""

from pathlib import Path

import click

from unetbio.cli import options as shared
from unetbio.cli.terminal import say

__all__ = ["command"]


@click.command("report")
@click.argument("out", type=shared.LocalPath(exists=True, file_okay=False))
@click.option(
    "--check",
    type=shared.LocalPath(exists=True, dir_okay=False),
    metavar="FILE",
    help="What unetbio check --json printed: becomes a part of the page.",
)
def command(out: Path, check: Path | None) -> None:
    """Write OUT/index.html from the tables, journals and overlays that are in OUT.

    The page works without a network: failures first, pictures of the cells' outlines, distributions of counts and
    sizes, the settings and versions that made the masks. `unetbio segment` writes it at the end of a run; write it
    again after `unetbio measure`, or when several jobs have filled the folder.
    """
    from unetbio.report.page import write_page

    say(write_page(out, check))
