"""Overlays: outlines of the cells on the image, to check a segmentation by eye."""

import math
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from unetbio.classes import PALETTE, class_colours
from unetbio.compilation import compiled
from unetbio.errors import UsageError
from unetbio.files import write_bytes

__all__ = [
    "PALETTE",
    "draw_overlay",
    "draw_tracks",
    "outline_colours",
    "stretch_contrast",
    "write_overlay",
    "write_picture",
]

# Pictures of this size are viewed smaller, so their lines are two pixels wide.
THICK_FROM = 512
NEIGHBOUR_REACH = 8
MAX_NEIGHBOURS = 24
STRETCH_PERCENT = (0.5, 99.8)
# Grey ends below white, so that bright cells do not drown their outlines.
BRIGHTEST = 205
STRETCH_SAMPLES = 1 << 16
JPEG_QUALITY = 88
WITHOUT_CLASS = (200, 200, 200)

# Colours (n + 1, 3) of label numbers 0 to n, given the label image and the id that each number stands for.
_Colours = Callable[[NDArray[np.int32], NDArray[np.int64]], NDArray[np.uint8]]


def write_overlay(
    path: str | os.PathLike[str],
    image2d: ArrayLike,
    label_image: ArrayLike,
    classes: Mapping[int, int] | None = None,
    *,
    max_side: int = 2048,
) -> None:
    """Draw the outlines of the cells on an image and write the picture.

    Parameters
    ----------
    path : path-like
        Ends in ``.jpg`` (small) or ``.png`` (exact); written atomically.
    image2d, label_image, classes
        As for `draw_overlay`.
    max_side : int
        A picture with a longer side, in pixels, is thinned to this size before drawing.

    Raises
    ------
    UsageError
        When the suffix is unsupported, or the shapes do not fit.
    """
    write_picture(path, draw_overlay(image2d, label_image, classes, max_side=max_side))


def write_picture(path: str | os.PathLike[str], picture: NDArray[np.uint8]) -> None:
    """Write a picture ``(Y, X, 3)``, as JPEG or PNG by its name.

    Raises
    ------
    UsageError
        When the suffix is unsupported.
    """
    suffix = Path(path).suffix.lower()
    if suffix in (".jpg", ".jpeg"):
        # No chroma subsampling: it would smear outlines of one pixel.
        content = imagecodecs.jpeg8_encode(picture, level=JPEG_QUALITY, subsampling="444")
    elif suffix == ".png":
        content = imagecodecs.png_encode(picture, level=1)
    else:
        raise UsageError(f"cannot write an overlay as {suffix or 'a file without a suffix'}: use .jpg or .png")
    write_bytes(path, bytes(content))


def draw_overlay(
    image2d: ArrayLike, label_image: ArrayLike, classes: Mapping[int, int] | None = None, *, max_side: int = 2048
) -> NDArray[np.uint8]:
    """Draw the outlines of the cells on the contrast-stretched image.

    Parameters
    ----------
    image2d : array_like
        ``(Y, X)`` grey values of any real dtype, or ``(Y, X, 3)`` red, green and blue.
    label_image : array_like
        ``(Y, X)`` integers, 0 is background.
    classes : mapping, optional
        Number of the class of each cell by its id (`unetbio.classes.number_classes`): cells of a class have one colour,
        and cells without a class are grey. Without it neighbours have different colours.
    max_side : int
        Every n-th pixel is taken, with the smallest n for which no side is longer than this.

    Returns
    -------
    ndarray
        ``(Y, X, 3)`` uint8.

    Raises
    ------
    UsageError
        When the shapes do not fit.
    """
    colours = _colours_of_neighbours if classes is None else partial(_colours_of_classes, classes)
    return _draw_cells(image2d, label_image, max_side, colours)


def draw_tracks(image2d: ArrayLike, label_image: ArrayLike, *, max_side: int = 2048) -> NDArray[np.uint8]:
    """As `draw_overlay`, but the colour of a cell follows from its number alone: that of its track, at all times."""
    return _draw_cells(image2d, label_image, max_side, _colours_of_numbers)


def _colours_of_neighbours(labels: NDArray[np.int32], ids: NDArray[np.int64]) -> NDArray[np.uint8]:
    return PALETTE[outline_colours(labels)]


def _colours_of_numbers(labels: NDArray[np.int32], ids: NDArray[np.int64]) -> NDArray[np.uint8]:
    return PALETTE[np.arange(len(ids)) % len(PALETTE)]


def _colours_of_classes(
    classes: Mapping[int, int], labels: NDArray[np.int32], ids: NDArray[np.int64]
) -> NDArray[np.uint8]:
    numbers = np.array([classes.get(cell, 0) for cell in ids.tolist()], np.intp)
    colours = class_colours(int(numbers.max()) + 1)
    colours[0] = WITHOUT_CLASS
    return colours[numbers]


def _draw_cells(image2d: ArrayLike, label_image: ArrayLike, max_side: int, choose: _Colours) -> NDArray[np.uint8]:
    image2d, label_image = np.asarray(image2d), np.asarray(label_image)
    if label_image.ndim != 2 or image2d.shape not in (label_image.shape, (*label_image.shape, 3)):
        raise UsageError(
            f"cannot draw labels of shape {label_image.shape} on an image of shape {image2d.shape}: "
            "give (Y, X) or (Y, X, 3) and labels of the same (Y, X)"
        )
    step = max(1, math.ceil(max(label_image.shape, default=1) / max_side))
    grey = stretch_contrast(image2d[::step, ::step])
    picture = np.repeat(grey[..., np.newaxis], 3, axis=2) if grey.ndim == 2 else grey
    labels, ids = _numbered(label_image[::step, ::step])
    _draw(picture, labels, choose(labels, ids), max(labels.shape, default=0) >= THICK_FROM)
    return picture


def stretch_contrast(image2d: ArrayLike) -> NDArray[np.uint8]:
    """Map grey values to 0 to 205 so that all but the darkest and the brightest pixels differ.

    Parameters
    ----------
    image2d : array_like
        Any real dtype and shape; the two limits are percentiles over all of it, taken from a regular sample of at most
        65 536 values. Values that are not finite count as the darkest. Eight bits in colour are kept as they are.

    Returns
    -------
    ndarray
        New uint8 array of the same shape; a constant image is black.
    """
    image = np.asarray(image2d)
    if image.dtype == np.uint8 and image.ndim == 3:
        return image.copy()
    if image.size == 0:
        return np.zeros(image.shape, np.uint8)
    values = image.reshape(-1)
    sample = values[:: max(1, values.size // STRETCH_SAMPLES)].astype(np.float32)
    sample = sample[np.isfinite(sample)]
    low, high = np.percentile(sample, STRETCH_PERCENT) if sample.size else (0.0, 0.0)
    if high <= low:
        # A few bright cells on a constant ground: the percentiles meet, the extremes may not.
        low, high = (float(sample.min()), float(sample.max())) if sample.size else (0.0, 0.0)
    if high <= low:
        return np.zeros(image.shape, np.uint8)
    scaled = (image.astype(np.float32) - np.float32(low)) * np.float32(BRIGHTEST / (high - low))
    return np.clip(np.nan_to_num(scaled, copy=False, nan=0.0), 0, BRIGHTEST, out=scaled).astype(np.uint8)


def outline_colours(label_image: NDArray[np.integer]) -> NDArray[np.intp]:
    """Choose a colour for every cell, different from those of the cells around it.

    Greedy, in the order of the ids: each cell gets the first colour that no cell within 8 pixels along a row or column
    has. If all eight are taken, colours may repeat.

    Parameters
    ----------
    label_image : ndarray
        ``(Y, X)``, ids from 1 to n.

    Returns
    -------
    ndarray
        ``(n + 1,)`` rows of `PALETTE`; entry 0 is for the background and has no meaning.
    """
    labels = np.ascontiguousarray(label_image, dtype=np.int32)
    count = int(labels.max(initial=0))
    colours: NDArray[np.intp] = _greedy_colours(_neighbours(labels, count, NEIGHBOUR_REACH), len(PALETTE))
    return colours


def _numbered(label_image: NDArray[np.integer]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Labels as int32 without large holes in their numbering, and the id that each number from 0 stands for."""
    if not label_image.size or 0 <= int(label_image.min()) <= int(label_image.max()) <= 4 * label_image.size:
        ids = np.arange(int(label_image.max(initial=0)) + 1)
    else:
        values, inverse = np.unique(label_image, return_inverse=True)
        ids = np.concatenate([[0], values[values > 0]]).astype(np.int64)
        label_image = (np.cumsum(values > 0) * (values > 0))[inverse].reshape(label_image.shape)
    return np.ascontiguousarray(label_image, dtype=np.int32), ids


@compiled
def _neighbours(labels, count, reach):  # type: ignore[no-untyped-def]
    """``(count + 1, 1 + MAX_NEIGHBOURS)``: number of near cells, then their ids."""
    rows, columns = labels.shape
    near = np.zeros((count + 1, 1 + MAX_NEIGHBOURS), np.int32)
    for y in range(rows):
        for x in range(columns):
            label = labels[y, x]
            if label == 0:
                continue
            # Only the last pixels of a cell have neighbours to the right or below.
            if x + 1 < columns and labels[y, x + 1] != label:
                for other_x in range(x + 1, min(x + 1 + reach, columns)):
                    other = labels[y, other_x]
                    if other != 0:
                        _remember(near, label, other)
                        break
            if y + 1 < rows and labels[y + 1, x] != label:
                for other_y in range(y + 1, min(y + 1 + reach, rows)):
                    other = labels[other_y, x]
                    if other != 0:
                        _remember(near, label, other)
                        break
    return near


@compiled
def _remember(near, first, second):  # type: ignore[no-untyped-def]
    """Record two cells as neighbours, if there is room."""
    if first == second:
        return
    for one, two in ((first, second), (second, first)):
        known = near[one, 0]
        found = known >= MAX_NEIGHBOURS
        for index in range(1, known + 1):
            if near[one, index] == two:
                found = True
                break
        if not found:
            near[one, known + 1] = two
            near[one, 0] = known + 1


@compiled
def _greedy_colours(near, number):  # type: ignore[no-untyped-def]
    """First free colour of each cell, from a start that depends on its id, so that all colours are used."""
    colours = np.full(near.shape[0], -1, np.intp)
    for label in range(1, near.shape[0]):
        taken = 0
        for index in range(1, near[label, 0] + 1):
            colour = colours[near[label, index]]
            if colour >= 0:
                taken |= 1 << colour
        turn = label % number
        colours[label] = turn
        for step in range(number):
            colour = (turn + step) % number
            if not (taken >> colour) & 1:
                colours[label] = colour
                break
    colours[0] = 0
    return colours


@compiled
def _draw(picture, labels, colours, thick):  # type: ignore[no-untyped-def]
    """Paint the pixels of each cell that touch other pixels; if thick, also the background pixels beside them."""
    rows, columns = labels.shape
    for y in range(rows):
        for x in range(columns):
            label = labels[y, x]
            if label == 0 and not thick:
                continue
            painted = 0
            for step_y, step_x in ((0, 1), (0, -1), (1, 0), (-1, 0)):
                other_y, other_x = y + step_y, x + step_x
                if 0 <= other_y < rows and 0 <= other_x < columns and labels[other_y, other_x] != label:
                    painted = label if label != 0 else labels[other_y, other_x]
                    break
            if painted != 0:
                for channel in range(3):
                    picture[y, x, channel] = colours[painted, channel]
