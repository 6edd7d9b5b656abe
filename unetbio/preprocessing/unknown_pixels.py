"""Pixels without a grey value: NaN and infinity, as registration and stitching leave them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.labels import split_components

__all__ = ["UnknownPixels", "fill"]

LARGEST_HOLE = 9
"""Unknown pixels that lie together and within the image, up to so many, are as good as known when they are filled."""


@dataclass(frozen=True)
class UnknownPixels:
    """Pixels that were filled.

    Parameters
    ----------
    mask : ndarray of bool
        ``(*spatial)``: those that stay unknown; they are background in the label image.
    filled : int
        Number of pixels that take the grey value of the nearest one and count as known.
    """

    mask: NDArray[np.bool_]
    filled: int

    @property
    def unknown(self) -> int:
        """Number of pixels that stay unknown."""
        return int(np.count_nonzero(self.mask))


def fill(image: NDArray[Any], *, in_sections: bool = False) -> tuple[NDArray[Any], UnknownPixels | None]:
    """Give pixels without a grey value that of the nearest pixel of their channel.

    Parameters
    ----------
    image : ndarray
        ``(C, *spatial)``.
    in_sections : bool
        Whether the sections of a stack are segmented one by one, so that each has holes and neighbours of its own.

    Returns
    -------
    image : ndarray
        The same array where all pixels have a grey value; a channel without any becomes zeros.
    unknown : UnknownPixels or None
        None where all pixels have a grey value.
    """
    if image.dtype.kind != "f" or (is_known := np.isfinite(image)).all():
        return image, None
    # Sections without a grey value take those of the next, so that the levels of the stack stay as they are.
    steps = (sum(image.shape), 1, 1) if in_sections else None
    filled = np.stack([_filled(channel, known, steps) for channel, known in zip(image, is_known, strict=True)])
    missing = ~is_known.all(axis=0)
    holes = np.stack([_holes(section) for section in missing]) if in_sections else _holes(missing)
    return filled, UnknownPixels(missing & ~holes, int(np.count_nonzero(holes)))


def _filled(channel: NDArray[Any], known: NDArray[np.bool_], steps: tuple[int, ...] | None) -> NDArray[Any]:
    """The nearest grey values, where an axis has steps of such a size."""
    if not known.any():
        return np.zeros_like(channel)
    from scipy import ndimage  # here, since most images need none of it

    nearest = ndimage.distance_transform_edt(~known, sampling=steps, return_distances=False, return_indices=True)
    values: NDArray[Any] = channel[tuple(nearest)]
    return values


def _holes(missing: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Missing pixels of small parts that do not touch the border."""
    parts = split_components(missing.astype(np.uint8), connectivity=missing.ndim)
    is_hole = np.bincount(parts.reshape(-1)) <= LARGEST_HOLE
    # Sections are seldom many: a dead pixel of the first or the last one is no border.
    for axis in range(missing.ndim - 2, missing.ndim):
        for end in (0, -1):
            is_hole[np.unique(parts.take(end, axis=axis))] = False
    is_hole[0] = False
    return is_hole[parts]
