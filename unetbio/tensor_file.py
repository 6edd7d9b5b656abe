"""Read and write safetensors files with text in the header; pickled files are never read.

Torch is imported where tensors are read or written, so that listing models starts at once.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import safetensors

from unetbio.errors import ModelError
from unetbio.files import open_regular, write_bytes

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["load_layout", "load_metadata", "load_tensors", "save_tensors"]


def save_tensors(path: str | os.PathLike[str], tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str]) -> None:
    """Write tensors and text to a safetensors file atomically.

    Raises
    ------
    EnvironmentStoppedError
        When the folder cannot be written to or the disk is full.
    """
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # Its function that writes a file makes a temporary file of its own, which a killed run leaves under a foreign name.
    write_bytes(path, save(plain, metadata=dict(metadata)))


def load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read the metadata alone; raises as `load_tensors`."""
    with _open(path, "numpy") as file:
        return file.metadata() or {}


def load_tensors(path: str | os.PathLike[str]) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """Read all tensors and the metadata of a safetensors file.

    Raises
    ------
    ModelError
        When the file is missing, truncated or not a safetensors file.
    """
    with _open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def load_layout(path: str | os.PathLike[str]) -> dict[str, tuple[int, ...]]:
    """Read the shape of each tensor, without its values; raises as `load_tensors`."""
    with _open(path, "pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


@contextlib.contextmanager
def _open(path: str | os.PathLike[str], framework: str) -> Iterator[Any]:
    try:
        # The library would wait for a pipe.
        with open_regular(path), safetensors.safe_open(path, framework=framework) as file:
            yield file
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read as a safetensors file: {error}") from error
