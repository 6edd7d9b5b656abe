"""Precisions of a model: which it has and on which device, and the integers that lie beside it."""

import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unetbio import networks
from unetbio.errors import ModelError, UsageError
from unetbio.files import sha256_file
from unetbio.models import integers_path, model_path, shipped_models
from unetbio.models.model_file import ModelInfo, read_info
from unetbio.settings.values import Precision

__all__ = ["check_precision", "device_for", "find_model", "integer_parameters"]

INTEGER_PARAMETERS = {"arithmetic": "int8", "batch_norm": False, "dropout": 0.0, "deep_supervision": False}
"""What differs from the trained network: batch norm is folded, and the other two are for training."""


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
        When it is in integers and others are asked for, or has none or cannot have them, or those beside it were made
        of another model.
    """
    path = model_path(name_or_path)
    if precision is None:
        return path
    info = read_info(path)
    if precision != "int8" or info.is_integer:
        check_precision(info, precision)
        return path
    try:
        integer_parameters(info)
    except UsageError as error:
        raise UsageError(f"model {name_or_path} has no integers ({error}): leave out --precision int8") from error
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


def integer_parameters(info: ModelInfo) -> dict[str, Any]:
    """Parameters of the network of a model in integers.

    Raises
    ------
    UsageError
        When integers cannot compute it.
    """
    if info.architecture != "unet":
        raise UsageError(f"{info.name} is a {info.architecture}: integers are for models of the network unet")
    parameters = {**info.network_parameters(), **INTEGER_PARAMETERS}
    return networks.find(info.architecture).complete(parameters)


def device_for(models: Iterable[ModelInfo], device: str) -> str:
    """The device to choose: ``auto`` is the processor for models in integers, which run on no other."""
    return "cpu" if device == "auto" and any(info.is_integer for info in models) else device


def _integers(given: str | os.PathLike[str], path: Path) -> Path:
    integers = integers_path(path)
    # Integers of a shipped model cannot be put beside it where only an administrator may write.
    is_shipped = str(given) in shipped_models()
    made = integers.name if is_shipped else str(integers)
    remedy = f"unetbio models quantize {shlex.quote(str(given))} IMAGES -o {shlex.quote(made)}"
    if not integers.is_file():
        then = f", and segment with --model {made}" if is_shipped else ""
        raise UsageError(f"model {given} has no integers beside it: make them by {remedy}{then}")
    found = read_info(integers)
    if not found.is_integer or found.training.get("quantized", {}).get("model_sha256") != sha256_file(path):
        raise ModelError(f"{integers} holds no integers of {path}: make them again by {remedy} --overwrite")
    return integers
