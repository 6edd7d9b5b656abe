"""Thresholds of a trained model on other images: kept, unless a search finds clearly better ones."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from unetbio.postprocessing.instances import PostProcessing
from unetbio.targets.base import Annotation, Validation
from unetbio.targets.cells import CellLearner

__all__ = ["tune_from", "tuned"]

CLEARLY_BETTER = 0.005
"""Gain in the deciding score, from which thresholds are changed: half the random error over some thousand cells."""


def tuned(
    kept: PostProcessing | None,
    learner: CellLearner,
    probabilities: Sequence[NDArray[np.float32]],
    label_images: Sequence[Annotation],
) -> Validation:
    """Thresholds for probabilities ``(K, *spatial)``: near to those of a model to start from, or the best ones."""
    return (
        learner.tune(probabilities, label_images)
        if kept is None
        else tune_from(kept, learner, probabilities, label_images)
    )


def tune_from(
    settings: PostProcessing,
    learner: CellLearner,
    probabilities: Sequence[NDArray[np.float32]],
    label_images: Sequence[Annotation],
) -> Validation:
    """Thresholds for probabilities ``(K, *spatial)`` that stay as near to the given ones as they can.

    The given ones are kept; or they are kept with another least share of certain pixels, or all are searched, where
    that is clearly better.
    """
    found = learner.score(settings, probabilities, label_images)
    for search in (partial(learner.tune_certain, settings), learner.tune):
        other = search(probabilities, label_images)
        if other.scores[learner.deciding_score] - found.scores[learner.deciding_score] > CLEARLY_BETTER:
            found = other
    return found
