"""Pixel weights for the loss that keep touching cells apart.

Source: Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
arXiv 1505.04597, equation 2::

    w(x) = w_c(x) + w0 * exp(-(d1(x) + d2(x))**2 / (2 * sigma**2))

with the distances d1 and d2 to the nearest and the second nearest cell, which `unetbio.supervision.nearest_cells`
finds no farther than the weight reaches.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unetbio.compilation import compiled, in_threads
from unetbio.errors import UsageError
from unetbio.supervision.nearest_cells import Cells, Squares, axis_steps, compact, two_nearest

__all__ = ["force_gap", "weight_map"]

NEGLIGIBLE_WEIGHT = 1e-6  # a border term below this is left out, which bounds the search


def weight_map(
    label_image: ArrayLike,
    *,
    class_weights: Sequence[float] = (1.0, 1.0),
    border_weight: float = 10.0,
    border_sigma: float = 5.0,
    spacing: Sequence[float] | None = None,
    ignore_label: int | None = None,
) -> NDArray[np.float32]:
    """Weight of every pixel in the loss: that of its class, and more on background between neighbouring cells.

    Touching cells are parted first, as by `force_gap`; the pixels of the gap are background.

    Parameters
    ----------
    label_image
        ``(Y, X)`` or ``(Z, Y, X)`` integers, one per cell, 0 = background.
    class_weights
        Weight of background and of cells, as from `class_weights`.
    border_weight
        w0, the largest border term; 0 leaves the term out.
    border_sigma
        sigma, in in-plane pixels.
    spacing
        Size of a voxel along each axis, in in-plane pixels: ``(2.2, 1, 1)`` for a stack whose planes lie 2.2 pixels
        apart. By default 1 along each axis.
    ignore_label
        Value of unannotated pixels, which have weight 0 and belong to no cell.

    Returns
    -------
    ndarray of float32
        Shape of `label_image`; within 2e-6 of the definition, since border terms below 1e-6 are left out.

    Raises
    ------
    ImageError
        ``not_labels``, ``wrong_ndim`` or ``no_pixels``: `label_image` is not one.
    UsageError
        A weight, sigma or the spacing cannot be used.

    Notes
    -----
    Safe to call from several threads at once; the same bits for any number of threads.

    Examples
    --------
    >>> weight_map(np.array([[1, 0, 0, 2]]), border_weight=10, border_sigma=5).round(2)
    array([[1.  , 9.35, 9.35, 1.  ]], dtype=float32)
    """
    background, cell = _two_class_weights(class_weights)
    if not (math.isfinite(border_weight) and border_weight >= 0):
        raise UsageError(f"border weight is {border_weight}, needs to be 0 or more: 10 in the U-Net paper")
    if not (math.isfinite(border_sigma) and border_sigma > 0):
        raise UsageError(f"border sigma is {border_sigma}, needs to be above 0 pixels: 5 in the U-Net paper")
    cells = _gapped(compact(label_image, ignore_label))
    shape, steps = np.shape(label_image), axis_steps(spacing, np.ndim(label_image))
    if border_weight <= NEGLIGIBLE_WEIGHT or np.count_nonzero(_areas(cells)) < 2:
        table = np.array([background, cell, 0.0], np.float32)  # ignored pixels, -1, take the last entry
        return table[np.minimum(cells, 1)].reshape(shape)
    reach = border_sigma * math.sqrt(2 * math.log(border_weight / NEGLIGIBLE_WEIGHT))
    nearest = two_nearest(cells, steps, reach, total=reach, wanted=cells)
    planes = [plane.reshape(-1) for plane in (cells, nearest.d1, nearest.d2)]
    sharpness = 0.5 / border_sigma**2

    def weigh(start: int, stop: int) -> None:
        _weigh(*planes, background, cell, border_weight, sharpness, start, stop)

    in_threads(weigh, cells.size, cells.size)
    return nearest.d1.reshape(shape)


def force_gap(label_image: ArrayLike, *, ignore_label: int | None = None) -> NDArray[Any]:
    """Turn pixels where cells touch into background, so that at least one background pixel parts any two cells.

    Pixels touch over faces, edges and corners. Where two cells touch, the larger one gives up the pixels that touch; of
    two equally large ones, the one with the higher label. So a small cell loses nothing to a large one, and the result
    does not depend on how the image is turned or mirrored. A cell that would lose all its pixels gives up none, and its
    neighbours give way. Two such cells side by side, a pixel thin, keep touching: no cell ever vanishes.

    Parameters
    ----------
    label_image
        ``(Y, X)`` or ``(Z, Y, X)`` integers, one per cell, 0 = background.
    ignore_label
        Value of unannotated pixels, which belong to no cell, separate no cells and keep their value.

    Returns
    -------
    ndarray
        A copy of `label_image` with the gaps, of the same shape and dtype.

    Raises
    ------
    ImageError
        ``not_labels``, ``wrong_ndim`` or ``no_pixels``: `label_image` is not one.

    Examples
    --------
    >>> force_gap(np.array([[1, 1, 1, 2, 2]]))
    array([[1, 1, 0, 2, 2]])
    """
    parted = np.array(label_image)
    parted[(_gapped(compact(label_image, ignore_label)) == 0).reshape(parted.shape)] = 0
    return parted


def _two_class_weights(weights: Sequence[float]) -> tuple[float, float]:
    if len(weights) != 2 or not all(math.isfinite(weight) and weight >= 0 for weight in weights):
        raise UsageError(f"class weights are {list(weights)}, need two numbers of 0 or more: background, cell")
    return float(weights[0]), float(weights[1])


def _gapped(cells: Cells) -> Cells:
    """A copy with gaps, as `force_gap` describes them."""
    areas = _areas(cells)
    # Of two touching cells the one of the higher rank gives way.
    ranks = np.empty(areas.size, np.int32)
    ranks[np.lexsort((np.arange(areas.size), areas))] = np.arange(areas.size)
    height = cells.shape[1]
    while True:
        gapped = np.empty_like(cells)

        def cut(start: int, stop: int, ranks: Cells = ranks, gapped: Cells = gapped) -> None:
            _cut_rows(cells, ranks, gapped, start, stop)

        in_threads(cut, cells.shape[0] * height, cells.size)
        vanished = (areas > 0) & (_areas(gapped, areas.size) == 0)
        if not vanished.any():
            return gapped
        ranks[vanished] = -1  # gives way to none


def _areas(cells: Cells, size: int | None = None) -> NDArray[np.int64]:
    """Pixels of each label; 0 for background."""
    size = max(int(cells.max()), 0) + 1 if size is None else size
    areas: NDArray[np.int64] = _count(cells.reshape(-1), size)
    return areas


@compiled
def _count(labels: Cells, size: int) -> NDArray[np.int64]:
    areas = np.zeros(size, np.int64)
    for label in labels:
        if label > 0:
            areas[label] += 1
    return areas


@compiled
def _cut_rows(cells: Cells, ranks: Cells, gapped: Cells, start: int, stop: int) -> None:
    """Copy rows of `cells` to `gapped`, without the pixels that touch a cell of a lower rank."""
    depth, height, width = cells.shape
    for row in range(start, stop):
        z, y = row // height, row % height
        for x in range(width):
            label = cells[z, y, x]
            gapped[z, y, x] = label
            if label <= 0:
                continue
            rank = ranks[label]
            for v in range(max(z - 1, 0), min(z + 2, depth)):
                for w in range(max(y - 1, 0), min(y + 2, height)):
                    for u in range(max(x - 1, 0), min(x + 2, width)):
                        other = cells[v, w, u]
                        if other > 0 and other != label and ranks[other] < rank:
                            gapped[z, y, x] = 0


@compiled
def _weigh(
    cells: Cells, d1: Squares, d2: Squares,
    background: float, cell: float, border_weight: float, sharpness: float, start: int, stop: int,
) -> None:  # fmt: skip
    """Write the weights of the pixels `start` to `stop` over `d1`; `sharpness` is ``1 / (2 * sigma**2)``."""
    for i in range(start, stop):
        weight = 0.0
        if cells[i] > 0:
            weight = cell
        elif cells[i] == 0:
            weight = background
            if d2[i] < np.inf:
                both = math.sqrt(d1[i]) + math.sqrt(d2[i])
                weight += border_weight * math.exp(-both * both * sharpness)
        d1[i] = weight
