"""What runs a network over an image and what its answer means: cells, cells as objects, or the class of each pixel.

An `Interpretation` is all that `unetbio.segmentation` has to know of the difference; its counterpart in training is
`unetbio.targets.tasks`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unetbio import networks
from unetbio.classes import CELL_CLASS
from unetbio.errors import UsageError
from unetbio.inference import prediction
from unetbio.inference.backends.base import DEFAULT, Predictor, Runner, make_backend
from unetbio.inference.objects import FoundObjects, TorchDetector, find_objects, merge_objects
from unetbio.inference.sliding_window import WINDOW
from unetbio.labels import relabel_raster, resize_nearest
from unetbio.measurement.frame_summary import describe_classes, describe_labels
from unetbio.models.model_file import ModelInfo
from unetbio.networks.detection import Objects
from unetbio.postprocessing import instances
from unetbio.postprocessing.objects import ObjectSettings, ObjectTable, resize_objects, select_objects
from unetbio.preprocessing.prepare import Opened
from unetbio.provenance import FrameRecord
from unetbio.settings.segmentation import Settings

__all__ = [
    "CellDecisions",
    "CellInterpretation",
    "ClassInterpretation",
    "Finished",
    "Interpretation",
    "ObjectInterpretation",
    "choose_interpretation",
]


@dataclass(frozen=True)
class CellDecisions:
    """What is decided about the grid of an image, and how sure the model was.

    Parameters
    ----------
    bits : ndarray of bool
        One plane a threshold, ``(len(thresholds), *grid)``.
    probability : ndarray of uint8
        Of a cell in each pixel of the grid, in 255ths.
    """

    bits: NDArray[np.bool_]
    probability: NDArray[np.uint8]


@dataclass(frozen=True)
class Finished:
    """A label image or class mask at the image's own size.

    Parameters
    ----------
    labels : ndarray
        The label image or class mask.
    objects : ObjectTable, optional
        Table of its objects, where a model finds them.
    probability : ndarray of uint8, optional
        Of a cell in each pixel, in 255ths, where a model gives it.
    """

    labels: NDArray[Any]
    objects: ObjectTable | None = None
    probability: NDArray[np.uint8] | None = None


class Interpretation(Protocol):
    """What the segmentation of one image asks."""

    @property
    def runner(self) -> Runner:
        """The network on its device."""

    @property
    def has_probabilities(self) -> bool:
        """Whether the answer is a probability for each pixel."""

    def record(self, settings: Settings) -> dict[str, Any]:
        """Everything beside input and weights that changes pixels.

        Raises
        ------
        UsageError
            When settings and model do not go together.
        """

    def decide(
        self,
        image: NDArray[np.float32],
        opened: Opened,
        *,
        tile: int | None,
        memory_budget: int | None,
        probabilities_out: NDArray[np.float32] | None,
    ) -> Any:
        """Run the network over the normalised image and decide, as far as it takes the device.

        Options are those of `unetbio.inference.prediction.decide`.
        """

    def decide_constant(self, opened: Opened) -> Any:
        """The decisions about an image of one grey value: nothing is there."""

    def run_once(self, tile: NDArray[np.float32]) -> None:
        """One pass of the network over ``(1, C, *spatial)``, whose time somebody takes."""

    def finish(self, decided: Any, opened: Opened) -> Finished:
        """From decisions to the label image or class mask, at the image's own size."""

    def describe(self, finished: Finished, t: int | None) -> FrameRecord:
        """What the summary says of a frame, and how sure the model was of its cells."""

    def run_record(self, opened: Opened) -> dict[str, Any]:
        """What the provenance says of this step beside the settings."""


class _PixelInterpretation:
    """What all interpretations share of networks that give probabilities of pixels."""

    has_probabilities = True

    def __init__(self, info: ModelInfo, network: nn.Module, device: torch.device, *, exact: bool, backend: str) -> None:
        self.info = info
        self.runner: Predictor = make_backend(network, backend, device, exact=exact, window=info.window)

    def run_once(self, tile: NDArray[np.float32]) -> None:
        """See `Interpretation`."""
        self.runner.probabilities(tile)

    def _refined(
        self,
        image: NDArray[np.float32],
        preset: str,
        *,
        tile: int | None,
        memory_budget: int | None,
        probabilities_out: NDArray[np.float32] | None,
    ) -> NDArray[np.float32]:
        """Probabilities after the CRF, which are decided as they are: it links all pixels, no second look would end."""
        from unetbio.postprocessing.crf import PRESETS, refine

        probabilities = prediction.predict(image, self.runner, tile=tile, memory_budget=memory_budget)
        refined = refine(probabilities, image, PRESETS[preset])
        if probabilities_out is not None:
            probabilities_out[...] = refined
        return refined


class CellInterpretation(_PixelInterpretation):
    """Cells from probabilities: thresholds, seeds, growth (`unetbio.postprocessing.instances`)."""

    def record(self, settings: Settings) -> dict[str, Any]:
        """See `Interpretation`."""
        if settings.classes:
            raise UsageError(f"model {self.info.name} segments cells, it has no classes to choose: leave out --classes")
        return settings.record(self.info.normalization, self.info.postprocessing)

    def decide(self, image: NDArray[np.float32], opened: Opened, **options: Any) -> CellDecisions:
        """One plane of bits a threshold, and the probability of a cell."""
        thresholds = self._postprocessing(opened).thresholds
        if opened.settings.crf is None:
            rounded = np.empty(image.shape[1:], np.uint8)
            bits = prediction.decide(image, self.runner, thresholds, rounded_out=rounded, **options)
            return CellDecisions(bits, rounded)
        cell = self._refined(image, opened.settings.crf, **options)[CELL_CLASS]
        bits = np.stack([cell >= np.float32(threshold) for threshold in thresholds])
        return CellDecisions(bits, prediction.round_to_bytes(cell))

    def decide_constant(self, opened: Opened) -> CellDecisions:
        """See `Interpretation`."""
        bits = np.zeros((len(self._postprocessing(opened).thresholds), *opened.grid), dtype=np.bool_)
        return CellDecisions(bits, np.zeros(opened.grid, dtype=np.uint8))

    def finish(self, decided: CellDecisions, opened: Opened) -> Finished:
        """See `Interpretation`; ids rise in raster order."""
        labels = instances.label(decided.bits, self._postprocessing(opened))
        if labels.shape != opened.shape:
            # A cell can lose its last pixel or its place in raster order on the way.
            labels = relabel_raster(resize_nearest(labels, opened.shape))
        return Finished(labels, probability=resize_nearest(decided.probability, opened.shape))

    def describe(self, finished: Finished, t: int | None) -> FrameRecord:
        """See `Interpretation`."""
        return describe_labels(finished.labels, t, finished.probability)

    def run_record(self, opened: Opened) -> dict[str, Any]:
        """See `Interpretation`."""
        return {"postprocessing": asdict(self._postprocessing(opened))}

    def _postprocessing(self, opened: Opened) -> instances.PostProcessing:
        return opened.settings.postprocessing(self.info.postprocessing, math.prod(opened.zoom))


class ClassInterpretation(_PixelInterpretation):
    """The most probable class of each pixel; classes that were not asked for become background."""

    def record(self, settings: Settings) -> dict[str, Any]:
        """See `Interpretation`."""
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

    def decide(self, image: NDArray[np.float32], opened: Opened, **options: Any) -> NDArray[np.uint8]:
        """The class of each pixel of the grid."""
        if opened.settings.crf is None:
            return prediction.decide_classes(image, self.runner, **options)
        classes: NDArray[np.intp] = self._refined(image, opened.settings.crf, **options).argmax(axis=0)
        return classes.astype(np.uint8)

    def decide_constant(self, opened: Opened) -> NDArray[np.uint8]:
        """See `Interpretation`."""
        return np.zeros(opened.grid, dtype=np.uint8)

    def finish(self, decided: NDArray[np.uint8], opened: Opened) -> Finished:
        """See `Interpretation`."""
        chosen = opened.settings.classes
        if chosen:
            names = self.info.class_names
            kept = np.array([number if name in chosen else 0 for number, name in enumerate(names)], np.uint8)
            decided = kept[decided]
        return Finished(decided if decided.shape == opened.shape else resize_nearest(decided, opened.shape))

    def describe(self, finished: Finished, t: int | None) -> FrameRecord:
        """See `Interpretation`."""
        return describe_classes(finished.labels, t, self.info.class_names)

    def run_record(self, opened: Opened) -> dict[str, Any]:
        """See `Interpretation`."""
        return {"class_names": list(self.info.class_names)}


class ObjectInterpretation:
    """Cells as objects with scores and boxes (`unetbio.inference.objects`)."""

    has_probabilities = False

    def __init__(self, info: ModelInfo, network: nn.Module, device: torch.device, *, exact: bool, backend: str) -> None:
        if backend != DEFAULT:
            raise UsageError(f"model {info.name} finds objects, which backend {backend} cannot: leave out --backend")
        self.info = info
        self.runner = TorchDetector(network, device)

    def record(self, settings: Settings) -> dict[str, Any]:
        """See `Interpretation`."""
        if settings.crf is not None:
            raise UsageError(
                f"model {self.info.name} finds objects, and the CRF needs the probabilities of pixels: leave out --crf"
            )
        if settings.classes:
            raise UsageError(f"model {self.info.name} finds cells, it has no classes to choose: leave out --classes")
        return settings.record(self.info.normalization, None, self._model_settings)

    def decide(
        self,
        image: NDArray[np.float32],
        opened: Opened,
        *,
        tile: int | None,
        memory_budget: int | None,
        probabilities_out: NDArray[np.float32] | None,
    ) -> FoundObjects:
        """Objects of each window, of any score."""
        return find_objects(image, self.runner, window=tile or WINDOW)

    def decide_constant(self, opened: Opened) -> FoundObjects:
        """See `Interpretation`."""
        rows, columns = opened.grid
        nothing = Objects(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 1, 1))
        return FoundObjects((rows, columns), ((0,), (0,)), (rows, columns), (nothing,))

    def run_once(self, tile: NDArray[np.float32]) -> None:
        """See `Interpretation`."""
        self.runner.find_objects(torch.from_numpy(tile))

    def finish(self, decided: FoundObjects, opened: Opened) -> Finished:
        """See `Interpretation`; boxes are in pixels of the image."""
        settings = self._settings(opened)
        found = merge_objects(decided, score_threshold=settings.score_threshold, mask_threshold=settings.mask_threshold)
        labels, objects = select_objects(*found, settings)
        if labels.shape != opened.shape:
            labels, objects = resize_objects(labels, objects, opened.shape)
        return Finished(labels, objects)

    def describe(self, finished: Finished, t: int | None) -> FrameRecord:
        """See `Interpretation`."""
        return describe_labels(finished.labels, t)

    def run_record(self, opened: Opened) -> dict[str, Any]:
        """See `Interpretation`."""
        return {"objects": asdict(self._settings(opened))}

    @property
    def _model_settings(self) -> ObjectSettings:
        return self.info.objects or ObjectSettings()

    def _settings(self, opened: Opened) -> ObjectSettings:
        return opened.settings.objects(self._model_settings, math.prod(opened.zoom))


_INTERPRETATIONS: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("logits", "instances"): CellInterpretation,
    ("logits", "classes"): ClassInterpretation,
    ("objects", "instances"): ObjectInterpretation,
}


def choose_interpretation(
    info: ModelInfo, network: nn.Module, device: torch.device, *, exact: bool, backend: str = DEFAULT
) -> Interpretation:
    """What a model's output means, as its file says.

    Parameters
    ----------
    info, network
        The model.
    device : torch.device
        Where it runs.
    exact : bool
        Over exact tiles, or over windows.
    backend : str
        What computes it: `unetbio.inference.backends.base.names`.
    """
    chosen = _INTERPRETATIONS[networks.find(info.architecture).output, info.target]
    return cast(Interpretation, chosen(info, network, device, exact=exact, backend=backend))
