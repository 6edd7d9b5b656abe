"""Results of the Cell Tracking Challenge: a folder ``x_RES`` with a label image for each time.

Source: celltrackingchallenge.net, "Naming and content conventions": ``mask000.tif`` ... and ``res_track.txt``.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.annotations.regions import Grid
from unetbio.errors import ImageError
from unetbio.io import read_labels
from unetbio.labels import label_dtype

__all__ = ["ENDING", "is_marker", "is_of_challenge", "is_segmented", "missing_times", "read_times", "time_of"]

ENDING = "_RES"
_MASK = re.compile(r"mask(\d{3,})\.tiff?", re.IGNORECASE)


def is_of_challenge(path: Path) -> bool:
    """Whether a file is the label image of one time, by its name and that of its folder."""
    return _MASK.fullmatch(path.name) is not None and path.parent.name.endswith(ENDING)


def is_segmented(path: Path) -> bool:
    """Whether a file of the challenge's truth holds whole cells, by its name: ``SEG/man_seg000.tif``."""
    return path.name.startswith("man_seg")


def is_marker(path: Path) -> bool:
    """Whether a file of the challenge's truth marks tracks, often with less than a cell: ``TRA/man_track000.tif``."""
    return path.name.startswith("man_track")


def time_of(path: Path) -> str:
    """Digits of the time in the name of a label image."""
    match = _MASK.fullmatch(path.name)
    return match[1] if match else ""


def missing_times(paths: Sequence[Path], grid: Grid) -> list[int | None]:
    """Times of an image that have no label image."""
    there = {int(time_of(path)) for path in paths}
    return [time for time in grid.times if time not in there]


def read_times(
    paths: Sequence[Path], grid: Grid, read_others: Callable[[], NDArray[Any]] | None = None
) -> NDArray[Any]:
    """Read the label images of all times.

    Parameters
    ----------
    paths : sequence of path
        A file for each time.
    grid : Grid
        Of the time-lapse.
    read_others : callable, optional
        Reads a label image of the time-lapse, from which times without a file are taken; else these have no cells.

    Returns
    -------
    ndarray of unsigned int
        With the shape of the grid; a cell has the number of its track.

    Raises
    ------
    ImageError
        ``wrong_planes``: a time that the image does not have; as `unetbio.io.read_labels`.
    """
    plane = Grid(grid.height, grid.width, sections=grid.sections)
    read = {int(time_of(path)): _read(path, plane) for path in paths}
    if left := sorted(set(read) - set(grid.times)):
        raise ImageError("wrong_planes", f"the image has no time {left[0]}: give the time-lapse, or its --axes")
    if read_others is not None and missing_times(paths, grid):
        others = read_others()
        if others.shape != grid.shape:
            raise ImageError("size_differs", f"the mask before is {others.shape}, its image {grid.shape}")
    else:
        others = np.zeros(grid.shape, np.uint8)
    planes = list(others.reshape(len(grid.times), *plane.shape))
    for time, label_image in read.items():
        planes[grid.times.index(time)] = label_image
    stack = np.stack(planes).reshape(grid.shape)
    return stack.astype(label_dtype(int(stack.max(initial=0))), copy=False)


def _read(path: Path, plane: Grid) -> NDArray[Any]:
    try:
        label_image = read_labels(path, allow_binary=True)
    except ImageError as error:
        if error.reason != "unknown_axes":
            raise ImageError(error.reason, f"{path.name}: {error}") from error
        label_image = read_labels(path, allow_binary=True, axes=plane.axes)
    if label_image.shape != plane.shape:
        raise ImageError("size_differs", f"{path.name} is {label_image.shape}, a time of its image {plane.shape}")
    return label_image
