"""Types of the measurements: columns with one entry a cell, and the tables of whole numbers that they come from."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["AXES", "Columns", "IndexArray", "Table"]

AXES = "ZYX"
"""Axes of a label image; of a plane the last two."""

Columns = dict[str, NDArray[Any]]

Table = NDArray[np.int64]
"""One row a cell, or a run of its pixels (`unetbio.labels.label_runs`)."""

IndexArray = NDArray[np.int32]
"""A label image in which the cells are numbered from 1 without gaps."""
