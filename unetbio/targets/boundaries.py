"""Cells from three classes: background, the inside of cells, and their boundary.

Touching cells stay apart because their boundaries are a class of their own. The mask holds pixels where inside and
boundary together are probable; the seeds hold pixels where the inside is. As in Caicedo et al. 2019,
doi:10.1002/cyto.a.23863, with exact distances in place of a dilated outline.
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from unetbio.supervision.annotations import number_cells
from unetbio.targets.base import Target, register
from unetbio.targets.cells import CellClasses, CellDecoder
from unetbio.targets.nested import NestedLearner, boundary_widths, check_nested

__all__ = ["CLASSES", "BoundaryLearner"]

BOUNDARY, INSIDE = 1, 2
CLASSES = CellClasses(("background", "boundary", "inside"), mask=(BOUNDARY, INSIDE), seeds=(INSIDE,))


class BoundaryLearner(NestedLearner):
    """Training half."""

    classes = CLASSES

    def divide(self, depths: NDArray[np.float32], radii: NDArray[np.float32]) -> NDArray[np.int64]:
        """See `NestedLearner`."""
        return np.where(depths > boundary_widths(radii), INSIDE, BOUNDARY)


register(
    Target(
        name="boundaries",
        summary="cells, from background, boundary and inside",
        masks="instances",
        annotate=number_cells,
        check=check_nested,
        learner=BoundaryLearner,
        decoder=partial(CellDecoder, CLASSES),
    )
)
