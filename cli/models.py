"""``unetbio models``: list of trained models, their export to other programs, and their import from packages."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unetbio.cli import options as shared
from unetbio.cli.options import format_count
from unetbio.cli.terminal import between, say
from unetbio.errors import ModelError, UsageError
from unetbio.models import SUFFIX, integers_path
from unetbio.settings.segmentation import READING, Settings

if TYPE_CHECKING:
    from unetbio.models.model_file import ModelInfo

__all__ = ["command"]

logger = logging.getLogger("unetbio.cli.models")

_SUFFIXES = {"bioimageio": ".bioimageio.zip", "onnx": ".onnx", "torchscript": ".pt", "publication": ".publication"}
_GRAPHS = ("onnx", "torchscript")
_SHIPPED_AUTHORS = ("The unetbio developers",)


class _Models(click.Group):
    """A group that lists models unless its first word is the name of a subcommand."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and not {"-h", "--help"} & set(args)):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("models", cls=_Models)
def command() -> None:
    """List trained models, write one for other programs, or import one.

    `unetbio models [FOLDER]` is short for `unetbio models list [FOLDER]`.
    """


@command.command("list")
@click.argument("folder", required=False, type=shared.LocalPath())
@shared.as_json
def list_models(folder: Path | None, as_json: bool) -> None:
    """List trained models, shipped or in a folder.

    Without FOLDER: those that come with unetbio, by the names that --model takes, and how to train a model for images
    that none of them is for.
    """
    from unetbio.files import paths_below
    from unetbio.models import is_integers_of, model_path, shipped_models
    from unetbio.models.kinds import SHIPPED_FOR
    from unetbio.models.model_file import CHECKPOINT_SUFFIX, read_info

    purposes = SHIPPED_FOR if folder is None else {}
    if folder is None:
        paths = [(name, model_path(name)) for name in shipped_models()]
    elif folder.is_dir():
        paths = [(str(path), path) for path in sorted(paths_below(folder, f"*{SUFFIX}")) if not is_integers_of(path)]
    else:
        raise UsageError(
            f"{folder} is not a folder: give one that holds *{SUFFIX} files, or nothing for shipped models"
        )
    rows = []
    for name, path in paths:
        try:
            rows.append(_describe(name, path, read_info(path), purposes.get(name)))
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
    if folder is None and not as_json:
        say(*_unshipped())


def _unshipped() -> Iterator[str]:
    from unetbio.models.kinds import UNSHIPPED

    yield ""
    yield "No shipped model is for these; images with masks are in the collections in brackets, or are your own:"
    for kind in UNSHIPPED:
        yield f"{kind.objects}  ({kind.data})"
        yield f"  {kind.command}"


@command.command("export")
@click.argument("model", metavar="MODEL")
@click.option(
    "--to",
    "kind",
    required=True,
    type=click.Choice(list(_SUFFIXES)),
    help="Package of the BioImage Model Zoo, the network alone, or a folder to publish the model with.",
)
@click.option("-o", "--output", type=shared.OutputPath(), help="File or folder.  [default: named after the model]")
@click.option(
    "--author", "authors", multiple=True, metavar="NAME", help="Who trained the model; give it once for each."
)
@click.option("--licence", default="", metavar="SPDX", help="Licence of the weights, if the model states none.")
def export_model(model: str, kind: str, output: Path | None, authors: tuple[str, ...], licence: str) -> None:
    """Write MODEL, the name of a shipped model or a file, for other programs.

    bioimageio is a package for ilastik, deepImageJ and others, with test data and a description; onnx and torchscript
    are the network alone, from a normalized image to the probabilities of its pixels. Other programs tile in their
    own way, and do not separate cells. publication is a folder with the model, its card with the front matter of
    Hugging Face, and the metadata of Zenodo.
    """
    from unetbio.models import shipped_models
    from unetbio.models.model_file import load_model

    if kind in _GRAPHS and (authors or licence):
        raise UsageError(f"--author and --licence are for packages and publications: an {kind} file holds neither")
    loaded = load_model(model)
    path = output or Path(f"{loaded.path.stem}{_SUFFIXES[kind]}")
    if kind != "publication":
        _check_new_file(path)
    known = authors or (_SHIPPED_AUTHORS if model in shipped_models() else ())
    if kind == "bioimageio":
        from unetbio.model_export.bioimageio import write_package

        write_package(loaded, path, authors=known, licence=licence)
    elif kind == "publication":
        from unetbio.model_export.card import write_publication

        write_publication(loaded, path, authors=known, licence=licence)
    else:
        from unetbio.model_export.graphs import write_graph

        write_graph(loaded, path, kind)
    click.echo(path)


def _check_new_file(path: Path) -> None:
    """Check the name of a file that is to be written; a publication checks its folder itself."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder: give -o the name of a file")
    if path.exists():
        raise UsageError(f"{path} exists: give another name with -o")


@command.command("import")
@click.argument("package", type=shared.LocalPath())
@click.option("-o", "--output", required=True, type=shared.OutputPath(), help="New model file, *.safetensors.")
def import_model(package: Path, output: Path) -> None:
    """Write the model of PACKAGE, which unetbio exported as bioimageio, as a model file.

    The weights, thresholds and scores are those of the exported model, byte for byte. Packages of other programs are
    refused, and no code of a package is loaded.
    """
    from unetbio.model_export.import_package import import_package

    click.echo(import_package(package, output))


@command.command("quantize")
@click.argument("model", metavar="MODEL")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("-o", "--output", required=True, type=shared.OutputPath(), help="New model file, *.safetensors.")
@shared.options(Settings, *READING)
@click.option("--overwrite", is_flag=True, help="Replace the model file if it exists.")
@shared.collected(settings=Settings)
def quantize(model: str, inputs: tuple[str, ...], output: Path, settings: Settings, overwrite: bool) -> None:
    """Write MODEL, a U-Net, in 8-bit integers: about three times as fast in ONNX Runtime.

    INPUT is files, folders or patterns of images like those that will be segmented; at most 40 of them are looked at,
    without masks. The new model has the same thresholds. Its masks differ a little (compare scores with unetbio
    evaluate), and do not depend on tiles, threads or the processor. Fast with `pip install "unetbio[onnx]"`.
    """
    from unetbio.io import find_inputs
    from unetbio.model_export.quantization import quantize_model

    images = [found.path for found in find_inputs(inputs)]
    count = quantize_model(model, images, output, settings, overwrite=overwrite)
    say(f"{output}: integers from {format_count(count, 'image')}")


def _describe(name: str, path: Path, info: "ModelInfo", objects: str | None) -> dict[str, Any]:
    values = info.model_dump(mode="json", include={"architecture", "channels", "class_names", "target"})
    more = info.model_dump(mode="json", include={"pixel_size_um", "cell_diameter_px", "scores", "licence", "version"})
    ndim, integers = info.parameters.get("ndim"), integers_path(path)
    return {
        "model": name,
        "objects": objects,
        "name": info.name,
        "path": str(path),
        "bytes": path.stat().st_size,
        "int8_bytes": integers.stat().st_size if integers.is_file() else None,
        "ndim": ndim,
        **values,
        **more,
        "calibration": _of_calibration(info.calibration),
    }


def _of_calibration(record: dict[str, Any]) -> dict[str, Any] | None:
    """On how many images the thresholds were searched, and the scores there; None where that was the training."""
    return {name: record[name] for name in ("images", "scores")} if {"images", "scores"} <= set(record) else None


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
        f"  {', '.join(fact for fact in [row['objects'], *facts] if fact)}",
    ]
    if row["int8_bytes"]:
        lines.append(f"  also in 8-bit integers ({row['int8_bytes'] / 1e6:.1f} MB): --precision int8")
    lines += _score_lines(row["scores"])
    if row["calibration"]:
        images = format_count(row["calibration"]["images"], "image")
        lines += _score_lines({f"calibrated on {images}": row["calibration"]["scores"]})
    return lines


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
