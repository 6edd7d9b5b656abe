"""Mean field: probabilities of classes, refined step by step with any kernels."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unetbio.compilation import compiled
from unetbio.errors import ImageError
from unetbio.postprocessing.crf.bilateral import GREY_LEVELS, bilateral_kernel
from unetbio.postprocessing.crf.kernels import FloatArray, Kernel, gaussian_kernel
from unetbio.postprocessing.crf.settings import CrfSettings

__all__ = ["mean_field", "refine"]

LOWEST_PROBABILITY = 1e-5
"""A network's certainty ends here, as in the released code; a probability of 0 could never be changed."""


def refine(
    probabilities: NDArray[np.float32], image: NDArray[np.float32], settings: CrfSettings
) -> NDArray[np.float32]:
    """Refine the probabilities of classes with the fully connected CRF.

    Parameters
    ----------
    probabilities : ndarray of float32, shape (K, Y, X)
        Of each class, background first; they sum to 1.
    image : ndarray of float32, shape (C, Y, X)
        Grey values as `unetbio.preprocessing.normalization.apply` gives them. They are clipped to 0..1 and multiplied
        by 255, which stands for 8-bit colours. One channel is one colour axis: the same picture saved as RGB would
        count every difference three times, as a `bilateral_rgb` smaller by the square root of 3 does.
    settings : CrfSettings
        Of `PRESETS` or others.

    Returns
    -------
    ndarray of float32, shape (K, Y, X)
        Sums to 1. The same bits in every run; not the same for a part of the image, since all pixels are linked.

    Raises
    ------
    ImageError
        ``not_finite``: NaN or infinity in the image or the probabilities.
    ValueError
        When the shapes do not fit, or the probabilities are none.

    Notes
    -----
    Takes about 100 bytes a pixel for two classes. Safe to call from several threads at once.

    Examples
    --------
    A dark and a bright half, and a network that is one pixel off:

    >>> from unetbio.postprocessing.crf import PRESETS
    >>> image = np.repeat([[[0.0, 0, 0, 1, 1, 1]]], 6, axis=1)
    >>> cell = np.repeat([[0.1, 0.1, 0.1, 0.4, 0.9, 0.9]], 6, axis=0)
    >>> refined = refine(np.stack([1 - cell, cell]), image, PRESETS["deeplab_v2_vgg"])
    >>> refined[1, 0].round(1)
    array([0., 0., 0., 1., 1., 1.], dtype=float32)
    """
    probabilities, image = np.asarray(probabilities), np.asarray(image)
    _check(probabilities, image)
    if probabilities.size == 0:
        return probabilities.astype(np.float32)
    kernels = []
    if settings.bilateral_weight > 0:
        colours = np.clip(image, 0, 1) * GREY_LEVELS
        kernels.append(
            bilateral_kernel(colours, settings.bilateral_weight, settings.bilateral_xy, settings.bilateral_rgb)
        )
    if settings.gaussian_weight > 0:
        kernels.append(gaussian_kernel(image.shape[1:], settings.gaussian_weight, settings.gaussian_xy))
    return mean_field(probabilities, kernels, settings.iterations)


def _check(probabilities: NDArray[np.float32], image: NDArray[np.float32]) -> None:
    if probabilities.ndim != 3 or image.ndim != 3 or 0 in (len(probabilities), len(image)):
        raise ValueError(f"probabilities {probabilities.shape}, image {image.shape}: need (K, Y, X) and (C, Y, X)")
    if probabilities.shape[1:] != image.shape[1:]:
        raise ValueError(f"probabilities {probabilities.shape} and image {image.shape} differ in height or width")
    for name, array in (("image", image), ("probabilities", probabilities)):
        bad = array.size - int(np.count_nonzero(np.isfinite(array)))
        if bad:
            raise ImageError("not_finite", f"{bad} of {array.size} values of the {name} are NaN or infinite")
    if probabilities.min(initial=0) < -1e-6 or probabilities.max(initial=0) > 1 + 1e-6:
        raise ValueError("probabilities lie outside 0 to 1: logits need a softmax first")


def mean_field(probabilities: NDArray[np.float32], kernels: Sequence[Kernel], iterations: int) -> NDArray[np.float32]:
    """Run mean field with any kernels; `refine` chooses them.

    Parameters
    ----------
    probabilities : ndarray of float32, shape (K, Y, X)
        Of each class; they sum to 1.
    kernels : sequence of Kernel
        Whose messages are added; each is normalised symmetrically.
    iterations : int
        How many steps.

    Returns
    -------
    ndarray of float32, shape (K, Y, X)
        Sums to 1.
    """
    count, shape = len(probabilities), probabilities.shape[1:]
    unaries = np.ascontiguousarray(probabilities).reshape(count, -1)
    ones = np.ones((1, *shape))
    scales = [1 / np.sqrt(kernel.filter(ones)) for kernel in kernels]
    total = _messages(kernels, scales, ones)
    # Probabilities sum to 1 and the filters are linear: the last class gets what the others leave of the total.
    beliefs = _update(unaries, np.zeros((count - 1, ones.size)), np.zeros(ones.size))
    for _ in range(iterations):
        messages = _messages(kernels, scales, beliefs[:-1].reshape(count - 1, *shape))
        beliefs = _update(unaries, messages.reshape(count - 1, ones.size), total.reshape(-1))
    return np.asarray(beliefs.reshape(probabilities.shape), dtype=np.float32)


def _messages(kernels: Sequence[Kernel], scales: Sequence[FloatArray], beliefs: FloatArray) -> FloatArray:
    """Messages of all other pixels to each pixel, summed over the kernels: ``(K, Y, X)`` in and out."""
    messages = np.zeros_like(beliefs)
    for kernel, scale in zip(kernels, scales, strict=True):
        scaled = beliefs * scale
        messages += kernel.weight * scale * (kernel.filter(scaled) - kernel.self_weights * scaled)
    return messages


@compiled
def _update(unaries: NDArray[np.float32], messages: FloatArray, total: FloatArray) -> FloatArray:
    """Softmax of the network's logarithms and the messages: ``(K, pixels)``; messages of all classes but the last."""
    count, pixels = unaries.shape
    beliefs = np.empty((count, pixels))
    for pixel in range(pixels):
        rest = total[pixel]
        highest = -np.inf
        for k in range(count):
            message = rest
            if k < count - 1:
                message = messages[k, pixel]
                rest -= message
            beliefs[k, pixel] = math.log(max(unaries[k, pixel], LOWEST_PROBABILITY)) + message
            highest = max(highest, beliefs[k, pixel])
        mass = 0.0
        for k in range(count):
            beliefs[k, pixel] = math.exp(beliefs[k, pixel] - highest)
            mass += beliefs[k, pixel]
        for k in range(count):
            beliefs[k, pixel] /= mass
    return beliefs
