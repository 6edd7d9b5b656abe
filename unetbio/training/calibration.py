"""Thresholds of a trained model for other images: the network stays, a new model file has the thresholds."""

import dataclasses
import logging
import os
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from unetbio.errors import ImageError, UsageError
from unetbio.inference.backends.base import choose_device, make_backend
from unetbio.inference.prediction import predict
from unetbio.models.model_file import Model, ModelInfo, check_new_model, load_model, save_model
from unetbio.models.precision import device_for
from unetbio.networks import find as find_network
from unetbio.notes import say_without_effect
from unetbio.preprocessing import normalization
from unetbio.preprocessing.prepare import at_scale_of
from unetbio.preprocessing.selection import ImageSelection
from unetbio.settings.segmentation import Settings
from unetbio.settings.training import Augmentation, TrainingConfig
from unetbio.settings.training_runs import CalibrateRun
from unetbio.supervision.confidence import MIN_CELLS
from unetbio.targets import find as find_target
from unetbio.targets import of_model
from unetbio.targets.base import Validation
from unetbio.targets.cells import CellLearner, has_thresholds
from unetbio.training.data.checks.checks import check_examples
from unetbio.training.data.dataset import Example, as_learned, fingerprint
from unetbio.training.data.examples import load_examples
from unetbio.training.data.pairs import AnnotatedFiles, find_pairs, list_pairs
from unetbio.training.starting import recorded_config, trained_largest_diameter, wrong_axes
from unetbio.training.thresholds import tune_from
from unetbio.training.without_effect import GROUP

__all__ = ["Calibrated", "calibrate"]

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """A model with new thresholds.

    Parameters
    ----------
    info : ModelInfo
        As in the new file.
    before, after : Validation
        Scores with the model's thresholds and with those found; equal if the model's stay.
    deciding : str
        Name of the score that decided.
    warnings : tuple of str
        What looks wrong in the annotated images.
    """

    info: ModelInfo
    before: Validation
    after: Validation
    deciding: str
    warnings: tuple[str, ...]


def calibrate(
    model: str | os.PathLike[str],
    inputs: Sequence[Path],
    output: Path,
    run: CalibrateRun = CalibrateRun(),  # noqa: B008 -- frozen
    reading: Settings = Settings(),  # noqa: B008 -- frozen
) -> Calibrated:
    """Search the thresholds of a model of cells on annotated images and write a model file with them.

    Parameters
    ----------
    model : str or path
        Shipped model, or file.
    inputs : sequence of path
        Images and masks, as for `unetbio.train`.
    output : path
        New model file.
    run : CalibrateRun
        Options.
    reading : Settings
        How images are read.

    Raises
    ------
    UsageError
        When the model has no thresholds to search, the images have other channels, or the file exists.
    ImageError
        Naming the image or mask that cannot be used.
    """
    check_new_model(output, overwrite=run.overwrite)
    files = find_pairs(inputs, None if run.root is None else Path(run.root), reading, for_training=False)
    list_pairs(files, partial(logger.info, "%s"))
    trained = load_model(model)
    _check_target(trained)
    _say_without_effect(files, trained.info)
    config = _config(trained.info, split_components=run.split_components)
    pairs, channels = [*files.training, *files.validation], len(trained.info.channels)
    examples = load_examples(pairs, config, channels=channels, at_scale=partial(_at_scale, trained))
    _check_channels(trained, examples[0])
    learner = of_model(trained.info).learner(config, [example.label_image for example in examples])
    assert has_thresholds(learner)  # _check_target refuses others
    warnings = check_examples(examples, (), config, trust=run.trust_masks, for_training=False)
    seen = [each if _knows_scale(each, trained.info) else as_learned(each, config.augmentation) for each in examples]
    before, after = _search(trained, learner, seen, run.device)
    if not after.confidence:
        warnings += [_confidence_stays(trained.info)]
    info = _calibrated_info(trained, output.stem, examples, before, after)
    save_model(output, info, trained.network)
    return Calibrated(info, before, after, learner.deciding_score, tuple(warnings))


def _check_target(trained: Model) -> None:
    """Refuse a model without thresholds, before masks are read as those of cells."""
    if not of_model(trained.info).classifies_pixels_of_cells:
        raise UsageError(
            f"{trained.path} has the target {trained.info.target} and no thresholds of probabilities to search: give a "
            "model whose network classifies the pixels of cells"
        )


def _confidence_stays(info: ModelInfo) -> str:
    stays = "stay those of the model" if info.confidence else "are the mean probabilities of their pixels"
    return f"fewer than {MIN_CELLS} cells were found, too few to calibrate confidences: they {stays}"


def _at_scale(model: Model, selection: ImageSelection) -> ImageSelection:
    """An image at the scale at which a segmentation would see it, where its pixel size or diameter is known."""
    ndim, axes = model.geometry.ndim, selection.section.axes
    if len(axes) != ndim:
        raise ImageError("wrong_axes", wrong_axes(axes, ndim))
    return at_scale_of(selection, model.info, ndim) or selection


def _knows_scale(example: Example, info: ModelInfo) -> bool:
    """Whether `_at_scale` brought an image to the scale of the model."""
    return example.diameter_px is not None or None not in (example.pixel_size_um, info.pixel_size_um)


def _say_without_effect(files: AnnotatedFiles, info: ModelInfo) -> None:
    """Say which columns and options of a training have no meaning here."""
    pairs = [*files.training, *files.validation]
    if files.validation:
        say_without_effect("the split of the images", "thresholds are searched on all of them")
    if any(pair.group for pair in pairs):
        say_without_effect(GROUP, "thresholds are searched on all images alike")
    if info.cell_diameter_px is None and any(isinstance(pair.reading.diameter_px, int | float) for pair in pairs):
        say_without_effect("--diameter", f"model {info.name} knows no diameter to rescale to")
    if info.pixel_size_um is None and any(pair.reading.pixel_size_um is not None for pair in pairs):
        say_without_effect("--pixel-size", f"model {info.name} knows no pixel size to rescale to")


def _config(info: ModelInfo, *, split_components: bool) -> TrainingConfig:
    """Settings that decide how masks, grey values and large cells are seen, as in the training of the model."""
    of_cells = find_target(info.target, info.architecture).has_cell_classes
    return TrainingConfig(
        name=info.name,
        class_names=info.class_names if of_cells else (),
        target=info.target,
        network=info.architecture,
        parameters=info.network_parameters(),
        normalization=info.normalization,
        split_components=split_components,
        ignore_label=recorded_config(info).get("ignore_label"),
        augmentation=Augmentation(largest_diameter=trained_largest_diameter(info)),
    )


def _check_channels(model: Model, example: Example) -> None:
    if len(example.image) != len(model.info.channels):
        raise UsageError(
            f"{example.name} has {len(example.image)} channels, {model.path} takes {len(model.info.channels)}: choose "
            "as many with --channel"
        )


def _search(
    model: Model, learner: CellLearner, examples: Sequence[Example], device: str
) -> tuple[Validation, Validation]:
    """Scores before and after the search."""
    exact = find_network(model.info.architecture).is_tiled_exactly(model.info.parameters)
    chosen, _ = choose_device(device_for([model.info], device))
    predictor = make_backend(model.network, device=chosen, exact=exact, window=model.info.window)
    probabilities = [predict(normalization.apply(one.image, one.scaling), predictor) for one in examples]
    label_images = [one.label_image for one in examples]
    before = learner.score(model.info.postprocessing, probabilities, label_images)
    return before, tune_from(model.info.postprocessing, learner, probabilities, label_images)


def _calibrated_info(
    model: Model, name: str, examples: Sequence[Example], before: Validation, after: Validation
) -> ModelInfo:
    record: dict[str, Any] = {
        "model": model.info.name,
        "model_sha256": model.sha256,
        "integers": model.info.is_integer,
        "images": len(examples),
        "images_sha256": fingerprint(examples),
        "scores_before": before.scores,
        "scores": after.scores,
        "version": version("unetbio"),
    }
    return model.info.model_copy(
        update={
            "name": name,
            "postprocessing": after.postprocessing,
            # They belong to the network, which stays.
            "confidence": after.confidence or model.info.confidence,
            "calibration": record,
        }
    )
