"""What a worker of dask.distributed does for a segmentation: hold the network, and compute the tiles it is sent."""

import asyncio
import hashlib
import tempfile
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ModelError, UnetbioError
from unetbio.inference.backends.base import DEFAULT, Predictor
from unetbio.machine import keep_freed_memory
from unetbio.models.model_file import Model, load_model
from unetbio.segmentation.segmenter import Segmenter
from unetbio.settings.values import Precision
from unetbio.targets.pixels import PixelDecoder

__all__ = ["Recipe", "compute", "forget", "prepare"]

MOST_HELD = 4
"""Networks that a worker holds, of as many runs; the oldest makes room, and its run sends it again."""


@dataclass(frozen=True)
class Recipe:
    """All that the probabilities of a segmentation follow from, apart from the image.

    Parameters
    ----------
    files : tuple of bytes
        Model files: the first, and those that are averaged with it.
    sha256 : tuple of str
        Their hashes.
    device, exact, backend, augment, precision
        As for `Segmenter`; the device is one of the worker.
    """

    files: tuple[bytes, ...]
    sha256: tuple[str, ...]
    device: str
    exact: bool
    backend: str
    augment: bool
    precision: Precision | None

    @cached_property
    def key(self) -> str:
        """Name of the network: equal recipes have equal keys."""
        facts = (self.sha256, self.device, self.exact, self.backend, self.augment, self.precision)
        return hashlib.sha256(repr(facts).encode()).hexdigest()


@dataclass(frozen=True)
class _Held:
    predictor: Predictor
    device: str
    turn: AbstractContextManager[Any]


_held: dict[str, _Held] = {}
_changing = threading.Lock()


async def prepare(recipe: Recipe) -> str | UnetbioError:
    """Make and hold the network of a recipe, unless it is held; give its device, or why that is impossible."""
    # In a thread, so that the worker answers its scheduler meanwhile.
    return await asyncio.to_thread(_prepare, recipe)


def compute(key: str, method: str, batch: NDArray[np.float32]) -> NDArray[Any] | str:
    """Run a method of the predictor; gives the address of this worker if it does not hold the network.

    Parameters
    ----------
    key : str
        Of the recipe.
    method : str
        ``probabilities`` or ``probabilities_float64``.
    batch : ndarray of float32
        ``(N, C, *input)``.
    """
    from distributed import get_worker

    held = _held.get(key)
    if held is None:
        return str(get_worker().address)
    with held.turn:
        try:
            result: NDArray[Any] = getattr(held.predictor, method)(batch)
        except Exception as error:
            if held.predictor.is_out_of_memory(error):
                held.predictor.release_memory()
            raise
    return result


def forget(key: str) -> None:
    """Free the network of a recipe."""
    with _changing:
        _held.pop(key, None)


def _prepare(recipe: Recipe) -> str | UnetbioError:
    import torch

    # A worker computes as many tiles at once as it has threads.
    torch.set_num_threads(1)
    keep_freed_memory()
    with _changing:
        try:
            held = _held.pop(recipe.key, None) or _make(recipe)
        except UnetbioError as error:
            return error
        _held[recipe.key] = held
        while len(_held) > MOST_HELD:
            del _held[next(iter(_held))]
    return held.device


def _make(recipe: Recipe) -> _Held:
    model, *ensemble = _load(recipe.files, recipe.sha256)
    segmenter = Segmenter(
        model,
        recipe.device,
        exact=recipe.exact,
        backend=recipe.backend,
        augment=recipe.augment,
        precision=recipe.precision,
        ensemble=ensemble,
    )
    assert isinstance(segmenter.decoder, PixelDecoder)  # as the run has checked
    # PyTorch's network on the processor takes several tiles at once; settings of CUDA are those of the whole process.
    is_shared = recipe.backend == DEFAULT and segmenter.device.type == "cpu"
    return _Held(segmenter.decoder.runner, str(segmenter.device), nullcontext() if is_shared else threading.Lock())


def _load(files: Sequence[bytes], hashes: Sequence[str]) -> list[Model]:
    with tempfile.TemporaryDirectory(prefix="unetbio-worker-") as folder:
        path = Path(folder, "model.safetensors")
        models = []
        for content, sha256 in zip(files, hashes, strict=True):
            path.write_bytes(content)
            models.append(load_model(path))
            if models[-1].sha256 != sha256:
                raise ModelError("the file of the model has changed since the run began: run again")
        return models
