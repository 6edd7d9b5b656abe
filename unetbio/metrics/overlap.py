"""Which predicted and true cells share pixels, and how many: matches, merges, splits and errors of pairs follow."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.labels import relabel_raster

__all__ = ["Overlap"]

# A dense table of pairs is faster than sorting the pixels while it stays below this many entries.
MAX_DENSE_PAIRS = 1 << 22

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.int64]


class Overlap:
    """Sparse table of the pixels shared by predicted and true cells.

    ``rows`` (true), ``columns`` (predicted) and ``pixels`` hold one entry for each pair of ids that occurs, background
    (0) included; ``cells`` selects the pairs of two cells, and ``iou`` belongs to those.
    """

    def __init__(self, predicted: NDArray[Any], truth: NDArray[Any]) -> None:
        self.predicted = relabel_raster(predicted)
        self.truth = relabel_raster(truth)
        self.n_predicted, self.n_true = int(self.predicted.max()), int(self.truth.max())
        width = self.n_predicted + 1
        codes = self.truth.reshape(-1).astype(np.int64) * width + self.predicted.reshape(-1)
        if width * (self.n_true + 1) <= MAX_DENSE_PAIRS:
            counts = np.bincount(codes)
            found = np.flatnonzero(counts)
            self.pixels = counts[found]
        else:
            found, self.pixels = np.unique(codes, return_counts=True)
        self.rows, self.columns = np.divmod(found, width)
        self.cells = np.flatnonzero((self.rows > 0) & (self.columns > 0))
        true_areas = np.bincount(self.rows, self.pixels)[self.rows[self.cells]]
        predicted_areas = np.bincount(self.columns, self.pixels)[self.columns[self.cells]]
        shared = self.pixels[self.cells]
        self.iou = shared / (true_areas + predicted_areas - shared)
        self._covers_true = 2 * shared > true_areas
        self._covers_predicted = 2 * shared > predicted_areas

    def match(self, threshold: float) -> IndexArray:
        """Pairs of the one-to-one matching, as indices into ``iou``."""
        candidates = np.flatnonzero(self.iou >= threshold)
        rows, columns = self.rows[self.cells][candidates], self.columns[self.cells][candidates]
        if len(np.unique(rows)) == len(rows) and len(np.unique(columns)) == len(columns):
            return candidates
        return candidates[_assign(rows, columns, self.iou[candidates])]

    def count_merges(self) -> int:
        """Predicted cells that cover more than half of each of two or more true cells."""
        return int((np.bincount(self.columns[self.cells][self._covers_true]) >= 2).sum())

    def count_splits(self) -> int:
        """True cells that cover more than half of each of two or more predicted cells."""
        return int((np.bincount(self.rows[self.cells][self._covers_predicted]) >= 2).sum())

    def rand_error(self) -> float:
        """Adapted Rand error over the pixels of true cells."""
        from scipy import sparse  # here, since targets import this module, and segmenting compares nothing
        from skimage.metrics import adapted_rand_error

        if self.n_true == 0:
            return float(self.n_predicted > 0)
        inside = self.rows > 0
        table = sparse.csr_array((self.pixels[inside].astype(float), (self.rows[inside], self.columns[inside])))
        # Single pixels form no pairs: avoid 0 / 0, with an error of 0.
        with np.errstate(invalid="ignore", divide="ignore"):
            return float(np.nan_to_num(adapted_rand_error(table=table)[0], nan=0.0))

    def variation_of_information(self) -> tuple[float, float]:
        """Conditional entropies of prediction given truth (splits) and truth given prediction (merges), in bits."""
        from scipy import sparse
        from skimage.metrics import variation_of_information

        table = sparse.csr_array((self.pixels / self.truth.size, (self.rows, self.columns)))
        split, merge = variation_of_information(self.truth, self.predicted, table=table)
        # Sums of products that cancel may come out as -1e-17.
        return max(0.0, float(split)), max(0.0, float(merge))


def _assign(rows: IndexArray, columns: IndexArray, iou: FloatArray) -> IndexArray:
    """Most pairs first, then the largest sum of IoU; solved apart in each connected group of cells."""
    from scipy import sparse
    from scipy.optimize import linear_sum_assignment

    size = int(max(rows.max(), columns.max())) + 1
    graph = sparse.coo_array((np.ones(len(rows)), (rows, columns + size)), shape=(2 * size, 2 * size))
    groups = sparse.csgraph.connected_components(graph, directed=False)[1][rows]
    chosen = []
    for edges in np.split(np.argsort(groups, kind="stable"), np.flatnonzero(np.diff(np.sort(groups))) + 1):
        if len(edges) == 1:
            chosen.append(edges)
            continue
        _, row = np.unique(rows[edges], return_inverse=True)
        _, column = np.unique(columns[edges], return_inverse=True)
        index = np.full((row.max() + 1, column.max() + 1), -1)
        index[row, column] = edges
        # All IoU together weigh less than one pair more.
        gain = np.where(index >= 0, 1 + iou[index] / (min(index.shape) + 1), 0)
        picked = index[linear_sum_assignment(gain, maximize=True)]
        chosen.append(picked[picked >= 0])
    return np.sort(np.concatenate(chosen))
