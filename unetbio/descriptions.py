"""What the summary says of a label image or a class mask, whoever made it."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.classes import default_class_names
from unetbio.provenance import FrameRecord

__all__ = ["describe_classes", "describe_labels"]


def describe_labels(labels: NDArray[Any], t: int | None) -> FrameRecord:
    """Number of cells, their diameter and the share of the pixels that they take."""
    areas = np.unique(labels[labels > 0], return_counts=True)[1] if labels.max(initial=0) > 2**24 else None
    if areas is None:
        counts = np.bincount(labels.reshape(-1))[1:]
        areas = counts[counts > 0]
    diameter = None
    if areas.size:
        median = float(np.median(areas))
        diameter = 2 * math.sqrt(median / math.pi) if labels.ndim == 2 else (6 * median / math.pi) ** (1 / 3)
    return FrameRecord(
        t=t,
        n_cells=int(areas.size),
        median_diameter_px=None if diameter is None else round(diameter, 3),
        area_fraction=round(float(areas.sum()) / labels.size, 6),
        warnings=() if areas.size else ("no_cells",),
    )


def describe_classes(mask: NDArray[Any], t: int | None, class_names: Sequence[str]) -> FrameRecord:
    """The share of the pixels that each class takes; no cells are counted.

    Classes beyond ``class_names``, which somebody may have drawn by hand, have the names that their numbers give them.
    """
    counts = np.bincount(mask.reshape(-1), minlength=len(class_names))
    names = (*class_names, *default_class_names(len(counts))[len(class_names) :])
    shares = {name: round(int(count) / mask.size, 6) for name, count in zip(names, counts, strict=True)}
    return FrameRecord(
        t=t,
        n_cells=None,
        median_diameter_px=None,
        area_fraction=round(1 - int(counts[0]) / mask.size, 6),
        class_fractions=shares,
    )
