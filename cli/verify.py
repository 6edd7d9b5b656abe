"""``unetbio verify``: whether every mask is what its provenance says."""

import json
from pathlib import Path

import click

from unetbio.cli import options as shared
from unetbio.cli.options import format_count

__all__ = ["command"]


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@shared.workers
@shared.as_json
def command(out: Path, workers: int | None, as_json: bool) -> int | None:
    """Check every mask of an output folder against its provenance.

    Compares hashes of label image, input and model file, and the settings of the masks with each other. One line for
    each mismatch; exit code 3 when there is one.
    """
    from unetbio.batch.plan import available_cores
    from unetbio.batch.verification import verify_folder

    count, findings = verify_folder(out, workers or available_cores())
    if as_json:
        rows = [{"output": found.output, "kind": found.kind, "message": found.message} for found in findings]
        click.echo(json.dumps({"masks": count, "mismatches": rows}, indent=2))
    else:
        for found in findings:
            click.echo(f"{found.output}: {found.kind}: {found.message}")
        noun = "mismatch" if len(findings) == 1 else "mismatches"
        click.echo(f"{format_count(count, 'mask')} verified, {len(findings)} {noun}: {out}")
    return shared.EXIT_SOME_FAILED if findings else None
