"""A model file that was changed after its training, which the same training must not replace unasked."""

from pathlib import Path
from typing import TYPE_CHECKING

from unetbio.errors import ModelError, UsageError
from unetbio.models.model_file import read_info

if TYPE_CHECKING:
    from unetbio.training.trainer import Trainer

__all__ = ["stays"]


def stays(model: Path, trainer: "Trainer", *, overwrite: bool) -> bool:
    """Whether a model file is to stay as it is: it was changed, and its training has nothing left to do.

    Parameters
    ----------
    model : path
        File that the training writes.
    trainer : Trainer
        It takes up its checkpoint, which may set the file aside with that of another run.
    overwrite : bool
        Whether the file is to be replaced, whatever it holds.

    Raises
    ------
    UsageError
        When the file was changed, and the training would go on and replace it.
    ModelError
        As `Trainer.take_up`.
    """
    trainer.take_up()
    change = "" if overwrite or not model.exists() else _change(model, trainer.identity["images"]["training"])
    if not change:
        return False
    if not trainer.is_complete:
        raise UsageError(
            f"{model} {change} since, and this training would replace it: rename it to train on from the checkpoint, "
            "or start anew with another -o, or with --overwrite"
        )
    trainer.report(f"{model} {change} since: it stays as it is (--overwrite trains it anew)")
    return True


def _change(model: Path, images_sha256: str) -> str:
    """What happened to a model file after a training on these images wrote it; empty if nothing did."""
    try:
        info = read_info(model)
    except ModelError:
        return ""  # damaged: the training writes it again
    if info.calibration:
        return "was calibrated"
    if info.is_integer:
        return "was quantized"
    if info.training.get("images_sha256", images_sha256) != images_sha256:
        return "was replaced by a model of other images"
    return ""
