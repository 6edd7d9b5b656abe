"""``unetbio inspect``: axes, sizes and metadata of files."""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unetbio.cli import options as shared
from unetbio.cli.options import format_count
from unetbio.cli.terminal import between, say

if TYPE_CHECKING:
    from unetbio.io.image import Image
    from unetbio.io.series import Series

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
    from unetbio.errors import ImageError
    from unetbio.io import find_inputs
    from unetbio.io.series import list_series

    rows = []
    failed = False
    for item in find_inputs(files, masks=True):
        try:
            found = list_series(item.path, axes=axes)
        except ImageError as error:
            failed = True
            logger.error("%s: %s [%s]", item.path, error, error.reason)
            known = {"path": str(item.path), "format": None, "variant": None, "files": [str(item.path)], "series": []}
            rows.append({**known, "reason": error.reason, "error": str(error)})
            continue
        for series in found:
            if series.error is not None:
                failed = True
                logger.error("%s: series %d: %s [%s]", item.path, series.number, series.error, series.error.reason)
        rows.append(_describe(item.path, found))
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif shown := [row for row in rows if row["series"]]:
        say(*between(map(_lines, shown)))
    return shared.EXIT_SOME_FAILED if failed else None


def _describe(path: Path, found: "list[Series]") -> dict[str, Any]:
    images = [series.image for series in found if series.image is not None]
    parts = dict.fromkeys(str(part) for image in images for part in image.files)
    return {
        "path": str(path),
        "format": images[0].format if images else None,
        "variant": images[0].variant if images else None,
        "files": list(parts) or [str(path)],
        "series": [
            _describe_image(series.number, series.image)
            if series.image is not None
            else {"series": series.number, "reason": series.error and series.error.reason, "error": str(series.error)}
            for series in found
        ],
    }


def _describe_image(number: int, image: "Image") -> dict[str, Any]:
    return {
        "series": number,
        "name": image.name,
        "axes": image.axes,
        "shape": list(image.shape),
        "dtype": str(image.dtype),
        "bytes": image.nbytes,
        "pixel_size_um": image.pixel_size_um,
        "pixel_size_trusted": image.pixel_size_trusted,
        "channels": list(image.channel_names),
    }


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
