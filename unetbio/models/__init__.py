"""Models that come with the package, and where the file of a model is."""

import os
from pathlib import Path

from unetbio.errors import ModelError
from unetbio.files import refuse_remote

__all__ = ["DEFAULT_MODEL", "SUFFIX", "integers_path", "is_integers_of", "model_path", "shipped_models"]

SUFFIX = ".safetensors"
"""Ending of model files."""

DEFAULT_MODEL = "nuclei"
"""Shipped model that is taken where none is named."""

INTEGERS = f".int8{SUFFIX}"
"""Ending of the file that holds the integers of the model beside it."""

SHIPPED = Path(__file__).parent


def shipped_models() -> tuple[str, ...]:
    """Names of the models that come with the package: the default one, then the others, sorted."""
    names = (path.stem for path in SHIPPED.glob(f"*{SUFFIX}") if not is_integers_of(path))
    return tuple(sorted(names, key=lambda name: (name != DEFAULT_MODEL, name)))


def integers_path(path: Path) -> Path:
    """Where the integers of a model file are, if it has any: ``nuclei.int8.safetensors``."""
    return path.with_name(f"{path.stem}{INTEGERS}")


def is_integers_of(path: Path) -> bool:
    """Whether a file lies beside the model whose integers its name says that it holds."""
    return path.name.endswith(INTEGERS) and path.with_name(f"{path.name.removesuffix(INTEGERS)}{SUFFIX}").exists()


def model_path(name_or_path: str | os.PathLike[str]) -> Path:
    """Path of a shipped model's name, or of a model file.

    Raises
    ------
    ModelError
        When there is neither a shipped model nor a file of that name.
    UsageError
        For an address.
    """
    refuse_remote(name_or_path)
    text = os.fspath(name_or_path)
    if text in shipped_models():
        return SHIPPED / f"{text}{SUFFIX}"
    path = Path(text)
    if path.is_file():
        return path
    shipped = ", ".join(shipped_models()) or "none"
    raise ModelError(f"there is no model {text!r}: give a *{SUFFIX} file or the name of a shipped model ({shipped})")
