"""Which images to annotate next: those with many doubtful cells, and unlike each other."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError, UsageError
from unetbio.models.model_file import Model, load_model
from unetbio.provenance import FrameRecord
from unetbio.segmentation import segment
from unetbio.settings.segmentation import SegmentOptions

__all__ = ["Suggested", "Suggestions", "choose_diverse", "suggest"]

SMALLEST_DISTANCE = 0.1
"""Of images that look alike, in standard deviations: doubt decides among them."""


@dataclass(frozen=True)
class Suggested:
    """An image, the cells that the model finds in it, and how many of them it expects to be wrong."""

    path: Path
    n_cells: int
    doubtful: float


@dataclass(frozen=True)
class Suggestions:
    """Images to annotate, the most useful first; how many there were to choose from, and how many of these failed."""

    chosen: tuple[Suggested, ...]
    images: int
    failed: int = 0


def suggest(
    paths: Iterable[Path],
    model: str | Path | Model,
    count: int,
    *,
    device: str = "auto",
    channel: Sequence[str | int] = (),
    report: Callable[[Suggested], None] = lambda image: None,
    report_failure: Callable[[Path, ImageError], None] = lambda path, error: None,
) -> Suggestions:
    """Segment images with a model, and choose those to annotate next.

    Parameters
    ----------
    paths : iterable of path
        Images without annotation.
    model : str, path or Model
        Model of cells with confidences.
    count : int
        Images to choose.
    device, channel
        As of `unetbio.segment`.
    report : callable
        Called with each image once it is segmented.
    report_failure : callable
        Called with each image that cannot be segmented, and why.

    Raises
    ------
    UsageError
        When the model gives no confidences, or does not fit the options.
    """
    loaded = model if isinstance(model, Model) else load_model(model)
    # Cells that the model drops for want of certain pixels are doubtful ones.
    keep_all: SegmentOptions = {"min_certain": 0.0} if loaded.info.postprocessing else {}
    seen: list[Suggested] = []
    features: list[tuple[float, ...]] = []
    failed = 0
    for path in paths:
        try:
            _, info = segment(path, loaded, device=device, channel=channel, **keep_all)
        except ImageError as error:
            report_failure(path, error)
            failed += 1
            continue
        frames = [FrameRecord.model_validate(frame) for frame in info["frames"]]
        image = _judged(path, frames, loaded)
        seen.append(image)
        features.append(_features(frames))
        report(image)
    order = choose_diverse(np.array([image.doubtful for image in seen]), np.array(features), count)
    return Suggestions(tuple(seen[number] for number in order), len(seen) + failed, failed)


def _judged(path: Path, frames: Sequence[FrameRecord], model: Model) -> Suggested:
    cells = sum(frame.n_cells or 0 for frame in frames)
    if cells and sum(len(frame.confidences) for frame in frames) != cells:
        raise UsageError(
            f"{model.path} gives no confidences of cells: suggest needs a model whose network classifies pixels"
        )
    return Suggested(path, cells, sum(frame.doubtful for frame in frames))


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
