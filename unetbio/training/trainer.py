"""Train a network on patches; a run can be stopped at any moment and continues from its checkpoint.

The order of patches follows from the seed and the step alone, so a run that was interrupted sees what an
uninterrupted one would have seen. `Schedule` says when to validate and to end, `Validator` how good a network is.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unetbio import networks, targets
from unetbio.errors import UnetbioError
from unetbio.files import sha256_file
from unetbio.geometry import Geometry
from unetbio.models.model_file import CHECKPOINT_KEY, Model
from unetbio.networks.encoders.public import load_encoder
from unetbio.settings.training import TrainingConfig
from unetbio.supervision.confidence import Knots
from unetbio.targets.base import Batch, Validation
from unetbio.targets.cells import has_thresholds
from unetbio.tensor_file import save_tensors
from unetbio.training import checkpoints, run_state
from unetbio.training.data.batches import draw_batches
from unetbio.training.data.dataset import Example, Patch, PatchSampler, as_learned
from unetbio.training.data.patch_shapes import patch_shape
from unetbio.training.history import History
from unetbio.training.mean_weights import MeanWeights
from unetbio.training.precision import computes_in_bfloat16
from unetbio.training.result import TrainingResult, training_record
from unetbio.training.schedule import Schedule
from unetbio.training.setup import describe_model, make_optimizer, network_parameters
from unetbio.training.starting import Taken, take_weights
from unetbio.training.validation import Validator

__all__ = ["Trainer"]

CHECKPOINT_SECONDS = 60.0
TIMED_STEPS = 12

GRADIENT_LIMIT = 10.0


class Trainer:
    """One training run.

    Parameters
    ----------
    training, validation : sequence of Example
        Annotated images; the validation images choose the best network and its thresholds.
    config : TrainingConfig
        Settings of the training.
    device : torch.device
        Where the network is trained.
    checkpoint : path
        File of the run's state; the run continues from it if it exists.
    minutes : float, optional
        Stop after as many minutes instead of after ``config.steps``; the schedule is stretched to them.
    workers : int
        Threads that prepare patches.
    report : callable
        Called with one line of text now and then.
    replace : bool
        If the checkpoint belongs to a run with other settings or images, set it and that run's model aside
        (`unetbio.training.checkpoints.set_aside_path`) instead of refusing it. Then continue from this run's own
        checkpoint if it was set aside before, or start anew.
    keeps_last : bool
        Whether the network of the last step is the result, whatever its scores; then it alone is validated.

    Attributes
    ----------
    precision, trained_in : str
        Type of number in which the network computes, and that of its last step, which may be of another machine.
    judged : Validation, optional
        Thresholds and scores of other networks on the training images (`unetbio.training.folds`), in place of
        validation images.
    """

    def __init__(
        self,
        training: Sequence[Example],
        validation: Sequence[Example],
        config: TrainingConfig,
        *,
        device: torch.device,
        checkpoint: Path,
        minutes: float | None = None,
        workers: int = 1,
        report: Callable[[str], None] = lambda line: None,
        replace: bool = False,
        keeps_last: bool = False,
        settles: bool = True,
    ) -> None:
        self.training, self.validation, self.config = training, validation, config
        self.device, self.checkpoint = device, checkpoint
        self.minutes, self.workers, self.report, self.replace = minutes, workers, report, replace
        self.keeps_last, self.is_taken_up, self.settles = keeps_last, False, settles
        self.settled: Validation | None = None
        self.schedule = Schedule(config, minutes)
        label_images = [example.label_image for example in (*training, *validation)]
        self.learner = targets.of_training(config).learner(config, label_images)
        self.parameters = network_parameters(training, config, self.learner)
        torch.manual_seed(config.seed)
        network = networks.build(config.network, self.parameters)
        self.geometry: Geometry = network.geometry  # type: ignore[assignment]
        self.memory_format = torch.channels_last if self.geometry.ndim == 2 else torch.channels_last_3d
        # torch's annotations of `to` lack the memory format.
        self.network: nn.Module = network.to(device=device, memory_format=self.memory_format)  # type: ignore[call-overload]
        self.precision = "bfloat16" if computes_in_bfloat16(config.precision, device) else "float32"
        self.trained_in = self.precision
        self.optimizer = make_optimizer(self.network, config)
        shape = patch_shape(self.geometry, config.patch_size)
        lost = self.geometry.training_context
        self.window = tuple(size - 2 * context for size, context in zip(shape, lost, strict=True))
        is_exact = networks.find(config.network).is_tiled_exactly(self.parameters)
        running = {"device": device, "exact": is_exact, "window": self.window}
        held = [as_learned(example, config.augmentation) for example in validation]
        self.validator = Validator(held, config, self.learner, running)
        # Before the first step, since a training whose model cannot be described is lost.
        self.info = describe_model(training, config, self.learner, self.parameters, self.window)
        self.sampler = PatchSampler(training, config, self.learner, shape, lost)
        self.identity = checkpoints.identity_of(config, self.parameters, training, validation)
        self.mean_weights = MeanWeights(config.ema)
        self.step = 0
        self.history = History()
        self.best: Validation | None = None
        self.best_weights: dict[str, Tensor] = {}
        self.is_trained = False
        self.start_confidence: Knots = ()
        self.judged: Validation | None = None
        self.validated_at, self.validation_seconds = time.monotonic(), 0.0

    def start_from(self, model: Model) -> Taken:
        """Begin with all weights of a trained model that fit.

        If all fit and the target is the same, the model is validated before the first step, and its thresholds stay
        unless others are clearly better on the validation images. As many classes keep their names.

        Raises
        ------
        ModelError
            When the images or settings contradict the model (`unetbio.training.starting.take_weights`).
        """
        taken = take_weights(self.network, self.config.network, self.parameters, model)
        self.identity["start"] = model.sha256
        same_target = model.info.target == self.config.target
        self.is_trained = not taken.anew and same_target
        self.start_confidence = model.info.confidence if self.is_trained else ()
        if same_target and not self.config.class_names and len(model.info.class_names) == len(self.info.class_names):
            self._name_classes(model.info.class_names)
        if self.is_trained and has_thresholds(self.learner):
            self.validator.kept = model.info.postprocessing
        return taken

    def _name_classes(self, names: tuple[str, ...]) -> None:
        """Give the classes other names, in the model and in its scores; they are no setting of the run."""
        if names != self.info.class_names:
            self.info = self.info.model_copy(update={"class_names": names})
            named = self.config.model_copy(update={"class_names": names})
            label_images = [example.label_image for example in (*self.training, *self.validation)]
            self.validator.learner = targets.find(named.target, named.network).learner(named, label_images)

    def load_encoder(self, path: str | Path) -> tuple[str, ...]:
        """Begin with public weights in the encoder; raises as `unetbio.networks.encoders.public.load_encoder`."""
        loaded = load_encoder(self.network, path)
        self.identity["encoder"] = sha256_file(path)
        return loaded

    def run(self) -> TrainingResult:
        """Train to the end, from the checkpoint if there is one, and return the best network.

        The checkpoint stays: a run with more ``minutes`` continues from it, and another run with ``replace`` reads the
        settings of the model from it.

        Raises
        ------
        EnvironmentStoppedError
            When the checkpoint cannot be written; the previous one stays intact.
        ModelError
            When the checkpoint is none, or of a run with other settings or images; the message names them.
        """
        self.take_up()
        before = self.step
        self._train()
        if not self._has_result():
            self._validate()
        self._save()
        if self.step and not self.keeps_last and self._is_start_kept():
            self.report(
                "no validation was better than that of step 0: the model keeps the weights that it began with; "
                "train for longer (--minutes or --steps)"
            )
        return self._result(self.step - before)

    def take_up(self) -> None:
        """Go on from the checkpoint if there is one; raises as `run`."""
        if not self.is_taken_up:
            state, line = checkpoints.find(self.checkpoint, self.identity, replace=self.replace)
            if state:
                self._restore(*state)
            if line:
                self.report(line)
            self.is_taken_up = True

    def mark_begun(self) -> None:
        """Write a checkpoint if there is none, so that the run is known before its first step."""
        if not self.checkpoint.exists():
            self._save()

    @property
    def is_complete(self) -> bool:
        """Whether the run, as far as its checkpoint says, has done all that was asked for."""
        return self._has_result() and (self._progress() >= 1.0 or self._is_stale())

    def _has_result(self) -> bool:
        """Whether the network that will be kept was validated."""
        if self.best is None:
            return False
        return not self.keeps_last or self.history.validation_steps[-1] == self.step

    def as_it_began(self, judged: Validation) -> TrainingResult:
        """The network without a step of training, with these thresholds and scores."""
        self._keep(judged)
        self.history.validation_steps.append(0)
        self.history.validation_scores.append(judged.scores)
        return self._result(0)

    def _train(self) -> None:
        """Take all steps that are left, with validations, lines of the log and checkpoints between them."""
        last_report = last_save = started = self.validated_at = ready = time.monotonic()
        spent = self.history.seconds
        losses: list[Tensor] = []
        durations: list[float] = []
        if self.is_trained and self.best is None and not self.keeps_last:
            self._validate()
        self.network.train()
        for patches in draw_batches(self.sampler, self.config.batch_size, self.step, self.workers):
            if self._progress() >= 1.0 or self._is_stale():
                break
            losses.append(self._train_step(patches))
            self.step += 1
            self.trained_in = self.precision
            self.settled = None
            now = time.monotonic()
            self.history.seconds = spent + now - started
            durations.append(now - ready)
            if len(durations) == TIMED_STEPS:
                self.report(self._forecast(float(np.median(durations))))
            if self._is_validation_due(now) or self._progress() >= 1.0:
                self._record(losses)
                self._validate()
            elif now - last_report > 30:
                last_report = now
                self._record(losses)
                self.report(self.schedule.line(self.step, self.history))
            if now - last_save > CHECKPOINT_SECONDS:
                last_save = now
                self._record(losses)
                self._save()
            ready = time.monotonic()

    def _train_step(self, patches: Sequence[Patch]) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate(self.step, self.history.seconds)
        batch = self._batch(patches)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"):
            loss = self.learner.loss(self.network, batch)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        # Momentum .99 without batch norm overshoots on a rare patch; one such step must not end a night's run.
        nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_LIMIT)
        self.optimizer.step()
        self.mean_weights.update(self.network, self.step)
        return loss.detach()

    def _batch(self, patches: Sequence[Patch]) -> Batch:
        image, target, weight_map = (
            torch.from_numpy(np.stack([getattr(patch, name) for patch in patches])).to(self.device)
            for name in ("image", "target", "weight_map")
        )
        return Batch(image.contiguous(memory_format=self.memory_format), target, weight_map)

    def _progress(self) -> float:
        return self.schedule.progress(self.step, self.history.seconds)

    def _forecast(self, step_seconds: float) -> str:
        return self.schedule.forecast(self.step, self.history.seconds, step_seconds)

    def _is_validation_due(self, now: float) -> bool:
        pause = now - self.validated_at
        return not self.keeps_last and self.schedule.is_validation_due(self.step, pause, self.validation_seconds)

    def _is_stale(self) -> bool:
        if not self.config.patience or self.best is None or self.keeps_last:
            return False
        return len(self.history.validation_scores) - 1 - self._best_validation() >= self.config.patience

    def _best_validation(self) -> int:
        """Number of the first validation with the best score."""
        return int(np.argmax([scores[self.learner.deciding_score] for scores in self.history.validation_scores]))

    def _is_start_kept(self) -> bool:
        """Whether the best network is that of step 0, with the weights that it began with."""
        return self.history.validation_steps[self._best_validation()] == 0

    def _validate(self) -> None:
        started = time.monotonic()
        with self.mean_weights.in_network(self.network):
            self._validate_network()
        self.validated_at = time.monotonic()
        self.validation_seconds = self.validated_at - started
        self._save()

    def _validate_network(self) -> None:
        self.network.eval()
        found = self.judged or self.validator.validate(self.network)
        self.network.train()
        self.history.validation_steps.append(self.step)
        self.history.validation_scores.append(found.scores)
        scores = ", ".join(f"{name} {score:.3f}" for name, score in found.scores.items())
        self.report(f"{self.schedule.line(self.step, self.history)}; validation {scores}")
        deciding = self.learner.deciding_score
        if self.keeps_last or self.best is None or found.scores[deciding] > self.best.scores[deciding]:
            self._keep(found)

    def _keep(self, found: Validation) -> None:
        """Take the network as it is for the best one."""
        self.best = found
        self.best_weights = {name: tensor.detach().cpu().clone() for name, tensor in self.network.state_dict().items()}

    def _record(self, losses: list[Tensor]) -> None:
        if not losses:
            return
        mean = float(torch.stack(losses).mean())
        losses.clear()
        if not math.isfinite(mean):
            raise self._diverged(f"the loss is {mean}")
        self.history.steps.append(self.step)
        self.history.losses.append(mean)

    def _diverged(self, what: str) -> UnetbioError:
        return UnetbioError(
            f"{what} at step {self.step}: lower learning_rate (now {self.config.learning_rate}) and start again with "
            f"--overwrite; {self.checkpoint} holds the last good state, if there was one"
        )

    def _result(self, new_steps: int) -> TrainingResult:
        assert self.best is not None  # run() validates at least once
        network = networks.build(self.config.network, self.parameters)
        network.load_state_dict(self.best_weights)
        network.eval()
        settled = self.settled or self._settled(network, self.best)
        if settled is not self.best and self.settled is None:
            self.settled = settled
            self._save()
        run = {"steps": self.step, "seconds": round(self.history.seconds), "precision": self.trained_in}
        # Without validation images each image validated in a fold.
        record = training_record(self.sampler, len(self.validation or self.training), self.identity, run)
        found = {
            "postprocessing": settled.postprocessing,
            "objects": settled.objects,
            # Confidences belong to the network: too few cells calibrate none, and the model's stay with its weights.
            "confidence": settled.confidence or (self.start_confidence if self._is_start_kept() else ()),
            "training": record,
            "scores": {"validation": settled.scores},
        }
        return TrainingResult(network, self.info.model_copy(update=found), self.history, new_steps)

    def _settled(self, network: nn.Module, best: Validation) -> Validation:
        if self.keeps_last or not self.settles:
            return best
        return self.validator.settle(best, network, self.training, self.report)

    def _save(self) -> None:
        if not all(bool(torch.isfinite(parameter).all()) for parameter in self.network.parameters()):
            raise self._diverged("weights are no longer finite")
        parts = {"network": self.network.state_dict(), "best": self.best_weights, "mean": self.mean_weights.tensors}
        tensors, scalars = run_state.tensors_of(parts, self.optimizer, self.device)
        progress = {
            "step": self.step,
            "precision": self.trained_in,
            "history": asdict(self.history),
            "best": None if self.best is None else self.best.as_json(),
            "optimizer": scalars,
            "run": self.identity,
            "settles": self.settles,
            "settled": None if self.settled is None else self.settled.as_json(),
        }
        save_tensors(self.checkpoint, tensors, {CHECKPOINT_KEY: json.dumps(progress)})

    def _restore(self, tensors: dict[str, Tensor], progress: dict[str, Any]) -> None:
        try:
            self.step = progress["step"]
            # Another machine may compute in another type; versions before this one did not write it.
            self.trained_in = progress.get("precision", self.precision)
            self.history = History(**progress["history"])
            self.best = None if progress["best"] is None else Validation.from_json(progress["best"])
            self.network.load_state_dict(run_state.part(tensors, "network"))
            self.best_weights = run_state.part(tensors, "best")
            # A run ends as it began: versions before this one searched thresholds on validation images alone.
            self.settles = progress.get("settles", False)
            self.settled = None if progress.get("settled") is None else Validation.from_json(progress["settled"])
            means = {name: tensor.to(self.device) for name, tensor in run_state.part(tensors, "mean").items()}
            self.mean_weights = MeanWeights(self.config.ema, means)
            run_state.take_up(tensors, progress["optimizer"], self.optimizer, self.device)
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise checkpoints.damaged(self.checkpoint, error) from error
