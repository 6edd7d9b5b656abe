"""Boxes as networks handle them: overlap, clipping, the code in which they are learned, non-maximum suppression.

A box is ``y0, x0, y1, x1`` in pixels, where pixel ``i`` covers ``[i, i + 1)``: one pixel alone has the box
``i, j, i + 1, j + 1``. The code is that of R-CNN (arXiv 1311.2524, appendix C).
"""

from collections.abc import Sequence
from math import log

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unetbio.compilation import compiled

__all__ = ["box_areas", "box_overlaps", "clip_boxes", "decode_boxes", "encode_boxes", "non_max_suppression"]

LARGEST_LOG_SCALE = log(1000 / 16)
"""A box is at most so many times (its logarithm) as large as its reference: an untrained network cannot overflow."""


def box_areas(boxes: Tensor) -> Tensor:
    """Areas: ``(n, 4) -> (n,)``."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def box_overlaps(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of every pair: ``(n, 4), (m, 4) -> (n, m)``; 0 where both are empty."""
    height = torch.minimum(first[:, None, 2], second[:, 2]) - torch.maximum(first[:, None, 0], second[:, 0])
    width = torch.minimum(first[:, None, 3], second[:, 3]) - torch.maximum(first[:, None, 1], second[:, 1])
    intersection = height.clamp_(min=0).mul_(width.clamp_(min=0))
    union = box_areas(first)[:, None] + box_areas(second) - intersection
    return intersection / union.clamp_(min=torch.finfo(union.dtype).tiny)


def clip_boxes(boxes: Tensor, shape: Sequence[int]) -> Tensor:
    """Cut boxes ``(n, 4)`` to an image of ``shape``; those beyond it become empty."""
    height, width = shape
    limits = boxes.new_tensor([height, width, height, width])
    return torch.minimum(boxes.clamp(min=0), limits)


def encode_boxes(boxes: Tensor, references: Tensor, scales: Sequence[float]) -> Tensor:
    """Write boxes as they differ from their references.

    Parameters
    ----------
    boxes, references : torch.Tensor
        ``(n, 4)``, neither of them empty.
    scales : sequence of float
        Factors of the shift and of the logarithm of the size, so that both vary by about 1.

    Returns
    -------
    torch.Tensor
        ``(n, 4)``: shift of the centre along y and x, in sizes of the reference; logarithm of the ratio of the heights
        and of the widths.
    """
    centres, sizes = _centres_and_sizes(boxes)
    reference_centres, reference_sizes = _centres_and_sizes(references)
    shifts = (centres - reference_centres) / reference_sizes * scales[0]
    return torch.cat([shifts, (sizes / reference_sizes).log() * scales[1]], dim=1)


def decode_boxes(deltas: Tensor, references: Tensor, scales: Sequence[float]) -> Tensor:
    """Undo `encode_boxes`: deltas and references ``(n, 4)`` to boxes ``(n, 4)``."""
    reference_centres, reference_sizes = _centres_and_sizes(references)
    centres = reference_centres + deltas[:, :2] / scales[0] * reference_sizes
    halves = (deltas[:, 2:] / scales[1]).clamp(max=LARGEST_LOG_SCALE).exp() * reference_sizes / 2
    return torch.cat([centres - halves, centres + halves], dim=1)


def _centres_and_sizes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    return (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]


def non_max_suppression(boxes: Tensor, scores: Tensor, most_overlap: float) -> Tensor:
    """Keep the best box of each place.

    From the highest score down, a box is kept if it overlaps none of those kept by more than ``most_overlap``. The loop
    is compiled and runs on the CPU, wherever the boxes are: 2000 boxes that are nearly all kept take 5 ms, where
    MONAI's function takes seconds.

    Parameters
    ----------
    boxes : torch.Tensor
        ``(n, 4)``.
    scores : torch.Tensor
        ``(n,)``; of equal ones the first counts as higher.
    most_overlap : float
        Intersection over union.

    Returns
    -------
    torch.Tensor
        Indices of the boxes that are kept, by falling score.
    """
    order = scores.argsort(descending=True, stable=True)
    kept = _find_kept(boxes[order].detach().cpu().double().numpy(), most_overlap)
    return order[torch.from_numpy(kept).to(order.device)]


@compiled
def _find_kept(boxes: NDArray[np.float64], most_overlap: float) -> NDArray[np.bool_]:
    """Whether each box is kept, the better ones coming first."""
    count = len(boxes)
    kept = np.ones(count, dtype=np.bool_)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for better in range(count):
        if not kept[better]:
            continue
        y0, x0, y1, x1 = boxes[better]
        for worse in range(better + 1, count):
            height = min(y1, boxes[worse, 2]) - max(y0, boxes[worse, 0])
            width = min(x1, boxes[worse, 3]) - max(x0, boxes[worse, 1])
            if height > 0 and width > 0:
                common = height * width
                if common > most_overlap * (areas[better] + areas[worse] - common):
                    kept[worse] = False
    return kept
