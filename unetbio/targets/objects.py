"""Cells as objects with scores and boxes, for networks that find objects."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import UsageError
from unetbio.measurement.frame_summary import describe_labels
from unetbio.postprocessing.objects import (
    SCORE_THRESHOLD,
    ObjectSettings,
    ObjectTable,
    resize_objects,
    select_objects,
)
from unetbio.preprocessing.selection import ImageSelection
from unetbio.provenance import FrameRecord
from unetbio.settings.area_limits import smallest_area
from unetbio.settings.segmentation import Settings
from unetbio.supervision.annotations import number_cells
from unetbio.supervision.thresholds import score_cells
from unetbio.targets.base import Annotation, Batch, Finished, Supervision, Target, Validation, register
from unetbio.targets.cells import check_cells, mask_annotated
from unetbio.targets.instances import InstanceLearner

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from unetbio.inference.executors import Progress
    from unetbio.inference.objects import FoundObjects
    from unetbio.models.model_file import ModelInfo

__all__ = ["SCORE_THRESHOLDS", "ObjectDecoder", "ObjectLearner"]

SCORE_THRESHOLDS = (SCORE_THRESHOLD, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9)
"""Tried on validation images; of equals the first counts."""


class ObjectLearner(InstanceLearner):
    """Training half: the network gets ids, and computes boxes, masks and the loss itself."""

    has_probabilities = False

    def count(self, label_image: Annotation) -> NDArray[np.int64]:
        """See `Learner`; classes are not balanced, so that all count alike."""
        return np.ones(len(self.class_names), np.int64)

    def encode(
        self, label_image: Annotation, class_weights: Sequence[float], spacing: tuple[float, ...] | None
    ) -> Supervision:
        """See `Learner`: ids, and a weight of 1 where the image is annotated."""
        from skimage.measure import label as connected  # here, since only training needs it

        # Beyond the border of its image a patch is mirrored: a cell and its mirror image are two.
        annotated = mask_annotated(label_image, label_image, self.config)
        objects = connected(annotated, background=0, connectivity=label_image.ndim)
        weight_map = mask_annotated(np.ones(label_image.shape, np.float32), label_image, self.config)
        return objects.astype(np.int64), weight_map

    def loss(self, network: "nn.Module", batch: Batch) -> "Tensor":
        """See `Learner`; the network has its own."""
        finder: Any = network
        loss: Tensor = finder.loss(batch.image, batch.target, weight_map=batch.weight_map)
        return loss

    def validate(
        self,
        network: "nn.Module",
        images: Iterable[NDArray[np.float32]],
        label_images: Sequence[Annotation],
        *,
        device: "torch.device",
        exact: bool,
        window: tuple[int, ...],
    ) -> Validation:
        """Run the network once and try thresholds of the score; the mean AP over IoU .5 to .95 decides."""
        from unetbio.inference.objects import TorchDetector, find_objects, merge_objects

        detector = TorchDetector(network, device)
        found = [find_objects(image, detector) for image in images]

        def score(settings: ObjectSettings) -> Validation:
            merged = [merge_objects(one, score_threshold=settings.score_threshold) for one in found]
            return Validation(self.score_merged(merged, label_images), objects=settings)

        tried = (score(ObjectSettings(score_threshold=threshold)) for threshold in SCORE_THRESHOLDS)
        return max(tried, key=lambda validation: validation.scores[self.deciding_score])

    def score_merged(
        self, found: Sequence[tuple[Annotation, ObjectTable]], label_images: Sequence[Annotation]
    ) -> dict[str, float]:
        """Scores of the label images of `merge_objects`, each with its table."""
        truth = [self.annotated(label_image, label_image) for label_image in label_images]
        pairs = zip(found, label_images, strict=True)
        return score_cells((self.annotated(labels, label_image) for (labels, _), label_image in pairs), truth)

    def annotated(self, array: Annotation, label_image: Annotation) -> Annotation:
        """Zeros where the label image is not annotated."""
        return mask_annotated(array, label_image, self.config)


class ObjectDecoder:
    """Inference half: objects of overlapping windows are merged (`unetbio.inference.objects`)."""

    has_probabilities = False

    def __init__(
        self,
        info: "ModelInfo",
        network: "nn.Module",
        device: "torch.device",
        *,
        exact: bool,
        backend: str,
        precision: str,
    ) -> None:
        from unetbio.inference.backends.base import DEFAULT, FLOAT32
        from unetbio.inference.objects import TorchDetector

        if backend != DEFAULT:
            raise UsageError(f"model {info.name} finds objects, which backend {backend} cannot: leave out --backend")
        if precision != FLOAT32:
            raise UsageError(f"model {info.name} finds objects, and does so in float32 alone: leave out --precision")
        self.info = info
        self.runner = TorchDetector(network, device)

    def record(self, settings: Settings) -> dict[str, Any]:
        """See `Decoder`."""
        if settings.crf is not None:
            raise UsageError(
                f"model {self.info.name} finds objects, and the CRF needs the probabilities of pixels: leave out --crf"
            )
        if settings.classes:
            raise UsageError(f"model {self.info.name} finds cells, it has no classes to choose: leave out --classes")
        if settings.min_certain is not None:
            raise UsageError(
                f"model {self.info.name} finds objects and has no probabilities of pixels: leave out --min-certain"
            )
        return settings.record(self.info.normalization, None, self._model_settings)

    def check_limits(self, opened: ImageSelection) -> None:
        """See `Decoder`."""
        self._settings(opened)

    def decide(
        self,
        image: NDArray[np.float32],
        opened: ImageSelection,
        *,
        tile: int | None,
        memory_budget: int | None,
        probabilities_out: NDArray[np.float32] | None,
        progress: "Progress | None",
    ) -> "FoundObjects":
        """Objects of each window, of any score."""
        from unetbio.inference.objects import find_objects
        from unetbio.inference.sliding_window import WINDOW

        return find_objects(image, self.runner, window=tile or WINDOW, progress=progress)

    def decide_constant(self, opened: ImageSelection) -> "FoundObjects":
        """See `Decoder`."""
        import torch

        from unetbio.inference.objects import FoundObjects
        from unetbio.networks.detection import Objects

        rows, columns = opened.grid
        nothing = Objects(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 1, 1))
        return FoundObjects((rows, columns), ((0,), (0,)), (rows, columns), (nothing,))

    def run_once(self, tile: NDArray[np.float32]) -> None:
        """See `Decoder`."""
        import torch

        self.runner.find_objects(torch.from_numpy(tile))

    def finish(self, decided: "FoundObjects", opened: ImageSelection) -> Finished:
        """See `Decoder`; boxes are in pixels of the image."""
        from unetbio.inference.objects import merge_objects

        settings = self._settings(opened)
        found = merge_objects(decided, score_threshold=settings.score_threshold, mask_threshold=settings.mask_threshold)
        within = None if opened.within is None else opened.within(())
        labels, objects = select_objects(*found, settings, within)
        if labels.shape != opened.shape:
            labels, objects = resize_objects(labels, objects, opened.shape)
        return Finished(labels, objects)

    def smallest_area(self, opened: ImageSelection) -> float:
        """See `Decoder`."""
        return smallest_area(opened.settings.min_area, self._model_settings, math.prod(opened.zoom))

    def describe(self, finished: Finished, t: int | None) -> FrameRecord:
        """See `Decoder`."""
        return describe_labels(finished.labels, t)

    def run_record(self, opened: ImageSelection) -> dict[str, Any]:
        """See `Decoder`."""
        return {"objects": asdict(self._settings(opened))}

    @property
    def _model_settings(self) -> ObjectSettings:
        return self.info.objects or ObjectSettings()

    def _settings(self, opened: ImageSelection) -> ObjectSettings:
        return opened.settings.objects(self._model_settings, math.prod(opened.zoom))


register(
    Target(
        name="instances",
        summary="cells, as objects with boxes and scores",
        masks="instances",
        annotate=number_cells,
        check=check_cells,
        learner=ObjectLearner,
        decoder=ObjectDecoder,
        output="objects",
    )
)
