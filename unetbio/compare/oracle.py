"""The best result that a network of a given output stride can reach: its oracle.

A network of output stride ``s`` predicts one value for each block of ``s`` pixels along each axis. If each value is the
exact share of foreground in its block, linear interpolation gives what `reconstruct` returns.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from unetbio.geometry import Layer
from unetbio.metrics.instances import evaluate

__all__ = ["oracle_iou", "output_stride", "reconstruct"]


def output_stride(path: Sequence[Layer]) -> int:
    """Pixels along an axis for one value of the output, before the last interpolation of a network.

    Parameters
    ----------
    path : sequence of Layer
        Layers from input to output. Convolutions after the last upsampling give a stride of 1.

    Examples
    --------
    >>> output_stride([Layer(32, 32), Layer(7, padding=3), Layer(64, 32, padding=16, transposed=True), Layer(1)])
    32
    """
    for layer in reversed(path):
        if layer.transposed:
            return layer.stride
        if layer.kernel > 1:
            break
    return 1


def reconstruct(foreground: NDArray[np.bool_], stride: int) -> NDArray[np.bool_]:
    """Average over blocks, interpolate linearly between their centres, and threshold at one half.

    Parameters
    ----------
    foreground : ndarray of bool
        ``(*spatial)``. Blocks begin at the first pixel; the last one of an axis may be a part of a block.
    stride : int
        Pixels of a block along each axis.

    Returns
    -------
    ndarray of bool
        The same shape; the values of the outermost blocks extend beyond their centres.

    Examples
    --------
    >>> reconstruct(np.array([True, True, True, False, False, False]), 2).astype(int)
    array([1, 1, 1, 0, 0, 0])
    """
    answer = foreground.astype(np.float64)
    for axis, size in enumerate(foreground.shape):
        starts = np.arange(0, size, stride)
        sums = np.moveaxis(np.add.reduceat(answer, starts, axis=axis), axis, -1)
        averages = sums / np.diff(np.append(starts, size))
        answer = np.moveaxis(averages @ _interpolation(size, stride).T, -1, axis)
    # Rounding can put sums of exactly one half slightly below it.
    result: NDArray[np.bool_] = answer >= 0.5 - 1e-9
    return result


def oracle_iou(label_images: Iterable[NDArray[np.integer]], stride: int) -> float:
    """IoU of the foreground of label images with its reconstruction, pooled over the images."""
    foregrounds = [label_image > 0 for label_image in label_images]
    found = (reconstruct(foreground, stride).astype(np.uint8) for foreground in foregrounds)
    truth = (foreground.astype(np.uint8) for foreground in foregrounds)
    return evaluate(found, truth, thresholds=(0.5,)).pooled["foreground_IoU"]


def _interpolation(size: int, stride: int) -> NDArray[np.float64]:
    """``(size, blocks)``: weight of each block in each pixel of an axis."""
    # Centres of blocks lie at (b + .5) * stride - .5.
    last = (size - 1) // stride
    place = np.clip((np.arange(size) + 0.5) / stride - 0.5, 0, last)
    before = place.astype(np.intp)
    matrix = np.zeros((size, last + 1))
    matrix[np.arange(size), before] = 1 - (place - before)
    matrix[np.arange(size), np.minimum(before + 1, last)] += place - before
    return matrix
