"""Scores and costs of a trained network on images."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from time import perf_counter
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unetbio import networks, targets
from unetbio.compare.oracle import oracle_iou, output_stride
from unetbio.compare.sizes import average_precision_by_size, size_borders
from unetbio.inference.backends.base import Predictor
from unetbio.inference.backends.torch import TorchPredictor
from unetbio.inference.objects import Detector, TorchDetector, predict_objects
from unetbio.inference.prediction import predict
from unetbio.labels import LabelImage, resize_nearest
from unetbio.metrics.instances import compare
from unetbio.models.model_file import ModelInfo
from unetbio.postprocessing.instances import PostProcessing
from unetbio.postprocessing.objects import ObjectSettings
from unetbio.preprocessing import normalization
from unetbio.settings.training import TrainingConfig
from unetbio.targets.cells import CellLearner, mask_annotated
from unetbio.training.data.dataset import Example, as_learned

__all__ = ["Measurement", "MeteredPredictor", "measure"]

Refinement = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Measurement:
    """Scores and costs of a network.

    Parameters
    ----------
    label_images : list of ndarray
        Predicted cells of each image, on its pixels.
    scores : dict
        Scores and costs by name, of all images together; see `unetbio.compare.table.COLUMNS`.
    images : list of dict
        Scores of each image.
    postprocessing : PostProcessing, optional
        Thresholds of the cells; None for a network that finds objects.
    size_borders_px : tuple of float
        Areas that separate small, medium and large cells.
    """

    label_images: list[LabelImage]
    scores: dict[str, float | str]
    images: list[dict[str, float]]
    postprocessing: PostProcessing | None
    size_borders_px: tuple[float, float]


class MeteredPredictor(TorchPredictor):
    """A predictor that measures the cost of its passes in float32.

    Attributes
    ----------
    seconds : float
        Time in the network.
    work : int
        Multiply-adds.
    memory : int
        Peak bytes of feature maps of a pass.
    """

    def __init__(self, network: nn.Module, device: torch.device | str = "cpu", **options: Any) -> None:
        super().__init__(network, device, **options)
        self.reset()

    def reset(self) -> None:
        """Forget all passes."""
        self.seconds, self.work, self.memory = 0.0, 0, 0

    def probabilities(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `TorchPredictor.probabilities`."""
        start = perf_counter()
        probabilities = super().probabilities(batch)
        self.seconds += perf_counter() - start
        self.work += len(batch) * self.multiply_adds(batch.shape[2:])
        self.memory = max(self.memory, len(batch) * self.memory_bytes(batch.shape[2:]))
        return probabilities


def measure(
    network: nn.Module,
    info: ModelInfo,
    validation: Sequence[Example],
    scored: Sequence[Example],
    config: TrainingConfig,
    device: torch.device,
    refine: Refinement | None = None,
) -> Measurement:
    """Run a trained network over images and measure all scores and costs of a comparison.

    The network sees images as in its training (`as_learned`); what it finds is scored on their own pixels.

    Parameters
    ----------
    network, info
        A trained network and its description.
    validation : sequence of Example
        Images for a new search of the thresholds, which a refinement needs.
    scored : sequence of Example
        Images to measure.
    config : TrainingConfig
        Settings of the training, for the ignored label and the scale of images.
    device : torch.device
        Device of the network.
    refine : callable, optional
        Step after the network, from probabilities ``(K, *spatial)`` and normalised image ``(C, *spatial)`` to
        probabilities.
    """
    architecture = networks.find(info.architecture)
    finds_objects = architecture.output == "objects"
    stride = None if finds_objects else output_stride(architecture.path(info.network_parameters()))
    is_exact = architecture.is_tiled_exactly(info.network_parameters())
    seen = [as_learned(example, config.augmentation) for example in scored]
    if finds_objects:
        found = _find_objects(TorchDetector(network, device), info.objects or ObjectSettings(), seen, config)
    else:
        # Targets of other masks are refused (`unetbio.compare.variants`).
        learner = cast(CellLearner, targets.of_model(info).learner(config, []))
        predictor = MeteredPredictor(network, device, exact=is_exact, window=info.window)
        postprocessing = info.postprocessing
        if refine is not None:
            # Refined probabilities are sharper and need other thresholds.
            held = [as_learned(example, config.augmentation) for example in validation]
            refined = [_run(example, predictor, refine)[0] for example in held]
            postprocessing = learner.tune(refined, [example.label_image for example in held]).postprocessing
        found = _find_cells(predictor, seen, learner, postprocessing, refine)
    label_images = [_on_image(one, example, config) for one, example in zip(found.label_images, scored, strict=True)]
    truth = _truth(scored, config)
    borders = size_borders(truth)
    comparisons = [
        compare(one, true, annotated=_annotated(example, config))
        for one, true, example in zip(label_images, truth, scored, strict=True)
    ]
    scores = (
        _qualities(reduce(add, comparisons).scores(), _truth(seen, config), stride)
        | {f"AP@.5_{size}": ap for size, ap in average_precision_by_size(label_images, truth, borders).items()}
        | _costs(network, found, sum(true.size for true in truth))
        | {"exact_tiling": "yes" if is_exact else "no"}
        | {"steps": info.training["steps"], "seconds_trained": info.training["seconds"]}
    )
    images = [comparison.scores() for comparison in comparisons]
    return Measurement(label_images, scores, images, found.postprocessing, borders)


@dataclass(frozen=True)
class _Found:
    """Label images, as the network saw the images, and their costs; unknown work and memory are NaN."""

    label_images: list[LabelImage]
    postprocessing: PostProcessing | None
    seconds: float
    work: float = math.nan
    memory: float = math.nan


def _find_cells(
    predictor: MeteredPredictor,
    examples: Sequence[Example],
    learner: CellLearner,
    postprocessing: PostProcessing,
    refine: Refinement | None,
) -> _Found:
    _run(examples[0], predictor, refine)  # The first pass is slower: memory, compilation, choice of kernels.
    predictor.reset()
    label_images, refining = [], 0.0
    for example in examples:
        probabilities, seconds = _run(example, predictor, refine)
        refining += seconds
        annotated = mask_annotated(probabilities, example.label_image, learner.config)
        label_images.append(learner.classes.label(annotated, postprocessing))
    return _Found(label_images, postprocessing, predictor.seconds + refining, predictor.work, predictor.memory)


def _find_objects(
    detector: Detector, settings: ObjectSettings, examples: Sequence[Example], config: TrainingConfig
) -> _Found:
    images = [normalization.apply(example.image, example.scaling) for example in examples]
    find = partial(
        predict_objects,
        network=detector,
        score_threshold=settings.score_threshold,
        mask_threshold=settings.mask_threshold,
    )
    find(images[0])  # The first pass is slower.
    start = perf_counter()
    found = [find(image)[0] for image in images]
    seconds = perf_counter() - start
    kept = [mask_annotated(one, example.label_image, config) for one, example in zip(found, examples, strict=True)]
    return _Found(kept, None, seconds)


def _qualities(
    pooled: Mapping[str, float], truth: Sequence[NDArray[np.integer]], stride: int | None
) -> dict[str, float | str]:
    """Scores; with those of the oracle if the network has a stride."""
    oracle = math.nan if stride is None else oracle_iou(truth, stride)
    names = ("AP@.5", "mean_AP", "F1@.5", "foreground_IoU", "boundary_F1", "merges_per_100")
    return {
        **{name: pooled[name] for name in names},
        "output_stride": math.nan if stride is None else stride,
        "oracle_IoU": oracle,
        "IoU_of_oracle": pooled["foreground_IoU"] / oracle if oracle else math.nan,
    }


def _costs(network: nn.Module, found: _Found, pixels: int) -> dict[str, float | str]:
    weights = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    return {
        "parameters": networks.parameter_count(network),
        "multiply_adds_per_pixel": found.work / pixels,
        "seconds_per_megapixel": found.seconds / pixels * 1e6,
        "memory_bytes": found.memory + weights,
    }


def _run(example: Example, predictor: Predictor, refine: Refinement | None) -> tuple[NDArray[np.float32], float]:
    """Probabilities of an image, and the seconds of the refinement."""
    image = normalization.apply(example.image, example.scaling)
    probabilities = predict(image, predictor)
    if refine is None:
        return probabilities, 0.0
    start = perf_counter()
    refined = refine(probabilities, image)
    return refined, perf_counter() - start


def _on_image(found: LabelImage, example: Example, config: TrainingConfig) -> LabelImage:
    """Cells on the pixels of their image, none where it is not annotated."""
    return mask_annotated(resize_nearest(found, example.label_image.shape), example.label_image, config)


def _annotated(example: Example, config: TrainingConfig) -> NDArray[np.bool_] | None:
    return None if config.ignore_label is None else example.label_image != config.ignore_label


def _truth(examples: Sequence[Example], config: TrainingConfig) -> list[NDArray[np.integer]]:
    return [mask_annotated(example.label_image, example.label_image, config) for example in examples]
