"""Choose the zoom of an image by what the model sees at several zooms.

At a wrong scale a model is uncertain: of a cell that is much wider than those of its training it sees pieces, and few
of their pixels are certain. So the zoom is taken whose cells are most certain, less a little for each factor of two
between their diameter and that of the training cells. Zooms are factors of two, since a model that was trained with
cells of many sizes is as good between them.

The constants were chosen on the training parts of four data sets (docs/scale.md).
"""

import math

from unetbio.preprocessing.scale import Look

__all__ = ["COARSE", "FINE", "is_better", "is_doubtful", "is_last", "needs_coarse", "needs_fine", "prefers_fine"]

COARSE = (1 / 2, 1 / 4, 1 / 8)
"""Zooms for cells that are too large."""

FINE = 2.0
"""Zoom for cells that are too small."""

SURE, SURE_IF_SMALL = 0.65, 0.55
"""Certainty from which on cells are not looked at again; the latter if they are no wider than those in training, since
pieces of large cells are less certain."""

LARGE, SMALL = 2.0, 0.4
"""Median diameters, as a share of that in training, beyond which another zoom is tried."""

SMALLEST = 0.5
"""Least median diameter at a coarse zoom, as a share of that in training: smaller ones are specks."""

OCTAVE_PENALTY = 0.05
"""Certainty that a factor of two between the diameters of an image and of the training counts for."""

MARGIN, UNSURE_MARGIN = 0.03, 0.01
"""Certainty that a coarse zoom must gain over the model's own, and where that is not sure."""

LOST = 0.3
"""Certainty below which a zoom says nothing, so that coarser ones are tried all the same."""

DOUBTFUL = 0.45
"""Certainty below which another scale may be right, or another model."""


def needs_coarse(look: Look, diameter: float) -> bool:
    """Whether the first look leaves room for larger cells; ``diameter`` is that of the training cells."""
    sure = SURE if look.diameter_px > diameter else SURE_IF_SMALL
    return look.certainty < sure or look.diameter_px > LARGE * diameter


def needs_fine(look: Look, diameter: float) -> bool:
    """Whether the cells are so small that the image should be enlarged; still smaller ones are specks."""
    return SMALL * diameter / FINE <= look.diameter_px < SMALL * diameter


def prefers_fine(own: Look, fine: Look, diameter: float) -> bool:
    """Whether an enlarged piece of an image is not much less certain than the piece itself, and certain enough.

    An image without cells is not enlarged: a model that knows no such images finds thousands of them in its noise.
    """
    return not is_doubtful(fine) and _score(fine, diameter) > _score(own, diameter) - OCTAVE_PENALTY


def is_better(coarse: Look, best: Look, diameter: float) -> bool:
    """Whether a coarser look at the whole image is better than the best so far."""
    margin = 0.0 if best.zoom < 1 else MARGIN if best.certainty >= SURE else UNSURE_MARGIN
    return coarse.diameter_px >= SMALLEST * diameter and _score(coarse, diameter) > _score(best, diameter) + margin


def is_last(best: Look) -> bool:
    """Whether a coarser look that is not better ends the search: clumps of cells would look like cells further on."""
    return best.certainty >= LOST


def is_doubtful(look: Look) -> bool:
    """Whether the scale that was chosen may be wrong all the same."""
    return look.cells > 0 and look.certainty < DOUBTFUL


def _score(look: Look, diameter: float) -> float:
    if not look.cells:
        return -math.inf
    return look.certainty - OCTAVE_PENALTY * abs(math.log2(look.diameter_px / diameter))
