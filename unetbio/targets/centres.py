"""Cells from four nested classes: background, boundary, inside and centre.

The mask and the seeds are those of `unetbio.targets.boundaries`. Where the insides of two cells run together, their
centres still tell them apart: a centre is what lies deeper than half of the cell's inscribed radius, so that it keeps
its distance from the neighbour's whatever the size of the cells.
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from unetbio.supervision.annotations import number_cells
from unetbio.targets.base import Target, register
from unetbio.targets.cells import CellClasses, CellDecoder
from unetbio.targets.nested import NestedLearner, boundary_widths, check_nested

__all__ = ["CLASSES", "CentreLearner"]

BOUNDARY, INSIDE, CENTRE = 1, 2, 3
CLASSES = CellClasses(
    ("background", "boundary", "inside", "centre"),
    mask=(BOUNDARY, INSIDE, CENTRE),
    seeds=(INSIDE, CENTRE),
    centres=(CENTRE,),
)


class CentreLearner(NestedLearner):
    """Training half."""

    classes = CLASSES

    def divide(self, depths: NDArray[np.float32], radii: NDArray[np.float32]) -> NDArray[np.int64]:
        """See `NestedLearner`."""
        inside = np.where(depths > boundary_widths(radii), INSIDE, BOUNDARY)
        return np.where(depths > radii / 2, CENTRE, inside)


register(
    Target(
        name="centres",
        summary="cells, from background, boundary, inside and centre",
        masks="instances",
        annotate=number_cells,
        check=check_nested,
        learner=CentreLearner,
        decoder=partial(CellDecoder, CLASSES),
    )
)
