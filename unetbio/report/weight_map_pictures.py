"""Weight maps of label images as files and pictures: what the loss gives to each pixel."""

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from unetbio import labels
from unetbio.errors import ImageError, UsageError
from unetbio.files import atomic_path
from unetbio.io import find_inputs, output_names, read_image, read_labels
from unetbio.io.pairing.matching import spatial_axes
from unetbio.notes import say_without_effect
from unetbio.report.pictures import draw_weight_map
from unetbio.settings.options import given, options_of
from unetbio.settings.training_runs import WeightMapRun
from unetbio.supervision.annotations import NUMBERED
from unetbio.supervision.class_weights import class_weights as balance
from unetbio.supervision.weight_maps import force_gap, weight_map

__all__ = ["write_weight_maps"]

logger = logging.getLogger(__name__)

IGNORED = -1

_Labels = tuple[NDArray[np.int64], str, tuple[float, ...] | None]


def write_weight_maps(inputs: Sequence[str], output: Path, run: WeightMapRun) -> tuple[int, int]:
    """Write ``x_weights.tif`` and ``x_weights.png`` for each label image ``x.tif``.

    Parameters
    ----------
    inputs : sequence of str
        Files, folders or patterns.
    output : pathlib.Path
        Folder.
    run : WeightMapRun
        All options.

    Returns
    -------
    written, failed : int
        Numbers of files; the log says why files failed.

    Raises
    ------
    UsageError
        When nothing is found, or a weight map exists and is not to be replaced.
    """
    _say_without_effect(run)
    found = find_inputs(inputs, masks=True)
    targets = [output / f"{name}_weights.tif" for name in output_names(found)]
    there = [target for target in targets if target.exists()]
    if there and not run.overwrite:
        raise UsageError(f"{there[0]} exists already: choose another output folder, or --overwrite it")

    weights = run.class_weights
    if weights is None:
        weights = _balanced([item.path for item in found], run)
        logger.info("class weights: background %.3f, cells %.3f", *weights)
    options = {"class_weights": weights, "border_weight": run.border_weight, "border_sigma": run.border_sigma}
    failed = 0
    for item, target in zip(found, targets, strict=True):
        try:
            _write(target, *_read(item.path, run), options)
        except ImageError as error:
            failed += 1
            logger.error("%s: %s", item.path, error)
    return len(found) - failed, failed


def _say_without_effect(run: WeightMapRun) -> None:
    """Say which options of the border term have no meaning without it."""
    if run.border_weight > 0:
        return
    for name in ("border_sigma", "spacing"):
        if name in given(run):
            say_without_effect(options_of(WeightMapRun)[name].flag, "--border-weight is 0")


def _read(path: Path, run: WeightMapRun) -> _Labels:
    """Labels with -1 where nothing is annotated, their axes, and the spacing in in-plane pixels."""
    image = read_image(path, axes=run.axes, labels=True)
    stored = read_labels(path, allow_binary=run.split_components, axes=run.axes, ignore_label=run.ignore_label)
    axes, spacing = spatial_axes(image.axes), run.spacing
    ignored = np.zeros(stored.shape, bool) if run.ignore_label is None else stored == run.ignore_label
    stored = labels.without_label(stored, run.ignore_label)
    if run.split_components and labels.is_binary_mask(stored):
        stored = labels.each_time(labels.split_components, stored, axes)
    elif run.split_components and stored.max(initial=0) > 1:
        say_without_effect("--split-components", NUMBERED)
    label_image = stored.astype(np.int64)
    labels.check_plausible(label_image)
    label_image[ignored] = IGNORED
    spatial = axes.replace("T", "")
    if spacing is None and image.pixel_size_trusted and all(axis in image.pixel_size_um for axis in spatial):
        spacing = tuple(image.pixel_size_um[axis] for axis in spatial)
    return label_image, axes, spacing and tuple(size / spacing[-1] for size in spacing)


def _balanced(paths: list[Path], run: WeightMapRun) -> tuple[float, ...]:
    """Class weights over all files that can be read; the others are reported when their turn comes."""
    counts = np.zeros(2, np.int64)
    for path in paths:
        with contextlib.suppress(ImageError):
            label_image, axes, _ = _read(path, run)
            parted = labels.each_time(lambda plane: force_gap(plane, ignore_label=IGNORED), label_image, axes)
            counts += (np.count_nonzero(parted == 0), np.count_nonzero(parted > 0))
    return balance(counts.tolist()) if counts.any() else (1.0, 1.0)


def _write(
    target: Path,
    label_image: NDArray[np.int64],
    axes: str,
    spacing: tuple[float, ...] | None,
    options: dict[str, Any],
) -> None:
    weights = labels.each_time(
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
