"""What a network learns: cells, cells as objects with boxes, or the class of each pixel.

A `Task` is all that training has to know of the difference: what a patch's supervision is, how the network is asked and
what the loss is, how a validation scores, and what the model file says afterwards. What comes after the network when an
image is segmented is in `unetbio.targets.interpretation`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label as connected
from torch import Tensor, nn

from unetbio import networks
from unetbio.errors import UsageError
from unetbio.inference.backends.torch import TorchPredictor
from unetbio.inference.objects import TorchDetector, find_objects, merge_objects
from unetbio.inference.prediction import predict
from unetbio.metrics.classes import ClassComparison, compare_classes
from unetbio.postprocessing.instances import PostProcessing
from unetbio.postprocessing.objects import SCORE_THRESHOLD, ObjectSettings
from unetbio.settings.training import TrainingConfig
from unetbio.supervision import weight_maps
from unetbio.supervision.annotations import UNANNOTATED, name_classes
from unetbio.supervision.losses import LOSSES
from unetbio.supervision.thresholds import DECIDING_SCORE, score_cells, search_thresholds

__all__ = ["Batch", "ClassTask", "InstanceTask", "ObjectTask", "Task", "Validation", "choose_task"]

LabelImage = NDArray[np.integer]
Supervision = tuple[NDArray[np.int64], NDArray[np.float32]]

PLACES_A_CLASS = 64
"""Places of a class that each image offers for patches."""


SCORE_THRESHOLDS = (SCORE_THRESHOLD, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9)
"""Tried on validation images; of equals the first counts."""


class Batch(NamedTuple):
    """Patches, on the device of the network.

    Parameters
    ----------
    image : torch.Tensor
        ``(N, C, *input)`` float32.
    target : torch.Tensor
        ``(N, *output)`` int64: what the task's supervision says of each pixel.
    weight_map : torch.Tensor
        ``(N, *output)`` float32.
    """

    image: Tensor
    target: Tensor
    weight_map: Tensor


@dataclass(frozen=True)
class Validation:
    """Scores on images that were not trained on, and the thresholds they were reached with."""

    scores: dict[str, float]
    postprocessing: PostProcessing = field(default_factory=PostProcessing)
    objects: ObjectSettings | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Validation":
        """Undo `as_json`."""
        objects = content.get("objects")
        return cls(
            content["scores"],
            PostProcessing(**content["postprocessing"]),
            None if objects is None else ObjectSettings(**objects),
        )


class Task(Protocol):
    """What training asks; label images are as `unetbio.supervision.annotations.read_annotation` gives them."""

    class_names: tuple[str, ...]
    """What the channels of the network's output mean."""

    deciding_score: str
    """Name of the score by which the best network is chosen."""

    place_name: str
    """What `places` are called in the model file."""

    def count(self, label_image: LabelImage) -> NDArray[np.int64]:
        """Pixels of each class, ``(K,)``; those that nobody annotated are not counted."""

    def places(self, label_image: LabelImage) -> NDArray[np.float64]:
        """Places worth a patch, ``(n, ndim)`` in pixels."""

    def supervision(
        self, label_image: LabelImage, class_weights: Sequence[float], spacing: tuple[float, ...] | None
    ) -> Supervision:
        """The class of each pixel, or the id of its object, and its weight, both of the label image's shape.

        ``spacing`` is the length of a step along each axis, in in-plane pixels.
        """

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """Run the network in training mode and say how wrong it is, a scalar."""

    def validate(
        self,
        network: nn.Module,
        images: Iterable[NDArray[np.float32]],
        label_images: Sequence[LabelImage],
        *,
        device: torch.device,
        exact: bool,
        window: tuple[int, ...],
    ) -> Validation:
        """Score a network on annotated images, ``(C, *spatial)`` and normalised.

        The network is copied and run in evaluation mode: where ``exact`` over exact tiles, else over such a ``window``.
        """

    def describe(self, label_images: Sequence[LabelImage]) -> dict[str, Any]:
        """Fields of the model file that follow from what was learned."""


class _PixelTask:
    """What all tasks share in which a network classifies pixels."""

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """See `Task`; each of the network's answers counts with its share (`unetbio.networks.training_logits`)."""
        loss = LOSSES[self.config.loss]
        outputs = networks.training_logits(network, batch.image)
        return torch.stack([share * loss(logits, batch.target, batch.weight_map) for logits, share in outputs]).sum()


class InstanceTask(_PixelTask):
    """Cells: background between neighbours weighs most, and thresholds are found that part and outline them best."""

    class_names: tuple[str, ...] = ("background", "cell")
    deciding_score = DECIDING_SCORE
    place_name = "cells"

    def count(self, label_image: LabelImage) -> NDArray[np.int64]:
        """See `Task`."""
        cell = np.count_nonzero(self._class_mask(label_image))
        ignored = 0 if self.config.ignore_label is None else np.count_nonzero(label_image == self.config.ignore_label)
        return np.array([label_image.size - cell - ignored, cell], np.int64)

    def places(self, label_image: LabelImage) -> NDArray[np.float64]:
        """The centre of each cell's bounding box."""
        boxes = enumerate(ndimage.find_objects(label_image), start=1)
        centres = [
            [(side.start + side.stop - 1) / 2 for side in box]
            for label, box in boxes
            if box is not None and label != self.config.ignore_label
        ]
        return np.array(centres, np.float64).reshape(-1, label_image.ndim)

    def supervision(
        self, label_image: LabelImage, class_weights: Sequence[float], spacing: tuple[float, ...] | None
    ) -> Supervision:
        """See `Task`; the weight map is that of arXiv 1505.04597, equation 2."""
        weight_map = weight_maps.weight_map(
            label_image,
            class_weights=class_weights,
            border_weight=self.config.border_weight,
            border_sigma=self.config.border_sigma,
            spacing=spacing,
            ignore_label=self.config.ignore_label,
        )
        return self._class_mask(label_image).astype(np.int64), weight_map

    def validate(
        self,
        network: nn.Module,
        images: Iterable[NDArray[np.float32]],
        label_images: Sequence[LabelImage],
        *,
        device: torch.device,
        exact: bool,
        window: tuple[int, ...],
    ) -> Validation:
        """Search the thresholds; the mean AP over IoU .5 to .75 decides."""
        predictor = TorchPredictor(network, device, exact=exact, window=window)
        truth = [self._annotated(label_image, label_image) for label_image in label_images]
        probabilities = [
            self._annotated(predict(image, predictor)[1], label_image)
            for image, label_image in zip(images, label_images, strict=True)
        ]
        found = search_thresholds(probabilities, truth)
        return Validation(found.scores, found.postprocessing)

    def describe(self, label_images: Sequence[LabelImage]) -> dict[str, Any]:
        """See `Task`: how large the cells are."""
        areas = np.concatenate(
            [np.bincount(self._annotated(label_image, label_image).ravel())[1:] for label_image in label_images]
        )
        areas = areas[areas > 0]
        return {"cell_diameter_px": _diameter(float(np.median(areas)), label_images[0].ndim) if len(areas) else None}

    def _class_mask(self, label_image: LabelImage) -> NDArray[np.bool_]:
        ignored = self.config.ignore_label
        mask: NDArray[np.bool_] = weight_maps.force_gap(label_image, ignore_label=ignored) > 0
        return mask if ignored is None else mask & (label_image != ignored)

    def _annotated(self, array: NDArray[Any], label_image: LabelImage) -> NDArray[Any]:
        """``array`` with zeros where nobody annotated."""
        ignored = self.config.ignore_label
        return array if ignored is None else np.where(label_image == ignored, 0, array)


class ObjectTask(InstanceTask):
    """Cells for a network that finds objects: it gets their ids and looks for boxes and masks by itself."""

    def count(self, label_image: LabelImage) -> NDArray[np.int64]:
        """See `Task`; classes are not balanced, so that all count alike."""
        return np.ones(len(self.class_names), np.int64)

    def supervision(
        self, label_image: LabelImage, class_weights: Sequence[float], spacing: tuple[float, ...] | None
    ) -> Supervision:
        """See `Task`: ids, and a weight of 1 where somebody annotated."""
        # Beyond the border of its image a patch is mirrored: a cell and its mirror image are two.
        objects = connected(self._annotated(label_image, label_image), background=0, connectivity=label_image.ndim)
        weight_map = self._annotated(np.ones(label_image.shape, np.float32), label_image)
        return objects.astype(np.int64), weight_map

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """See `Task`; the network has its own."""
        finder: Any = network
        loss: Tensor = finder.loss(batch.image, batch.target, weight_map=batch.weight_map)
        return loss

    def validate(
        self,
        network: nn.Module,
        images: Iterable[NDArray[np.float32]],
        label_images: Sequence[LabelImage],
        *,
        device: torch.device,
        exact: bool,
        window: tuple[int, ...],
    ) -> Validation:
        """Run the network once and try thresholds of the score; the mean AP over IoU .5 to .75 decides."""
        detector = TorchDetector(network, device)
        truth = [self._annotated(label_image, label_image) for label_image in label_images]
        found = [find_objects(image, detector) for image in images]

        def score(settings: ObjectSettings) -> Validation:
            predicted = (
                self._annotated(merge_objects(one, score_threshold=settings.score_threshold)[0], label_image)
                for one, label_image in zip(found, label_images, strict=True)
            )
            return Validation(score_cells(predicted, truth), objects=settings)

        tried = (score(ObjectSettings(score_threshold=threshold)) for threshold in SCORE_THRESHOLDS)
        return max(tried, key=lambda validation: validation.scores[self.deciding_score])


class ClassTask(_PixelTask):
    """The class of each pixel; a pixel weighs what its class weighs.

    Parameters
    ----------
    config : TrainingConfig
        With target classes.
    class_names : tuple of str
        Of all classes, the background first.
    """

    deciding_score = "mean_IoU"
    place_name = "places"

    def __init__(self, config: TrainingConfig, class_names: tuple[str, ...]) -> None:
        super().__init__(config)
        self.class_names = class_names

    def count(self, label_image: LabelImage) -> NDArray[np.int64]:
        """See `Task`."""
        return np.bincount(label_image.ravel(), minlength=UNANNOTATED + 1)[: len(self.class_names)]

    def places(self, label_image: LabelImage) -> NDArray[np.float64]:
        """As many pixels of each class but the background, evenly spread: a rare class is seen as often as any."""
        chosen = [np.empty(0, np.intp)]
        for number in range(1, len(self.class_names)):
            pixels = np.flatnonzero(label_image == number)
            chosen.append(pixels[:: max(1, math.ceil(len(pixels) / PLACES_A_CLASS))])
        return np.stack(np.unravel_index(np.concatenate(chosen), label_image.shape), axis=-1).astype(np.float64)

    def supervision(
        self, label_image: LabelImage, class_weights: Sequence[float], spacing: tuple[float, ...] | None
    ) -> Supervision:
        """See `Task`."""
        table = np.zeros(UNANNOTATED + 1, np.float32)
        table[: len(class_weights)] = class_weights
        target = np.where(label_image == UNANNOTATED, 0, label_image)
        return target.astype(np.int64), table[label_image]

    def validate(
        self,
        network: nn.Module,
        images: Iterable[NDArray[np.float32]],
        label_images: Sequence[LabelImage],
        *,
        device: torch.device,
        exact: bool,
        window: tuple[int, ...],
    ) -> Validation:
        """Intersection over union of each class, pooled over the images; the mean over classes decides."""
        predictor = TorchPredictor(network, device, exact=exact, window=window)
        pooled = ClassComparison(np.zeros((1, 1), np.int64))
        for image, label_image in zip(images, label_images, strict=True):
            classes = predict(image, predictor).argmax(axis=0)
            pooled += compare_classes(classes, label_image, ignore_label=UNANNOTATED, boundaries=False)
        scores = pooled.scores(self.class_names)
        if math.isnan(scores[self.deciding_score]):
            scores[self.deciding_score] = 0.0  # nothing is annotated, so nothing is chosen by it
        known = {name: score for name, score in scores.items() if not math.isnan(score)}
        return Validation(known)

    def describe(self, label_images: Sequence[LabelImage]) -> dict[str, Any]:
        """See `Task`."""
        return {"target": "classes", "class_names": self.class_names}


def choose_task(config: TrainingConfig, label_images: Sequence[LabelImage]) -> Task:
    """The task of a training run.

    Parameters
    ----------
    config : TrainingConfig
        Says which.
    label_images : sequence of ndarray
        All that is trained and validated on; they tell what classes there are, where the settings do not.

    Raises
    ------
    UsageError
        When the masks hold one class alone, or the network cannot learn what they hold.
    """
    finds_objects = networks.find(config.network).output == "objects"
    if finds_objects and config.target == "classes":
        raise UsageError(
            f"{config.network} finds objects and cannot learn target: classes; choose another network, or target: "
            "instances"
        )
    if finds_objects:
        return ObjectTask(config)
    if config.target == "classes":
        return ClassTask(config, name_classes(config, label_images))
    return InstanceTask(config)


def _diameter(area: float, ndim: int) -> float:
    """Of a disc, or a ball, of this many pixels."""
    return 2 * math.sqrt(area / math.pi) if ndim == 2 else 2 * (3 * area / (4 * math.pi)) ** (1 / 3)
