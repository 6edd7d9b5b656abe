"""``unetbio check``: find unreadable and unusual files before a run."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unetbio.cli import options as shared
from unetbio.cli.options import format_count
from unetbio.cli.progress import Progress
from unetbio.cli.terminal import say
from unetbio.errors import UsageError
from unetbio.models import DEFAULT_MODEL
from unetbio.settings.segmentation import READING, Settings

if TYPE_CHECKING:
    from unetbio.checking.folder import CheckResult

__all__ = ["command"]

SHOWN_GROUPS = 20


@click.command()
@click.argument("inputs", nargs=-1, metavar="INPUT...")
@click.option("-o", "--output", "out", type=shared.OutputPath(file_okay=False), help="Folder for check.csv.")
@click.option("--table", type=shared.LocalPath(), help="csv or tsv with a column image, instead of INPUT.")
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    metavar="NAME|FILE",
    help=f"Shipped model or model file, by default {DEFAULT_MODEL}; several for what is to be segmented with each.",
)
@click.option("--no-model", is_flag=True, help="Compare images with each other alone.")
@shared.options(Settings, *READING, "nan", "normalization")
@shared.group
@click.option(
    "--cache",
    type=shared.OutputPath(dir_okay=False),
    metavar="FILE",
    help="Keep here what is in each file; one that has not changed since is not read again.",
)
@shared.workers
@shared.decode_timeout
@click.option("--failed-ok", is_flag=True, help="Exit with 0 even when something was found.")
@shared.as_json
@shared.collected(settings=Settings)
def command(
    inputs: tuple[str, ...],
    out: Path | None,
    table: Path | None,
    models: tuple[str, ...],
    no_model: bool,
    settings: Settings,
    group: str,
    cache: Path | None,
    workers: int | None,
    decode_timeout: float,
    failed_ok: bool,
    as_json: bool,
) -> int | None:
    """Check images before a run: decode every pixel, say what they hold and what is odd.

    Finds files that cannot be read to their last byte, images with the same pixels, inputs that would share an output
    name, images that do not fit the model, that are constant or saturated, and those that are unlike the others in
    intensity or size. One line for each on stdout; exit code 3 when there is one.

    Grey values are those that segment would look at with the same --channel, --t, --z and --normalize.
    """
    from unetbio.checking.folder import check
    from unetbio.files import write_text
    from unetbio.io.decoding import decode_elsewhere
    from unetbio.output_layout import CHECK

    if no_model and models:
        raise UsageError(f"--no-model and --model {models[0]}: give one of the two")
    with Progress() as progress, decode_elsewhere(decode_timeout):
        result = check(
            inputs,
            models=() if no_model else models or (DEFAULT_MODEL,),
            settings=settings,
            group=group,
            table=table,
            out=out,
            cache=cache,
            workers=workers,
            on_file=lambda report, total: progress.advance(failed=not report.is_readable, total=total),
        )
    if out is not None:
        write_text(out / CHECK, result.table())
    if as_json:
        click.echo(json.dumps(_as_json(result), indent=2))
    else:
        say(*_lines(result))
        say(_last_line(result) + (f": {out / CHECK}" if out is not None else ""))
    return shared.EXIT_SOME_FAILED if result.findings and not failed_ok else None


def _lines(result: "CheckResult") -> list[str]:
    groups = result.groups()
    lines = [f"{format_count(count, 'image')} of {text}" for count, text in groups[:SHOWN_GROUPS]]
    if rest := groups[SHOWN_GROUPS:]:
        lines.append(f"{format_count(sum(count for count, _ in rest), 'image')} of {len(rest)} other kinds")
    return [*lines, *(f"{finding.path}: {finding.code}: {finding.message}" for finding in result.findings)]


def _last_line(result: "CheckResult") -> str:
    files = len({finding.path for finding in result.findings})
    found = f"{format_count(len(result.findings), 'finding')} in {format_count(files, 'file')}"
    return f"{format_count(len(result.files), 'image')}, {result.unreadable} unreadable, {found}"


def _as_json(result: "CheckResult") -> dict[str, Any]:
    return {
        "images": len(result.files),
        "unreadable": result.unreadable,
        "groups": [{"images": count, "content": text} for count, text in result.groups()],
        "findings": [vars(finding) for finding in result.findings],
        "files": result.rows(),
    }
