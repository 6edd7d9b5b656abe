"""What comes after the network when an image is segmented: cells, or the class of each pixel.

An `Interpretation` is all that `unetbio.segmentation` has to know of the difference; its counterpart in training is
`unetbio.tasks`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unetbio import inference, instances
from unetbio.descriptions import describe_classes, describe_labels
from unetbio.errors import UsageError
from unetbio.labels import relabel_raster, resize_nearest
from unetbio.model_file import ModelInfo
from unetbio.predictor import Predictor
from unetbio.preparation import Opened
from unetbio.provenance import FrameRecord
from unetbio.settings import Settings

__all__ = ["CellInterpretation", "ClassInterpretation", "Interpretation", "choose_interpretation"]


class Interpretation(Protocol):
    """What the segmentation of one image asks."""

    def record(self, settings: Settings) -> dict[str, Any]:
        """Everything beside input and weights that changes pixels.

        Raises
        ------
        UsageError
            When settings and model do not go together.
        """

    def decide(self, image: NDArray[np.float32], opened: Opened, predictor: Predictor, **options: Any) -> NDArray[Any]:
        """Decisions about each pixel of the grid, from the normalised image.

        Options are those of `unetbio.inference.decide`: tile, memory budget, where probabilities go.
        """

    def decide_constant(self, opened: Opened) -> NDArray[Any]:
        """The decisions about an image of one grey value: nothing is there."""

    def finish(self, decided: NDArray[Any], opened: Opened) -> NDArray[Any]:
        """From decisions to the label image or class mask, at the image's own size."""

    def describe(self, labels: NDArray[Any], t: int | None) -> FrameRecord:
        """What the summary says of a frame."""

    def run_record(self, opened: Opened) -> dict[str, Any]:
        """What the provenance says of this step beside the settings."""


class CellInterpretation:
    """Cells from probabilities: thresholds, seeds, growth (`unetbio.instances`)."""

    def __init__(self, info: ModelInfo) -> None:
        self.info = info

    def record(self, settings: Settings) -> dict[str, Any]:
        """See `Interpretation`."""
        if settings.classes:
            raise UsageError(f"model {self.info.name} segments cells, it has no classes to choose: leave out --classes")
        return settings.record(self.info.normalization, self.info.postprocessing)

    def decide(self, image: NDArray[np.float32], opened: Opened, predictor: Predictor, **options: Any) -> NDArray[Any]:
        """One plane of bits a threshold."""
        return inference.decide(image, predictor, self._postprocessing(opened).thresholds, **options)

    def decide_constant(self, opened: Opened) -> NDArray[Any]:
        """See `Interpretation`."""
        return np.zeros((len(self._postprocessing(opened).thresholds), *opened.grid), dtype=np.bool_)

    def finish(self, decided: NDArray[Any], opened: Opened) -> NDArray[Any]:
        """See `Interpretation`; ids rise in raster order."""
        labels = instances.label(decided, self._postprocessing(opened))
        if labels.shape != opened.shape:
            # A cell can lose its last pixel or its place in raster order on the way.
            labels = relabel_raster(resize_nearest(labels, opened.shape))
        return labels

    def describe(self, labels: NDArray[Any], t: int | None) -> FrameRecord:
        """See `Interpretation`."""
        return describe_labels(labels, t)

    def run_record(self, opened: Opened) -> dict[str, Any]:
        """See `Interpretation`."""
        return {"postprocessing": asdict(self._postprocessing(opened))}

    def _postprocessing(self, opened: Opened) -> instances.PostProcessing:
        return opened.settings.postprocessing(self.info.postprocessing, math.prod(opened.zoom))


class ClassInterpretation:
    """The most probable class of each pixel; classes that were not asked for become background."""

    def __init__(self, info: ModelInfo) -> None:
        self.info = info

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

    def decide(self, image: NDArray[np.float32], opened: Opened, predictor: Predictor, **options: Any) -> NDArray[Any]:
        """The class of each pixel of the grid."""
        return inference.decide_classes(image, predictor, **options)

    def decide_constant(self, opened: Opened) -> NDArray[Any]:
        """See `Interpretation`."""
        return np.zeros(opened.grid, dtype=np.uint8)

    def finish(self, decided: NDArray[Any], opened: Opened) -> NDArray[Any]:
        """See `Interpretation`."""
        chosen = opened.settings.classes
        if chosen:
            names = self.info.class_names
            kept = np.array([number if name in chosen else 0 for number, name in enumerate(names)], np.uint8)
            decided = kept[decided]
        return decided if decided.shape == opened.shape else resize_nearest(decided, opened.shape)

    def describe(self, labels: NDArray[Any], t: int | None) -> FrameRecord:
        """See `Interpretation`."""
        return describe_classes(labels, t, self.info.class_names)

    def run_record(self, opened: Opened) -> dict[str, Any]:
        """See `Interpretation`."""
        return {"class_names": list(self.info.class_names)}


_INTERPRETATIONS: Mapping[str, Callable[[ModelInfo], Interpretation]] = {
    "instances": CellInterpretation,
    "classes": ClassInterpretation,
}


def choose_interpretation(info: ModelInfo) -> Interpretation:
    """What a model's output means, as its file says."""
    return _INTERPRETATIONS[info.target](info)
