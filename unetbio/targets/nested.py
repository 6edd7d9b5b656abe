"""Base of targets whose classes are nested in cells: outline, then ever deeper parts.

The network learns an outline without border weights, and the inner parts, which tell cells apart, with them: the loss
is a sum of conditional cross-entropies (`unetbio.supervision.losses.nested_cross_entropy`), so that weights on pixels
between touching cells do not move the outline.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import UsageError
from unetbio.settings.training import TrainingConfig
from unetbio.supervision.depths import depths_in_cells
from unetbio.supervision.small_cells import small_cell_weights
from unetbio.targets.base import Annotation, Supervision
from unetbio.targets.cells import CellLearner, check_cells, mask_annotated

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BOUNDARY_WIDTH", "NestedLearner", "boundary_widths", "check_nested"]

BOUNDARY_WIDTH = 2.0
"""Width of the boundary, in in-plane pixels inside the cell; at most half of the cell's inscribed radius."""


THIN = 4
"""In-plane pixels from the rim of an area without annotation to its middle, up to which it is thin."""


def boundary_widths(radii: NDArray[np.float32]) -> NDArray[np.float32]:
    """Width of the boundary of cells with these inscribed radii: the smallest cells keep a pixel inside."""
    return np.minimum(BOUNDARY_WIDTH, radii / 2)


class NestedLearner(CellLearner):
    """Training half; a subclass names the classes and divides cells by depth."""

    @abstractmethod
    def divide(self, depths: NDArray[np.float32], radii: NDArray[np.float32]) -> NDArray[np.int64]:
        """The class of pixels of cells, from 1.

        Parameters
        ----------
        depths : ndarray of float32
            ``(n,)``: distance of each pixel to the nearest pixel outside of its cell, in in-plane pixels.
        radii : ndarray of float32
            ``(n,)``: the largest depth in its cell.
        """

    def classify(self, label_image: Annotation, spacing: tuple[float, ...] | None) -> NDArray[np.int64]:
        """See `CellLearner`."""
        return self._classes(*self._cells_and_ignored(label_image), spacing)[0]

    def encode(
        self, label_image: Annotation, class_weights: Sequence[float], spacing: tuple[float, ...] | None
    ) -> Supervision:
        """See `Learner`; the weights are two planes, of the outline and of the inner parts."""
        cells, ignored = self._cells_and_ignored(label_image)
        classes, gaps = self._classes(cells, ignored, spacing)
        outline = mask_annotated(self._weigh_cells(cells, ignored, spacing), label_image, self.config)
        between = self.config.border_weight * np.exp(-(gaps**2) / (2 * self.config.border_sigma**2))
        return classes, np.stack([outline, (outline * (1 + between)).astype(np.float32)])

    def count(self, label_image: Annotation) -> NDArray[np.int64]:
        """See `Learner`; classes are not balanced, since that would move the outline."""
        return np.ones(len(self.class_names), np.int64)

    def loss_of_logits(self, logits: "Tensor", target: "Tensor", weight_map: "Tensor") -> "Tensor":
        """See `PixelLearner`."""
        from unetbio.supervision.losses import NESTED_LOSSES

        return NESTED_LOSSES[self.config.loss](logits, target, weight_map)

    def _weigh_cells(
        self, cells: Annotation, ignored: NDArray[np.bool_] | None, spacing: tuple[float, ...] | None
    ) -> NDArray[np.float32]:
        largest = self.config.small_cell_weight
        if largest == 1:
            return np.ones(cells.shape, np.float32)
        return small_cell_weights(cells, largest=largest, spacing=spacing, ignored=ignored)

    def _cells_and_ignored(self, label_image: Annotation) -> tuple[Annotation, NDArray[np.bool_] | None]:
        """The cells alone, and the areas that are not annotated, if there are any.

        Thin ones, such as rims around cells and seams between them, stand for outlines. Sections that are not annotated
        do not, however few they are.
        """
        cells = mask_annotated(label_image, label_image, self.config)
        ignored = None if self.config.ignore_label is None else label_image == self.config.ignore_label
        if ignored is None or not ignored.any():
            return cells, None
        from scipy import ndimage  # here, since few annotations need it

        cross = ndimage.generate_binary_structure(2, 1)
        in_plane = cross.reshape((1,) * (ignored.ndim - 2) + cross.shape)
        inner = ndimage.binary_erosion(ignored, in_plane, iterations=THIN, border_value=1)
        return cells, ndimage.binary_dilation(inner, in_plane, iterations=THIN, mask=ignored)

    def _classes(
        self, cells: Annotation, ignored: NDArray[np.bool_] | None, spacing: tuple[float, ...] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The class of each pixel, and its distance to where cells touch."""
        found = depths_in_cells(cells, spacing=spacing, ignored=ignored)
        classes = np.zeros(cells.shape, np.int64)
        inside = cells > 0
        classes[inside] = self.divide(found.depths[inside], found.radii[inside])
        return classes, found.gaps


def check_nested(config: TrainingConfig) -> None:
    """Refuse settings that do not apply.

    Raises
    ------
    UsageError
        When classes are named, or are to be weighted in a way that is not the default of all targets.
    """
    check_cells(config)
    if config.class_weighting == "median_frequency":
        raise UsageError(
            f"class_weighting: {config.class_weighting} would move the outlines of target: {config.target}; "
            "leave it out, or use target: instances"
        )
