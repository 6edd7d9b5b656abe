"""Validation of a training: run its network over the validation images, choose thresholds, and score it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from unetbio.postprocessing.instances import PostProcessing
from unetbio.preprocessing import normalization
from unetbio.settings.training import TrainingConfig
from unetbio.targets.base import Annotation, Learner, Validation
from unetbio.targets.cells import has_thresholds
from unetbio.training.data.dataset import Example
from unetbio.training.thresholds import tuned, with_training_images

__all__ = ["Validator"]


@dataclass
class Validator:
    """Judges the networks of a training.

    Parameters
    ----------
    examples : sequence of Example
        The validation images, as they are learned.
    config, learner
        Settings of the training, and the training half of its target.
    running : dict
        How the network runs: ``device, exact, window`` of `Learner.validate`.
    kept : PostProcessing, optional
        Thresholds of the model to start from; they stay unless others are clearly better.
    """

    examples: Sequence[Example]
    config: TrainingConfig
    learner: Learner
    running: dict[str, Any]
    kept: PostProcessing | None = None

    @property
    def label_images(self) -> list[Annotation]:
        """Of the validation images, as they are predicted."""
        return [example.label_image for example in self.examples]

    def validate(self, network: nn.Module) -> Validation:
        """Thresholds and scores of a network on the validation images."""
        if has_thresholds(self.learner):
            return tuned(self.kept, self.learner, self.predict_cells(network), self.label_images)
        return self.learner.validate(network, _scaled(self.examples), self.label_images, **self.running)

    def predict_cells(self, network: nn.Module, examples: Sequence[Example] | None = None) -> list[NDArray[np.float32]]:
        """Probabilities ``(K, *spatial)`` of the validation images, or of others, for targets of cells."""
        if not has_thresholds(self.learner):
            raise TypeError(f"target {self.config.target} gives no probabilities of cells")
        shown = self.examples if examples is None else examples
        return list(self.learner.predict(network, _scaled(shown), **self.running))

    def settle(
        self, best: Validation, network: nn.Module, training: Sequence[Example], report: Callable[[str], None]
    ) -> Validation:
        """The best validation, with thresholds of training images too where few cells validate."""
        if not has_thresholds(self.learner):
            return best
        shown = with_training_images(self.examples, training, self.config)
        count = len(self.examples)
        if len(shown) == count:
            return best
        label_images = [example.label_image for example in shown]
        probabilities = self.predict_cells(network, shown)
        settings = tuned(self.kept, self.learner, probabilities, label_images).postprocessing
        more = len(shown) - count
        report(
            f"few cells validate, so thresholds are searched on {more} training image{'s' * (more > 1)} too; scores "
            "are of the validation images"
        )
        return self.learner.score(settings, probabilities[:count], label_images[:count])


def _scaled(examples: Sequence[Example]) -> Iterator[NDArray[np.float32]]:
    """Normalized images, one at a time."""
    return (normalization.apply(example.image, example.scaling) for example in examples)
