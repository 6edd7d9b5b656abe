"""Background where an image has no grey values."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from unetbio.labels import relabel_raster
from unetbio.postprocessing.objects import renumber_objects
from unetbio.targets.base import Finished

__all__ = ["without_unknown"]


def without_unknown(
    finished: Finished, unknown: NDArray[np.bool_], *, are_cells: bool, smallest_area: float = 0
) -> Finished:
    """Make pixels background that are unknown, and number cells anew if some are gone.

    Parameters
    ----------
    finished : Finished
        A plane, or a stack that was segmented as a whole; ids from 1 without gaps.
    unknown : ndarray of bool
        ``(*spatial)``.
    are_cells : bool
        Classes keep their numbers.
    smallest_area : float
        Cells that lose pixels and have fewer then are dropped.
    """
    kept = np.where(unknown, 0, finished.labels).astype(finished.labels.dtype)
    if not are_cells:
        return replace(finished, labels=kept)
    before = np.bincount(finished.labels.reshape(-1))
    after = np.bincount(kept.reshape(-1), minlength=len(before))
    # Resizing rounds areas, and the cells that nothing is cut from were within the limit.
    kept[((after < before) & (after < smallest_area))[kept]] = 0
    if finished.objects is None:
        return replace(finished, labels=relabel_raster(kept))
    labels, objects = renumber_objects(kept, finished.objects)
    return replace(finished, labels=labels, objects=objects)
