"""What a trained network finds on images, how good that is, and what it costs."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from time import perf_counter
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unetbio import networks, targets
from unetbio.compare.oracle import oracle_iou, output_stride
from unetbio.compare.sizes import average_precision_by_size, size_borders
from unetbio.geometry import Geometry
from unetbio.inference.backends.base import Predictor
from unetbio.inference.backends.torch import TorchPredictor
from unetbio.inference.objects import Detector, TorchDetector, predict_objects
from unetbio.inference.prediction import predict
from unetbio.labels import LabelImage
from unetbio.metrics.instances import compare
from unetbio.models.model_file import ModelInfo
from unetbio.postprocessing.instances import PostProcessing
from unetbio.postprocessing.objects import ObjectSettings
from unetbio.preprocessing import normalization
from unetbio.settings.training import TrainingConfig
from unetbio.targets.cells import CellLearner, mask_annotated
from unetbio.training.dataset import Example

__all__ = ["Measurement", "MeteredPredictor", "measure"]

Refinement = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Measurement:
    """What came of the images.

    Parameters
    ----------
    label_images : list of ndarray
        The cells that were found, one label image an image.
    scores : dict
        Scores and costs by name, of all images together; see `unetbio.compare.table.COLUMNS`.
    images : list of dict
        Scores of each image.
    postprocessing : PostProcessing, optional
        Thresholds with which the cells were found; a network that finds objects needs none.
    size_borders_px : tuple of float
        Areas that part small, medium and large cells.
    """

    label_images: list[LabelImage]
    scores: dict[str, float | str]
    images: list[dict[str, float]]
    postprocessing: PostProcessing | None
    size_borders_px: tuple[float, float]


class MeteredPredictor:
    """A predictor that notes what its passes in float32 cost.

    Attributes
    ----------
    seconds : float
        Spent in the network.
    work : int
        Multiply-adds.
    memory : int
        Most bytes of feature maps of a pass.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self.seconds, self.work, self.memory = 0.0, 0, 0

    @property
    def geometry(self) -> Geometry:
        """Context, stride and legal sizes."""
        return self._predictor.geometry

    @property
    def exact(self) -> bool:
        """Whether tiles leave the answer as it is."""
        return self._predictor.exact

    @property
    def window(self) -> tuple[int, ...] | None:
        """As the predictor's."""
        return self._predictor.window

    @property
    def num_classes(self) -> int:
        """Number of probabilities a pixel."""
        return self._predictor.num_classes

    @property
    def memory_budget(self) -> int:
        """Bytes that a tile may take."""
        return self._predictor.memory_budget

    def probabilities(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """As the predictor's."""
        start = perf_counter()
        answer = self._predictor.probabilities(batch)
        self.seconds += perf_counter() - start
        self.work += len(batch) * self.multiply_adds(batch.shape[2:])
        self.memory = max(self.memory, len(batch) * self.memory_bytes(batch.shape[2:]))
        return answer

    def probabilities_float64(self, batch: NDArray[np.float32]) -> NDArray[np.float64]:
        """As the predictor's."""
        return self._predictor.probabilities_float64(batch)

    @property
    def error_bound(self) -> float:
        """As the predictor's."""
        return self._predictor.error_bound

    def is_out_of_memory(self, error: BaseException) -> bool:
        """As the predictor's."""
        return self._predictor.is_out_of_memory(error)

    def release_memory(self) -> None:
        """As the predictor's."""
        self._predictor.release_memory()

    def multiply_adds(self, input_shape: Sequence[int]) -> int:
        """Work for one input of this spatial shape."""
        return self._predictor.multiply_adds(input_shape)

    def memory_bytes(self, input_shape: Sequence[int]) -> int:
        """Memory for one input of this spatial shape."""
        return self._predictor.memory_bytes(input_shape)


def measure(
    network: nn.Module,
    info: ModelInfo,
    validation: Sequence[Example],
    scored: Sequence[Example],
    config: TrainingConfig,
    device: torch.device,
    refine: Refinement | None = None,
) -> Measurement:
    """Run a trained network over images and measure everything that a comparison shows.

    Parameters
    ----------
    network, info
        As they come out of training.
    validation : sequence of Example
        On which the thresholds are searched again where there is a refinement; unused otherwise.
    scored : sequence of Example
        What is measured.
    config : TrainingConfig
        For the ignored label.
    device : torch.device
        Where the network runs.
    refine : callable, optional
        A step after the network: probabilities ``(K, *spatial)`` and normalised image ``(C, *spatial)`` to
        probabilities.
    """
    architecture = networks.find(info.architecture)
    finds_objects = architecture.output == "objects"
    stride = None if finds_objects else output_stride(architecture.path(info.network_parameters()))
    is_exact = architecture.is_tiled_exactly(info.network_parameters())
    if finds_objects:
        found = _find_objects(TorchDetector(network, device), info.objects or ObjectSettings(), scored, config)
    else:
        # Targets of other masks are refused (`unetbio.compare.variants`).
        learner = cast(CellLearner, targets.of_model(info).learner(config, []))
        predictor = TorchPredictor(network, device, exact=is_exact, window=info.window)
        postprocessing = info.postprocessing
        if refine is not None:
            # Refined probabilities are sharper than those for which the thresholds were found.
            refined = [_run(example, predictor, refine)[0] for example in validation]
            postprocessing = learner.tune(refined, [example.label_image for example in validation]).postprocessing
        found = _find_cells(predictor, scored, learner, postprocessing, refine)
    truth = _truth(scored, config)
    borders = size_borders(truth)
    comparisons = [compare(one, true) for one, true in zip(found.label_images, truth, strict=True)]
    scores = (
        _qualities(reduce(add, comparisons).scores(), truth, stride)
        | {f"AP@.5_{size}": ap for size, ap in average_precision_by_size(found.label_images, truth, borders).items()}
        | _costs(network, found, sum(true.size for true in truth))
        | {"exact_tiling": "yes" if is_exact else "no"}
        | {"steps": info.training["steps"], "seconds_trained": info.training["seconds"]}
    )
    images = [comparison.scores() for comparison in comparisons]
    return Measurement(found.label_images, scores, images, found.postprocessing, borders)


@dataclass(frozen=True)
class _Found:
    """Label images and what they cost; work and memory are NaN where they are not known."""

    label_images: list[LabelImage]
    postprocessing: PostProcessing | None
    seconds: float
    work: float = math.nan
    memory: float = math.nan


def _find_cells(
    predictor: Predictor,
    examples: Sequence[Example],
    learner: CellLearner,
    postprocessing: PostProcessing,
    refine: Refinement | None,
) -> _Found:
    _run(examples[0], predictor, refine)  # the first pass is slower: memory, compilation, choice of kernels
    metered = MeteredPredictor(predictor)
    label_images, refining = [], 0.0
    for example in examples:
        probabilities, seconds = _run(example, metered, refine)
        refining += seconds
        annotated = mask_annotated(probabilities, example.label_image, learner.config)
        label_images.append(learner.classes.label(annotated, postprocessing))
    return _Found(label_images, postprocessing, metered.seconds + refining, metered.work, metered.memory)


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
    find(images[0])  # as above
    start = perf_counter()
    found = [find(image)[0] for image in images]
    seconds = perf_counter() - start
    kept = [mask_annotated(one, example.label_image, config) for one, example in zip(found, examples, strict=True)]
    return _Found(kept, None, seconds)


def _qualities(
    pooled: Mapping[str, float], truth: Sequence[NDArray[np.integer]], stride: int | None
) -> dict[str, float | str]:
    """Scores; the oracle's where there is a stride."""
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
    """Probabilities of an image, and the seconds that refining them took."""
    image = normalization.apply(example.image, example.scaling)
    probabilities = predict(image, predictor)
    if refine is None:
        return probabilities, 0.0
    start = perf_counter()
    refined = refine(probabilities, image)
    return refined, perf_counter() - start


def _truth(examples: Sequence[Example], config: TrainingConfig) -> list[NDArray[np.integer]]:
    return [mask_annotated(example.label_image, example.label_image, config) for example in examples]
