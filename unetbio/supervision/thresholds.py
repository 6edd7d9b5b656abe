"""Search for the thresholds that separate and outline cells best, on validation images."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from unetbio.metrics.instances import THRESHOLDS, average_precision
from unetbio.postprocessing.instances import PostProcessing

__all__ = ["DECIDING_SCORE", "USUAL_SHARE", "SearchResult", "score_cells", "search_certain", "search_thresholds"]

DECIDING_SCORE = "mean_AP"
"""AP averaged over IoU .5 to .95: of two settings that separate cells alike, the better outlines decide."""

FOUND = "AP@.5"
"""Score that counts cells as found from an IoU of .5 on."""

MASK_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
SEED_THRESHOLDS: tuple[tuple[float, ...], ...] = (
    (0.5,),
    (0.5, 0.7, 0.9),
    (0.6,),
    (0.6, 0.75, 0.9),
    (0.7,),
    (0.7, 0.8, 0.9),
    (0.8,),
    (0.8, 0.9),
)
# Shares of the median cell: smaller cells are specks, smaller parts at a rising threshold do not split a cell.
CENTRE_THRESHOLDS: tuple[tuple[float, ...], ...] = ((), (0.3,), (0.5,), (0.7,), (0.5, 0.7, 0.9))
SPECK_FRACTIONS = (0.0, 0.01, 0.02, 0.04, 0.07, 0.1)
PART_FRACTIONS = (0.0, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3)
# Half the random error of the score of some thousand cells. Users can drop specks later but not recover cells, so the
# smallest of equally good sizes is chosen.
TOLERANCE = 0.005
CERTAIN_SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)
"""Least shares of certain pixels that are tried."""

USUAL_SHARE = 0.05
"""The one that is taken where none is clearly better: annotated images seldom show the haze and noise of others."""

Score = Callable[[PostProcessing], dict[str, float]]
Label = Callable[[NDArray[np.float32], PostProcessing], NDArray[np.integer]]


@dataclass(frozen=True)
class SearchResult:
    """The best settings, and their scores on the images of the search."""

    postprocessing: PostProcessing
    scores: dict[str, float]


def search_thresholds(
    probabilities: Sequence[NDArray[np.float32]],
    label_images: Sequence[NDArray[np.integer]],
    label: Label,
    *,
    has_centres: bool = False,
) -> SearchResult:
    """Try mask and seed thresholds together, then the smallest cell and part, then the thresholds once more.

    In the end cells with few certain pixels are dropped. `DECIDING_SCORE` decides; of the smallest cells that score
    alike, the smallest is taken, and of the shares of certain pixels the lowest, at least `USUAL_SHARE`; none that
    lowers AP@.5 is taken.

    Parameters
    ----------
    probabilities : sequence of ndarray of float32
        ``(K, *spatial)``, the probabilities of each image.
    label_images : sequence of ndarray of int
        ``(*spatial)``, the truth.
    label : callable
        From the probabilities of an image, with settings, to its label image.
    has_centres : bool
        Try centre thresholds too.

    Returns
    -------
    SearchResult
        Ties go to the settings tried first. Where no image holds a cell nothing can be chosen, and these are the
        defaults.
    """

    def score(settings: PostProcessing) -> dict[str, float]:
        return score_cells((label(array, settings) for array in probabilities), label_images)

    median_area = _median_area(label_images)
    if median_area is None:
        return SearchResult(PostProcessing(), score(PostProcessing()))
    specks = [fraction * median_area for fraction in SPECK_FRACTIONS]
    parts = [max(1, round(fraction * median_area)) for fraction in PART_FRACTIONS]

    def best_thresholds(settings: PostProcessing) -> SearchResult:
        found = _best(_with_thresholds(settings), score)
        if not has_centres:
            return found
        with_centres = (replace(found.postprocessing, centre_thresholds=tried) for tried in CENTRE_THRESHOLDS)
        return _best(with_centres, score)

    best = best_thresholds(PostProcessing(min_area=specks[2], min_seed_area=parts[2])).postprocessing
    # Of small cells several shares are one pixel.
    pairs = itertools.product(specks, dict.fromkeys(parts))
    sizes = (replace(best, min_area=speck, min_seed_area=part) for speck, part in pairs)
    best = _best(sizes, score).postprocessing
    found = best_thresholds(best)
    smaller = (speck for speck in specks if speck < found.postprocessing.min_area)
    kept = (replace(found.postprocessing, min_area=speck) for speck in smaller)
    # Those that drop the fewest cells come first.
    found = _like_the_best([*(SearchResult(each, score(each)) for each in kept), found])[0]
    return _with_certain(found.postprocessing, score)


def search_certain(
    settings: PostProcessing,
    probabilities: Sequence[NDArray[np.float32]],
    label_images: Sequence[NDArray[np.integer]],
    label: Label,
) -> PostProcessing:
    """Try least shares of certain pixels for given thresholds, as `search_thresholds` does in the end.

    Parameters
    ----------
    settings : PostProcessing
        All else.
    probabilities, label_images, label
        See `search_thresholds`.
    """

    def score(tried: PostProcessing) -> dict[str, float]:
        return score_cells((label(array, tried) for array in probabilities), label_images)

    return _with_certain(settings, score).postprocessing


def _with_certain(settings: PostProcessing, score: Score) -> SearchResult:
    tried = (replace(settings, min_certain=share) for share in CERTAIN_SHARES)
    results = [SearchResult(each, score(each)) for each in tried]
    # Where a share drops more right cells than wrong ones at IoU .5, new images would lose more still.
    harmless = [each for each in results if each.scores[FOUND] >= results[0].scores[FOUND]]
    alike = _like_the_best(harmless)
    return next((each for each in alike if each.postprocessing.min_certain >= USUAL_SHARE), alike[0])


def _like_the_best(results: Sequence[SearchResult]) -> list[SearchResult]:
    """Results that score like the best, in their order."""
    best = max(each.scores[DECIDING_SCORE] for each in results)
    return [each for each in results if each.scores[DECIDING_SCORE] >= best - TOLERANCE]


def _with_thresholds(settings: PostProcessing) -> Iterator[PostProcessing]:
    for mask, seeds in itertools.product(MASK_THRESHOLDS, SEED_THRESHOLDS):
        if seeds[0] >= mask:
            yield replace(settings, mask_threshold=mask, seed_thresholds=seeds)


def _best(
    candidates: Iterable[PostProcessing],
    score: Score,
) -> SearchResult:
    results = (SearchResult(settings, score(settings)) for settings in candidates)
    return max(results, key=lambda result: result.scores[DECIDING_SCORE])


def score_cells(
    predicted: Iterable[NDArray[np.integer]], label_images: Sequence[NDArray[np.integer]]
) -> dict[str, float]:
    """Scores of label images, by name; `DECIDING_SCORE` is among them."""
    precisions = average_precision(predicted, label_images)
    at = dict(zip(THRESHOLDS, precisions, strict=True))
    return {DECIDING_SCORE: float(np.mean(precisions)), FOUND: at[0.5], "AP@.75": at[0.75]}


def _median_area(label_images: Sequence[NDArray[np.integer]]) -> float | None:
    areas = np.concatenate([np.bincount(label_image.ravel())[1:] for label_image in label_images])
    areas = areas[areas > 0]
    return float(np.median(areas)) if len(areas) else None
