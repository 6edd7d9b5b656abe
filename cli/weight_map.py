"""``unetbio weight-map``: the weights that the loss gives to the pixels of label images, as files and pictures."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unetbio.cli import options as shared
from unetbio.errors import ImageError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Labels = tuple[NDArray[np.int64], str, tuple[float, ...] | None]

__all__ = ["command"]

IGNORED = -1

logger = logging.getLogger("unetbio")


def _numbers(ctx: click.Context, parameter: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    """``A,B`` as numbers; None for what stands for the default."""
    if text in (None, "auto"):
        return None
    try:
        numbers = tuple(map(float, str(text).split(",")))
    except ValueError:
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)):
        raise click.BadParameter(f"{text!r}: needs finite numbers with commas between them, such as 2,1,1")
    return numbers


@click.command("weight-map")
@click.argument("labels", nargs=-1, required=True)
@click.option("-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="Output folder.")
@click.option(
    "--border-weight",
    default=10.0,
    show_default=True,
    type=shared.Number(min=0),
    help="w0, the largest border term; 0 leaves it out.",
)
@click.option(
    "--border-sigma",
    default=5.0,
    show_default=True,
    type=shared.Number(min=0, min_open=True),
    help="How far borders reach, in in-plane pixels.",
)
@click.option(
    "--spacing",
    "--pixel-size",
    "spacing",
    metavar="[Z,]Y,X",
    callback=_numbers,
    help="Size of a pixel along each axis, in any unit. Default: what the file says, or the same along all axes.",
)
@click.option(
    "--class-weights",
    metavar="auto|A,B",
    default="auto",
    show_default=True,
    callback=_numbers,
    help="Weight of background and of cells; auto balances their pixels over all files given.",
)
@click.option("--ignore-label", type=click.IntRange(min=1), help="Value of pixels that are not annotated: weight 0.")
@click.option("--split-components", is_flag=True, help="Masks of 0 and 1 (or 255): each connected part is a cell.")
@click.option("--axes", help="What the axes of the files are, such as ZYX, where they do not say it.")
@click.option("--overwrite", is_flag=True, help="Replace weight maps that are there already.")
def command(
    labels: tuple[str, ...],
    output: Path,
    border_weight: float,
    border_sigma: float,
    spacing: tuple[float, ...] | None,
    class_weights: tuple[float, ...] | None,
    ignore_label: int | None,
    split_components: bool,
    axes: str | None,
    overwrite: bool,
) -> int:
    """Write and draw the border-weight maps of label images.

    LABELS are files, folders or patterns. For x.tif, the output folder gets x_weights.tif (float32) and x_weights.png,
    the label image beside the weights. Background between cells that nearly touch weighs most (arXiv 1505.04597,
    equation 2); touching cells are parted by a line of background first.
    """
    from unetbio.io import find_inputs, output_names

    found = find_inputs(labels)
    targets = [output / f"{name}_weights.tif" for name in output_names(found)]
    there = [target for target in targets if target.exists()]
    if there and not overwrite:
        raise UsageError(f"{there[0]} exists already: choose another output folder, or --overwrite it")

    def read(path: Path) -> "Labels":
        return _read(path, axes, spacing, ignore_label, split_components)

    if class_weights is None:
        class_weights = _balanced([item.path for item in found], read)
        logger.info("class weights: background %.3f, cells %.3f", *class_weights)
    options = {"class_weights": class_weights, "border_weight": border_weight, "border_sigma": border_sigma}
    failed = 0
    for item, target in zip(found, targets, strict=True):
        try:
            _write(target, *read(item.path), options)
        except ImageError as error:
            failed += 1
            logger.error("%s: %s", item.path, error)
    click.echo(shared.summary_line([(len(found) - failed, "weight map")], failed, output))
    return shared.EXIT_SOME_FAILED if failed else 0


def _read(
    path: Path, axes: str | None, spacing: tuple[float, ...] | None, ignore_label: int | None, split: bool
) -> "Labels":
    """Labels with -1 where nothing is annotated, their axes, and the spacing in in-plane pixels."""
    import numpy as np

    from unetbio import labels
    from unetbio.io import read_image, read_labels

    image = read_image(path, axes=axes)
    label_image = read_labels(path, allow_binary=split, axes=axes).astype(np.int64)
    axes = image.axes
    ignored = np.zeros(label_image.shape, bool) if ignore_label is None else label_image == ignore_label
    label_image[ignored] = 0
    if split:
        label_image = _each_time(labels.split_components, label_image, axes).astype(np.int64)
    labels.check_plausible(label_image)
    label_image[ignored] = IGNORED
    spatial = axes.replace("T", "")
    if spacing is None and image.pixel_size_trusted and all(axis in image.pixel_size_um for axis in spatial):
        spacing = tuple(image.pixel_size_um[axis] for axis in spatial)
    return label_image, axes, spacing and tuple(size / spacing[-1] for size in spacing)


def _balanced(paths: list[Path], read: "Callable[[Path], Labels]") -> tuple[float, ...]:
    """Class weights over all files that can be read; the others are reported when their turn comes."""
    import contextlib

    import numpy as np

    from unetbio.supervision.class_weights import class_weights
    from unetbio.supervision.weight_maps import force_gap

    counts = np.zeros(2, np.int64)
    for path in paths:
        with contextlib.suppress(ImageError):
            label_image, axes, _ = read(path)
            parted = _each_time(lambda plane: force_gap(plane, ignore_label=IGNORED), label_image, axes)
            counts += (np.count_nonzero(parted == 0), np.count_nonzero(parted > 0))
    return class_weights(counts.tolist()) if counts.any() else (1.0, 1.0)


def _write(
    target: Path,
    label_image: "NDArray[np.int64]",
    axes: str,
    spacing: tuple[float, ...] | None,
    options: dict[str, Any],
) -> None:
    import tifffile

    from unetbio.files import atomic_path
    from unetbio.report.pictures import draw_weight_map
    from unetbio.supervision.weight_maps import weight_map

    weights = _each_time(
        lambda plane: weight_map(plane, spacing=spacing, ignore_label=IGNORED, **options), label_image, axes
    )
    with atomic_path(target) as temporary:
        tifffile.imwrite(
            temporary,
            weights,
            photometric="minisblack",
            compression="deflate",
            software="unetbio",
            metadata={"axes": axes},
        )
    draw_weight_map(label_image, weights, target.with_suffix(".png"))


def _each_time(function: "Callable[[Any], NDArray[Any]]", array: "NDArray[Any]", axes: str) -> "NDArray[Any]":
    """The function of the array, or of every time point of a time-lapse: cells of two times are no neighbours."""
    import numpy as np

    return np.stack([function(moment) for moment in array]) if "T" in axes else function(array)
