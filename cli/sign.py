"""``unetbio sign``: sign an output folder, so that others can check who finished it."""

from pathlib import Path

import click

from unetbio.cli import options as shared
from unetbio.cli.options import format_count
from unetbio.cli.terminal import say
from unetbio.machine import available_cores
from unetbio.output_layout import MANIFEST

__all__ = ["command"]


@click.command()
@click.argument("out", type=shared.LocalPath())
@click.option(
    "--key",
    required=True,
    type=shared.LocalPath(),
    metavar="PRIVATE",
    help="File of an ed25519 SSH key without a passphrase, as ssh-keygen -t ed25519 makes it.",
)
@shared.workers
def command(out: Path, key: Path, workers: int | None) -> None:
    """Sign all files of an output folder with an SSH key.

    Writes OUT/manifest.sha256, the hash of each file in the folder, and its signature OUT/manifest.sha256.sig. unetbio
    verify --key PUBLIC finds each file that was changed, removed or added since. Left out are these two files, empty
    lock files (OUT/.run.lock) and the link of the workflow to its pictures (OUT/overlays-for-report); other links to
    folders are refused. Sign again after a command has changed the folder. Needs pip install "unetbio[sign]".
    """
    from unetbio.results.signing import sign_folder

    count = sign_folder(out, key, workers or available_cores())
    say(f"{format_count(count, 'file')} signed: {out / MANIFEST}")
