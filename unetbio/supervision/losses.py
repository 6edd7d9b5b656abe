"""Losses for pixel-wise classification."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "CELL_CLASS_LOSSES",
    "LOSSES",
    "NESTED_LOSSES",
    "cell_class_cross_entropy",
    "cell_class_cross_entropy_dice",
    "cross_entropy_dice",
    "dice",
    "nested_cross_entropy",
    "nested_cross_entropy_dice",
    "outline_dice",
    "weighted_cross_entropy",
]


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


def dice(logits: Tensor, target: Tensor, weight_map: Tensor) -> Tensor:
    """Soft Dice loss, the mean over all classes but the background.

    ``1 - 2 sum_x p(x) g(x) / (sum_x p(x) + sum_x g(x))`` a class, with the sums over all pixels of the batch
    (Milletari et al. 2016, arXiv 1606.04797, with sums in place of squares: MONAI's ``DiceLoss(batch=True)``). The
    background is left out: it is what the other classes leave, and large enough to look good by itself. A class counts
    as much as any other however few pixels it has, so weights only leave pixels out.

    Parameters
    ----------
    logits, target, weight_map : torch.Tensor
        As in `weighted_cross_entropy`; weights other than zero count alike.

    Returns
    -------
    torch.Tensor
        Scalar from 0 to 1; zero when every pixel is left out.
    """
    # Imported here, since MONAI is slow to import and only this loss needs it.
    from monai.losses.dice import DiceLoss

    counted = (weight_map != 0).unsqueeze(1)
    # (N, K, *spatial) -> (N, K - 1, *spatial), and nothing where pixels are left out
    probabilities = logits.float().softmax(dim=1)[:, 1:] * counted
    truth = functional.one_hot(target, logits.shape[1]).movedim(-1, 1)[:, 1:] * counted
    loss: Tensor = DiceLoss(batch=True)(probabilities, truth)
    return loss


def nested_cross_entropy(logits: Tensor, target: Tensor, weight_map: Tensor) -> Tensor:
    """Cross-entropy of nested classes as a sum of conditional ones, with weights of their own for the outline.

    Class k of a pixel means that it lies in the parts 1 to k of a cell and in none above. The softmax's cross-entropy
    is the sum over k of that of "in part k", given that the pixel lies in part k - 1. The first term is the outline of
    cells; the others tell cells apart. With all weights 1 the sum is the plain cross-entropy.

    Parameters
    ----------
    logits : torch.Tensor
        ``(N, K, *spatial)`` float.
    target : torch.Tensor
        ``(N, *spatial)`` int64, 0 = background.
    weight_map : torch.Tensor
        ``(N, 2, *spatial)`` float: weights of the first term and of the others; zero leaves a pixel out.

    Returns
    -------
    torch.Tensor
        Scalar: the mean over the pixels whose first weight is not zero.
    """
    # (N, K, *spatial) -> (N, K, *spatial): of each class or a deeper one
    at_least = logits.float().flip(1).logcumsumexp(1).flip(1)
    classes = torch.arange(1, logits.shape[1], device=logits.device).view(1, -1, *[1] * (target.ndim - 1))
    deeper = at_least[:, 1:]
    chosen = torch.where(target.unsqueeze(1) >= classes, deeper, logits[:, :-1].float())
    losses = at_least[:, :-1] - chosen
    counts = target.unsqueeze(1) >= classes - 1
    weights = torch.cat([weight_map[:, :1], weight_map[:, 1:].expand(-1, logits.shape[1] - 2, *target.shape[1:])], 1)
    counted = torch.count_nonzero(weight_map[:, 0]).clamp(min=1)
    return (losses * weights * counts).sum() / counted


def cell_class_cross_entropy(logits: Tensor, target: Tensor, weight_map: Tensor) -> Tensor:
    """Cross-entropy of "cell or background" and, within cells, of their class, with weights of their own.

    The softmax's cross-entropy is the sum of the two. Weights that make rare classes count more therefore do not move
    the outlines of cells. With all weights 1 the sum is the plain cross-entropy.

    Parameters
    ----------
    logits : torch.Tensor
        ``(N, K, *spatial)`` float.
    target : torch.Tensor
        ``(N, *spatial)`` int64, 0 = background.
    weight_map : torch.Tensor
        ``(N, 2, *spatial)`` float: weights of "cell or background" and of the class; zero of the first leaves a pixel
        out.

    Returns
    -------
    torch.Tensor
        Scalar: the mean over the pixels whose first weight is not zero.
    """
    logits = logits.float()
    of_cells = logits[:, 1:].logsumexp(1)
    chosen = logits.gather(1, target.unsqueeze(1)).squeeze(1)
    is_cell = target > 0
    outline = logits.logsumexp(1) - torch.where(is_cell, of_cells, chosen)
    classes = torch.where(is_cell, of_cells - chosen, 0.0)
    counted = torch.count_nonzero(weight_map[:, 0]).clamp(min=1)
    return (outline * weight_map[:, 0] + classes * weight_map[:, 1]).sum() / counted


def cross_entropy_dice(logits: Tensor, target: Tensor, weight_map: Tensor) -> Tensor:
    """Sum of `weighted_cross_entropy` and `dice` (as in nnU-Net, Isensee et al. 2021)."""
    return weighted_cross_entropy(logits, target, weight_map) + dice(logits, target, weight_map)


def outline_dice(logits: Tensor, target: Tensor, weight_map: Tensor) -> Tensor:
    """Return `dice` of nested classes; pixels count where the weight of the outline is not zero."""
    return dice(logits, target, weight_map[:, 0])


def nested_cross_entropy_dice(logits: Tensor, target: Tensor, weight_map: Tensor) -> Tensor:
    """Sum of `nested_cross_entropy` and `outline_dice`."""
    return nested_cross_entropy(logits, target, weight_map) + outline_dice(logits, target, weight_map)


def cell_class_cross_entropy_dice(logits: Tensor, target: Tensor, weight_map: Tensor) -> Tensor:
    """Sum of `cell_class_cross_entropy` and `outline_dice`."""
    return cell_class_cross_entropy(logits, target, weight_map) + outline_dice(logits, target, weight_map)


Losses = Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]]

LOSSES: Losses = {
    "cross_entropy": weighted_cross_entropy,
    "dice": dice,
    "cross_entropy_dice": cross_entropy_dice,
}
"""Losses by their name in the training settings."""

NESTED_LOSSES: Losses = {
    "cross_entropy": nested_cross_entropy,
    "dice": outline_dice,
    "cross_entropy_dice": nested_cross_entropy_dice,
}
"""The same names for nested classes."""

CELL_CLASS_LOSSES: Losses = {
    "cross_entropy": cell_class_cross_entropy,
    "dice": outline_dice,
    "cross_entropy_dice": cell_class_cross_entropy_dice,
}
"""The same names for classes of cells."""
