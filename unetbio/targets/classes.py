"""Class of each pixel; a pixel has the weight of its class."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import UsageError
from unetbio.labels import resize_nearest
from unetbio.measurement.frame_summary import describe_classes
from unetbio.metrics.classes import ClassComparison, compare_classes
from unetbio.preprocessing.selection import ImageSelection
from unetbio.provenance import FrameRecord
from unetbio.settings.segmentation import Settings
from unetbio.settings.training import TrainingConfig
from unetbio.supervision.annotations import UNANNOTATED, name_classes, number_classes
from unetbio.targets.base import Annotation, Finished, Supervision, Target, Validation, register
from unetbio.targets.pixels import PixelDecoder, PixelLearner

__all__ = ["ClassDecoder", "ClassLearner"]

PLACES_A_CLASS = 64
"""Places of a class that each image offers for patches."""


class ClassLearner(PixelLearner):
    """Training half.

    Parameters
    ----------
    config : TrainingConfig
        With target classes.
    label_images : sequence of ndarray
        Class masks of training and validation; their values are the classes, unless the settings name these.

    Raises
    ------
    UsageError
        When the masks hold one class alone.
    """

    def __init__(self, config: TrainingConfig, label_images: Sequence[Annotation]) -> None:
        super().__init__(config)
        self.class_names = name_classes(config, label_images)

    deciding_score = "mean_IoU"
    place_name = "places"

    def count(self, label_image: Annotation) -> NDArray[np.int64]:
        """See `Learner`."""
        return np.bincount(label_image.ravel(), minlength=UNANNOTATED + 1)[: len(self.class_names)]

    def places(self, label_image: Annotation) -> NDArray[np.float64]:
        """As many pixels of each class but the background, evenly spread: a rare class is seen as often as any."""
        chosen = [np.empty(0, np.intp)]
        for number in range(1, len(self.class_names)):
            pixels = np.flatnonzero(label_image == number)
            chosen.append(pixels[:: max(1, math.ceil(len(pixels) / PLACES_A_CLASS))])
        return np.stack(np.unravel_index(np.concatenate(chosen), label_image.shape), axis=-1).astype(np.float64)

    def encode(
        self, label_image: Annotation, class_weights: Sequence[float], spacing: tuple[float, ...] | None
    ) -> Supervision:
        """See `Learner`."""
        table = np.zeros(UNANNOTATED + 1, np.float32)
        table[: len(class_weights)] = class_weights
        target = np.where(label_image == UNANNOTATED, 0, label_image)
        return target.astype(np.int64), table[label_image]

    def tune(self, probabilities: Iterable[NDArray[np.float32]], label_images: Sequence[Annotation]) -> Validation:
        """Intersection over union of each class, pooled over the images; the mean over classes decides."""
        pooled = ClassComparison(np.zeros((1, 1), np.int64))
        for array, label_image in zip(probabilities, label_images, strict=True):
            pooled += compare_classes(array.argmax(axis=0), label_image, ignore_label=UNANNOTATED, boundaries=False)
        scores = pooled.scores(self.class_names)
        if math.isnan(scores[self.deciding_score]):
            scores[self.deciding_score] = 0.0  # without annotated pixels this score is not used
        known = {name: score for name, score in scores.items() if not math.isnan(score)}
        return Validation(known)

    def cell_diameter(self, label_images: Sequence[Annotation]) -> None:
        """See `Learner`: there are no cells."""


class ClassDecoder(PixelDecoder):
    """Inference half: the most probable class of each pixel; classes that are not chosen become background."""

    def record(self, settings: Settings) -> dict[str, Any]:
        """See `Decoder`."""
        for_cells = settings.cell_options
        if for_cells:
            option = for_cells[0].replace("_", "-")
            raise UsageError(f"model {self.info.name} segments classes, not cells: leave out --{option}")
        unknown = [name for name in settings.classes if name not in self.info.class_names]
        if unknown:
            raise UsageError(
                f"model {self.info.name} has no class {unknown[0]!r}: give some of {', '.join(self.info.class_names)}"
            )
        return settings.record(self.info.normalization, None)

    def check_limits(self, opened: ImageSelection) -> None:
        """See `Decoder`: there are no cells."""

    def decide(self, image: NDArray[np.float32], opened: ImageSelection, **options: Any) -> NDArray[np.uint8]:
        """The class of each pixel of the grid."""
        from unetbio.inference import prediction

        crf = opened.settings.crf_values()
        if crf is None:
            return prediction.decide_classes(image, self.runner, area=opened.within, **options)
        classes: NDArray[np.intp] = self._refined(image, crf, area=opened.within, **options).argmax(axis=0)
        return classes.astype(np.uint8)

    def decide_constant(self, opened: ImageSelection) -> NDArray[np.uint8]:
        """See `Decoder`."""
        return np.zeros(opened.grid, dtype=np.uint8)

    def finish(self, decided: NDArray[np.uint8], opened: ImageSelection) -> Finished:
        """See `Decoder`."""
        chosen = opened.settings.classes
        if chosen:
            names = self.info.class_names
            kept = np.array([number if name in chosen else 0 for number, name in enumerate(names)], np.uint8)
            decided = kept[decided]
        return Finished(decided if decided.shape == opened.shape else resize_nearest(decided, opened.shape))

    def smallest_area(self, opened: ImageSelection) -> float:
        """See `Decoder`."""
        return 0

    def describe(self, finished: Finished, t: int | None) -> FrameRecord:
        """See `Decoder`."""
        return describe_classes(finished.labels, t, self.info.class_names)

    def run_record(self, opened: ImageSelection) -> dict[str, Any]:
        """See `Decoder`."""
        return {"class_names": list(self.info.class_names)}


def _check(config: TrainingConfig) -> None:
    if config.split_components:
        raise UsageError("split_components makes cells of masks: it needs target: instances")


register(
    Target(
        name="classes",
        summary="the class of each pixel",
        masks="classes",
        annotate=number_classes,
        check=_check,
        learner=ClassLearner,
        decoder=ClassDecoder,
    )
)
