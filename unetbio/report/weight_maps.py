"""Weight maps of label images as files and pictures: what the loss gives to each pixel."""

import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from unetbio import labels
from unetbio.errors import ImageError, UsageError
from unetbio.files import atomic_path
from unetbio.io import find_inputs, output_names, read_image, read_labels
from unetbio.report.pictures import draw_weight_map
from unetbio.supervision.class_weights import class_weights as balance
from unetbio.supervision.weight_maps import force_gap, weight_map

__all__ = ["write_weight_maps"]

logger = logging.getLogger(__name__)

IGNORED = -1

_Labels = tuple[NDArray[np.int64], str, tuple[float, ...] | None]


def write_weight_maps(
    inputs: Sequence[str],
    output: Path,
    *,
    border_weight: float,
    border_sigma: float,
    spacing: tuple[float, ...] | None,
    class_weights: tuple[float, ...] | None,
    ignore_label: int | None,
    split_components: bool,
    axes: str | None,
    overwrite: bool,
) -> tuple[int, int]:
    """Write ``x_weights.tif`` and ``x_weights.png`` for each label image ``x.tif``.

    Parameters
    ----------
    inputs : sequence of str
        Files, folders or patterns.
    output : pathlib.Path
        Folder.
    border_weight, border_sigma
        See `unetbio.supervision.weight_maps.weight_map`.
    spacing : tuple of float, optional
        Size of a pixel along each axis, in any unit; what the file says unless given.
    class_weights : tuple of float, optional
        Of background and of cells; balanced over all files unless given.
    ignore_label : int, optional
        Value of pixels that are not annotated.
    split_components : bool
        Take each connected part of a 0/1 or 0/255 mask as a cell.
    axes : str, optional
        Axes of files that do not say them.
    overwrite : bool
        Replace weight maps that exist.

    Returns
    -------
    written, failed : int
        Numbers of files; the log says why files failed.

    Raises
    ------
    UsageError
        When nothing is found, or a weight map exists and is not to be replaced.
    """
    found = find_inputs(inputs, masks=True)
    targets = [output / f"{name}_weights.tif" for name in output_names(found)]
    there = [target for target in targets if target.exists()]
    if there and not overwrite:
        raise UsageError(f"{there[0]} exists already: choose another output folder, or --overwrite it")

    def read(path: Path) -> _Labels:
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
    return len(found) - failed, failed


def _read(
    path: Path, axes: str | None, spacing: tuple[float, ...] | None, ignore_label: int | None, split: bool
) -> _Labels:
    """Labels with -1 where nothing is annotated, their axes, and the spacing in in-plane pixels."""
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


def _balanced(paths: list[Path], read: Callable[[Path], _Labels]) -> tuple[float, ...]:
    """Class weights over all files that can be read; the others are reported when their turn comes."""
    counts = np.zeros(2, np.int64)
    for path in paths:
        with contextlib.suppress(ImageError):
            label_image, axes, _ = read(path)
            parted = _each_time(lambda plane: force_gap(plane, ignore_label=IGNORED), label_image, axes)
            counts += (np.count_nonzero(parted == 0), np.count_nonzero(parted > 0))
    return balance(counts.tolist()) if counts.any() else (1.0, 1.0)


def _write(
    target: Path,
    label_image: NDArray[np.int64],
    axes: str,
    spacing: tuple[float, ...] | None,
    options: dict[str, Any],
) -> None:
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


def _each_time(function: Callable[[Any], NDArray[Any]], array: NDArray[Any], axes: str) -> NDArray[Any]:
    """The function of the array, or of every time point of a time-lapse: cells of two times are no neighbours."""
    return np.stack([function(moment) for moment in array]) if "T" in axes else function(array)
