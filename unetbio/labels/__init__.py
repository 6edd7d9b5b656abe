"""Label images: ids in raster order, connected components, neighbours, hashes.

A label image is an integer array ``(Y, X)`` or ``(Z, Y, X)``; 0 is background and every other value is the id of one
cell. All functions run on 2-D and 3-D through the same code: a 2-D image is a volume of one slice.
"""

from unetbio.labels.arrays import LabelImage, Mask, as_volume, each_time, label_dtype, without_label
from unetbio.labels.checks import check_label_image, check_plausible, is_binary_mask
from unetbio.labels.components import connected_components, split_components
from unetbio.labels.hashing import label_hash
from unetbio.labels.numbering import (
    LUT_ENTRIES_ALWAYS,
    LUT_ENTRIES_PER_PIXEL,
    number_in_raster_order,
    relabel_raster,
    renumbered,
)
from unetbio.labels.resizing import nearest_pixels, resize_nearest
from unetbio.labels.runs import (
    RUN_CELL,
    RUN_START,
    RUN_STOP,
    RUN_WIDTH,
    RUN_Y,
    RUN_Z,
    label_runs,
    pairs_of_runs,
    touching_pairs,
)

__all__ = [
    "LUT_ENTRIES_ALWAYS",
    "LUT_ENTRIES_PER_PIXEL",
    "RUN_CELL",
    "RUN_START",
    "RUN_STOP",
    "RUN_WIDTH",
    "RUN_Y",
    "RUN_Z",
    "LabelImage",
    "Mask",
    "as_volume",
    "check_label_image",
    "check_plausible",
    "connected_components",
    "each_time",
    "is_binary_mask",
    "label_dtype",
    "label_hash",
    "label_runs",
    "nearest_pixels",
    "number_in_raster_order",
    "pairs_of_runs",
    "relabel_raster",
    "renumbered",
    "resize_nearest",
    "split_components",
    "touching_pairs",
    "without_label",
]
