"""A model file that was calibrated or quantized in its place, which the same training must not replace unasked."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from unetbio.errors import ModelError
from unetbio.models.model_file import ModelInfo, read_info, save_model

if TYPE_CHECKING:
    from unetbio.training.result import TrainingResult

__all__ = ["save_unless_changed"]

NOT_OF_WEIGHTS = ("quantized", "precision", "warnings")
"""Entries of the record of a training that may differ in a file of the same weights."""


def save_unless_changed(model: Path, result: "TrainingResult", report: Callable[[str], None]) -> None:
    """Write the model of a training, unless its file is that of the same steps and was changed since.

    Parameters
    ----------
    model : path
        File to write.
    result : TrainingResult
        A training that went on replaces the file: thresholds belong to a network.
    report : callable
        Told what happened to a file that was changed.
    """
    found = _info(model)
    change = _change(found) if found else ""
    if change and found and not result.new_steps and _training(found) == _training(result.info):
        report(f"{model} {change} since: it stays as it is (--overwrite trains it anew)")
        return
    if change:
        report(f"{model} {change}: this training replaces it")
    save_model(model, result.info, result.network)


def _info(model: Path) -> ModelInfo | None:
    try:
        return read_info(model) if model.exists() else None
    except ModelError:
        return None  # damaged: the training writes it again


def _change(info: ModelInfo) -> str:
    if info.calibration:
        return "was calibrated"
    return "was quantized" if info.is_integer else ""


def _training(info: ModelInfo) -> object:
    """As it stands in the file, without what a quantization adds to it, and what says nothing of the weights."""
    training = info.model_dump(mode="json")["training"]
    return {name: value for name, value in training.items() if name not in NOT_OF_WEIGHTS}
