"""``unetbio models``: list of trained models."""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unetbio.cli import options as shared
from unetbio.cli.options import format_count
from unetbio.cli.terminal import between, say
from unetbio.errors import ModelError, UsageError

if TYPE_CHECKING:
    from unetbio.models.model_file import ModelInfo

__all__ = ["command"]

logger = logging.getLogger("unetbio.cli.models")

SUFFIX = ".safetensors"


@click.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@shared.as_json
def command(folder: Path | None, as_json: bool) -> None:
    """List trained models, shipped or in a folder.

    Without FOLDER: those that come with unetbio, by the names that --model takes.
    """
    from unetbio.models import model_path, shipped_models
    from unetbio.models.model_file import CHECKPOINT_SUFFIX, read_info

    if folder is None:
        paths = [(name, model_path(name)) for name in shipped_models()]
    elif folder.is_dir():
        paths = [(str(path), path) for path in sorted(folder.rglob(f"*{SUFFIX}"))]
    else:
        raise UsageError(
            f"{folder} is not a folder: give one that holds *{SUFFIX} files, or nothing for shipped models"
        )
    rows = []
    for name, path in paths:
        try:
            rows.append(_describe(name, path, read_info(path)))
        except ModelError as error:
            # Warn of unrelated files; checkpoints belong beside models.
            if not path.name.endswith(CHECKPOINT_SUFFIX):
                logger.warning("%s", error)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif rows:
        say(*between(map(_lines, rows)))
    else:
        say(f"no models in {folder}" if folder else "this installation ships no models")


def _describe(name: str, path: Path, info: "ModelInfo") -> dict[str, Any]:
    values = info.model_dump(mode="json", include={"architecture", "channels", "class_names", "target"})
    more = info.model_dump(mode="json", include={"pixel_size_um", "cell_diameter_px", "scores", "licence", "version"})
    ndim = info.parameters.get("ndim")
    return {
        "model": name,
        "name": info.name,
        "path": str(path),
        "bytes": path.stat().st_size,
        "ndim": ndim,
        **values,
        **more,
    }


def _lines(row: dict[str, Any]) -> list[str]:
    size = f"{row['bytes'] / 1e6:.1f} MB"
    named = all(row["channels"])
    channels = f"channels: {', '.join(row['channels'])}" if named else format_count(len(row["channels"]), "channel")
    facts = [f"{row['ndim']}-D" if row["ndim"] else "", channels]
    if row["cell_diameter_px"]:
        facts.append(f"cells of about {row['cell_diameter_px']:.0f} px")
    if row["pixel_size_um"]:
        facts.append(f"pixels of {' x '.join(f'{value:g}' for value in row['pixel_size_um'])} um")
    lines = [
        f"{row['model']}  ({row['architecture']}, {row['target']}, {size}, {row['licence'] or 'no licence stated'})",
        f"  {', '.join(fact for fact in facts if fact)}",
    ]
    return [*lines, *_score_lines(row["scores"])]


def _score_lines(scores: dict[str, Any]) -> list[str]:
    """One line for the scores of each set of images, and one for those of no set."""
    sets = {name: values for name, values in scores.items() if isinstance(values, dict)}
    groups = {"": scores, **{f"{name}: ": values for name, values in sets.items()}}
    lines = []
    for name, values in groups.items():
        numbers = [f"{key} {value:.3f}" for key, value in values.items() if isinstance(value, int | float)]
        if numbers:
            lines.append(f"  {name}{', '.join(numbers)}")
    return lines
