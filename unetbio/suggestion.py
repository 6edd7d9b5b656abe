"""Which images to annotate next: those that together stand for most of the doubtful cells."""

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

__all__ = ["Suggested", "Suggestions", "choose_representative", "suggest"]

MISSED = 0.5
"""Cells that each image with cells is doubted for beside them: those that the model misses have no confidence."""
SMALLEST_DENSITY = 1e-3
"""Share of an image in cells, below which the feature hardly changes."""


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
    if not segmenter.target.classifies_pixels_of_cells:
        raise UsageError(
            f"model {segmenter.info.name} gives no confidences of cells: suggest needs a model of cells whose network "
            "classifies pixels"
        )
    # Cells that the model drops for want of certain pixels are doubtful ones.
    keeps_all = replace(settings, min_certain=0.0)
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
        image = Suggested(item, sum(frame.n_cells or 0 for frame in frames), sum(frame.doubtful for frame in frames))
        seen.append(image)
        features.append(_features(frames))
        report(image)
    failed = len(items) - len(seen)
    if not failed:
        permissions.say()
    doubts = np.array([image.doubtful + MISSED if image.n_cells else 0.0 for image in seen])
    order = choose_representative(doubts, np.array(features), count)
    return Suggestions(tuple(seen[number] for number in order), len(items), failed)


def _segment(item: Item, segmenter: Segmenter, asked: Settings) -> list[FrameRecord]:
    opened = segmenter.open(item.read(), item.settings)
    say_for_image(opened, segmenter.info, asked)
    _, info = segment_opened(segmenter, opened)
    return [FrameRecord.model_validate(frame) for frame in info["frames"]]


def _features(frames: Sequence[FrameRecord]) -> tuple[float, ...]:
    """How an image looks to the model: how many cells, how large, how dense, how sure."""
    confidences = [confidence for frame in frames for confidence in frame.confidences]
    diameters = [frame.median_diameter_px for frame in frames if frame.median_diameter_px]
    density = float(np.mean([frame.area_fraction for frame in frames]))
    return (
        math.log1p(sum(frame.n_cells or 0 for frame in frames)),
        math.log(float(np.median(diameters))) if diameters else 0.0,
        math.log(density + SMALLEST_DENSITY),
        float(np.mean(confidences)) if confidences else 0.0,
    )


def choose_representative(doubts: NDArray[np.float64], features: NDArray[Any], count: int) -> list[int]:
    """Choose one after another the images that stand for most of the doubt in all of them.

    Parameters
    ----------
    doubts : ndarray of float
        ``(n,)``, from 0: cells of each image that are expected to be wrong.
    features : ndarray of float
        ``(n, k)``; scaled to a standard deviation of 1 each.
    count : int
        How many to choose, at most ``n``.

    Returns
    -------
    list of int
        Images are alike by ``exp(-distance)`` of their features. The worth of a choice is the sum of all doubts, each
        multiplied by the likeness of its image to the nearest chosen one. Each step takes the image that raises this
        sum most; ties go to the first.

    Notes
    -----
    This is the greedy solution of weighted facility location, which reaches at least 1 - 1/e of the best sum
    (Nemhauser, Wolsey and Fisher, Mathematical Programming 14, 1978, section 4).

    Examples
    --------
    Two images that are alike, and one of another kind with more doubt than either:

    >>> choose_representative(np.array([2.0, 2.0, 3.0]), np.array([[0.0], [0.0], [9.0]]), 2)
    [0, 2]
    """
    if not len(doubts):
        return []
    deviations = features.std(axis=0)
    scaled = features / np.where(deviations > 0, deviations, 1)
    likeness = np.zeros(len(doubts))
    # What an image adds only shrinks while others are chosen, so that few have to be looked at again.
    most = np.full(len(doubts), np.inf)
    chosen: list[int] = []
    while len(chosen) < min(count, len(doubts)):
        looked_at: set[int] = set()
        while (number := int(most.argmax())) not in looked_at:
            most[number] = doubts @ np.maximum(_likeness(scaled, number) - likeness, 0)
            looked_at.add(number)
        chosen.append(number)
        most[number] = -np.inf
        likeness = np.maximum(likeness, _likeness(scaled, number))
    return chosen


def _likeness(features: NDArray[Any], number: int) -> NDArray[np.float64]:
    """Of one image to all; not kept, since of a hundred thousand images they would not fit into memory."""
    likeness: NDArray[np.float64] = np.exp(-np.sqrt(((features - features[number]) ** 2).sum(axis=1)))
    return likeness
