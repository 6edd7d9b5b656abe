"""Background where an image has no grey values."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.labels import relabel_raster
from unetbio.targets.base import Finished

__all__ = ["without_unknown"]


def without_unknown(finished: Finished, unknown: NDArray[np.bool_], *, are_cells: bool) -> Finished:
    """Make pixels background that are unknown, and number cells anew if some are gone.

    Parameters
    ----------
    finished : Finished
        A frame.
    unknown : ndarray of bool
        ``(*spatial)``.
    are_cells : bool
        Classes keep their numbers.
    """
    kept = np.where(unknown, 0, finished.labels).astype(finished.labels.dtype)
    if not are_cells:
        return replace(finished, labels=kept)
    labels = relabel_raster(kept)
    if finished.objects is None:
        return replace(finished, labels=labels)
    ids = _new_ids(kept, labels, int(finished.labels.max(initial=0)))[finished.objects["label"]]
    rows = np.argsort(ids, kind="stable")
    rows = rows[ids[rows] > 0]
    objects = {name: column[rows] for name, column in finished.objects.items()}
    return replace(finished, labels=labels, objects={**objects, "label": ids[rows]})


def _new_ids(before: NDArray[Any], after: NDArray[Any], highest: int) -> NDArray[np.int64]:
    table = np.zeros(highest + 1, np.int64)
    table[before.reshape(-1)] = after.reshape(-1)
    return table
