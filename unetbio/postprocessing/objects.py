"""Filter detected objects, and their table beside a label image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import UsageError
from unetbio.labels import LabelImage, relabel_raster, resize_nearest

__all__ = [
    "MASK_THRESHOLD",
    "SCORE_THRESHOLD",
    "ObjectSettings",
    "ObjectTable",
    "bounding_boxes",
    "renumber_objects",
    "resize_objects",
    "select_objects",
]

SCORE_THRESHOLD = 0.5
"""Default lowest score of objects, for models without their own."""

MASK_THRESHOLD = 0.5
"""Probability from which on a pixel belongs to an object."""

ObjectTable = dict[str, NDArray[Any]]
"""Columns of one entry an object, by rising id; see `unetbio.inference.objects.merge_objects`."""


@dataclass(frozen=True)
class ObjectSettings:
    """Options that turn objects into a label image; stored in the model file, each can be overridden for a run.

    Parameters
    ----------
    score_threshold : float
        Objects that score less are left out.
    mask_threshold : float
        Probability from which on a pixel belongs to an object.
    min_area, max_area : float
        Objects with fewer or more pixels are dropped; ``None`` is no limit.
    exclude_border : bool
        Drop objects that touch the border of the image.

    Raises
    ------
    UsageError
        When a value is out of range.
    """

    score_threshold: float = SCORE_THRESHOLD
    mask_threshold: float = MASK_THRESHOLD
    min_area: float = 0
    max_area: float | None = None
    exclude_border: bool = False

    def __post_init__(self) -> None:
        for name in ("score_threshold", "mask_threshold"):
            if not 0 < getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name):g}: must lie between 0 and 1; choose another one")
        if not self.min_area >= 0:
            raise UsageError(f"min_area {self.min_area}: must not be negative; use 0 for no limit")
        if self.max_area is not None and not self.max_area >= self.min_area:
            raise UsageError(
                f"max_area {self.max_area:g} is below min_area {self.min_area:g}: no object could remain; change one"
            )


def select_objects(
    label_image: LabelImage, table: ObjectTable, settings: ObjectSettings, within: NDArray[np.bool_] | None = None
) -> tuple[LabelImage, ObjectTable]:
    """Drop objects by their area, and those at the border; scores are ignored.

    Parameters
    ----------
    label_image : ndarray of uint16 or uint32
        ``(Y, X)``, ids from 1 without gaps.
    table : dict of str to ndarray
        One entry an object, by rising id.
    settings : ObjectSettings
        Areas in pixels of ``label_image``.
    within : ndarray of bool, optional
        ``(Y, X)``: objects with less than half of their pixels in it are dropped; the others are whole.

    Returns
    -------
    label_image, table
        Ids from 1 in raster order.
    """
    areas = np.bincount(label_image.ravel(), minlength=len(table["label"]) + 1)[1:]
    kept = areas >= settings.min_area
    if within is not None:
        kept &= 2 * np.bincount(label_image[within], minlength=len(areas) + 1)[1:] >= areas
    if settings.max_area is not None:
        kept &= areas <= settings.max_area
    if settings.exclude_border:
        for axis, size in zip("yx", label_image.shape, strict=True):
            kept &= (table[f"bbox_{axis}_start"] > 0) & (table[f"bbox_{axis}_stop"] < size)
    return renumber_objects(np.where(np.append(False, kept)[label_image], label_image, 0), table)


def resize_objects(label_image: LabelImage, table: ObjectTable, shape: Sequence[int]) -> tuple[LabelImage, ObjectTable]:
    """Resize a label image; recompute boxes from its pixels, and drop objects without any."""
    return renumber_objects(resize_nearest(label_image, tuple(shape)), table)


def bounding_boxes(label_image: LabelImage) -> ObjectTable:
    """Boxes of all objects in whole pixels, named as `unetbio.measurement.regions` names them; ids have no gaps."""
    # Imported here, so that commands that only read settings start fast.
    from scipy import ndimage

    boxes = ndimage.find_objects(label_image)
    return {
        f"bbox_{name}_{end}": np.array([getattr(box[axis], end) for box in boxes], dtype=np.int64)
        for axis, name in enumerate("yx")
        for end in ("start", "stop")
    }


def renumber_objects(label_image: NDArray[np.integer], table: ObjectTable) -> tuple[LabelImage, ObjectTable]:
    """Number objects in raster order, sort the rows of the table by the new ids and recompute boxes.

    Objects without pixels lose their rows. The table has a row for each id from 1 on, by rising id.
    """
    renumbered = relabel_raster(label_image)
    old_ids = np.zeros(int(renumbered.max(initial=0)) + 1, dtype=np.int64)
    old_ids[renumbered] = label_image
    rows = {name: column[old_ids[1:] - 1] for name, column in table.items()}
    return renumbered, {**rows, "label": np.arange(1, len(old_ids)), **bounding_boxes(renumbered)}
