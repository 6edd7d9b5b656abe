"""Losses for pixel-wise classification."""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["weighted_cross_entropy"]


def weighted_cross_entropy(logits: Tensor, target: Tensor, weight_map: Tensor) -> Tensor:
    """Pixel-wise softmax cross-entropy times a weight for every pixel.

    ``sum_x w(x) * -log p_target(x)(x) / n`` with ``n`` the number of pixels whose weight is not zero, so that
    unannotated pixels count neither above nor below the line (Ronneberger et al. 2015, equation 1, with the
    sum taken as a mean).

    Parameters
    ----------
    logits : torch.Tensor
        ``(N, K, *spatial)`` float.
    target : torch.Tensor
        ``(N, *spatial)`` int64, the true class of each pixel; anything valid where the weight is zero.
    weight_map : torch.Tensor
        ``(N, *spatial)`` float; zero leaves a pixel out.

    Returns
    -------
    torch.Tensor
        Scalar; zero when every pixel is left out.
    """
    losses = functional.cross_entropy(logits.float(), target, reduction="none")
    counted = torch.count_nonzero(weight_map).clamp(min=1)
    return (losses * weight_map).sum() / counted
