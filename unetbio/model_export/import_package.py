"""Import models from packages of the BioImage Model Zoo that unetbio wrote.

Such a package holds the model file itself beside the graphs for other programs, so that weights, thresholds and scores
come back byte for byte. No code is loaded from a package: TorchScript and pickled weights can hold some and are
refused.
"""

import lzma
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from unetbio.errors import ModelError, UsageError
from unetbio.files import atomic_path, open_regular
from unetbio.models import SUFFIX
from unetbio.models.model_file import load_model
from unetbio.settings.base import YAML_ERRORS

__all__ = ["MODEL_IN_PACKAGE", "import_package"]

MODEL_IN_PACKAGE = f"model{SUFFIX}"
"""The model file in a package."""

DESCRIPTIONS = ("rdf.yaml", "bioimageio.yaml")
MAX_DESCRIPTION_BYTES = 1 << 20
MAX_MODEL_BYTES = 4 << 30

CODE = {"torchscript", "pytorch_state_dict", "keras_hdf5", "keras_v3", "tensorflow_saved_model_bundle", "tensorflow_js"}
"""Kinds of weights that can hold code."""

ELSEWHERE = "run it in its own program and import the masks (unetbio import)"
"""What can be done with other models."""

CODE_SUFFIXES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".h5", ".keras")


def import_package(package: str | os.PathLike[str], path: str | os.PathLike[str]) -> Path:
    """Write the model of a package as a model file.

    Parameters
    ----------
    package : path-like
        A package that ``unetbio models export --to bioimageio`` wrote.
    path : path-like
        The new model file, ``*.safetensors``.

    Returns
    -------
    pathlib.Path
        The model file; its bytes are those of the exported one.

    Raises
    ------
    UsageError
        When the new file exists or has another ending.
    ModelError
        When the file is no such package, is damaged, or holds something else; the message says what.
    EnvironmentStoppedError
        When the file cannot be written.
    """
    package, path = Path(package), Path(path)
    if path.suffix != SUFFIX:
        raise UsageError(f"{path}: a model file ends with {SUFFIX}; give such a name")
    if path.exists():
        raise UsageError(f"{path} exists: give another name")
    with _open(package) as archive:
        entry = _find_model(archive, package)
        with atomic_path(path) as temporary:
            with archive.open(entry) as source, open(temporary, "wb") as target:
                shutil.copyfileobj(source, target)
            _check(temporary, package)
    return path


@contextmanager
def _open(package: Path) -> Iterator[zipfile.ZipFile]:
    if package.suffix.lower() == ".onnx":
        raise ModelError(
            f"{package} is a graph without normalization, scale and thresholds: give a package of unetbio, "
            f"*.bioimageio.zip, which holds them, or {ELSEWHERE}"
        )
    if package.suffix.lower() in CODE_SUFFIXES:
        raise ModelError(
            f"{package} can hold code, which unetbio does not load: give a package of unetbio, *.bioimageio.zip, "
            f"or {ELSEWHERE}"
        )
    if package.is_dir():
        raise ModelError(f"{package} is a folder: give a package of unetbio, *.bioimageio.zip, as it was exported")
    try:
        with open_regular(package) as stream, zipfile.ZipFile(stream) as archive:
            yield archive
    except OSError as error:
        raise ModelError(f"{package} cannot be read: {error.strerror or error}") from error
    # Of zipfile: encrypted entries, unknown compressions
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, NotImplementedError) as error:
        raise ModelError(f"{package} is not a package, or is damaged ({error}): copy or export it again") from error


def _find_model(archive: zipfile.ZipFile, package: Path) -> zipfile.ZipInfo:
    if MODEL_IN_PACKAGE not in archive.namelist():
        raise ModelError(f"{package} {_describe(archive)}")
    entry = archive.getinfo(MODEL_IN_PACKAGE)
    if entry.file_size > MAX_MODEL_BYTES:
        raise ModelError(
            f"{package}: its model has {entry.file_size} bytes, more than the {MAX_MODEL_BYTES} of the largest models"
        )
    return entry


def _describe(archive: zipfile.ZipFile) -> str:
    """Why a package without a model of unetbio cannot be imported."""
    kinds = _weights(archive)
    needed = f"give a package that unetbio wrote, with {MODEL_IN_PACKAGE}, or {ELSEWHERE}"
    if "onnx" in kinds:
        return f"holds the ONNX graph of another program, without thresholds: {needed}"
    if CODE & set(kinds) or any(name.endswith(".pkl") for name in archive.namelist()):
        listed = ", ".join(sorted(CODE & set(kinds))) or "pickled data"
        return f"holds {listed}, which can be code, and unetbio loads none: {needed}"
    return f"holds no model: {needed}"


def _weights(archive: zipfile.ZipFile) -> list[str]:
    """Kinds of weights that the description of a package names."""
    name = next((name for name in DESCRIPTIONS if name in archive.namelist()), None)
    if name is None:
        return []
    with archive.open(name) as stream:
        text = stream.read(MAX_DESCRIPTION_BYTES)
    try:
        described: Any = yaml.safe_load(text)
        # Aliases can name more than fits into memory: nothing nested is looked at.
        return [kind for kind in described["weights"] if isinstance(kind, str)]
    except (*YAML_ERRORS, TypeError):
        return []


def _check(model: Path, package: Path) -> None:
    """Load the model as `segment` would."""
    try:
        load_model(model)
    except ModelError as error:
        raise ModelError(str(error).replace(str(model), f"{package}: {MODEL_IN_PACKAGE}")) from error
