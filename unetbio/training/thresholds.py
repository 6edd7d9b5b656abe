"""Thresholds of a trained model on other images: kept, unless a search finds clearly better ones."""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from unetbio.postprocessing.instances import PostProcessing
from unetbio.settings.training import TrainingConfig
from unetbio.targets.base import Annotation, Validation
from unetbio.targets.cells import CellLearner, mask_annotated
from unetbio.training.data.dataset import Example, as_learned, ranked_examples

__all__ = ["tune_from", "tuned", "with_training_images"]

CLEARLY_BETTER = 0.005
"""Least gain in the deciding score, from which thresholds are changed."""

ERROR_OF_A_CELL = 0.4
"""Random error of a score near .8 over one cell; over so many it is divided by the root of their number."""

MOST_PIXELS = 1 << 22
"""Pixels of training images that are looked at: what takes longer than half a minute is left out."""

ENOUGH_CELLS = 1000
"""Cells on which thresholds are searched, where there are as many: with 117, of two images, those of a network that
started from `nuclei` scored .761 on other images, those of `nuclei` itself .790."""


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
    that is clearly better: by more than the random error.
    """
    found = learner.score(settings, probabilities, label_images)
    error = ERROR_OF_A_CELL / math.sqrt(max(1, sum(map(count_cells, label_images))))
    for search in (partial(learner.tune_certain, settings), learner.tune):
        other = search(probabilities, label_images)
        gain = other.scores[learner.deciding_score] - found.scores[learner.deciding_score]
        if gain > max(CLEARLY_BETTER, error):
            found = other
    return found


def with_training_images(
    held: Sequence[Example], training: Sequence[Example], config: TrainingConfig
) -> Sequence[Example]:
    """Validation images, and training images beside them until there are `ENOUGH_CELLS`.

    A network knows its training images, but thresholds that fit a few cells by chance are worse.
    """

    def cells_of(example: Example) -> int:
        return count_cells(mask_annotated(example.label_image, example.label_image, config))

    shown, cells, left = list(held), sum(map(cells_of, held)), MOST_PIXELS
    for example in ranked_examples(training):
        if cells >= ENOUGH_CELLS:
            break
        seen = as_learned(example, config.augmentation)
        if seen.label_image.size <= left:
            shown.append(seen)
            cells, left = cells + cells_of(seen), left - seen.label_image.size
    return shown


def count_cells(label_image: Annotation) -> int:
    """Number of ids, the background aside."""
    return int(np.count_nonzero(np.unique(label_image)))
