"""How the score grows with annotated images: networks trained on nested parts of them, under one budget.

Parts are of whole files: frames of a time-lapse and sections of a stack look alike, so that single ones of them would
show as much as all, and the curve would be flat.
"""

import dataclasses
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from unetbio.errors import UsageError
from unetbio.files import atomic_path, lock, stopping, write_text
from unetbio.inference.backends.base import choose_device
from unetbio.io.tables import csv_text
from unetbio.models.model_file import CHECKPOINT_SUFFIX, load_model
from unetbio.notes import say_without_effect
from unetbio.output_layout import LOCK
from unetbio.settings.segmentation import Settings
from unetbio.settings.training import TrainingConfig
from unetbio.settings.training_runs import LearnCurveRun
from unetbio.targets import of_training
from unetbio.targets.base import Learner
from unetbio.targets.cells import mask_annotated
from unetbio.training import checkpoints
from unetbio.training.changed_model import save_unless_changed
from unetbio.training.data.cell_classes import name_cell_classes
from unetbio.training.data.checks.checks import check_examples
from unetbio.training.data.dataset import Example, draw_files
from unetbio.training.data.examples import load_training_data
from unetbio.training.data.pairs import find_pairs, list_pairs
from unetbio.training.preparation import given_of, load_config, with_choices
from unetbio.training.recipes import with_recipe
from unetbio.training.result import TrainingResult
from unetbio.training.starting import learned_images
from unetbio.training.trainer import Trainer
from unetbio.training.without_effect import find_without_effect

__all__ = ["LearningCurve", "Point", "learn_curve"]

logger = logging.getLogger(__name__)

TABLE, PICTURE = "learning_curve.csv", "learning_curve.png"

POINTS = 4
"""Sizes unless given: all images, and each time half as many."""

WORTH_IT = 0.01
"""Gain in the deciding score from twice as many images, from which on more are worth drawing."""


@dataclasses.dataclass(frozen=True)
class Point:
    """Training on some of the images: their number, its steps, and scores."""

    images: int
    steps: int
    scores: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class LearningCurve:
    """Points by rising number of images; frames and sections count as images.

    Parameters
    ----------
    points : tuple of Point
        The trainings.
    deciding : str
        Name of the score by which the best step of each was chosen.
    validation_images : int
        Images of the scores, the same for all points.
    """

    points: tuple[Point, ...]
    deciding: str
    validation_images: int

    @property
    def scores(self) -> dict[str, list[float]]:
        """Scores of all points by name; NaN where a point lacks one, as of a class that no validation mask has."""
        names = dict.fromkeys(name for point in self.points for name in point.scores)
        return {name: [point.scores.get(name, math.nan) for point in self.points] for name in names}

    def csv(self) -> str:
        """One row a point; cells of unknown scores are empty."""
        columns = [["" if math.isnan(score) else f"{score:.4f}" for score in column] for column in self.scores.values()]
        rows = ([point.images, point.steps, *row] for point, *row in zip(self.points, *columns, strict=True))
        return csv_text([["images", "steps", *self.scores], *rows])

    def advice(self) -> str:
        """What the last step of the curve says about annotating more images."""
        if len(self.points) < 2:
            return "one point says nothing about more images"
        before, last = self.points[-2:]
        doublings = float(np.log2(last.images / before.images))
        gain = (last.scores[self.deciding] - before.scores[self.deciding]) / doublings
        worth = "more annotated images will help" if gain >= WORTH_IT else "more images like these will hardly help"
        return f"twice as many images gave {gain:+.3f} {self.deciding} at the end: {worth}"


def learn_curve(
    inputs: Sequence[Path],
    out: Path,
    run: LearnCurveRun = LearnCurveRun(),  # noqa: B008 -- frozen
    reading: Settings = Settings(),  # noqa: B008 -- frozen
) -> LearningCurve:
    """Train on nested parts of annotated images with one validation, and write a table and a picture.

    Parts hold whole files, with all of their frames and sections, so that a part may be larger than its size.

    Parameters
    ----------
    inputs : sequence of path
        Images and masks, as for `unetbio.train`.
    out : path
        Folder of the table, the picture, and the model and checkpoint of each training. The same call goes on where it
        stopped.
    run : LearnCurveRun
        Options.
    reading : Settings
        How images are read.

    Raises
    ------
    UsageError, ImageError, ModelError
        As `unetbio.train`; also when a size is larger than the number of training images.
    EnvironmentStoppedError
        When another run uses the folder, or it cannot be written.
    """
    given = given_of(run)
    stated = with_recipe(given, run.start)
    config = load_config(run, stated)
    files = find_pairs(inputs, None if run.root is None else Path(run.root), reading)
    report = partial(logger.info, "%s")
    list_pairs(files, report)
    config = name_cell_classes(config, files)
    training, validation = load_training_data(files, config)
    sizes = _sizes(run.sizes, len(training))
    warnings = check_examples(training, validation, config, trust=run.trust_masks)
    for warning in (*warnings, *_check_start(run.start, training, validation)):
        logger.warning("%s", warning)
    for name, reason in find_without_effect(given, config, files, run.minutes).items():
        say_without_effect(name, reason)
    config = _with_class_names(config, [*training, *validation])
    ordered = _in_order(training, config)
    earlier = None if run.overwrite else _earlier(out, ordered, validation)
    config = with_choices(config, stated, training, run, earlier, report)
    learner = _learner(config, [*training, *validation])
    parts = _parts(ordered, sizes)
    with lock(out / LOCK):
        points = tuple(_point(part, validation, config, out, run) for part in parts)
        curve = LearningCurve(points, learner.deciding_score, len(validation))
        write_text(out / TABLE, curve.csv())
        _draw(curve, out / PICTURE)
    return curve


def _check_start(start: str | None, training: Sequence[Example], validation: Sequence[Example]) -> list[str]:
    """Warn of a model to start from that has learned from images of the curve."""
    learned = () if start is None else learned_images(start, training, validation)
    count = len(training) + len(validation)
    if not learned:
        return []
    return [
        f"{start} has learned from {len(learned)} of these {count} images, and every part begins with that: "
        "the curve says little about the number of images; start from another model, or leave --start out"
    ]


def _sizes(given: Iterable[int], images: int) -> list[int]:
    sizes = sorted(set(given)) or sorted({max(1, images // 2**halvings) for halvings in range(POINTS)})
    if sizes[0] < 1 or sizes[-1] > images:
        raise UsageError(
            f"--sizes {', '.join(map(str, sizes))}: there are {images} images to train on, give 1 to {images}"
        )
    return sizes


def _parts(files: Sequence[Sequence[Example]], sizes: Sequence[int]) -> list[list[Example]]:
    """Nested parts of whole files, each once: for each size the smallest with so many images."""
    counts = np.cumsum([len(file) for file in files])
    held = {int(np.searchsorted(counts, size)) + 1 for size in sizes}
    parts = [[example for file in files[:number] for example in file] for number in sorted(held)]
    if (found := [len(part) for part in parts]) != list(sizes):
        logger.info("files are taken whole, with all of their images: parts of %s images", ", ".join(map(str, found)))
    return parts


def _in_order(training: Sequence[Example], config: TrainingConfig) -> Sequence[Sequence[Example]]:
    """Files as they are drawn; types of cells are counted, so no part of them may be without a cell."""
    files = draw_files(training, config.seed)
    if not of_training(config).has_cell_classes:
        return files
    has_cells = (any(mask_annotated(one.label_image, one.label_image, config).any() for one in file) for file in files)
    first = next((number for number, has in enumerate(has_cells) if has), 0)
    return [files[first], *files[:first], *files[first + 1 :]]


def _learner(config: TrainingConfig, examples: Sequence[Example]) -> Learner:
    return of_training(config).learner(config, [example.label_image for example in examples])


def _with_class_names(config: TrainingConfig, examples: Sequence[Example]) -> TrainingConfig:
    """Settings with the names of the classes of masks, which follow from all images and so are those of each part."""
    if of_training(config).masks != "classes" or config.class_names:
        return config
    return config.model_copy(update={"class_names": _learner(config, examples).class_names})


def _earlier(out: Path, files: Sequence[Sequence[Example]], validation: Sequence[Example]) -> dict[str, Any] | None:
    """Settings of a training on a part of these files that began in the folder: its choices are those of all sizes."""
    part: list[Example] = []
    for file in files:
        part += file
        if (settings := checkpoints.settings_of(_checkpoint(out, part), part, validation)) is not None:
            return settings
    return None


def _name(part: Sequence[Example]) -> str:
    return f"{len(part):04}"


def _checkpoint(out: Path, part: Sequence[Example]) -> Path:
    return out / f"{_name(part)}{CHECKPOINT_SUFFIX}"


def _point(
    training: Sequence[Example], validation: Sequence[Example], config: TrainingConfig, out: Path, run: LearnCurveRun
) -> Point:
    info = _train(training, validation, config, out, run).info
    return Point(len(training), info.training["steps"], info.scores["validation"])


def _train(
    training: Sequence[Example], validation: Sequence[Example], config: TrainingConfig, out: Path, run: LearnCurveRun
) -> TrainingResult:
    name, checkpoint = _name(training), _checkpoint(out, training)
    if run.overwrite:
        with stopping(checkpoint):
            checkpoint.unlink(missing_ok=True)
    trainer = Trainer(
        training,
        validation,
        config.model_copy(update={"name": name}),
        device=choose_device(run.device)[0],
        checkpoint=checkpoint,
        minutes=run.minutes,
        workers=run.workers,
        report=_reporter(len(training)),
        replace=run.replace and not run.overwrite,
    )
    if run.start is not None:
        trainer.start_from(load_model(run.start))
    model = out / f"{name}.safetensors"
    result = trainer.run()
    save_unless_changed(model, result, trainer.report)
    return result


def _reporter(images: int) -> Callable[[str], None]:
    return lambda line: logger.info("%d images: %s", images, line)


def _draw(curve: LearningCurve, path: Path) -> None:
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    images = [point.images for point in curve.points]
    for name, scores in curve.scores.items():
        width = 2.5 if name == curve.deciding else 1.0
        axes.plot(images, scores, marker="o", linewidth=width, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(images)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set(xlabel="annotated images", ylabel=f"score on {curve.validation_images} validation images", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
