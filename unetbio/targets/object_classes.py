"""Cells with classes as objects, for networks that find objects: a box, a class, a score and a mask each."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unetbio.postprocessing.objects import ObjectTable
from unetbio.preprocessing.selection import ImageSelection
from unetbio.provenance import CELL_CLASSES, FrameRecord
from unetbio.settings.segmentation import Settings
from unetbio.settings.training import TrainingConfig
from unetbio.supervision.annotations import CLASS_BASE, classes_of_cells
from unetbio.targets.base import Annotation, Batch, Finished, Supervision, Target, register
from unetbio.targets.cell_classes import (
    check_cell_classes,
    classed_truth,
    count_classes,
    keep_numbers,
    score_classes,
)
from unetbio.targets.objects import ObjectDecoder, ObjectLearner

if TYPE_CHECKING:
    from torch import Tensor, nn

    from unetbio.inference.objects import FoundObjects

__all__ = ["ObjectClassDecoder", "ObjectClassLearner"]


class ObjectClassLearner(ObjectLearner):
    """Training half; label images are those of `unetbio.supervision.annotations.number_cell_classes`."""

    deciding_score = "class_mean_AP"

    def __init__(self, config: TrainingConfig, label_images: Sequence[Annotation] = ()) -> None:
        super().__init__(config, label_images)
        self.names = config.class_names

    @property
    def class_names(self) -> tuple[str, ...]:
        """See `Learner`."""
        return self.names

    def encode(
        self, label_image: Annotation, class_weights: Sequence[float], spacing: tuple[float, ...] | None
    ) -> Supervision:
        """See `ObjectLearner`; ids hold the class, as those of the label image."""
        objects, weight_map = super().encode(label_image, class_weights, spacing)
        return np.where(objects > 0, CLASS_BASE * objects + classes_of_cells(label_image), 0), weight_map

    def loss(self, network: "nn.Module", batch: Batch) -> "Tensor":
        """See `ObjectLearner`."""
        finder: Any = network
        loss: Tensor = finder.loss(
            batch.image, batch.target, class_masks=batch.target % CLASS_BASE, weight_map=batch.weight_map
        )
        return loss

    def score_merged(
        self, found: Sequence[tuple[NDArray[Any], ObjectTable]], label_images: Sequence[Annotation]
    ) -> dict[str, float]:
        """Scores of cells and of their classes."""
        predicted = [
            (self.annotated(labels, one), _by_id(table, self.names))
            for (labels, table), one in zip(found, label_images, strict=True)
        ]
        truth = [classed_truth(self.annotated(one, one), self.names) for one in label_images]
        return {**super().score_merged(found, label_images), **score_classes(predicted, truth, self.names)}


def _by_id(table: ObjectTable, names: Sequence[str]) -> dict[int, str]:
    return {number: names[of] for number, of in zip(table["label"].tolist(), table["class"].tolist(), strict=True)}


class ObjectClassDecoder(ObjectDecoder):
    """Inference half: the table of objects names their classes."""

    def record(self, settings: Settings) -> dict[str, Any]:
        """See `Decoder`."""
        return {**super().record(settings), CELL_CLASSES: list(self.info.class_names[1:])}

    def finish(self, decided: "FoundObjects", opened: ImageSelection) -> Finished:
        """See `Decoder`."""
        finished = super().finish(decided, opened)
        table = finished.objects or {}
        return replace(finished, objects={**table, "class": np.array(self.info.class_names)[table["class"]]})

    def describe(self, finished: Finished, t: int | None) -> FrameRecord:
        """See `Decoder`."""
        record = super().describe(finished, t)
        return record.model_copy(update={"class_counts": count_classes(finished, self.info.class_names)})


register(
    Target(
        name="cell_classes",
        summary="cells, as objects with boxes, scores and classes",
        masks="instances",
        annotate=keep_numbers,
        check=check_cell_classes,
        learner=ObjectClassLearner,
        decoder=ObjectClassDecoder,
        output="objects",
        has_cell_classes=True,
    )
)
