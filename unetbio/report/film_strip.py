"""Picture of a time-lapse: some of its frames side by side, each track in one colour."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.report.overlays import draw_tracks, write_picture

__all__ = ["write_film_strip"]

COLUMNS = 4
SIDE = 512
MARGIN = 4


def write_film_strip(path: Path, frames: Sequence[tuple[NDArray[Any] | None, NDArray[Any]]]) -> None:
    """Draw frames in rows of four.

    Parameters
    ----------
    path : path
        The picture.
    frames : sequence of (ndarray or None, ndarray)
        Grey values ``(Y, X)``, if they are known, and label images ``(Y, X)`` of tracks; a dozen or fewer.
    """
    pictures = [
        draw_tracks(np.zeros(labels.shape) if grey is None else grey, labels, max_side=SIDE) for grey, labels in frames
    ]
    height, width, _ = pictures[0].shape
    rows = math.ceil(len(pictures) / COLUMNS)
    columns = min(len(pictures), COLUMNS)
    sheet = np.full((rows * (height + MARGIN) - MARGIN, columns * (width + MARGIN) - MARGIN, 3), 255, np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // COLUMNS * (height + MARGIN), index % COLUMNS * (width + MARGIN)
        sheet[top : top + height, left : left + width] = picture
    write_picture(path, sheet)
