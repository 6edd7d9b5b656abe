"""Class of each cell: the class that most of its pixels have.

Pixels vote with whole numbers, so that the class of a cell does not depend on tiles where those of its pixels do not.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.compilation import compiled
from unetbio.labels import LabelImage
from unetbio.postprocessing.objects import ObjectTable

__all__ = ["SHARE_DECIMALS", "class_table", "count_votes"]

SHARE_DECIMALS = 3


def class_table(label_image: LabelImage, classes: NDArray[np.uint8], names: Sequence[str]) -> ObjectTable:
    """Class of each cell, and the share of its pixels that have it.

    Parameters
    ----------
    label_image : ndarray of int
        Ids from 1 without gaps.
    classes : ndarray of uint8
        The class of each pixel, of the same shape; 0 has no vote.
    names : sequence of str
        Names of the classes, the background first.

    Returns
    -------
    dict of str to ndarray
        One entry a cell, by rising id: ``label``, ``class`` (its name; of equally frequent ones that with the lowest
        number; empty for a cell without votes), ``class_share``.

    Examples
    --------
    >>> table = class_table(np.array([[1, 1, 1, 2]]), np.array([[2, 2, 1, 1]], np.uint8), ("background", "a", "b"))
    >>> table["class"].tolist(), table["class_share"].tolist()
    (['b', 'a'], [0.667, 1.0])
    """
    votes = count_votes(label_image, classes, len(names))
    chosen = np.where(votes.any(axis=1), 1 + votes.argmax(axis=1), 0)
    shares = votes.max(axis=1) / np.maximum(votes.sum(axis=1), 1)
    return {
        "label": np.arange(1, len(votes) + 1),
        "class": np.array(["", *names[1:]])[chosen],
        "class_share": shares.round(SHARE_DECIMALS),
    }


def count_votes(label_image: NDArray[Any], classes: NDArray[np.uint8], count: int) -> NDArray[np.int64]:
    """Pixels of each class but the background, ``(cells, count - 1)``, by rising id; ids have no gaps."""
    cells = int(label_image.max(initial=0))
    votes: NDArray[np.int64] = _count(label_image.reshape(-1), classes.reshape(-1), cells, count)
    return votes[1:, 1:]


@compiled
def _count(label_image: NDArray[Any], classes: NDArray[np.uint8], cells: int, count: int) -> NDArray[np.int64]:
    votes = np.zeros((cells + 1, count), np.int64)
    for pixel in range(len(label_image)):
        votes[label_image[pixel], classes[pixel]] += 1
    return votes
