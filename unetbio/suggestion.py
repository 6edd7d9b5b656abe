"""Which images to annotate next: those with many doubtful cells, and unlike each other."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.batch.plan import found_items, leave_out_absent
from unetbio.batch.without_effect import Permissions, say_for_image, say_for_run
from unetbio.errors import ImageError, UsageError
from unetbio.io.grouping import AUTO
from unetbio.models.model_file import Model, load_model
from unetbio.provenance import FrameRecord
from unetbio.results.items import Item
from unetbio.segmentation import Segmenter
from unetbio.segmentation.image import segment_opened
from unetbio.settings.runs import RunOptions
from unetbio.settings.segmentation import Settings

__all__ = ["Suggested", "Suggestions", "choose_diverse", "suggest"]

SMALLEST_DISTANCE = 0.1
"""Of images that look alike, in standard deviations: doubt decides among them."""


@dataclass(frozen=True)
class Suggested:
    """An image, the cells that the model finds in it, and how many of them it expects to be wrong."""

    item: Item
    n_cells: int
    doubtful: float


@dataclass(frozen=True)
class Suggestions:
    """Images to annotate, the most useful first; how many there were to choose from, and how many of these failed."""

    chosen: tuple[Suggested, ...]
    images: int
    failed: int = 0


def suggest(
    inputs: Sequence[str | os.PathLike[str]],
    model: str | Path | Model,
    count: int,
    *,
    settings: Settings = Settings(),  # noqa: B008 -- frozen
    group: str = AUTO,
    device: str = "auto",
    report: Callable[[Suggested], None] = lambda image: None,
    report_failure: Callable[[Item, ImageError], None] = lambda item, error: None,
) -> Suggestions:
    """Segment images with a model, and choose those to annotate next.

    Parameters
    ----------
    inputs : sequence of path
        Files, folders and patterns of images without annotation, as for ``unetbio segment``; each image of a file that
        holds several is one to choose.
    model : str, path or Model
        Model of cells with confidences.
    count : int
        Images to choose.
    settings : Settings
        How images are read; its cells are those of the model.
    group : str
        How files are joined by their names: `unetbio.io.grouping.group_files`.
    device : str
        As of `unetbio.segment`.
    report : callable
        Called with each image once it is segmented.
    report_failure : callable
        Called with each image that cannot be segmented, and why.

    Raises
    ------
    UsageError
        When there is no image, the model gives no confidences, or does not fit the options.
    """
    segmenter = Segmenter(model if isinstance(model, Model) else load_model(model), device)
    # Cells that the model drops for want of certain pixels are doubtful ones.
    keeps_all = replace(settings, min_certain=0.0) if segmenter.info.postprocessing else settings
    segmenter.record(keeps_all)
    say_for_run(settings, RunOptions(), segmenter)
    listed = found_items(inputs, keeps_all, None, group=group)
    items = leave_out_absent(listed)
    permissions = Permissions(settings, lacks_images=len(items) < len(listed))
    seen: list[Suggested] = []
    features: list[tuple[float, ...]] = []
    for item in items:
        try:
            frames = _segment(item, segmenter, settings)
        except ImageError as error:
            report_failure(item, error)
            continue
        permissions.collect(frames)
        image = _judged(item, frames, segmenter.model)
        seen.append(image)
        features.append(_features(frames))
        report(image)
    failed = len(items) - len(seen)
    if not failed:
        permissions.say()
    order = choose_diverse(np.array([image.doubtful for image in seen]), np.array(features), count)
    return Suggestions(tuple(seen[number] for number in order), len(items), failed)


def _segment(item: Item, segmenter: Segmenter, asked: Settings) -> list[FrameRecord]:
    opened = segmenter.open(item.read(), item.settings)
    say_for_image(opened, segmenter.info, asked)
    _, info = segment_opened(segmenter, opened)
    return [FrameRecord.model_validate(frame) for frame in info["frames"]]


def _judged(item: Item, frames: Sequence[FrameRecord], model: Model) -> Suggested:
    cells = sum(frame.n_cells or 0 for frame in frames)
    if cells and sum(len(frame.confidences) for frame in frames) != cells:
        raise UsageError(
            f"{model.path} gives no confidences of cells: suggest needs a model whose network classifies pixels"
        )
    return Suggested(item, cells, sum(frame.doubtful for frame in frames))


def _features(frames: Sequence[FrameRecord]) -> tuple[float, ...]:
    """How an image looks to the model: how many cells, how large, how dense, how sure."""
    confidences = [confidence for frame in frames for confidence in frame.confidences]
    diameters = [frame.median_diameter_px for frame in frames if frame.median_diameter_px]
    return (
        math.log1p(sum(frame.n_cells or 0 for frame in frames)),
        math.log(float(np.median(diameters))) if diameters else 0.0,
        float(np.mean([frame.area_fraction for frame in frames])),
        float(np.mean(confidences)) if confidences else 0.0,
    )


def choose_diverse(doubts: NDArray[np.float64], features: NDArray[Any], count: int) -> list[int]:
    """Choose one after another what is doubtful and unlike all that is chosen.

    Parameters
    ----------
    doubts : ndarray of float
        ``(n,)``, how useful each is by itself.
    features : ndarray of float
        ``(n, k)``; scaled to a standard deviation of 1 each.
    count : int
        How many to choose, at most ``n``.

    Returns
    -------
    list of int
        First the most doubtful one; then each time the one with the largest product of its doubt and its distance to
        the nearest chosen one. Ties go to the first.

    Examples
    --------
    >>> choose_diverse(np.array([5.0, 4.9, 2.0]), np.array([[0.0], [0.0], [1.0]]), 2)
    [0, 2]
    """
    if not len(doubts):
        return []
    deviations = features.std(axis=0)
    scaled = features / np.where(deviations > 0, deviations, 1)
    chosen = [int(doubts.argmax())]
    nearest = np.full(len(doubts), np.inf)
    while len(chosen) < min(count, len(doubts)):
        distance = np.sqrt(((scaled - scaled[chosen[-1]]) ** 2).sum(axis=1))
        nearest = np.minimum(nearest, distance)
        worth = doubts * np.maximum(nearest, SMALLEST_DISTANCE)
        worth[chosen] = -1
        chosen.append(int(worth.argmax()))
    return chosen
