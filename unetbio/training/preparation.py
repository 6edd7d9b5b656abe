"""Settings of a run: those that are stated, those of the model to start from, and choices or an earlier run's."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unetbio.settings.base import flattened, read_mapping
from unetbio.settings.training import TrainingConfig, given_settings, load_training_config
from unetbio.settings.training_runs import LearnCurveRun, TrainRun
from unetbio.targets import of_training
from unetbio.training import checkpoints
from unetbio.training.choices import choose, describe, take_over, with_target
from unetbio.training.data.dataset import Example, ranked_examples
from unetbio.training.data.examples import hold_some
from unetbio.training.starting import FROM_MODEL, check_axes, settings_from

__all__ = ["earlier_settings", "given_of", "load_config", "with_choices"]

Run = TrainRun | LearnCurveRun


def given_of(run: Run) -> dict[str, Any]:
    """Settings that the file states, overridden by the given options; without those of a recipe."""
    return {**read_mapping(run.config), **given_settings(run)}


def load_config(run: Run, stated: Mapping[str, Any]) -> TrainingConfig:
    """Settings of a training; those of the model to start from where none are stated.

    Raises
    ------
    UsageError
        When a setting is unknown or has a bad value, or the network does not learn the target.
    """
    # Name what is wrong with the stated ones before they are mixed with others.
    config = with_target(load_training_config(run.config, stated), stated)
    if run.start is not None:
        config = load_training_config(run.config, settings_from(run.start, stated))
    of_training(config)
    return config


def earlier_settings(
    checkpoint: Path, training: list[Example], validation: list[Example], config: TrainingConfig
) -> dict[str, Any] | None:
    """Settings of the run that left a checkpoint, if it learns from these images.

    Parameters
    ----------
    checkpoint : path
        Checkpoint of a training, which may not exist.
    training, validation : list of Example
        Images to train on or to divide, and those that are named for validation.
    config : TrainingConfig
        Settings, before folds are chosen.
    """
    in_folds = checkpoints.settings_of(checkpoint, ranked_examples(training), ())
    if in_folds is not None or config.folds:
        return in_folds
    return checkpoints.settings_of(checkpoint, *hold_some(training, validation, config))


def with_choices(
    config: TrainingConfig,
    stated: Mapping[str, Any],
    training: Sequence[Example],
    run: Run,
    earlier: Mapping[str, Any] | None,
    report: Callable[[str], None],
) -> TrainingConfig:
    """Settings with what the images, or the checkpoint to go on from, decide where nothing is stated.

    Raises
    ------
    ImageError
        When the images have other axes than the model to start from.
    """
    if run.start is not None:
        check_axes(run.start, training)
    fixed = {*stated, *(FROM_MODEL if run.start is not None else ())}
    taken = take_over(config, {*fixed, *flattened(stated)}, earlier, starts=run.start is not None)
    if taken is not None:
        return taken
    chosen = choose(config, fixed, training, is_fine_tuning=run.start is not None, minutes=run.minutes)
    report(describe(chosen, fixed, run.minutes))
    return chosen
