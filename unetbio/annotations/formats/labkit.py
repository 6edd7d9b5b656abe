"""Labelings of Labkit: a JSON file that lists the pixels of each label."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.annotations.json_stream import members_of
from unetbio.annotations.outlines import FARTHEST, Pixels
from unetbio.annotations.regions import Region, Sheet, as_id
from unetbio.errors import ImageError

__all__ = ["BACKGROUND", "read_labkit"]

BACKGROUND = "label called background"
"""What is left out of a labeling on purpose."""


def read_labkit(path: Path) -> Sheet:
    """Read the labels of a file, each as one region; a label called background is left out.

    Raises
    ------
    ImageError
        ``bad_json``, ``bad_outline``.
    """
    sheet = Sheet()
    labels = next((value for name, value in members_of(path) if name == "labels"), None)
    if not isinstance(labels, Mapping):
        raise ImageError("bad_json", "holds no labels; save the labeling again")
    free = 1 + max((as_id(name) or 0 for name in labels), default=0)
    for name, pixels in labels.items():
        if name.lower() == "background":
            sheet.left_out[BACKGROUND] += 1
            continue
        number = as_id(name)
        if number is None:
            # Pixels of several sections or times are one object.
            number, free = free, free + 1
        places = _places(pixels, name)
        for index in np.unique(places[:, 2]).tolist() if places.shape[1] > 2 else [None]:
            plane = places if index is None else places[places[:, 2] == index]
            sheet.regions.append(Region(Pixels.at(plane[:, 0], plane[:, 1], f"label {name!r}"), number, index=index))
    return sheet


def _places(pixels: Any, name: str) -> NDArray[np.int64]:
    try:
        places = np.array(pixels)
    except ValueError:
        places = np.array("ragged")
    is_list = places.ndim == 2 and places.shape[1] in (2, 3) and places.dtype.kind in "iu"
    if places.size and not (is_list and (np.abs(places) <= FARTHEST).all()):
        raise ImageError("bad_outline", f"label {name!r}: its pixels are no lists of x, y and z; save it again")
    return places.reshape(-1, places.shape[1] if is_list else 2).astype(np.int64)
