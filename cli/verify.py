"""``unetbio verify``: check every mask against its provenance."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unetbio.cli import options as shared
from unetbio.cli.options import format_count
from unetbio.cli.process import limit_threads
from unetbio.cli.progress import Progress
from unetbio.cli.terminal import say
from unetbio.machine import available_cores, keep_freed_memory
from unetbio.notes import say_without_effect

if TYPE_CHECKING:
    from unetbio.results.verification import Finding

__all__ = ["command"]


@click.command()
@click.argument("out", type=shared.LocalPath())
@click.option(
    "--rerun",
    type=shared.Integer(min=1),
    metavar="N",
    help="Segment N masks again as they were made, and compare what comes out.",
)
@click.option(
    "--key",
    type=shared.LocalPath(),
    metavar="PUBLIC",
    help="File of the public SSH key, or of several: check that unetbio sign signed the folder with one of them.",
)
@shared.device
@shared.workers
@shared.as_json
def command(
    out: Path, rerun: int | None, key: Path | None, device: str, workers: int | None, as_json: bool
) -> int | None:
    """Check every mask of an output folder against its provenance.

    Compares hashes of label image, input and model file, and the settings of the masks with each other. With --rerun,
    N masks, spread evenly over the folder, are segmented again with the recorded input, model and settings, and the
    label hashes compared; nothing is written. With --key, all files are compared with the signed manifest, and links to
    folders are mismatches, but for that of the workflow to its pictures (OUT/overlays-for-report). One line for each
    mismatch; exit code 3 when there is one.
    """
    from unetbio.results.verification import verify_folder

    if rerun is None and device != "auto":
        say_without_effect("--device", "masks are segmented again with --rerun alone")
    count, findings = verify_folder(out, workers or available_cores())
    if key is not None:
        from unetbio.results.signing import check_signature

        findings += check_signature(out, key, workers or available_cores())
    repeated = 0
    if rerun is not None:
        repeated, differences = _rerun(out, rerun, device, workers or available_cores())
        findings += differences
    if as_json:
        rows = [{"output": found.output, "kind": found.kind, "message": found.message} for found in findings]
        again = {} if rerun is None else {"segmented_again": repeated}
        click.echo(json.dumps({"masks": count, **again, "mismatches": rows}, indent=2))
    else:
        say(*(f"{found.output}: {found.kind}: {found.message}" for found in findings))
        noun = "mismatch" if len(findings) == 1 else "mismatches"
        again_text = "" if rerun is None else f", {format_count(repeated)} segmented again"
        say(f"{format_count(count, 'mask')} verified{again_text}, {len(findings)} {noun}: {out}")
    return shared.EXIT_SOME_FAILED if findings else None


def _rerun(out: Path, count: int, device: str, workers: int) -> "tuple[int, list[Finding]]":
    from unetbio.batch.rerun import rerun_masks

    keep_freed_memory()
    limit_threads(workers)
    with Progress() as progress:
        return rerun_masks(out, count, device, lambda name: progress.advance(failed=False))
