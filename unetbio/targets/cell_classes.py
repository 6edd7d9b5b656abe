"""Cells with classes: which pixels are cells, and of which class each cell is.

The network gives each pixel a probability of background and of each class of cells. Cells come from the sum over their
classes, as those of `unetbio.targets.instances` do, and background between neighbouring cells weighs most. The pixels
of a cell vote on its class, as in HoVer-Net (Graham et al. 2019, arXiv 1812.06499); votes are decided exactly, so that
tiles change no class.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import UsageError
from unetbio.labels import LabelImage, relabel_raster, resize_nearest
from unetbio.metrics.cell_classes import ClassedCells, compare_classed
from unetbio.postprocessing.cell_classes import class_table
from unetbio.postprocessing.instances import PostProcessing
from unetbio.preprocessing.selection import ImageSelection
from unetbio.provenance import CELL_CLASSES, FrameRecord
from unetbio.settings.segmentation import Settings
from unetbio.settings.training import TrainingConfig
from unetbio.supervision.annotations import CLASS_BASE, classes_of_cells
from unetbio.targets.base import Annotation, Finished, Supervision, Target, Validation, register
from unetbio.targets.cells import CellClasses, CellDecisions, CellDecoder, CellLearner, check_background_is_learned

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from unetbio.models.model_file import ModelInfo

__all__ = [
    "CellClassDecoder",
    "CellClassLearner",
    "check_cell_classes",
    "classed_truth",
    "count_classes",
    "keep_numbers",
    "score_classes",
]


def _classes(names: Sequence[str]) -> CellClasses:
    of_cells = tuple(range(1, len(names)))
    return CellClasses(tuple(names), mask=of_cells, seeds=of_cells)


class CellClassLearner(CellLearner):
    """Training half; label images are those of `unetbio.supervision.annotations.number_cell_classes`.

    The loss weighs outlines and classes apart (`unetbio.supervision.losses.cell_class_cross_entropy`): background and
    cells weigh alike and the border term is added, and ``class_weighting`` balances the classes of cells.
    """

    deciding_score = "class_mean_AP"

    def __init__(self, config: TrainingConfig, label_images: Sequence[Annotation] = ()) -> None:
        super().__init__(config, label_images)
        self.classes = _classes(config.class_names)

    def classify(self, label_image: Annotation, spacing: tuple[float, ...] | None) -> NDArray[np.int64]:
        """See `CellLearner`; cells that touch get a gap."""
        return np.where(self.part(label_image), classes_of_cells(label_image), 0)

    def encode(
        self, label_image: Annotation, class_weights: Sequence[float], spacing: tuple[float, ...] | None
    ) -> Supervision:
        """See `Learner`; the weights are two planes, of the outline and of the class."""
        classes = self.classify(label_image, spacing)
        outline = self.weigh(label_image, (1.0, 1.0), spacing)
        return classes, np.stack([outline, np.array(class_weights, np.float32)[classes] * (outline > 0)])

    def count(self, label_image: Annotation) -> NDArray[np.int64]:
        """See `Learner`; the background does not count, since classes of cells are balanced among themselves."""
        counts = np.bincount(self.classify(label_image, None).ravel(), minlength=len(self.class_names))
        counts[0] = 0
        return counts

    def loss_of_logits(self, logits: "Tensor", target: "Tensor", weight_map: "Tensor") -> "Tensor":
        """See `PixelLearner`."""
        from unetbio.supervision.losses import CELL_CLASS_LOSSES

        return CELL_CLASS_LOSSES[self.config.loss](logits, target, weight_map)

    def score(
        self,
        settings: PostProcessing,
        probabilities: Sequence[NDArray[np.float32]],
        label_images: Sequence[Annotation],
    ) -> Validation:
        """Score cells and their classes; the mean over classes of the mean AP decides."""
        validation = super().score(settings, probabilities, label_images)
        annotated, truth = self._annotated(probabilities, label_images)
        predicted = [self._classed(array, settings) for array in annotated]
        scores = score_classes(predicted, [classed_truth(one, self.class_names) for one in truth], self.class_names)
        return replace(validation, scores={**validation.scores, **scores})

    def _classed(self, probabilities: NDArray[np.float32], settings: PostProcessing) -> ClassedCells:
        labels = self.classes.label(probabilities, settings)
        return labels, _names_by_id(labels, _most_probable(probabilities, settings.mask_threshold), self.class_names)


def score_classes(
    predicted: Sequence[ClassedCells], truth: Sequence[ClassedCells], class_names: Sequence[str]
) -> dict[str, float]:
    """Scores of a validation that depend on the classes of cells, pooled over images."""
    compared = [compare_classed(*pair) for pair in zip(predicted, truth, strict=True)]
    pooled = sum(compared[1:], start=compared[0]).scores()
    chosen = ["class_mean_AP", "class_accuracy", *(f"F1@.5 {name}" for name in class_names[1:])]
    return {name: 0.0 if math.isnan(value := pooled.get(name, math.nan)) else value for name in chosen}


def _most_probable(probabilities: NDArray[np.float32], mask_threshold: float) -> NDArray[np.uint8]:
    """The most probable class of cells where cells are probable, ``(*spatial)``; 0 elsewhere."""
    from unetbio.inference.exact_decisions import AtLeast, CellsAndClasses

    of_cells = tuple(range(1, len(probabilities)))
    rule = CellsAndClasses(AtLeast((mask_threshold,), (of_cells,)))
    classes: NDArray[np.uint8] = rule.classify_pixels(probabilities, 0.0)[0][-1]
    return classes


def _names_by_id(labels: LabelImage, classes: NDArray[np.uint8], class_names: Sequence[str]) -> dict[int, str]:
    table = class_table(labels, classes, class_names)
    return dict(zip(table["label"].tolist(), table["class"].tolist(), strict=True))


def classed_truth(label_image: Annotation, class_names: Sequence[str]) -> ClassedCells:
    """Cells with their classes, of a label image of `unetbio.supervision.annotations.number_cell_classes`."""
    labels = relabel_raster(label_image)
    return labels, _names_by_id(labels, classes_of_cells(label_image).astype(np.uint8), class_names)


class CellClassDecoder(CellDecoder):
    """Inference half: cells as `CellDecoder` makes them, and the class that most of the pixels of each have."""

    streams = False

    def __init__(self, info: "ModelInfo", network: "nn.Module", device: "torch.device", **how: Any) -> None:
        super().__init__(_classes(info.class_names), info, network, device, **how)

    def record(self, settings: Settings) -> dict[str, Any]:
        """See `Decoder`."""
        return {**super().record(settings), CELL_CLASSES: list(self.info.class_names[1:])}

    def finish(self, decided: CellDecisions, opened: ImageSelection) -> Finished:
        """See `Decoder`; ids rise in raster order."""
        finished = super().finish(decided, opened)
        return replace(finished, classes=resize_nearest(_present(decided.classes), opened.shape))

    def describe(self, finished: Finished, t: int | None) -> FrameRecord:
        """See `Decoder`."""
        record = super().describe(finished, t)
        return record.model_copy(update={"class_counts": count_classes(finished, self.info.class_names)})

    def decide_constant(self, opened: ImageSelection) -> CellDecisions:
        """See `Decoder`."""
        return replace(super().decide_constant(opened), classes=np.zeros(opened.grid, np.uint8))

    def _decide(
        self,
        image: NDArray[np.float32],
        thresholds: Sequence[float],
        classes: Sequence[tuple[int, ...]],
        opened: ImageSelection,
        **options: Any,
    ) -> CellDecisions:
        from unetbio.inference.prediction import decide_cells_and_classes

        rounded: Any = opened.allocate(image.shape[1:], np.uint8)
        more = {"rounded_out": rounded, "area": opened.wanted, **options}
        bits, of_cells = decide_cells_and_classes(image, self.runner, thresholds, classes=classes, **more)
        return CellDecisions(bits, rounded, of_cells)

    def _decide_refined(self, refined: NDArray[np.float32], settings: PostProcessing) -> CellDecisions:
        """See `CellDecoder`."""
        decided = super()._decide_refined(refined, settings)
        return replace(decided, classes=_most_probable(refined, settings.mask_threshold))


def count_classes(finished: Finished, class_names: Sequence[str]) -> dict[str, int]:
    """Number of cells of each class, by its name."""
    table = finished.table(class_names)
    # In a stack that was segmented section by section an object has a row for each section.
    found = [] if table is None else table["class"][np.unique(table["label"], return_index=True)[1]].tolist()
    return {name: found.count(name) for name in class_names[1:]}


def _present(classes: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    if classes is None:
        raise ValueError("decisions of this target hold the classes of cells")
    return classes


def check_cell_classes(config: TrainingConfig) -> None:
    """Refuse settings that do not apply.

    Raises
    ------
    UsageError
        When values of classes are given, masks are split, the ignored label is that of the background or could be a
        cell with a class, or there are names for less than two classes of cells.
    """
    check_background_is_learned(config)
    if config.class_values:
        raise UsageError("class_values are for target: classes; with target: cell_classes a table names the classes")
    if config.split_components:
        raise UsageError("split_components gives cells new numbers, which the table of their classes does not know")
    if config.ignore_label is not None and config.ignore_label >= CLASS_BASE:
        raise UsageError(
            f"ignore_label {config.ignore_label}: with target: cell_classes it must be below {CLASS_BASE}; mark "
            "unannotated pixels with another value, such as 255"
        )
    if config.class_names and len(config.class_names) < 3:
        raise UsageError(
            f"class_names {', '.join(config.class_names)}: target: cell_classes needs the background and at least two "
            "classes of cells; for one class use target: instances"
        )


def keep_numbers(mask: Annotation, config: TrainingConfig) -> Annotation:
    """Return the numbers, which hold the classes already."""
    return mask


register(
    Target(
        name="cell_classes",
        summary="cells, and the class (cell type) of each",
        masks="instances",
        annotate=keep_numbers,
        check=check_cell_classes,
        learner=CellClassLearner,
        decoder=CellClassDecoder,
        has_cell_classes=True,
    )
)
