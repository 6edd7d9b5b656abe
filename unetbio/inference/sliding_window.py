"""Sliding windows, for networks whose tiles cannot be exact: blend the probabilities of overlapping windows.

Global pooling, or a receptive field too large for a tile, makes the result for a pixel depend on where its window ends.
Windows then overlap and are averaged with Gaussian weights, by MONAI's ``sliding_window_inference``. The result depends
on the window, and the provenance says so. Windows are as large as the patches of the training, so that pooling and zero
padding act as they did there.
"""

from collections.abc import Callable, Sequence
from math import ceil, prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unetbio.inference.backends.base import Predictor, Runner
from unetbio.inference.tiling import ArrayLike, read_mirrored

__all__ = ["OVERLAP", "WINDOW", "default_window", "predict_windows", "window_shape"]

WINDOW = 512
"""Pixels of a window along each axis for a network without the window of its training."""

OVERLAP = 0.25
"""Share of a window that the next one covers again."""


def default_window(predictor: Runner) -> tuple[int, ...]:
    """Default pixels of a window along each axis."""
    return predictor.window or (WINDOW,) * predictor.geometry.ndim


def window_shape(predictor: Runner, shape: Sequence[int], tile: int | None = None) -> tuple[int, ...]:
    """Window shape of a network: ``tile`` pixels, or the size of its training, rounded up to the stride.

    An image of a ``shape`` that is smaller than a window is one window, as small as the stride allows.
    """
    sizes = default_window(predictor) if tile is None else (tile,) * len(shape)
    return tuple(
        -(-min(size, length) // stride) * stride
        for size, length, stride in zip(sizes, shape, predictor.geometry.stride, strict=True)
    )


def predict_windows(
    image: ArrayLike,
    predictor: Predictor,
    *,
    tile: int | None = None,
    batch_size: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Probabilities of every pixel, blended from windows.

    Parameters
    ----------
    image : array-like
        ``(C, *spatial)``, normalised; mirrored where it is smaller than a window.
    predictor : Predictor
        A network that is not exact.
    tile : int, optional
        Pixels of a window along each axis; those of the training unless given.
    batch_size : int
        Windows that are run at once.
    progress : callable, optional
        Called with the pixels done and the pixels in all after each batch of windows, which overlap.

    Returns
    -------
    ndarray of float32
        ``(K, *spatial)``.
    """
    # MONAI takes longer to import than all else together, and exact networks do not need it.
    from monai.inferers.utils import sliding_window_inference

    shape = image.shape[1:]
    window = window_shape(predictor, shape, tile)
    padded = [max(size, length) for size, length in zip(window, shape, strict=True)]
    whole = read_mirrored(image, (0,) * len(shape), padded).astype(np.float32, copy=False)

    total = _count_windows(padded, window)
    done = 0

    def run(batch: Tensor) -> Tensor:
        nonlocal done
        probabilities = torch.from_numpy(predictor.probabilities(batch.numpy()))
        done += len(batch)
        if progress is not None:
            progress(prod(shape) * done // total, prod(shape))
        return probabilities

    blended = sliding_window_inference(
        torch.from_numpy(whole)[None], window, batch_size, run, overlap=OVERLAP, mode="gaussian"
    )
    assert isinstance(blended, Tensor)  # as the predictor returns one
    result: NDArray[np.float32] = blended[0][(slice(None), *(slice(0, size) for size in shape))].numpy()
    return result


def _count_windows(shape: Sequence[int], window: Sequence[int]) -> int:
    """Windows that MONAI lays over an image: as many steps along each axis as reach its end."""
    steps = [max(1, int(size * (1 - OVERLAP))) for size in window]
    return prod(ceil((length - size) / step) + 1 for length, size, step in zip(shape, window, steps, strict=True))
