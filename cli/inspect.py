"""``unetbio inspect``: axes, sizes and metadata of files."""

import json
import logging
from typing import Any

import click

from unetbio.cli import options as shared
from unetbio.cli.options import format_count
from unetbio.cli.terminal import between, say

__all__ = ["command"]

logger = logging.getLogger("unetbio.cli.inspect")


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--axes", metavar="LETTERS", help="Axes of the files where they do not say, such as ZYX or TYX.")
@shared.as_json
def command(files: tuple[str, ...], axes: str | None, as_json: bool) -> int | None:
    """Show what files hold, without reading their pixels.

    Of every image of a file (its series): axes and their lengths, type of the grey values, pixel size and whether it
    can be trusted, names of the channels; and which files it consists of. Folders and patterns are searched. Exit code
    3 when a file or one of its images cannot be opened.
    """
    from unetbio.io.description import describe_files

    rows = []
    failed = False
    for row, errors in describe_files(files, axes=axes):
        rows.append(row)
        for line in errors:
            failed = True
            logger.error("%s", line)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif shown := [row for row in rows if row["series"]]:
        say(*between(map(_lines, shown)))
    return shared.EXIT_SOME_FAILED if failed else None


def _lines(row: dict[str, Any]) -> list[str]:
    from unetbio.io.formats import FORMATS

    known = FORMATS[row["format"]].title if row["format"] else "no image that can be opened as it is"
    lines = [f"{row['path']}: {row['variant'] or known}, {format_count(len(row['series']), 'image')}"]
    for series in row["series"]:
        name = f' "{series["name"]}"' if series.get("name") else ""
        if "error" in series:
            lines.append(f"  series {series['series']}: {series['error']}")
            continue
        sizes = " ".join(f"{axis}={size}" for axis, size in zip(series["axes"], series["shape"], strict=True))
        lines.append(f"  series {series['series']}{name}: {sizes} {series['dtype']}")
        if len(series["levels"]) > 1:
            listed = (f"{level}: {width} x {height}" for level, (width, height) in enumerate(series["levels"]))
            lines.append(f"    levels: {', '.join(listed)}")
        lines.append(f"    pixel size: {_pixel_size(series)}")
        channels = [f"{i}: {name or '(no name)'}" for i, name in enumerate(series["channels"])]
        lines.append(f"    channels: {', '.join(channels)}")
    if row["files"] != [row["path"]]:
        lines.append(f"  {format_count(len(row['files']), 'file')}: {', '.join(row['files'])}")
    return lines


def _pixel_size(series: dict[str, Any]) -> str:
    sizes = series["pixel_size_um"]
    if not sizes:
        return "unknown"
    text = ", ".join(f"{axis} {sizes[axis]:.6g}" for axis in "ZYX" if axis in sizes)
    return f"{text} um ({'trusted' if series['pixel_size_trusted'] else 'not trusted: not used'})"
