"""Cells from three classes: background, the inside of cells, and their boundary.

Touching cells stay apart because their boundaries are a class of their own. The mask holds pixels where inside and
boundary together are probable; the seeds hold pixels where the inside is. As in Caicedo et al. 2019,
doi:10.1002/cyto.a.23863, with exact distances in place of a dilated outline.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unetbio.supervision.annotations import read_cells
from unetbio.targets.base import Annotation, Supervision, Target, register
from unetbio.targets.cells import CellClasses, CellDecoder, CellLearner, check_cells, mask_annotated

__all__ = ["CLASSES", "BoundaryLearner"]

INSIDE, BOUNDARY = 1, 2
CLASSES = CellClasses(("background", "inside", "boundary"), mask=(INSIDE, BOUNDARY), seeds=(INSIDE,))

WIDTH = 2.0
"""Width of the boundary, in in-plane pixels inside the cell."""


class BoundaryLearner(CellLearner):
    """Training half."""

    classes = CLASSES

    def classify(self, label_image: Annotation, spacing: tuple[float, ...] | None) -> NDArray[np.int64]:
        """See `CellLearner`; the gap between cells that touch is boundary."""
        separated = self.part(label_image)
        cells = mask_annotated(label_image, label_image, self.config) > 0
        classes = np.where(cells, np.where(separated, INSIDE, BOUNDARY), 0)
        # Without a pixel outside there is no distance to one.
        if not separated.all():
            classes[separated & (ndimage.distance_transform_edt(separated, sampling=spacing) <= WIDTH)] = BOUNDARY
        return classes

    def encode(
        self, label_image: Annotation, class_weights: Sequence[float], spacing: tuple[float, ...] | None
    ) -> Supervision:
        """See `Learner`; background between neighbours weighs most, the boundary has the weight of its class."""
        classes = self.classify(label_image, spacing)
        weight_map = self.weigh(label_image, class_weights[:BOUNDARY], spacing)
        weight_map[classes == BOUNDARY] = class_weights[BOUNDARY]
        return classes, weight_map

    def describe(self, label_images: Sequence[Annotation]) -> dict[str, object]:
        """See `Learner`."""
        return {"target": "boundaries", "class_names": CLASSES.names, **super().describe(label_images)}


register(
    Target(
        name="boundaries",
        summary="cells, from background, inside and boundary",
        masks="instances",
        read_annotation=read_cells,
        check=check_cells,
        learner=BoundaryLearner,
        decoder=partial(CellDecoder, CLASSES),
    )
)
