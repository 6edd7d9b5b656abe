"""Base of targets that networks learn as classes of pixels."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unetbio import networks
from unetbio.settings.training import TrainingConfig
from unetbio.targets.base import Annotation, Batch, Validation

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from unetbio.inference.backends.base import Predictor
    from unetbio.inference.executors import Progress
    from unetbio.models.model_file import ModelInfo
    from unetbio.postprocessing.bands import Area
    from unetbio.postprocessing.crf import CrfSettings

__all__ = ["PixelDecoder", "PixelLearner"]


class PixelLearner(ABC):
    """Training half of a target whose network classifies pixels.

    Parameters
    ----------
    config : TrainingConfig
        Settings of the training.
    label_images : sequence of ndarray
        Label images of training and validation.
    """

    def __init__(self, config: TrainingConfig, label_images: Sequence[Annotation] = ()) -> None:
        self.config = config

    def loss(self, network: "nn.Module", batch: Batch) -> "Tensor":
        """See `Learner`; each of the network's outputs counts with its share (`unetbio.networks.training_logits`)."""
        import torch

        outputs = networks.training_logits(network, batch.image)
        losses = [share * self.loss_of_logits(logits, batch.target, batch.weight_map) for logits, share in outputs]
        return torch.stack(losses).sum()

    def loss_of_logits(self, logits: "Tensor", target: "Tensor", weight_map: "Tensor") -> "Tensor":
        """Loss of one of the network's outputs, ``(N, K, *output)``, as the settings name it."""
        from unetbio.supervision.losses import LOSSES

        return LOSSES[self.config.loss](logits, target, weight_map)

    def predict(
        self,
        network: "nn.Module",
        images: Iterable[NDArray[np.float32]],
        *,
        device: "torch.device",
        exact: bool,
        window: tuple[int, ...],
    ) -> Iterator[NDArray[np.float32]]:
        """Probabilities ``(K, *spatial)`` of one image after another, as `Learner.validate` runs the network."""
        from unetbio.inference.backends.base import make_backend
        from unetbio.inference.prediction import predict

        predictor = make_backend(network, device=device, exact=exact, window=window)
        return (predict(image, predictor) for image in images)

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
        """See `Learner`."""
        return self.tune(self.predict(network, images, device=device, exact=exact, window=window), label_images)

    @abstractmethod
    def tune(self, probabilities: Iterable[NDArray[np.float32]], label_images: Sequence[Annotation]) -> Validation:
        """Search what the target decides by thresholds, and score probabilities ``(K, *spatial)``."""


class PixelDecoder:
    """Inference half of a target whose network classifies pixels.

    Parameters
    ----------
    info, network
        The model.
    device : torch.device
        Where it runs.
    exact : bool
        Over exact tiles, or over windows.
    backend : str
        Name of a backend: `unetbio.inference.backends.base.names`.
    precision : str
        ``float32`` or ``bfloat16``: `unetbio.inference.backends.base.make_backend`.
    """

    has_probabilities = True

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
        from unetbio.inference.backends.base import make_backend

        self.info = info
        self.runner: Predictor = make_backend(
            network, backend, device, exact=exact, window=info.window, precision=precision
        )

    def average(self, others: "Sequence[Predictor]", *, augment: bool) -> None:
        """Average with the probabilities of other networks, and of mirrored and turned images."""
        from unetbio.inference.averaging import AveragedPredictor

        self.runner = AveragedPredictor([self.runner, *others], augment=augment)

    def run_once(self, tile: NDArray[np.float32]) -> None:
        """See `Decoder`."""
        self.runner.probabilities(tile)

    def _refined(
        self,
        image: NDArray[np.float32],
        settings: "CrfSettings",
        *,
        tile: int | None,
        memory_budget: int | None,
        probabilities_out: NDArray[np.float32] | None,
        progress: "Progress | None",
        area: "Area | None",
    ) -> NDArray[np.float32]:
        """Probabilities after the CRF, with background outside the area.

        The CRF links all pixels, so float64 would have to compute the whole image again.
        """
        from unetbio.inference import prediction
        from unetbio.postprocessing.crf import refine

        probabilities = prediction.predict(
            image, self.runner, tile=tile, memory_budget=memory_budget, progress=progress
        )
        refined = refine(probabilities, image, settings)
        if area is not None:
            refined = prediction.without_outside(refined, area(()))
        if probabilities_out is not None:
            probabilities_out[...] = refined
        return refined
