"""RoIAlign: feature maps sampled inside boxes, without rounding a box to the grid of the map.

He, Gkioxari, Dollar, Girshick: Mask R-CNN. ICCV 2017, arXiv 1703.06870, section 3. Each box is cut into bins, each bin
has 2 x 2 samples at the centres of its quarters, a sample is interpolated bilinearly between the four pixels around
it, and a bin is the mean of its samples. The centre of the first pixel of a map lies half a pixel inside it.

The pixels of all maps form one table with a row a pixel. A bin is then a weighted sum of 16 rows, and all boxes of all
images and levels are one call of `torch.nn.functional.embedding_bag`, which gathers and sums without storing what it
gathered.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["assign_levels", "bytes_a_box", "roi_align", "sample_label_images"]

SAMPLES = 2
"""Samples of a bin along each axis."""

CANONICAL_SIZE, CANONICAL_LEVEL = 224, 4
"""A box of this size (root of its area, in pixels) is looked at in P4 (arXiv 1612.03144, equation 1)."""

FIRST_LEVEL = 2
"""P2, with a stride of 4 pixels, is the finest map."""


def assign_levels(boxes: Tensor, num_levels: int) -> Tensor:
    """Choose the map for each box: half the size, one level finer (arXiv 1612.03144, equation 1).

    ``k = floor(4 + log2(sqrt(height * width) / 224))``, kept within the levels there are.

    Parameters
    ----------
    boxes : torch.Tensor
        ``(n, 4)`` in pixels of the image.
    num_levels : int
        Number of maps, from P2 on.

    Returns
    -------
    torch.Tensor
        ``(n,)`` int64, 0 for P2.
    """
    sizes = _precise(boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1).sqrt()
    levels = (CANONICAL_LEVEL + (sizes / CANONICAL_SIZE).log2()).floor() - FIRST_LEVEL
    return levels.clamp(min=0, max=num_levels - 1).long()


def roi_align(pyramid: Sequence[Tensor], boxes: Sequence[Tensor], bins: int) -> Tensor:
    """Feature maps inside boxes.

    Parameters
    ----------
    pyramid : sequence of torch.Tensor
        ``(N, C, H / s, W / s)`` for the strides s = 4, 8, 16 ...
    boxes : sequence of torch.Tensor
        ``(n_i, 4)`` for each of the N images, in its pixels; they may reach beyond it. A sample up to one pixel of the
        map beyond the centres of its outermost pixels takes their value, one further out counts as 0.
    bins : int
        Number of bins along each axis.

    Returns
    -------
    torch.Tensor
        ``(n_1 + ... + n_N, C, bins, bins)``, image after image.
    """
    channels = pyramid[0].shape[1]
    # (N, C, H, W) -> (N * H * W, C), one map below the other
    table = torch.cat([features.permute(0, 2, 3, 1).reshape(-1, channels) for features in pyramid])
    # Under autocast the maps may have 8 bits a value; a mean of 16 of them is worth more.
    table = table.to(torch.promote_types(table.dtype, torch.float32))
    every_box = torch.cat(list(boxes))
    device = every_box.device
    images = torch.repeat_interleave(
        torch.arange(len(boxes), device=device), torch.tensor([len(part) for part in boxes], device=device)
    )
    levels = assign_levels(every_box, len(pyramid))
    sizes = [tuple(features.shape[2:]) for features in pyramid]
    rows_before = [0]
    for height, width in sizes:
        rows_before.append(rows_before[-1] + len(boxes) * height * width)
    shapes = torch.tensor(sizes, device=device)[levels]
    start = torch.tensor(rows_before, device=device)[levels] + images * shapes.prod(dim=1)
    scaled = _precise(every_box) / 2.0 ** (levels + FIRST_LEVEL)[:, None]
    index, weight = _taps(scaled, shapes, bins)
    bags = functional.embedding_bag(
        (start[:, None, None, None] + index).reshape(-1, index.shape[-1]),
        table,
        per_sample_weights=weight.to(table.dtype).reshape(-1, index.shape[-1]),
        mode="sum",
    )
    # (n * bins * bins, C) -> (n, C, bins, bins)
    return bags.reshape(len(every_box), bins, bins, channels).permute(0, 3, 1, 2)


def bytes_a_box(channels: int, bins: int) -> int:
    """Bytes that `roi_align` holds for each box while it runs, beside a copy of the maps.

    Each of the 16 pixels of a bin has three int64 (its places in its map and in the table, and the bin's number) and a
    weight in float64 and in float32; the answer is float32.
    """
    return bins**2 * ((2 * SAMPLES) ** 2 * (3 * 8 + 8 + 4) + 4 * channels)


def sample_label_images(label_images: Tensor, ids: Tensor, images: Tensor, boxes: Tensor, bins: int) -> Tensor:
    """Share of each bin of a box that one object covers, sampled as by `roi_align`.

    Parameters
    ----------
    label_images : torch.Tensor
        ``(N, H, W)`` int64.
    ids, images : torch.Tensor
        ``(n,)`` int64: which object of which image.
    boxes : torch.Tensor
        ``(n, 4)`` in pixels.
    bins : int
        Number of bins along each axis.

    Returns
    -------
    torch.Tensor
        ``(n, bins, bins)`` float32, from 0 to 1.
    """
    height, width = label_images.shape[1:]
    shapes = torch.tensor([[height, width]], device=boxes.device).expand(len(boxes), 2)
    index, weight = _taps(_precise(boxes), shapes, bins)
    labels = label_images.reshape(-1)[images[:, None, None, None] * (height * width) + index]
    return ((labels == ids[:, None, None, None]) * weight.float()).sum(dim=-1)


def _precise(boxes: Tensor) -> Tensor:
    # In float32 the place of a sample in a map of 128 pixels is off by 1e-5 pixels. Apple's GPUs have no float64.
    return boxes if boxes.device.type == "mps" else boxes.double()


def _taps(boxes: Tensor, shapes: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Pixels that each bin is made of: their places in the flattened map, and weights, both ``(n, bins, bins, 16)``.

    ``boxes`` are ``(n, 4)`` in pixels of the map, ``shapes`` is ``(n, 2)``.
    """
    rows, row_weights = _axis_taps(boxes[:, 0], boxes[:, 2], shapes[:, 0], bins)
    columns, column_weights = _axis_taps(boxes[:, 1], boxes[:, 3], shapes[:, 1], bins)
    index = (rows * shapes[:, 1, None, None])[:, :, None, :, None] + columns[:, None, :, None, :]
    weight = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]
    return index.flatten(-2), weight.flatten(-2)


def _axis_taps(start: Tensor, stop: Tensor, size: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    # Along an axis a bin is made of two samples, each of them between two pixels: (n, bins, 4)
    count = bins * SAMPLES
    centres = (torch.arange(count, device=start.device, dtype=start.dtype) + 0.5) / count
    # Places count from the centre of the first pixel.
    places = start[:, None] + (stop - start)[:, None] * centres - 0.5
    last = (size - 1)[:, None]
    inside = (places >= -1) & (places <= size[:, None])
    places = torch.minimum(places.clamp(min=0), last.to(places.dtype))
    below = places.floor()
    fraction = places - below
    below = below.long()
    above = torch.minimum(below + 1, last)
    weights = torch.stack([1 - fraction, fraction], dim=-1) * inside[:, :, None] / SAMPLES
    index = torch.stack([below, above], dim=-1)
    return index.reshape(len(start), bins, 2 * SAMPLES), weights.reshape(len(start), bins, 2 * SAMPLES)
