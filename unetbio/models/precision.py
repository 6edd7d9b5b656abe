"""The file of a model in the precision that is asked for: the integers of a model lie beside it."""

import os
from pathlib import Path

from unetbio.errors import ModelError, UsageError
from unetbio.files import sha256_file
from unetbio.models import SUFFIX, integers_path, model_path
from unetbio.models.model_file import ModelInfo, read_info
from unetbio.settings.segmentation import Precision

__all__ = ["check_precision", "find_model"]


def find_model(name_or_path: str | os.PathLike[str], precision: Precision | None = None) -> Path:
    """File of a model: with ``int8`` that of its integers, unless it is in integers itself.

    Parameters
    ----------
    name_or_path : str or path
        Shipped model, or file.
    precision : {"float32", "int8", "bfloat16"}, optional
        Without it, the model is taken as it is.

    Raises
    ------
    ModelError
        When there is no such model.
    UsageError
        When it is in integers and others are asked for, or has none, or those beside it were made of another model.
    """
    path = model_path(name_or_path)
    if precision is None:
        return path
    info = read_info(path)
    if precision != "int8" or info.is_integer:
        check_precision(info, precision)
        return path
    return _integers(name_or_path, path)


def check_precision(info: ModelInfo, precision: Precision | None) -> None:
    """Refuse a precision that a model does not have.

    Raises
    ------
    UsageError
        When a model in integers is asked for others, or the other way round.
    """
    if info.is_integer and precision not in (None, "int8"):
        raise UsageError(
            f"model {info.name} is in integers: leave out --precision {precision}, or give the model it was made of"
        )
    if precision == "int8" and not info.is_integer:
        raise UsageError(f"model {info.name} is not in integers: give one that unetbio models quantize wrote")


def _integers(given: str | os.PathLike[str], path: Path) -> Path:
    integers = integers_path(path)
    remedy = f"unetbio models quantize {given} IMAGES -o {path.stem}.int8{SUFFIX}"
    if not integers.is_file():
        raise UsageError(f"model {given} has no integers beside it: make them for --model by {remedy}")
    found = read_info(integers)
    if not found.is_integer or found.training.get("quantized", {}).get("model_sha256") != sha256_file(path):
        raise ModelError(f"{integers} holds no integers of {path}: make them again by {remedy} --overwrite")
    return integers
