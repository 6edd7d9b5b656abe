"""Validation in folds, where images are few: each image is judged by a network that has not learned from it.

A network a fold is trained without the images of its fold. Thresholds are searched, and scores measured, on what these
networks say about the images of their folds, so on all images. The network of the model then learns from all of them.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import UsageError
from unetbio.files import stopping
from unetbio.models.model_file import CHECKPOINT_SUFFIX, read_info
from unetbio.settings.training import TrainingConfig
from unetbio.settings.training_runs import TrainRun
from unetbio.targets import of_training
from unetbio.targets.base import Annotation, Validation
from unetbio.targets.cells import has_thresholds
from unetbio.training.data.dataset import Example, count_divided
from unetbio.training.data.pairs import AnnotatedFiles
from unetbio.training.starting import recorded_config
from unetbio.training.thresholds import tuned

if TYPE_CHECKING:
    from unetbio.training.trainer import Trainer

__all__ = [
    "Judgement",
    "Parts",
    "check_folds",
    "choose_folds",
    "fold_checkpoints",
    "judge_in_folds",
    "last_share",
    "remove_folds",
]

MOST_FOLDS = 5

USUAL_FOLDS = 3
FEW_FILES = 10
"""Most annotated files that validate in folds unless something else is stated."""

LEAST_MINUTES = 5.0
"""Of a training in which folds are chosen: in less their networks say little of that of the model. Nor are they chosen
where steps are stated and no minutes."""

OF_HELD_IMAGES = ("folds", "validation_fraction", "validate_every", "patience", "restarts", "recipe")
"""Settings that say how images validate, or that folds leave without effect."""

SHARE = 0.5
"""Part of the time that the networks of the folds take together; the last one takes the rest."""

Parts = tuple[Sequence[Example], Sequence[Example]]
"""Images to train on and to validate on."""

MakeTrainer = Callable[[Sequence[Example], Sequence[Example], TrainingConfig, Path, float | None, str], "Trainer"]
"""Makes a trainer of training images, validation images, settings, checkpoint, minutes, and a name for its lines."""


class Judgement(NamedTuple):
    """What the folds found.

    Parameters
    ----------
    found : Validation
        Thresholds and scores on all images.
    keeps_start : bool
        Whether they are those of the model to start from, since the networks of the folds are no better.
    """

    found: Validation
    keeps_start: bool


def choose_folds(
    config: TrainingConfig,
    stated: Collection[str],
    files: AnnotatedFiles,
    run: TrainRun,
    earlier: Mapping[str, Any] | None,
    learned: Sequence[Example] = (),
) -> TrainingConfig:
    """Choose folds for a U-Net that learns cells from few files, where nothing says how images validate.

    Parameters
    ----------
    config : TrainingConfig
        Settings.
    stated : collection of str
        Names of the settings that a file or an option states.
    files : AnnotatedFiles
        The annotated files.
    run : TrainRun
        Minutes of the whole run, and the model to start from: one that was trained in folds may have learned from all
        of these images, so that its scores on them would say nothing.
    earlier : mapping, optional
        Settings of the checkpoint from which the run may go on, of these images: one that began without folds goes on
        without them, and one that began in folds goes on in them, however long it takes.
    learned : sequence of Example
        Images from which the model to start from is known to have learned: its split of them stays.
    """
    minutes, start = run.minutes, run.start
    # With other steps than the checkpoint's it begins anew.
    if earlier is not None and "steps" in stated and config.steps != earlier.get("steps"):
        earlier = None
    is_begun_without = earlier is not None and not earlier.get("folds")
    knows_images = _learned_in_folds(start) or (bool(learned) and earlier is None)
    if "folds" in stated or is_begun_without or knows_images:
        return config
    count = count_divided([pair.image for pair in files.training])
    is_meant = config.network == "unet" and of_training(config).masks == "instances" and not files.validation
    is_long = earlier is not None or ("steps" not in stated if minutes is None else minutes >= LEAST_MINUTES)
    if not is_meant or not is_long or not 1 < count <= FEW_FILES or any(name in stated for name in OF_HELD_IMAGES):
        return config
    return config.model_copy(update={"folds": min(USUAL_FOLDS, count)})


def _learned_in_folds(start: str | None) -> bool:
    return start is not None and bool(recorded_config(read_info(start)).get("folds"))


def check_folds(config: TrainingConfig, files: AnnotatedFiles) -> None:
    """Refuse folds where they have no meaning.

    Raises
    ------
    UsageError
        When there is one fold, validation images are named, the schedule begins anew at some steps, or the target has
        no thresholds of cells.
    """
    if not config.folds:
        return
    if config.folds == 1:
        raise UsageError(f"folds: 1 leaves no image to train on: give 0, or 2 to {MOST_FOLDS}")
    if files.validation:
        raise UsageError(f"folds: {config.folds} and named validation images are given: leave one of them out")
    if config.restarts:
        raise UsageError(
            f"folds: {config.folds} and restarts {list(config.restarts)} are given, and the networks of the folds take "
            "fewer steps: leave one of them out"
        )
    if not of_training(config).classifies_pixels_of_cells:
        raise UsageError(
            f"folds: {config.folds} are for networks that classify pixels of cells, and this is {config.network} with "
            f"target {config.target}: leave folds out"
        )


def last_share(config: TrainingConfig) -> float:
    """Part of the time of a run that the network of the model takes."""
    return 1 - SHARE if config.folds else 1.0


def fold_checkpoints(checkpoint: Path, folds: int) -> list[Path]:
    """Checkpoints of the folds beside that of the run: ``.m.fold1.checkpoint.safetensors`` and so on.

    They are hidden files, since ``m.fold1`` may be the name of another model.
    """
    return [checkpoint.with_name(f"{_start(checkpoint)}{number}{CHECKPOINT_SUFFIX}") for number in range(1, folds + 1)]


def _start(checkpoint: Path) -> str:
    return f".{checkpoint.name.removesuffix(CHECKPOINT_SUFFIX)}.fold"


def remove_folds(checkpoint: Path) -> None:
    """Remove the checkpoints of all folds of a run."""
    for path in fold_checkpoints(checkpoint, MOST_FOLDS):
        with stopping(path):
            path.unlink(missing_ok=True)


def judge_in_folds(
    parts: Sequence[Parts],
    config: TrainingConfig,
    checkpoint: Path,
    minutes: float | None,
    make: MakeTrainer,
    *,
    with_start: bool = True,
) -> Judgement:
    """Train a network a fold, and find thresholds and scores on all images.

    The networks are those of their last steps, as that of the model will be.

    Parameters
    ----------
    parts : sequence of two sequences of Example
        Training and validation images of each fold: `unetbio.training.data.dataset.fold_examples`.
    config : TrainingConfig
        Settings; its steps are those of the last network, and the folds divide as many.
    checkpoint : path
        Checkpoint of the run.
    minutes : float, optional
        Of the whole run.
    make : callable
        Makes the trainer of a fold.
    with_start : bool
        Whether the model to start from may be the better one; not if it has learned from all of the images.

    Raises
    ------
    ModelError, EnvironmentStoppedError
        As `Trainer.run`.
    """
    before: list[NDArray[np.float32]] = []
    after: list[NDArray[np.float32]] = []
    label_images: list[Annotation] = []
    share = None if minutes is None else minutes * SHARE / config.folds
    shorter = config.model_copy(update={"steps": max(1, config.steps // config.folds)})
    checkpoints = fold_checkpoints(checkpoint, config.folds)
    for number, ((training, validation), path) in enumerate(zip(parts, checkpoints, strict=True), start=1):
        trainer = make(training, validation, shorter, path, share, f"fold {number} of {config.folds}")
        if trainer.is_trained and with_start:
            before += trainer.validator.predict_cells(trainer.network)
        after += trainer.validator.predict_cells(trainer.run().network)
        label_images += trainer.validator.label_images
    learner = trainer.learner
    assert has_thresholds(learner)  # check_folds refuses others
    found = tuned(trainer.validator.kept, learner, after, label_images)
    if before:
        start = tuned(trainer.validator.kept, learner, before, label_images)
        if start.scores[learner.deciding_score] >= found.scores[learner.deciding_score]:
            return Judgement(start, keeps_start=True)
    return Judgement(found, keeps_start=False)
