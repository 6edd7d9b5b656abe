"""Train and measure one network after another, in a folder that later runs continue.

A folder of results has one set of settings, in ``settings.json``, and so has the folder of each variant in it. The
folder of a variant gets, in this order, the log and the checkpoint, the loss curve, the model, the predictions, and the
scores. A variant with scores is complete.
"""

import json
import logging
import math
import shutil
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unetbio.compare.data import Examples, fingerprint, load, result_names
from unetbio.compare.measuring import Measurement, Refinement, measure
from unetbio.compare.variants import Variant, training_config
from unetbio.errors import EnvironmentStoppedError, UnetbioError, UsageError
from unetbio.files import open_regular, read_bytes, stopping, utf8_text, write_json
from unetbio.io import write_labels
from unetbio.models.model_file import ModelInfo, load_model, save_model
from unetbio.output_layout import FORMATS, mask_name
from unetbio.settings.base import flattened
from unetbio.settings.training import TrainingConfig
from unetbio.training.checkpoints import hash_groups
from unetbio.training.data.pairs import AnnotatedFiles
from unetbio.training.loss_curve import draw_loss_curve
from unetbio.training.trainer import Trainer

__all__ = ["CompareSettings", "Row", "compare_variants", "prediction_path"]

logger = logging.getLogger(__name__)

MODEL, CHECKPOINT, SCORES, SETTINGS = (
    "model.safetensors",
    "model.checkpoint.safetensors",
    "scores.json",
    "settings.json",
)
LOG, LOSS, PREDICTIONS = "training.log", "loss.png", "predictions"
SHOWN_DIFFERENCES = 3


@dataclass(frozen=True)
class CompareSettings:
    """Common settings of all networks of a comparison.

    Parameters
    ----------
    files : AnnotatedFiles
        Images and label images.
    config : TrainingConfig
        Settings of training, seed and steps among them; see `training_config`.
    minutes : float, optional
        Training time of each network, instead of steps.
    width : float, optional
        See `training_config`.
    """

    files: AnnotatedFiles
    config: TrainingConfig
    minutes: float | None = None
    width: float | None = None

    def identity(self, config: TrainingConfig) -> dict[str, Any]:
        """Settings that results depend on."""
        identity = {
            "config": config.model_dump(mode="json"),
            "minutes": self.minutes,
            "width": self.width,
            "images": self._images,
            "version": version("unetbio"),
        }
        if config.sampling == "groups":
            identity["groups"] = hash_groups([pair.group for pair in self.files.training])
        return identity

    @cached_property
    def _images(self) -> str:
        return fingerprint(self.files)


@dataclass(frozen=True)
class Row:
    """A variant in the table.

    Parameters
    ----------
    variant : Variant
        The variant.
    scores : mapping
        Scores by name of a column; NaN if a column has no value, empty if the variant failed.
    size_borders_px : tuple of float
        Areas that separate small, medium and large cells.
    failure : str
        One line that says why there are no scores; empty if there are.
    """

    variant: Variant
    scores: Mapping[str, float | str]
    size_borders_px: tuple[float, float] = (0.0, 0.0)
    failure: str = ""


def prediction_path(out: Path, variant: Variant, name: str) -> Path:
    """Path of the label image of a variant for the image of this name."""
    return out / variant.slug / PREDICTIONS / mask_name(name, "instances", FORMATS["ome-tiff"])


def compare_variants(
    variants: Sequence[Variant],
    settings: CompareSettings,
    examples: Examples,
    out: Path,
    device: torch.device,
    *,
    workers: int = 1,
    overwrite: bool = False,
    replace: bool = False,
) -> list[Row]:
    """Train and measure all variants that are not complete.

    Parameters
    ----------
    variants : sequence of Variant
        In the order of the rows. Variants that differ only in the CRF share one training.
    settings : CompareSettings
        Common settings.
    examples : Examples
        The images of ``settings``.
    out : path
        Folder of the results; the caller holds its lock.
    device : torch.device
        Device for training and measuring.
    workers : int
        Threads that prepare patches.
    overwrite : bool
        Train all variants again.
    replace : bool
        Replace results of other settings, instead of refusing the folder.

    Returns
    -------
    list of Row
        One for each variant, also for failed ones.

    Raises
    ------
    UsageError
        When a variant is invalid or is not for these images, or the folder has results of other settings; before any
        training.
    EnvironmentStoppedError
        When the disk is full or cannot be written.
    """
    configs = {variant: training_config(variant, settings.config, settings.width) for variant in variants}
    _check_refined(variants, examples)
    refinements = {variant.crf: _refinement(variant.crf) for variant in variants}
    _check_folder(out, settings.identity(settings.config), overwrite or replace)
    if overwrite:
        for folder in {out / each.slug for variant in variants for each in (variant, variant.trained)}:
            _clear(folder)
    write_json(out / SETTINGS, settings.identity(settings.config))
    run = _Run(settings, out, device, workers, examples)
    return [run.row(variant, configs[variant], refinements[variant.crf]) for variant in variants]


class _Run:
    """One run over the variants."""

    def __init__(
        self, settings: CompareSettings, out: Path, device: torch.device, workers: int, examples: Examples
    ) -> None:
        self.settings, self.out, self.device, self.workers, self.examples = settings, out, device, workers, examples
        self._failures: dict[Variant, str] = {}

    def row(self, variant: Variant, config: TrainingConfig, refine: Refinement | None) -> Row:
        """Scores of a variant, from an earlier run if it is complete, or its failure."""
        folder = self.out / variant.slug
        self._claim(folder, config, variant.crf)
        if not (folder / SCORES).exists():
            report = _Report(variant.name, folder / LOG)
            try:
                self._make(variant, config, refine, report)
            except Exception as error:
                if isinstance(error, EnvironmentStoppedError) and isinstance(error.__cause__, OSError):
                    raise  # A full disk stops all networks; running out of memory fails only this one.
                report.keep(traceback.format_exc())
                return Row(variant, {}, failure=_one_line(error))
        return _read_row(variant, folder / SCORES)

    def _claim(self, folder: Path, config: TrainingConfig, crf: str | None) -> None:
        """Make the folder of a variant, and empty it if it has results of other settings."""
        identity = json.loads(json.dumps({**self.settings.identity(config), "crf": crf}))
        if _read_json(folder / SETTINGS) != identity:
            _clear(folder)
            write_json(folder / SETTINGS, identity)

    def _make(self, variant: Variant, config: TrainingConfig, refine: Refinement | None, report: "_Report") -> None:
        examples = self._examples(config)
        network, info = self._trained(variant.trained, examples)
        report("measuring")
        found = measure(network, info, examples.validation, examples.scored, config, self.device, refine)
        for name, label_image in zip(result_names(examples.scored), found.label_images, strict=True):
            write_labels(prediction_path(self.out, variant, name), label_image)
        write_json(self.out / variant.slug / SCORES, _scores_file(variant, found, result_names(examples.scored)))

    def _examples(self, config: TrainingConfig) -> Examples:
        shared = self.settings.config
        of_network = {key: getattr(shared, key) for key in ("name", "network", "parameters")}
        # Settings of training can change how images are read.
        is_shared = config.model_copy(update=of_network) == shared
        return self.examples if is_shared else load(self.settings.files, config)

    def _trained(self, variant: Variant, examples: Examples) -> tuple[nn.Module, ModelInfo]:
        """The network of a variant without its CRF; trained if it does not exist."""
        config = training_config(variant, self.settings.config, self.settings.width)
        folder = self.out / variant.slug
        self._claim(folder, config, None)
        if (folder / MODEL).exists():
            model = load_model(folder / MODEL)
            return model.network, model.info
        if variant in self._failures:
            raise UnetbioError(self._failures[variant])
        try:
            return self._train(variant, config, examples, folder)
        except Exception as error:
            # Keep only the text: the traceback of the error would keep the network in memory.
            self._failures[variant] = _one_line(error)
            raise

    def _train(
        self, variant: Variant, config: TrainingConfig, examples: Examples, folder: Path
    ) -> tuple[nn.Module, ModelInfo]:
        trainer = Trainer(
            examples.training,
            examples.validation,
            config,
            device=self.device,
            checkpoint=folder / CHECKPOINT,
            minutes=self.settings.minutes,
            workers=self.workers,
            report=_Report(variant.name, folder / LOG),
            # Thresholds behind a CRF follow from the validation images alone, and so do all that are compared.
            settles=False,
        )
        result = trainer.run()
        draw_loss_curve(result.history, folder / LOSS)
        save_model(folder / MODEL, result.info, result.network)
        with stopping(folder):
            (folder / CHECKPOINT).unlink()
        return result.network, result.info


class _Report:
    """Log a line on stderr, with the name of the variant, and in a file."""

    def __init__(self, name: str, path: Path) -> None:
        self._name, self._path = name, path

    def __call__(self, line: str) -> None:
        logger.info("%s: %s", self._name, line)
        self.keep(line)

    def keep(self, text: str) -> None:
        """Append text to the file only."""
        with stopping(self._path), open_regular(self._path, "a", encoding="utf-8") as stream:
            stream.write(utf8_text(text).rstrip("\n") + "\n")


def _check_refined(variants: Sequence[Variant], examples: Examples) -> None:
    refined = next((variant.name for variant in variants if variant.crf is not None), None)
    if refined is not None and examples.training[0].label_image.ndim != 2:
        raise UsageError(
            f"{refined}: the CRF is for planes, and the images are stacks: leave out +crf, or choose a plane with --z "
            "INDEX, max or each"
        )


def _refinement(crf: str | None) -> Refinement | None:
    """The refinement after the network."""
    if crf is None:
        return None
    from unetbio.postprocessing.crf import PRESETS, refine

    preset = PRESETS[crf or next(iter(PRESETS))]
    return lambda probabilities, image: refine(probabilities, image, preset)


def _check_folder(out: Path, identity: Mapping[str, Any], others_may_go: bool) -> None:
    known = _read_json(out / SETTINGS)
    if others_may_go or known is None:
        return
    now, before = _shown(json.loads(json.dumps(identity))), _shown(known)
    different = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if different:
        shown = ", ".join(f"{key} {before.get(key)}, now {now.get(key)}" for key in different[:SHOWN_DIFFERENCES])
        more = f" and {len(different) - SHOWN_DIFFERENCES} more" if len(different) > SHOWN_DIFFERENCES else ""
        raise UsageError(
            f"{out} was made with other settings ({shown}{more}): use the same ones, another folder, or --replace"
        )


def _shown(identity: Any) -> dict[str, Any]:
    """Settings by dotted key; hashes are shortened."""
    settings = flattened(identity) if isinstance(identity, dict) else {}
    return {
        key.removeprefix("config."): str(value)[:12] if key in ("images", "groups") else value
        for key, value in settings.items()
    }


def _clear(folder: Path) -> None:
    """Remove the files of a run from the folder of a variant."""
    with stopping(folder):
        for name in (SETTINGS, SCORES, MODEL, CHECKPOINT, LOG, LOSS):
            (folder / name).unlink(missing_ok=True)
        if (folder / PREDICTIONS).is_dir():
            shutil.rmtree(folder / PREDICTIONS)


def _scores_file(variant: Variant, found: Measurement, names: Sequence[str]) -> dict[str, Any]:
    return {
        "variant": variant.name,
        "scores": _without_nan(found.scores),
        "size_borders_px": list(found.size_borders_px),
        "postprocessing": found.postprocessing and found.postprocessing.as_record(),
        "images": [{"name": name, **_without_nan(scores)} for name, scores in zip(names, found.images, strict=True)],
    }


def _without_nan(scores: Mapping[str, float | str]) -> dict[str, float | str | None]:
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in scores.items()}


def _read_row(variant: Variant, path: Path) -> Row:
    content = json.loads(read_bytes(path))
    scores = {name: math.nan if value is None else value for name, value in content["scores"].items()}
    low, high = content["size_borders_px"]
    return Row(variant, scores, (low, high))


def _read_json(path: Path) -> Any:
    """Content of a file; None if it is missing or incomplete."""
    try:
        return json.loads(read_bytes(path))
    except (OSError, ValueError, RecursionError):
        return None


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, UnetbioError) else f"{type(error).__name__}: {text}"
