"""Images that share pixels: equal ones, crops of one another, and crops of one field that overlap.

Windows of 8 x 8 pixels are hashed at every place. Those whose hash is a multiple of `ONE_IN` are kept as anchors: the
content decides, so an image and its crop keep the same ones. Images share pixels if enough anchors of both agree, all
with the same distance between their places.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["Anchors", "find_anchors", "find_shared"]

WINDOW = 8
ONE_IN = 64
# Windows of fewer grey values are even ground or saturated, and equal in many images.
LEAST_VALUES = 6
ROWS = 512
LEAST_SHARED = 8
LEAST_SHARE = 0.05

_MULTIPLIERS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)


@dataclass(frozen=True)
class Anchors:
    """Anchors of an image.

    Parameters
    ----------
    keys : ndarray of uint64
        Their hashes, rising, each once.
    places : ndarray of int64
        ``(n, 2)``, row and column.
    """

    keys: NDArray[np.uint64]
    places: NDArray[np.int64]


def find_anchors(image: NDArray[Any]) -> Anchors:
    """Find the anchors of the first channel of an image.

    Parameters
    ----------
    image : ndarray
        ``(C, Y, X)`` or ``(C, Z, Y, X)``.
    """
    planes = image[0] if image.ndim == 4 else image[:1]
    found = [_of_band(band, start) for plane in planes if min(plane.shape) >= WINDOW for start, band in _bands(plane)]
    if not found:
        return Anchors(np.zeros(0, np.uint64), np.zeros((0, 2), np.int64))
    keys, places = (np.concatenate(each) for each in zip(*found, strict=True))
    unique, first = np.unique(keys, return_index=True)
    return Anchors(unique, places[first])


def _bands(plane: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Rows whose windows are hashed at a time, with their first row: hashes need several times the memory of pixels."""
    for start in range(0, len(plane) - WINDOW + 1, ROWS):
        yield start, plane[start : start + ROWS + WINDOW - 1]


def _of_band(plane: NDArray[Any], start: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    plane = np.ascontiguousarray(plane, plane.dtype.newbyteorder("="))
    # Bits, not values: floats have no exact sums.
    values = plane.view(np.dtype(f"u{plane.dtype.itemsize}")).astype(np.uint64)
    hashes = _combine(_combine(values, 1, _MULTIPLIERS[0]), 0, _MULTIPLIERS[1])
    hashes = (hashes ^ (hashes >> np.uint64(29))) * _MULTIPLIERS[2]
    hashes ^= hashes >> np.uint64(32)
    places = np.argwhere(hashes % np.uint64(ONE_IN) == 0)
    windows = sliding_window_view(plane, (WINDOW, WINDOW))[places[:, 0], places[:, 1]]
    ordered = np.sort(windows.reshape(len(places), -1), axis=1)
    is_varied = 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(axis=1) >= LEAST_VALUES
    places = places[is_varied]
    return hashes[places[:, 0], places[:, 1]], places + np.array([start, 0])


def _combine(values: NDArray[np.uint64], axis: int, multiplier: np.uint64) -> NDArray[np.uint64]:
    """Polynomial of `WINDOW` neighbours along an axis, at every place, modulo 2**64."""
    moved = np.moveaxis(values, axis, 0)
    count = len(moved) - WINDOW + 1
    total = moved[:count].copy()
    for step in range(1, WINDOW):
        total *= multiplier
        total += moved[step : step + count]
    return np.moveaxis(total, 0, axis)


def find_shared(some: Sequence[Anchors], others: Sequence[Anchors]) -> Iterator[tuple[int, int]]:
    """Numbers of images, one of each sequence, that share pixels."""
    keys = np.concatenate([other.keys for other in others]) if others else np.zeros(0, np.uint64)
    owners = np.repeat(np.arange(len(others)), [len(other.keys) for other in others])
    order = np.argsort(keys, kind="stable")
    places = np.concatenate([other.places for other in others]) if others else np.zeros((0, 2), np.int64)
    keys, owners, places = keys[order], owners[order], places[order]
    for number, one in enumerate(some):
        starts, stops = np.searchsorted(keys, one.keys), np.searchsorted(keys, one.keys, side="right")
        counts = stops - starts
        mine = np.repeat(np.arange(len(one.keys)), counts)
        theirs = np.arange(len(mine)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(starts, counts)
        offsets = places[theirs] - one.places[mine]
        groups, sizes = np.unique(np.column_stack([owners[theirs], offsets]), axis=0, return_counts=True)
        partners = {
            int(owner)
            for (owner, *_), size in zip(groups, sizes, strict=True)
            if size >= max(LEAST_SHARED, LEAST_SHARE * min(len(one.keys), len(others[owner].keys)))
        }
        yield from ((number, partner) for partner in sorted(partners))
