"""Thresholds of a trained model on other images: kept, unless a search finds clearly better ones."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unetbio.postprocessing.instances import PostProcessing
from unetbio.targets.base import Annotation, Validation
from unetbio.targets.cells import CellLearner

__all__ = ["tune_from"]

CLEARLY_BETTER = 0.005
"""Gain in the deciding score, from which thresholds are changed: half the random error over some thousand cells."""


def tune_from(
    settings: PostProcessing,
    learner: CellLearner,
    probabilities: Sequence[NDArray[np.float32]],
    label_images: Sequence[Annotation],
) -> Validation:
    """Search thresholds for probabilities ``(K, *spatial)``; keep the given ones unless others are clearly better."""
    kept = learner.score(settings, probabilities, label_images)
    found = learner.tune(probabilities, label_images)
    gain = found.scores[learner.deciding_score] - kept.scores[learner.deciding_score]
    return found if gain > CLEARLY_BETTER else kept
