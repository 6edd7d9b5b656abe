"""Base of targets that make cells from the probabilities of pixels.

A threshold on the probability of a cell gives the foreground, further thresholds give the seeds, and
`unetbio.postprocessing.instances` makes cells from them.
"""

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import UsageError
from unetbio.labels import LabelImage
from unetbio.measurement.frame_summary import describe_labels, equivalent_diameter
from unetbio.metrics.instances import match
from unetbio.postprocessing import instances
from unetbio.postprocessing.bands import RowArray, planes_of
from unetbio.postprocessing.instances import PostProcessing
from unetbio.postprocessing.resizing import resize_cells, resize_rows
from unetbio.preprocessing.selection import ImageSelection
from unetbio.provenance import FrameRecord
from unetbio.settings.area_limits import smallest_area
from unetbio.settings.segmentation import Settings
from unetbio.settings.training import TrainingConfig
from unetbio.supervision import weight_maps
from unetbio.supervision.confidence import Knots, fit_confidence
from unetbio.supervision.thresholds import DECIDING_SCORE, score_cells, search_certain, search_thresholds
from unetbio.targets.base import Annotation, Finished, Learner, Supervision, Validation
from unetbio.targets.pixels import PixelDecoder, PixelLearner

if TYPE_CHECKING:
    import torch
    from torch import nn

    from unetbio.models.model_file import ModelInfo

__all__ = [
    "CellClasses",
    "CellDecisions",
    "CellDecoder",
    "CellLearner",
    "check_background_is_learned",
    "check_cells",
    "has_thresholds",
    "mask_annotated",
    "median_diameter",
]

MOST_IGNORED = 2**16 - 1
"""Largest ignored label: tables have a row for each number up to it."""


@dataclass(frozen=True)
class CellClasses:
    """Classes of pixels that form cells.

    Parameters
    ----------
    names : tuple of str
        Of all classes, the background first.
    mask, seeds, centres : tuple of int
        Classes whose probabilities are added, for the mask threshold, the seed thresholds and the centre thresholds.
        Without classes of centres there are no centre thresholds.
    """

    names: tuple[str, ...]
    mask: tuple[int, ...]
    seeds: tuple[int, ...]
    centres: tuple[int, ...] = ()

    def of_planes(self, settings: PostProcessing) -> list[tuple[int, ...]]:
        """Classes whose probabilities are added, for each threshold."""
        seeds, centres = (len(of) for of in (settings.seed_thresholds, settings.centre_thresholds))
        certain = [self.mask] if settings.min_certain else []
        return [self.mask, *[self.seeds] * seeds, *[self.centres] * centres, *certain]

    def decide(self, probabilities: NDArray[np.float32], settings: PostProcessing) -> NDArray[np.bool_]:
        """A plane of bits a threshold, of ``(K, *spatial)``, as float32 has it."""
        from unetbio.inference.exact_decisions import AtLeast

        rule = AtLeast(settings.thresholds, tuple(self.of_planes(settings)))
        planes: NDArray[np.bool_] = rule.classify_pixels(probabilities, 0.0)[0]
        return planes

    def label(self, probabilities: NDArray[np.float32], settings: PostProcessing) -> LabelImage:
        """The cells in ``(K, *spatial)``."""
        return instances.label(self.decide(probabilities, settings), settings)


@dataclass(frozen=True)
class CellDecisions:
    """Decided planes on the grid of an image, and the probability of a cell.

    Parameters
    ----------
    bits : array of bool
        One plane a threshold, ``(len(thresholds), *grid)``.
    probability : array of uint8
        Of a cell in each pixel of the grid, in 255ths.
    classes : ndarray of uint8, optional
        Class of the cell of each pixel, where cells have classes.
    """

    bits: Any
    probability: Any
    classes: NDArray[np.uint8] | None = None


class CellLearner(PixelLearner):
    """Training half; the validation searches the thresholds that separate and outline cells best."""

    classes: CellClasses
    deciding_score = DECIDING_SCORE
    place_name = "cells"
    has_probabilities = True

    @property
    def class_names(self) -> tuple[str, ...]:
        """See `Learner`."""
        return self.classes.names

    @abstractmethod
    def classify(self, label_image: Annotation, spacing: tuple[float, ...] | None) -> NDArray[np.int64]:
        """The class of each pixel; 0 where it is not annotated."""

    @abstractmethod
    def encode(
        self, label_image: Annotation, class_weights: Sequence[float], spacing: tuple[float, ...] | None
    ) -> Supervision:
        """See `Learner`."""

    def weigh(
        self, label_image: Annotation, class_weights: Sequence[float], spacing: tuple[float, ...] | None
    ) -> NDArray[np.float32]:
        """The weight map of arXiv 1505.04597, equation 2, with weights of background and cell."""
        return weight_maps.weight_map(
            label_image,
            class_weights=class_weights,
            border_weight=self.config.border_weight,
            border_sigma=self.config.border_sigma,
            spacing=spacing,
            ignore_label=self.config.ignore_label,
        )

    def part(self, label_image: Annotation) -> NDArray[np.bool_]:
        """Pixels of cells, with a gap between cells that touch; none where nothing is annotated."""
        ignored = self.config.ignore_label
        mask: NDArray[np.bool_] = weight_maps.force_gap(label_image, ignore_label=ignored) > 0
        return mask if ignored is None else mask & (label_image != ignored)

    def count(self, label_image: Annotation) -> NDArray[np.int64]:
        """See `Learner`."""
        counts = np.bincount(self.classify(label_image, None).ravel(), minlength=len(self.class_names))
        if self.config.ignore_label is not None:
            counts[0] -= np.count_nonzero(label_image == self.config.ignore_label)
        return counts

    def places(self, label_image: Annotation) -> NDArray[np.float64]:
        """The centre of each cell's bounding box."""
        from scipy import ndimage  # here, since only training needs it

        boxes = enumerate(ndimage.find_objects(label_image), start=1)
        centres = [
            [(side.start + side.stop - 1) / 2 for side in box]
            for label, box in boxes
            if box is not None and label != self.config.ignore_label
        ]
        return np.array(centres, np.float64).reshape(-1, label_image.ndim)

    def tune(self, probabilities: Iterable[NDArray[np.float32]], label_images: Sequence[Annotation]) -> Validation:
        """Search the thresholds for probabilities ``(K, *spatial)``; the mean AP over IoU .5 to .95 decides."""
        probabilities = list(probabilities)
        annotated, truth = self._annotated(probabilities, label_images)
        found = search_thresholds(annotated, truth, self.classes.label, has_centres=bool(self.classes.centres))
        return self.score(found.postprocessing, probabilities, label_images)

    def tune_certain(
        self,
        settings: PostProcessing,
        probabilities: Sequence[NDArray[np.float32]],
        label_images: Sequence[Annotation],
    ) -> Validation:
        """Search the least share of certain pixels alone, for probabilities ``(K, *spatial)``."""
        found = search_certain(settings, *self._annotated(probabilities, label_images), self.classes.label)
        return self.score(found, probabilities, label_images)

    def score(
        self,
        settings: PostProcessing,
        probabilities: Sequence[NDArray[np.float32]],
        label_images: Sequence[Annotation],
    ) -> Validation:
        """Score probabilities ``(K, *spatial)`` with given thresholds, and calibrate the confidences."""
        annotated, truth = self._annotated(probabilities, label_images)
        predicted = [self.classes.label(array, settings) for array in annotated]
        # Confidences also hold for --min-certain 0, so they are calibrated on all cells.
        keep_all = replace(settings, min_certain=0)
        every = [self.classes.label(array, keep_all) for array in annotated] if settings.min_certain else predicted
        knots = self._fit_confidence(annotated, every, truth)
        return Validation(score_cells(predicted, truth), settings, confidence=knots)

    def _annotated(
        self, probabilities: Sequence[NDArray[np.float32]], label_images: Sequence[Annotation]
    ) -> tuple[list[NDArray[np.float32]], list[NDArray[np.integer]]]:
        """Probabilities and truth with zeros where nothing is annotated."""
        pairs = zip(probabilities, label_images, strict=True)
        annotated = [mask_annotated(array, label_image, self.config) for array, label_image in pairs]
        return annotated, [mask_annotated(label_image, label_image, self.config) for label_image in label_images]

    def _fit_confidence(
        self,
        probabilities: Sequence[NDArray[np.float32]],
        predicted: Sequence[LabelImage],
        truth: Sequence[NDArray[np.integer]],
    ) -> Knots:
        from unetbio.inference.exact_decisions import add_classes
        from unetbio.inference.prediction import round_to_bytes

        means: list[float] = []
        right: list[bool] = []
        for array, labels, label_image in zip(probabilities, predicted, truth, strict=True):
            rounded = round_to_bytes(add_classes(array, self.classes.mask))
            means += describe_labels(labels, None, rounded).confidences
            matched = np.isin(np.arange(1, int(labels.max()) + 1), match(labels, label_image).pairs[:, 0])
            right += matched.tolist()
        return fit_confidence(means, right)

    def cell_diameter(self, label_images: Sequence[Annotation]) -> float | None:
        """See `Learner`."""
        return median_diameter(label_images, self.config)


def has_thresholds(learner: Learner) -> TypeGuard[CellLearner]:
    """Whether a network's probabilities of pixels become cells by thresholds; it may also find objects itself."""
    return isinstance(learner, CellLearner) and learner.has_probabilities


class CellDecoder(PixelDecoder):
    """Inference half: thresholds, seeds, growth (`unetbio.postprocessing.instances`).

    Parameters
    ----------
    classes : CellClasses
        Of the target.
    info, network, device, **how
        As of `PixelDecoder`.
    """

    streams = True
    """Whether images larger than memory can be decided and finished in parts."""

    def __init__(
        self,
        classes: CellClasses,
        info: "ModelInfo",
        network: "nn.Module",
        device: "torch.device",
        **how: Any,
    ) -> None:
        super().__init__(info, network, device, **how)
        self.classes = classes

    def record(self, settings: Settings) -> dict[str, Any]:
        """See `Decoder`."""
        if settings.classes:
            raise UsageError(f"model {self.info.name} segments cells, it has no classes to choose: leave out --classes")
        return settings.record(self.info.normalization, self.info.postprocessing)

    def check_limits(self, opened: ImageSelection) -> None:
        """See `Decoder`."""
        self._postprocessing(opened)

    def decide(self, image: NDArray[np.float32], opened: ImageSelection, **options: Any) -> CellDecisions:
        """One plane of bits a threshold, and the probability of a cell."""
        settings, crf = self._postprocessing(opened), opened.settings.crf_values()
        if crf is None:
            return self._decide(image, settings.thresholds, self.classes.of_planes(settings), opened, **options)
        return self._decide_refined(self._refined(image, crf, area=opened.wanted, **options), settings)

    def _decide_refined(self, refined: NDArray[np.float32], settings: PostProcessing) -> CellDecisions:
        """Decisions by the probabilities after the CRF."""
        from unetbio.inference.exact_decisions import add_classes
        from unetbio.inference.prediction import round_to_bytes

        cell = add_classes(refined, self.classes.mask)
        return CellDecisions(self.classes.decide(refined, settings), round_to_bytes(cell))

    def look(
        self, image: NDArray[np.float32], opened: ImageSelection, **options: Any
    ) -> tuple[CellDecisions, RowArray]:
        """Decide as `decide` does without a CRF; and planes that tell the scale, ``(P, *grid)``.

        The model's own thresholds decide these, and the last one holds the pixels that are certain to be of a cell.
        """
        # Scaled limits may fit no model at a coarse zoom, and `label_look` does without them.
        without_limits = replace(opened.settings, min_area=None, max_area=None)
        asked = without_limits.postprocessing(self.info.postprocessing)
        own = replace(self.info.postprocessing, min_certain=1)
        planes = len(asked.thresholds)
        # The planes asked for are among the model's own, unless another threshold is given.
        first = 0 if own.thresholds[:planes] == asked.thresholds else planes
        thresholds = (*asked.thresholds[:first], *own.thresholds)
        classes = [*self.classes.of_planes(asked)[:first], *self.classes.of_planes(own)]
        decided = self._decide(image, thresholds, classes, opened, **options)
        seen = planes_of(decided.bits, slice(first, None))
        return replace(decided, bits=planes_of(decided.bits, slice(planes))), seen

    def label_look(self, seen: RowArray, opened: ImageSelection) -> RowArray:
        """Cells on the grid, all that the model finds: the settings do not decide the scale."""
        settings = replace(self.info.postprocessing, exclude_border=False, min_certain=0)
        planes = planes_of(seen, slice(len(settings.thresholds)))
        return instances.label_in_bands(planes, settings, rows=opened.rows, allocate=opened.allocate)

    def _decide(
        self,
        image: NDArray[np.float32],
        thresholds: Sequence[float],
        classes: Sequence[tuple[int, ...]],
        opened: ImageSelection,
        **options: Any,
    ) -> CellDecisions:
        from unetbio.inference.prediction import decide

        rounded = opened.allocate(tuple(image.shape[1:]), np.uint8)
        of_image = {"allocate": opened.allocate, "finished": opened.finished, "area": opened.wanted}
        more = {"rounded_out": rounded, **of_image, **options}
        return CellDecisions(decide(image, self.runner, thresholds, classes=classes, **more), rounded)

    def decide_constant(self, opened: ImageSelection) -> CellDecisions:
        """See `Decoder`."""
        planes = len(self._postprocessing(opened).thresholds)
        return CellDecisions(opened.allocate((planes, *opened.grid), np.bool_), opened.allocate(opened.grid, np.uint8))

    def finish(self, decided: CellDecisions, opened: ImageSelection) -> Finished:
        """See `Decoder`; ids rise in raster order."""
        settings, area = self._postprocessing(opened), opened.grid_area
        in_parts: Any = {"rows": opened.rows, "allocate": opened.allocate}
        cells = instances.label_in_bands(decided.bits, settings, area=area, **in_parts)
        labels: Any = resize_cells(cells, opened.shape, **in_parts)
        probability: Any = resize_rows(decided.probability, opened.shape, **in_parts)
        return Finished(labels, probability=probability)

    def smallest_area(self, opened: ImageSelection) -> float:
        """See `Decoder`."""
        return smallest_area(opened.settings.min_area, self.info.postprocessing, math.prod(opened.zoom))

    def describe(self, finished: Finished, t: int | None) -> FrameRecord:
        """See `Decoder`."""
        return describe_labels(finished.labels, t, finished.probability, self.info.confidence)

    def run_record(self, opened: ImageSelection) -> dict[str, Any]:
        """See `Decoder`."""
        calibration = {"confidence": [list(knot) for knot in self.info.confidence]} if self.info.confidence else {}
        return {"postprocessing": self._postprocessing(opened).as_record(), **calibration}

    def _postprocessing(self, opened: ImageSelection) -> PostProcessing:
        return opened.settings.postprocessing(self.info.postprocessing, math.prod(opened.zoom))


def check_cells(config: TrainingConfig) -> None:
    """Refuse settings that apply to classes alone, and an ignored label that makes tables by id large.

    Raises
    ------
    UsageError
        When ``class_names`` or ``class_values`` are given, or ``ignore_label`` is 0 or above `MOST_IGNORED`.
    """
    check_background_is_learned(config)
    if config.ignore_label is not None and config.ignore_label > MOST_IGNORED:
        raise UsageError(
            f"ignore_label {config.ignore_label}: with target: {config.target} it must be at most {MOST_IGNORED}; mark "
            "unannotated pixels with a smaller number"
        )
    given = [name for name in ("class_names", "class_values") if getattr(config, name)]
    if given:
        raise UsageError(
            f"{' and '.join(given)} need target: classes; with target: {config.target}, cells have numbers"
        )


def check_background_is_learned(config: TrainingConfig) -> None:
    """Refuse the number of the background as the ignored label.

    Raises
    ------
    UsageError
        When ``ignore_label`` is 0.
    """
    if config.ignore_label == 0:
        raise UsageError(
            f"ignore_label 0: with target: {config.target} 0 is the background, which has to be learned; mark "
            "unannotated pixels with another number, such as 255"
        )


def mask_annotated(array: NDArray[Any], label_image: Annotation, config: TrainingConfig) -> NDArray[Any]:
    """``array`` with zeros where the label image has the ignored label."""
    ignored = config.ignore_label
    return array if ignored is None else np.where(label_image == ignored, 0, array)


def median_diameter(label_images: Sequence[Annotation], config: TrainingConfig) -> float | None:
    """Diameter of a disc, or a ball, of as many pixels as the median cell; None without cells."""
    counts = [np.bincount(mask_annotated(one, one, config).ravel())[1:] for one in label_images]
    pixels = np.concatenate(counts)
    if not pixels.any():
        return None
    return equivalent_diameter(float(np.median(pixels[pixels > 0])), label_images[0].ndim)
