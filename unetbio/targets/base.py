"""Interface of targets, and the list of all targets.

A target has two halves. Its `Learner` serves training: it encodes label images, computes the loss and scores a
validation. Its `Decoder` serves segmentation: it turns the output of a network into a label image or class mask. The
methods that need torch import it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from unetbio import networks
from unetbio.errors import ModelError, UsageError
from unetbio.output_layout import MaskKind
from unetbio.postprocessing.cell_classes import class_table
from unetbio.postprocessing.instances import PostProcessing
from unetbio.postprocessing.objects import ObjectSettings, ObjectTable
from unetbio.settings.segmentation import Settings
from unetbio.settings.training import TrainingConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from unetbio.inference.backends.base import Runner
    from unetbio.inference.executors import Progress
    from unetbio.models.model_file import ModelInfo
    from unetbio.preprocessing.selection import ImageSelection
    from unetbio.provenance import FrameRecord

__all__ = [
    "Annotation",
    "Batch",
    "Decoder",
    "Finished",
    "Learner",
    "Supervision",
    "Target",
    "Validation",
    "find",
    "names",
    "of_model",
    "of_training",
    "register",
]

Annotation = NDArray[np.integer]
Supervision = tuple[NDArray[np.int64], NDArray[np.float32]]
Output = Literal["logits", "objects"]


class Batch(NamedTuple):
    """Patches, on the device of the network.

    Parameters
    ----------
    image : torch.Tensor
        ``(N, C, *input)`` float32.
    target : torch.Tensor
        ``(N, *output)`` int64: the class of each pixel, or the id of its object.
    weight_map : torch.Tensor
        ``(N, *output)`` float32; ``(N, planes, *output)`` where parts of the loss have weights of their own.
    """

    image: "Tensor"
    target: "Tensor"
    weight_map: "Tensor"


@dataclass(frozen=True)
class Validation:
    """Scores on the validation images, the thresholds that gave them, and the calibration of confidences."""

    scores: dict[str, float]
    postprocessing: PostProcessing = field(default_factory=PostProcessing)
    objects: ObjectSettings | None = None
    confidence: tuple[tuple[float, float], ...] = ()

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
            tuple(map(tuple, content.get("confidence", ()))),
        )


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
    classes : ndarray of uint8, optional
        Class of each pixel of cells, where a model gives cells a class by their pixels.
    """

    labels: NDArray[Any]
    objects: ObjectTable | None = None
    probability: NDArray[np.uint8] | None = None
    classes: NDArray[np.uint8] | None = None

    def table(self, class_names: Sequence[str]) -> ObjectTable | None:
        """Table of the cells: of objects that a model found, or with the class of each cell."""
        return self.objects if self.classes is None else class_table(self.labels, self.classes, class_names)


class Learner(Protocol):
    """The training half of a target; label images are as `Target.annotate` gives them."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the channels of the network's output."""

    deciding_score: str
    """Name of the score by which the best network is chosen."""

    place_name: str
    """Name of `places` in the model file."""

    def count(self, label_image: Annotation) -> NDArray[np.int64]:
        """Pixels of each class, ``(K,)``; unannotated pixels are not counted."""

    def places(self, label_image: Annotation) -> NDArray[np.float64]:
        """Centres of patches to draw, ``(n, ndim)`` in pixels."""

    def encode(
        self, label_image: Annotation, class_weights: Sequence[float], spacing: tuple[float, ...] | None
    ) -> Supervision:
        """The class of each pixel, or the id of its object, and its weight, both of the label image's shape.

        Where parts of the loss have weights of their own, the weights are ``(planes, *spatial)``.

        ``spacing`` is the length of a step along each axis, in in-plane pixels.
        """

    def loss(self, network: "nn.Module", batch: Batch) -> "Tensor":
        """Run the network in training mode and compute the loss, a scalar."""

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
        """Tune the thresholds and score a network on annotated images, ``(C, *spatial)`` and normalised.

        The network is copied and run in evaluation mode: where ``exact`` over exact tiles, else over such a ``window``.
        """

    def cell_diameter(self, label_images: Sequence[Annotation]) -> float | None:
        """Diameter of the median cell in pixels; None without cells."""


class Decoder(Protocol):
    """The inference half of a target."""

    @property
    def runner(self) -> "Runner":
        """The network on its device."""

    @property
    def has_probabilities(self) -> bool:
        """Whether the network gives a probability for each pixel."""

    def record(self, settings: Settings) -> dict[str, Any]:
        """Values that change the result, apart from image and weights.

        Raises
        ------
        UsageError
            When settings and model do not go together.
        """

    def check_limits(self, opened: "ImageSelection") -> None:
        """Refuse limits of area that leave no cell at the scale of the image.

        Raises
        ------
        ImageError
            ``wrong_scale``.
        """

    def decide(
        self,
        image: NDArray[np.float32],
        opened: "ImageSelection",
        *,
        tile: int | None,
        memory_budget: int | None,
        probabilities_out: NDArray[np.float32] | None,
        progress: "Progress | None",
    ) -> Any:
        """Run the network over the normalised image and make all decisions that need the device.

        Options are those of `unetbio.inference.prediction.decide`.
        """

    def decide_constant(self, opened: "ImageSelection") -> Any:
        """Decisions for an image of one grey value: background alone."""

    def run_once(self, tile: NDArray[np.float32]) -> None:
        """One pass of the network over ``(1, C, *spatial)``, to measure its time."""

    def finish(self, decided: Any, opened: "ImageSelection") -> Finished:
        """Turn decisions into the label image or class mask, at the image's own size."""

    def smallest_area(self, opened: "ImageSelection") -> float:
        """Pixels of the image below which a cell is dropped; 0 for classes."""

    def describe(self, finished: Finished, t: int | None) -> "FrameRecord":
        """Row of the summary for a frame, with the confidence of its cells."""

    def run_record(self, opened: "ImageSelection") -> dict[str, Any]:
        """Entries of the provenance for this step, apart from the settings."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A target.

    Parameters
    ----------
    name : str
        Name in settings and model files.
    summary : str
        One line for lists.
    masks : {"instances", "classes"}
        Content of its annotations and results: numbered cells, or the class of each pixel.
    annotate : callable
        ``(mask, config)``: the numbers of a mask to the label image or class mask that is learned.
    check : callable
        Raises UsageError when the training settings do not fit.
    learner : callable
        ``(config, label_images)`` to the `Learner`; the label images are those of training and validation.
    decoder : callable
        ``(info, network, device, exact=..., backend=..., precision=...)`` to the `Decoder`.
    output : {"logits", "objects"}
        Of the networks that learn it; see `unetbio.networks.Architecture`.
    has_cell_classes : bool
        Whether cells have classes; its label images hold them (`unetbio.supervision.annotations.number_cell_classes`).
    """

    name: str
    summary: str
    masks: MaskKind
    annotate: Callable[[Annotation, TrainingConfig], Annotation]
    check: Callable[[TrainingConfig], None]
    learner: Callable[[TrainingConfig, Sequence[Annotation]], Learner]
    decoder: Callable[..., Decoder]
    output: Output = "logits"
    has_cell_classes: bool = False

    @property
    def classifies_pixels_of_cells(self) -> bool:
        """Whether probabilities of pixels become cells by thresholds, and give cells a confidence."""
        return self.masks == "instances" and self.output == "logits"


# Networks that classify pixels and networks that find objects learn a target of one name in different ways.
_REGISTRY: dict[tuple[str, Output], Target] = {}


def register(target: Target) -> Target:
    """Add a target.

    Raises
    ------
    ValueError
        When there is one of this name for networks with this output.
    """
    key = (target.name, target.output)
    if key in _REGISTRY:
        raise ValueError(f"a target {target.name!r} of {target.output} is registered already")
    _REGISTRY[key] = target
    return target


def names(output: Output | None = None) -> tuple[str, ...]:
    """Names of all targets, sorted; or of those that networks with this output learn."""
    return tuple(sorted({name for name, of in _REGISTRY if output in (None, of)}))


def find(name: str, network: str = "unet") -> Target:
    """Find the target of this name for a network.

    Raises
    ------
    UsageError
        When there is none of this name, or the network cannot learn it; the message lists the targets.
    """
    output = networks.find(network).output
    if name not in names():
        raise UsageError(f"there is no target {name!r}; there are: {', '.join(names())}")
    if (name, output) not in _REGISTRY:
        finds = "finds objects" if output == "objects" else "classifies pixels"
        raise UsageError(
            f"{network} {finds} and cannot learn target: {name}; choose another network, or target: "
            f"{' or '.join(names(output))}"
        )
    return _REGISTRY[name, output]


def of_training(config: TrainingConfig) -> Target:
    """Find the target that training settings name.

    Raises
    ------
    UsageError
        When there is none of this name, or other settings do not fit it.
    """
    target = find(config.target, config.network)
    target.check(config)
    return target


def of_model(info: "ModelInfo") -> Target:
    """Find the target that a model learned, by its file.

    Raises
    ------
    ModelError
        When this version does not know it.
    """
    try:
        return find(info.target, info.architecture)
    except UsageError as error:
        raise ModelError(f"model {info.name}: {error}; is it from a newer unetbio ({info.version})?") from error
