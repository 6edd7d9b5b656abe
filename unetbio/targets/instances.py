"""Cells from two classes, background and cell, as in the U-Net paper: arXiv 1505.04597.

Background between neighbouring cells weighs most in the loss, so that they stay apart.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from unetbio.classes import CELL_CLASS
from unetbio.supervision.annotations import number_cells
from unetbio.targets.base import Annotation, Supervision, Target, register
from unetbio.targets.cells import CellClasses, CellDecoder, CellLearner, check_cells

__all__ = ["CLASSES", "InstanceLearner"]

CLASSES = CellClasses(("background", "cell"), mask=(CELL_CLASS,), seeds=(CELL_CLASS,))


class InstanceLearner(CellLearner):
    """Training half."""

    classes = CLASSES

    def classify(self, label_image: Annotation, spacing: tuple[float, ...] | None) -> NDArray[np.int64]:
        """See `CellLearner`; cells that touch get a gap."""
        return self.part(label_image).astype(np.int64)

    def encode(
        self, label_image: Annotation, class_weights: Sequence[float], spacing: tuple[float, ...] | None
    ) -> Supervision:
        """See `Learner`."""
        return self.classify(label_image, spacing), self.weigh(label_image, class_weights, spacing)


register(
    Target(
        name="instances",
        summary="cells, from background and cell; background between neighbours weighs most",
        masks="instances",
        annotate=number_cells,
        check=check_cells,
        learner=InstanceLearner,
        decoder=partial(CellDecoder, CLASSES),
    )
)
