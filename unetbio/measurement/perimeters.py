"""Length of the border of each cell in a plane, as `skimage.measure.perimeter` with neighborhood 4."""

import numpy as np
from numpy.typing import NDArray

from unetbio.compilation import compiled
from unetbio.measurement.columns import IndexArray, Table

__all__ = ["BORDER_KINDS", "count_border", "perimeters"]

# Weights of border pixels after the first, which is 1, and which of them a pixel has by its neighbourhood: 1 for
# itself, 2 for each border pixel over an edge, 10 over a corner.
BORDER_WEIGHTS = (np.sqrt(2), (1 + np.sqrt(2)) / 2)
BORDER_KINDS = 1 + len(BORDER_WEIGHTS)
BORDER_CODES = np.full(50, -1)
BORDER_CODES[[5, 7, 15, 17, 25, 27]] = 0
BORDER_CODES[[21, 33]] = 1
BORDER_CODES[[13, 23]] = 2


@compiled
def count_border(labels: IndexArray, start: int, stop: int, counts: Table) -> None:
    """Add the border pixels of each cell in the rows from start to stop, by the weight of their neighbourhood.

    Parameters
    ----------
    labels : ndarray of int32
        ``(Y, X)``, the cells numbered from 1; rows beside those that are counted decide what is a border.
    start, stop : int
        Rows to count.
    counts : ndarray of int64
        ``(cells, BORDER_KINDS)``, added to. The neighbourhood is coded as in `skimage.measure.perimeter`.
    """
    height, width = labels.shape
    # A cell's border pixel keeps its id, everything else is 0; a frame of zeros saves looking for the image's border.
    border = np.zeros((height + 2, width + 2), dtype=np.int32)
    for y in range(height):
        for x in range(width):
            label = labels[y, x]
            if label == 0:
                continue
            inside = (
                0 < y < height - 1
                and 0 < x < width - 1
                and labels[y, x - 1] == label
                and labels[y, x + 1] == label
                and labels[y - 1, x] == label
                and labels[y + 1, x] == label
            )
            if not inside:
                border[y + 1, x + 1] = label
    for y in range(start + 1, stop + 1):
        for x in range(1, width + 1):
            label = border[y, x]
            if label == 0:
                continue
            code = 1
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    if border[y + dy, x + dx] == label and (dy != 0 or dx != 0):
                        code += 10 if dy != 0 and dx != 0 else 2
            if BORDER_CODES[code] >= 0:
                counts[label - 1, BORDER_CODES[code]] += 1


def perimeters(counts: Table) -> NDArray[np.float64]:
    """Length of each border from its counts, added one by one, so that a cell has the same among any others."""
    edges, corners, both = counts.T
    lengths: NDArray[np.float64] = edges + BORDER_WEIGHTS[0] * corners + BORDER_WEIGHTS[1] * both
    return lengths
