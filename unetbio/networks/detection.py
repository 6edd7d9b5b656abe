"""Networks that find objects: the result for an image, and the parts whose cost grows with the number of objects."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

__all__ = ["Objects", "RegionHead"]


@dataclass(frozen=True)
class Objects:
    """Objects detected in an image.

    Parameters
    ----------
    boxes : torch.Tensor
        ``(n, 4)`` float32: ``y0, x0, y1, x1`` in pixels, where pixel i covers ``[i, i + 1)``.
    scores : torch.Tensor
        ``(n,)`` float32: probability of the class, falling.
    classes : torch.Tensor
        ``(n,)`` int64 from 1.
    masks : torch.Tensor
        ``(n, 28, 28)`` float32: probability that a part of the box belongs to the object.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    masks: Tensor


class RegionHead(NamedTuple):
    """A head of the network that takes the features of boxes.

    Parameters
    ----------
    network : torch.nn.Module
        ``(n, *features)`` in.
    features : tuple of int
        ``(C, bins, bins)``: features of a box.
    most_boxes : int
        Largest number of boxes a pass, in evaluation mode.
    bytes_a_box : int
        Memory for each box while its features are cut out.
    """

    network: nn.Module
    features: tuple[int, int, int]
    most_boxes: int
    bytes_a_box: int
