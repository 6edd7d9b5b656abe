"""Summarize a label image or class mask, generated or edited."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.classes import default_class_names
from unetbio.compilation import compiled
from unetbio.postprocessing.bands import RowArray, bands_in_memory
from unetbio.provenance import CONFIDENCE_DECIMALS, FrameRecord

__all__ = ["calibrated", "describe_classes", "describe_labels", "equivalent_diameter", "median_diameter_in_sections"]

LARGEST_IN_TABLE = 1 << 24
"""Largest id that is counted in a table of all ids below it."""

# Columns of sums over cells.
PROBABILITY, PIXELS = 0, 1


def describe_labels(
    labels: RowArray,
    t: int | None,
    probability: RowArray | None = None,
    knots: Sequence[tuple[float, float]] = (),
) -> FrameRecord:
    """Number of cells, their diameter and the share of the pixels that they take, and how sure a model was of each.

    Parameters
    ----------
    labels : array of int
        The label image of a frame, in memory or on disk; ids from 1 without gaps where ``probability`` is given.
    t : int, optional
        The frame's time.
    probability : array of uint8, optional
        Of a cell in each pixel, in 255ths: a cell's confidence is the mean over its pixels.
    knots : sequence of (float, float)
        The model's calibration of confidences: see `calibrated`.
    """
    sums = None if probability is None else _sums(labels, probability)
    areas = _areas(labels) if sums is None else sums[:, PIXELS]
    diameter = None
    if areas.size:
        diameter = equivalent_diameter(float(np.median(areas)), len(labels.shape))
    return FrameRecord(
        t=t,
        n_cells=int(areas.size),
        median_diameter_px=None if diameter is None else round(diameter, 3),
        area_fraction=round(float(areas.sum()) / math.prod(labels.shape), 6),
        warnings=() if areas.size else ("no_cells",),
        confidences=() if sums is None else _confidences(sums, knots),
    )


def equivalent_diameter(pixels: float, ndim: int) -> float:
    """Diameter of a disc of so many pixels, or of a ball of so many voxels where ``ndim`` is 3."""
    return 2 * math.sqrt(pixels / math.pi) if ndim == 2 else (6 * pixels / math.pi) ** (1 / 3)


def _areas(labels: RowArray) -> NDArray[np.int64]:
    """Pixels of each cell that there is."""
    found = [_count_pixels(np.asarray(labels[band])) for band in bands_in_memory(labels)]
    if len(found) > 1:
        ids, index = np.unique(np.concatenate([ids for ids, _ in found]), return_inverse=True)
        counts = np.bincount(index, np.concatenate([counts for _, counts in found]), len(ids)).astype(np.int64)
    else:
        ids, counts = found[0]
    return counts[ids > 0]


def _count_pixels(rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Numbers in an array in ascending order, and how often each is there."""
    if rows.max(initial=0) > LARGEST_IN_TABLE:
        return np.unique(rows, return_counts=True)
    counts = np.bincount(rows.reshape(-1))
    ids = np.flatnonzero(counts)
    return ids, counts[ids]


def calibrated(means: NDArray[np.floating], knots: Sequence[tuple[float, float]]) -> NDArray[np.floating]:
    """Confidence of cells from the mean probability over their pixels.

    Parameters
    ----------
    means : ndarray of float
        Mean probabilities; NaN stays NaN.
    knots : sequence of (float, float)
        Pairs of a mean probability and the share of right cells there, interpolated linearly; without any, the
        confidence is the mean probability.
    """
    if not knots:
        return means
    xs, ys = zip(*knots, strict=True)
    confidence: NDArray[np.floating] = np.interp(means, xs, ys)
    return confidence


def _confidences(sums: NDArray[np.int64], knots: Sequence[tuple[float, float]]) -> tuple[float, ...]:
    means = sums[:, PROBABILITY] / (255 * sums[:, PIXELS])
    confidences: list[float] = calibrated(means, knots).round(CONFIDENCE_DECIMALS).tolist()
    return tuple(confidences)


def _sums(labels: RowArray, probability: RowArray) -> NDArray[np.int64]:
    """Sum of the probabilities of each cell, and its pixels."""
    sums = np.zeros((1, 2), np.int64)
    for band in bands_in_memory(labels):
        ids = labels[band]
        more = max(0, int(ids.max(initial=0)) + 1 - len(sums))
        sums = np.pad(sums, ((0, more), (0, 0)))
        _sum_over_cells(ids.reshape(-1), probability[band].reshape(-1), sums)
    return sums[1:]


@compiled
def _sum_over_cells(labels: NDArray[Any], values: NDArray[np.uint8], sums: NDArray[np.int64]) -> None:
    """Add the values and the number of the pixels of each id; `numpy.bincount` would take 16 bytes a pixel."""
    for pixel in range(len(labels)):
        cell = labels[pixel]
        if cell != 0:
            sums[cell, PROBABILITY] += values[pixel]
            sums[cell, PIXELS] += 1


def median_diameter_in_sections(labels: NDArray[Any]) -> float:
    """Median diameter of discs as large as the cells are in each section, in pixels; there must be a cell.

    That is what a model of planes has seen, and how thick a section is does not matter.
    """
    areas = np.concatenate([np.unique(section[section > 0], return_counts=True)[1] for section in labels])
    return round(equivalent_diameter(float(np.median(areas)), 2), 3)


def describe_classes(mask: RowArray, t: int | None, class_names: Sequence[str]) -> FrameRecord:
    """The share of the pixels that each class takes; no cells are counted.

    Classes beyond ``class_names``, which users may draw by hand, are named by number.
    """
    largest = max(int(mask[band].max(initial=0)) for band in bands_in_memory(mask))
    size = max(largest + 1, len(class_names))
    counts = np.zeros(size, np.int64)
    for band in bands_in_memory(mask):
        counts += np.bincount(mask[band].reshape(-1), minlength=size)
    names = (*class_names, *default_class_names(len(counts))[len(class_names) :])
    pixels = math.prod(mask.shape)
    shares = {name: round(int(count) / pixels, 6) for name, count in zip(names, counts, strict=True)}
    return FrameRecord(
        t=t,
        n_cells=None,
        median_diameter_px=None,
        area_fraction=round(1 - int(counts[0]) / pixels, 6),
        class_fractions=shares,
    )
