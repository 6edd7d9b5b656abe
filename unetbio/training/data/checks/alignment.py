"""Masks that do not lie on their image: transposed, mirrored, turned or moved.

A mask is compared with its image by the correlation of foreground and grey values, and of foreground and local
contrast, which outlines cells that are not brighter than their surroundings (phase contrast). A mask is displaced if it
correlates clearly better after a change.

Cells: on 877 pairs of nine sets of real images (fluorescence, H&E, phase contrast, electron microscopy, stacks) no
change to a correlation of `LEAST` gains more than .022 in Fisher's z. Of 255 of these masks moved by 10 pixels, 246
gain more than `CLEARLY`; of those mirrored or turned, all but three. Where part of an image is annotated, the
rest is left out: of 220 with a sixth or a sixteenth of the area, of six sets, two are accused, of these moved by 14
pixels 205 are found, and of those mirrored 218 (with the rest 5, 63, and 76). Of fewer cells than `LEAST_CELLS` too
little is known: a single structure may look like another one beside it.

Classes: the number of structures is not known, so a change has to stand out from those by chance. In sections of
hippocampus, where masks are one structure each, chance reaches 6.5 standard deviations; membranes reach 23.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from unetbio.supervision.annotations import UNANNOTATED

__all__ = ["find_class_displacement", "find_displacement", "fullest_plane"]

WORKING_SIZE = 512
"""Larger images are averaged down to at most so many pixels a side, or to one row or column."""

LEAST = 0.3
CLEARLY = 0.1
LEAST_MOVE = 2
"""Pixels, after averaging: annotators are off by one."""

LEAST_CELLS = 3
NEAR = 12
"""Pixels around a cell that are compared although they are not annotated, where few of them are; rims of up to twice as
many are filled, and stretches between areas too."""

LEAST_PEAK = 8.0
"""Correlation of a class mask after a change, in standard deviations of those after all moves."""

MOST_CLASSES = 3
"""Classes to compare; of more, those with most pixels."""

CONTRAST_WINDOW = 5
OUTLIERS = (1.0, 99.8)

Plane = NDArray[np.float32]


class _Move(NamedTuple):
    """Correlation after a move by so many pixels along each axis, and its standard deviation over all moves."""

    correlation: float
    steps: tuple[int, ...]
    chance: float


class _Fit(NamedTuple):
    """Correlation after a change, in words, and the standard deviation over all moves."""

    correlation: float
    words: str
    chance: float


def find_displacement(
    image: NDArray[Any], label_image: NDArray[np.integer], ignored: NDArray[np.bool_] | None = None
) -> str | None:
    """Find the change after which a mask of cells fits its image clearly better.

    Parameters
    ----------
    image : ndarray
        ``(C, *spatial)``, raw grey values. Of a stack the plane with most foreground is compared.
    label_image : ndarray of int
        ``(*spatial)``, 0 = background.
    ignored : ndarray of bool, optional
        ``(*spatial)``, pixels that are not annotated: what is seen there does not count.

    Returns
    -------
    str or None
        The change in words, such as ``"with rows and columns exchanged"``; None if the mask fits best as it is, or too
        little is known.
    """
    annotated = None if ignored is None else fullest_plane(~ignored[np.newaxis], label_image)[0][0]
    image, label_image = fullest_plane(image, label_image)
    foreground = label_image > 0
    if len(np.unique(label_image[foreground])) < LEAST_CELLS:
        return None
    if annotated is not None:
        annotated = _with_surroundings(annotated, foreground)
    return _find_change(image, [foreground], least_peak=0.0, annotated=annotated)


def _with_surroundings(annotated: NDArray[np.bool_], foreground: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What is annotated, with rims, and with what is near the cells where most of that is not annotated."""
    annotated = ndimage.grey_closing(annotated.astype(np.uint8), 2 * NEAR + 1).astype(bool)
    near = ndimage.maximum_filter(foreground, 2 * NEAR + 1) & ~foreground
    # Beyond an area with its background other cells may lie near.
    is_area = 2 * np.count_nonzero(annotated & near) >= np.count_nonzero(near)
    return annotated if is_area else annotated | near


def find_class_displacement(image: NDArray[Any], class_mask: NDArray[np.integer]) -> str | None:
    """Find the change after which a class mask fits its image clearly better.

    Parameters
    ----------
    image : ndarray
        ``(C, *spatial)``, raw grey values. Of a stack the plane with most pixels above 0 is compared.
    class_mask : ndarray of int
        ``(*spatial)``, classes from 0, and `UNANNOTATED`.

    Returns
    -------
    str or None
        As of `find_displacement`; None also where pixels are not annotated.
    """
    image, class_mask = fullest_plane(image, class_mask)
    classes, counts = np.unique(class_mask, return_counts=True)
    if UNANNOTATED in classes:
        return None
    # The most frequent class is the rest of the others.
    compared = classes[np.argsort(-counts)][1 : 1 + MOST_CLASSES]
    return _find_change(image, [class_mask == number for number in compared], least_peak=LEAST_PEAK)


def _find_change(
    image: NDArray[Any],
    planes: Sequence[NDArray[np.bool_]],
    *,
    least_peak: float,
    annotated: NDArray[np.bool_] | None = None,
) -> str | None:
    """Find the change after which one of the planes fits clearly better than any does as it is."""
    factor = min(math.ceil(max(image.shape[1:]) / WORKING_SIZE), *image.shape[1:])
    features = [_standardized(feature) for feature in _features(image, factor)]
    masks = [_standardized(_averaged(plane.astype(np.float32), factor)) for plane in planes]
    pairs = list(itertools.product(features, masks))
    if not pairs:
        return None
    known = np.ones(masks[0].shape, bool) if annotated is None else _averaged(annotated, factor) >= 0.5
    as_given = [(_within(feature, known), mask) for feature, mask in pairs]
    given = max(_correlation(*pair) for pair in as_given)
    moves = [_best_move(*pair) for pair in as_given]
    # What is annotated changes together with the mask.
    fits = [
        _Fit(_correlation(_within(feature, changed_known), changed), words, move.chance)
        for (feature, mask), move in zip(pairs, moves, strict=True)
        for (words, changed), (_, changed_known) in zip(_changes(mask), _changes(known), strict=True)
    ]
    best_move = max(moves)
    if max(map(abs, best_move.steps)) >= LEAST_MOVE:
        down, right = (step * factor for step in best_move.steps)
        words = f"moved by {down} pixels down and {right} to the right"
        fits.append(_Fit(best_move.correlation, words, best_move.chance))
    best = max(fits)
    gain = math.atanh(min(best.correlation, 0.999)) - math.atanh(min(given, 0.999))
    is_clear = best.correlation >= max(LEAST, least_peak * best.chance) and gain > CLEARLY
    return best.words if is_clear else None


def fullest_plane(image: NDArray[Any], label_image: NDArray[np.integer]) -> tuple[NDArray[Any], NDArray[np.integer]]:
    """The plane ``(C, Y, X)`` of a stack that has most foreground, and its labels; a plane as it is."""
    if label_image.ndim == 2:
        return image, label_image
    fullest = int(np.count_nonzero(label_image, axis=(1, 2)).argmax())
    return image[:, fullest], label_image[fullest]


def _averaged(plane: NDArray[Any], factor: int) -> Plane:
    if factor == 1:
        return plane.astype(np.float32)
    rows, columns = (size // factor for size in plane.shape)
    tiles = plane[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor)
    return np.asarray(tiles.mean(axis=(1, 3), dtype=np.float32))


def _features(image: NDArray[Any], factor: int) -> Iterator[Plane]:
    """Grey values of each channel without outliers, and the local contrast of their mean."""
    channels = [_averaged(channel, factor) for channel in image]
    clipped = [np.clip(channel, *np.percentile(channel, OUTLIERS)) for channel in channels]
    yield from clipped
    mean = np.mean([_standardized(channel) for channel in clipped], axis=0, dtype=np.float32)
    local = ndimage.uniform_filter(mean, CONTRAST_WINDOW)
    squares = ndimage.uniform_filter(mean**2, CONTRAST_WINDOW) - local**2
    contrast = np.sqrt(np.maximum(squares, 0))
    yield np.minimum(contrast, np.percentile(contrast, OUTLIERS[1]))


def _within(feature: Plane, known: NDArray[np.bool_]) -> Plane:
    """A standardized feature that is even where nothing is known, so that no mask agrees with it there."""
    if known.all():
        return feature
    return _standardized(np.where(known, feature, feature[known].mean() if known.any() else np.float32(0)))


def _standardized(plane: NDArray[Any]) -> Plane:
    """Mean 0 and sum of squares 1, or zeros if the plane is constant."""
    centred = plane - plane.mean()
    norm = np.sqrt((centred**2).sum())
    return np.asarray(centred / norm if norm > 0 else centred * 0, np.float32)


def _correlation(feature: Plane, mask: Plane) -> float:
    return abs(float(np.vdot(feature, mask)))


def _changes(mask: NDArray[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    yield "mirrored left to right", mask[:, ::-1]
    yield "mirrored top to bottom", mask[::-1]
    yield "turned by 180 degrees", mask[::-1, ::-1]
    if mask.shape[0] == mask.shape[1]:
        yield "with rows and columns exchanged", mask.T
        yield "turned by 90 degrees to the left", np.rot90(mask)
        yield "turned by 90 degrees to the right", np.rot90(mask, -1)
        yield "mirrored along the other diagonal", mask[::-1, ::-1].T


def _best_move(feature: Plane, mask: Plane) -> _Move:
    """The best of all moves of the mask (cyclic)."""
    spectrum = fft.rfft2(feature) * np.conj(fft.rfft2(mask))
    correlations = fft.irfft2(spectrum, s=mask.shape)
    place = np.unravel_index(int(np.abs(correlations).argmax()), mask.shape)
    steps = tuple(int(at) if at <= size // 2 else int(at) - size for at, size in zip(place, mask.shape, strict=True))
    return _Move(abs(float(correlations[place])), steps, float(correlations.std()))
