"""Training: from annotated images to a model file, with its loss curve, log and checkpoint beside it."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from unetbio.errors import UsageError
from unetbio.files import lock, open_regular, remove_stale, stopping, utf8_text
from unetbio.models.model_file import CHECKPOINT_SUFFIX, check_new_model, load_model
from unetbio.notes import without_effect
from unetbio.settings.options import from_keywords, options_of
from unetbio.settings.segmentation import READING, Settings
from unetbio.settings.training import TrainingConfig
from unetbio.settings.training_runs import TrainOptions, TrainRun
from unetbio.training.changed_model import save_unless_changed
from unetbio.training.data.cell_classes import name_cell_classes
from unetbio.training.data.checks.checks import check_examples, check_split
from unetbio.training.data.dataset import (
    Example,
    common_pixel_size,
    fold_examples,
    is_reduced,
    ranked_examples,
)
from unetbio.training.data.examples import hold_some, load_annotated
from unetbio.training.data.pairs import AnnotatedFiles, find_pairs, list_pairs
from unetbio.training.folds import Parts, check_folds, choose_folds, judge_in_folds, last_share, remove_folds
from unetbio.training.preparation import earlier_settings, given_of, load_config, with_choices
from unetbio.training.recipes import with_recipe
from unetbio.training.starting import check_start, learned_images
from unetbio.training.without_effect import find_without_effect

if TYPE_CHECKING:
    import torch

    from unetbio.training.result import TrainingResult
    from unetbio.training.trainer import Trainer

__all__ = ["train"]

logger = logging.getLogger(__name__)


def train(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    **options: Unpack[TrainOptions],
) -> "TrainingResult":
    """Train a network on images and label images, or on images and class masks, as ``unetbio train`` does.

    Lines of the log are those of the logger ``unetbio.training.run``.

    Parameters
    ----------
    inputs : path or sequence of paths
        Images and masks (folders or files, paired by name), one folder that holds ``images/`` and ``masks/``, or a
        table (csv, tsv) with the columns image, mask and, if wanted, split and those that say how images are read.
    output : path
        Model file to write, ``*.safetensors``. The loss curve (``.png``), the log and the checkpoint stand beside it;
        the same call continues from the checkpoint after an interruption, or with more minutes.
    **options
        Fields of `unetbio.settings.segmentation.Settings` that say how images are read, ``channel, channel_names,
        series, t, z, axes, pixel_size, diameter``, and of `unetbio.settings.training_runs.TrainRun`: ``config, network,
        recipe, start, encoder, root, target, class_names, class_values, split_components, steps, minutes, folds,
        seed, border_weight, trust_masks, device, workers, replace, overwrite``.

    Returns
    -------
    TrainingResult
        The network of the best validation, ``info`` as this training would write it, and the history of the run. The
        model file differs where it was calibrated or quantized since, and stays for want of further steps.

    Raises
    ------
    UsageError
        When the options do not go together, nothing can be paired, or the model exists and is not to be overwritten.
    ImageError
        Naming the first image or mask that cannot be used, or that looks wrong.
    EnvironmentStoppedError
        When a file cannot be written, or another training writes this model.
    """
    run, reading = _split(options)
    output = Path(output)
    paths = [inputs] if isinstance(inputs, (str, os.PathLike)) else inputs
    if run.start is not None and run.encoder is not None:
        raise UsageError("--start and --encoder both say with which weights the encoder begins: leave one out")
    given = given_of(run)
    stated = with_recipe(given, run.start)
    config = load_config(run, stated)
    if "name" not in config.model_fields_set:
        config = config.model_copy(update={"name": output.stem})
    checkpoint = output.with_suffix(CHECKPOINT_SUFFIX)
    _refuse_finished(output, checkpoint, overwrite=run.overwrite)
    # Check options before torch is imported, so that errors come at once.
    root = None if run.root is None else Path(run.root)
    files = find_pairs([Path(path) for path in paths], root, reading)
    _refuse_input(output, files)
    config = name_cell_classes(config, files)
    check_folds(config, files)

    from unetbio.inference.backends.base import choose_device
    from unetbio.training.loss_curve import draw_loss_curve

    report = _Report(output.with_suffix(".log"))
    torch_device, reason = choose_device(run.device)
    report(f"training on {torch_device} ({reason})")
    list_pairs(files, report)
    examples, held = load_annotated(files, config)
    earlier = None if run.overwrite else earlier_settings(checkpoint, examples, held, config)
    learned = () if run.start is None else learned_images(run.start, examples, held)
    config = choose_folds(config, stated, files, run, earlier, learned)
    config, training, validation, folds = _divide(examples, held, config, stated, report)
    report(_parts(training, validation, config))
    report(_read_as(training))
    warnings = check_examples(training, validation, config, trust=run.trust_masks)
    warnings += next(filter(None, (list(check_split(*part)) for part in folds)), [])
    warnings += check_start(run.start, learned, validation or training, in_folds=bool(folds))
    for warning in warnings:
        report.warn(warning)
    for name, reason in find_without_effect(given, config, files, run.minutes).items():
        report(without_effect(name, reason))
    config = with_choices(config, stated, training, run, earlier, report)
    _report_reduced([*training, *validation], config, report)
    make = _TrainerMaker(run, torch_device, report)
    minutes = None if run.minutes is None else run.minutes * last_share(config)
    trainer = make(training, validation, config, checkpoint, minutes)
    report(f"computing in {trainer.precision}")
    with lock(output.with_name(f".{output.stem}.lock"), what=output):
        remove_stale(output.parent)
        report.keep()
        if run.overwrite:
            with stopping(checkpoint):
                checkpoint.unlink(missing_ok=True)
            remove_folds(checkpoint)
        is_new = len(learned) < len(training)
        result = _run_in_folds(trainer, folds, make, with_start=is_new) if folds else trainer.run()
        result = _with_warnings(result, warnings, [*training, *validation])
        if not result.new_steps and result.info.training["steps"]:
            report(_complete(result, config, run.minutes, output))
        save_unless_changed(output, result, report)
        draw_loss_curve(result.history, _picture_of(output))
    return result


def _divide(
    examples: list[Example],
    held: list[Example],
    config: TrainingConfig,
    stated: Mapping[str, Any],
    report: Callable[[str], None],
) -> tuple[TrainingConfig, Sequence[Example], Sequence[Example], Sequence[Parts]]:
    """Settings, without folds where there can be none, and images to train on, to validate on, and in folds."""
    if not config.folds:
        return config, *hold_some(examples, held, config), []
    ranked = ranked_examples(examples)
    try:
        return config, ranked, [], fold_examples(ranked, config.folds)
    except UsageError:
        if "folds" in stated:
            raise
        report("too few files hold cells to divide them into folds: some are kept for validation")
    config = config.model_copy(update={"folds": 0})
    return config, *hold_some(ranked, [], config), []


def _run_in_folds(
    trainer: "Trainer", folds: Sequence[Parts], make: "_TrainerMaker", *, with_start: bool
) -> "TrainingResult":
    """Train the networks of the folds, then that of the model with their thresholds."""
    from unetbio.training.run_state import random_state_kept  # here, since torch takes its time

    # Refuse another run's checkpoint, and mark this one as begun, before time is spent on the folds.
    trainer.take_up()
    trainer.mark_begun()
    if trainer.is_complete:
        return trainer.run()
    with random_state_kept(make.device):
        # The network of the model goes on as it would without folds, wherever it was stopped.
        judged = judge_in_folds(
            folds, trainer.config, trainer.checkpoint, make.run.minutes, make, with_start=with_start
        )
    if judged.keeps_start:
        make.report(
            f"the networks of the folds are no better than {make.run.start}: the model keeps the weights that it began "
            "with; train for longer (--minutes or --steps)"
        )
        fresh = make(trainer.training, (), trainer.config, trainer.checkpoint, trainer.minutes)
        return fresh.as_it_began(judged.found)
    trainer.judged = judged.found
    return trainer.run()


@dataclass(frozen=True)
class _TrainerMaker:
    """Makes trainers of one run: its device, threads and log, and the weights that it begins with."""

    run: TrainRun
    device: "torch.device"
    report: "_Report"

    def __call__(
        self,
        training: Sequence[Example],
        validation: Sequence[Example],
        config: TrainingConfig,
        checkpoint: Path,
        minutes: float | None,
        name: str = "",
    ) -> "Trainer":
        from unetbio.training.trainer import Trainer

        run = self.run
        trainer = Trainer(
            training,
            validation,
            config,
            device=self.device,
            checkpoint=checkpoint,
            minutes=minutes,
            workers=run.workers,
            report=partial(self._report, name),
            replace=run.replace and not run.overwrite,
            keeps_last=config.folds > 0,
        )
        if run.start is not None:
            self._report(name, f"starting from {run.start}: took {trainer.start_from(load_model(run.start))}")
        if run.encoder is not None:
            taken = len(trainer.load_encoder(run.encoder))
            self._report(name, f"took {taken} tensors of the encoder from {run.encoder}")
        return trainer

    def _report(self, name: str, line: str) -> None:
        self.report(f"{name}: {line}" if name else line)


def _split(options: TrainOptions) -> tuple[TrainRun, Settings]:
    """Options of the run, and those that say how images are read."""
    known = options_of(Settings)
    words = {word for name in READING for word in (known[name].key, name)}
    reading = {name: value for name, value in options.items() if name in words}
    run = {name: value for name, value in options.items() if name not in words}
    return from_keywords("train", TrainRun, run), from_keywords("train", Settings, reading)


def _refuse_finished(output: Path, checkpoint: Path, *, overwrite: bool) -> None:
    picture = _picture_of(output)
    with stopping(output):
        goes_on, has_picture = checkpoint.exists(), picture.exists()
        # Beside its log a picture is that of a training whose model was removed, as Snakemake does before a rule runs.
        is_own = output.with_suffix(".log").exists()
    check_new_model(output, overwrite=overwrite or goes_on)
    if has_picture and not (overwrite or goes_on or is_own):
        raise UsageError(
            f"{picture} exists already, and the loss curve of the model would replace it: choose another name, or "
            "--overwrite it"
        )


def _refuse_input(output: Path, files: AnnotatedFiles) -> None:
    """Refuse a model whose loss curve would replace an image or mask that it learns from."""
    picture = _picture_of(output)
    inputs = (path for pair in (*files.training, *files.validation) for path in (pair.image, pair.mask))
    if any(Path(path).name == picture.name and Path(path).resolve() == picture.resolve() for path in inputs):
        raise UsageError(f"{picture} is an image to learn from, and the loss curve would replace it: choose another -o")


def _picture_of(output: Path) -> Path:
    """The loss curve of a model."""
    return output.with_suffix(".png")


def _complete(result: "TrainingResult", config: TrainingConfig, minutes: float | None, output: Path) -> str:
    """Message for a checkpoint whose run is complete."""
    steps = result.info.training["steps"]
    spent = result.history.seconds / 60 / last_share(config)
    start = f"another model starts from this one with --start {output}"
    is_early = steps < config.steps if minutes is None else spent < minutes
    if is_early:
        return f"the training is complete: no better score in {config.patience} validations (patience); {start}"
    done = f"all {steps} steps" if minutes is None else f"{minutes:g} minutes"
    return f"the training is complete ({done}): it goes on with --minutes above the {spent:.1f} spent; {start}"


def _with_warnings(result: "TrainingResult", warnings: Sequence[str], examples: Sequence[Example]) -> "TrainingResult":
    """The result, with the warnings in the record of the training: images without the folders of this machine."""
    if not warnings:
        return result
    recorded = list(warnings)
    for name in sorted({example.name for example in examples}, key=len, reverse=True):
        recorded = [warning.replace(name, Path(name).name) for warning in recorded]
    info = result.info.model_copy(update={"training": {**result.info.training, "warnings": recorded}})
    return replace(result, info=info)


class _Report:
    """Logs lines, and writes them into a file once the training data are read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: list[str] | None = []

    def __call__(self, line: str) -> None:
        logger.info("%s", line)
        self._store(line)

    def warn(self, line: str) -> None:
        """Log a warning."""
        logger.warning("%s", line)
        self._store(f"warning: {line}")

    def _store(self, line: str) -> None:
        if self._waiting is None:
            self._write([line])
        else:
            self._waiting.append(line)

    def keep(self) -> None:
        """Create the file, with the lines so far."""
        with stopping(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        lines, self._waiting = self._waiting or [], None
        self._write(lines)

    def _write(self, lines: list[str]) -> None:
        with stopping(self._path), open_regular(self._path, "a", encoding="utf-8") as stream:
            stream.writelines(utf8_text(line) + "\n" for line in lines)


def _report_reduced(examples: Sequence[Example], config: TrainingConfig, report: Callable[[str], None]) -> None:
    """Say which images are seen smaller than they are."""
    reduced = sum(is_reduced(example, config.augmentation) for example in examples)
    if reduced:
        report(
            f"{reduced} of {len(examples)} images have cells wider than {config.augmentation.largest_diameter:g} px: "
            "they are reduced, as a segmentation reduces them when it finds the scale"
        )


def _parts(training: Sequence[Example], validation: Sequence[Example], config: TrainingConfig) -> str:
    """Message about the images that train and those that validate."""
    images = f"{len(training)} image{'s' * (len(training) > 1)} to train on"
    if config.folds:
        return f"{images}; each validates in one of {config.folds} folds"
    return f"{images}, {len(validation)} to validate on"


def _read_as(examples: Sequence[Example]) -> str:
    """Message about channels, axes and pixel size of images."""
    first, known = examples[0], common_pixel_size(examples)
    channels = ", ".join(name or str(number) for number, name in enumerate(first.channel_names))
    shape = "stacks" if first.label_image.ndim == 3 else "planes"
    size = "unknown" if known is None else " x ".join(f"{um:.4g}" for um in known) + " um"
    return f"{shape}, channels: {channels}; pixel size {size}"
