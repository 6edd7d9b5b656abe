"""One row a cell: size, place, shape, neighbours and intensities, all cells in one pass.

The label image is cut into runs (pixels of one id side by side in a row) once; sums of coordinates over a run have a
closed form, so the cost follows the number of rows that cells cover, not the number of cells.
"""

from collections.abc import Mapping, Sequence
from math import pi
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unetbio.compilation import compiled
from unetbio.labels import (
    LUT_ENTRIES_ALWAYS,
    LUT_ENTRIES_PER_PIXEL,
    RUN_CELL,
    RUN_START,
    RUN_STOP,
    RUN_WIDTH,
    RUN_Y,
    RUN_Z,
    as_volume,
    check_label_image,
    label_runs,
    pairs_of_runs,
)
from unetbio.measurement.cell_rows import CellRows, find_cells
from unetbio.measurement.cell_sums import (
    AREA,
    START,
    STOP,
    TABLE_WIDTH,
    eccentricities,
    equivalent_spheres,
    place_columns,
    size_columns,
    sum_runs,
)
from unetbio.measurement.columns import AXES, Columns, IndexArray, Table
from unetbio.measurement.convex_hulls import convex_areas
from unetbio.measurement.cytoplasm_rings import ring_labels, ring_reach
from unetbio.measurement.features import shape_features
from unetbio.measurement.grey_columns import GreyValues, MeanColumns, mean_over_cells
from unetbio.measurement.perimeters import BORDER_KINDS, count_border, perimeters
from unetbio.postprocessing.bands import Rows, bands_of

__all__ = ["Columns", "Features", "measure", "measure_in_bands"]

Features = Literal["basic", "shape", "texture", "all"]

NEIGHBOUR_DISTANCE = 2

CONTEXT_ROWS = NEIGHBOUR_DISTANCE
"""Rows beside a band that decide which of its pixels are at a border, and which cells are neighbours."""


def measure(
    label_image: ArrayLike,
    image: Any = None,
    *,
    channel_names: Sequence[str] | None = None,
    pixel_size_um: Mapping[str, float] | None = None,
    probabilities: ArrayLike | None = None,
    expand_um: float | None = None,
    features: Features = "basic",
) -> Columns:
    """Measure every cell of a label image.

    Parameters
    ----------
    label_image : array-like of int, shape (Y, X) or (Z, Y, X)
        0 is background.
    image : array-like of shape (C, Y, X) or (C, Z, Y, X), optional
        Raw grey values; channels are taken one at a time, so that it may be lazy.
    channel_names : sequence of str, optional
        One a channel, used in column names; the channel's number by default. A name that occurs twice gets the
        channel's number appended.
    pixel_size_um : mapping, optional
        Micrometres by axis letter; leave out what is unknown or not to be trusted.
    probabilities : array-like of float, shape of the label image, optional
        Probability of the cell class.
    expand_um : float, optional
        Width of the ring of background around each cell that is measured too, in micrometres.

    features : {"basic", "shape", "texture", "all"}
        Further columns: of shape, of grey values and texture, or both.

    Returns
    -------
    dict of str to ndarray
        One entry a cell, rows in ascending order of ids, columns in this order (``[z]`` in 3-D alone):

        ``label``
            Id of the cell.
        ``area_px``, ``area_um2`` (2-D) or ``volume_px``, ``volume_um3`` (3-D)
            Number of pixels, and their size; NaN while the pixel size of an axis is unknown.
        ``centroid_[z,]y,x_px``
            Mean of the pixels' indices.
        ``bbox_[z,]y,x_start``, ``bbox_[z,]y,x_stop``
            First index, and the one after the last.
        ``perimeter_px`` (2-D)
            As `skimage.measure.perimeter` with neighborhood 4 (Benkrid and Crookes); the border of the image counts.
        ``equivalent_diameter_px``
            Diameter of the disk (sphere in 3-D) with as many pixels.
        ``eccentricity`` (2-D)
            Of the ellipse with the same second moments: 0 for a disk, towards 1 for a line.
        ``solidity`` (2-D)
            Pixels of the cell / pixels whose centres lie in or on the convex hull of the middles of all pixel edges, as
            in `skimage.measure.regionprops`, in exact integer arithmetic.
        ``touches_border``
            Whether a pixel lies at the border of the image; axes of length 1 have none.
        ``neighbours``
            Number of other cells with a pixel at most two steps away, diagonals included: cells that touch, or are
            parted by a line of background one pixel wide.
        ``intensity_mean_CHANNEL``
            Mean raw grey value, one column a channel.
        ``confidence``
            Mean probability over the cell's pixels, where probabilities are given.
        ``ring_area_px`` (2-D) or ``ring_volume_px`` (3-D), ``ring_intensity_mean_CHANNEL``
            Where ``expand_um`` is given: pixels of the ring (`unetbio.measurement.cytoplasm_rings.ring_labels`) and
            their mean raw grey value. NaN while the pixel size of an axis is unknown; a ring without pixels has no
            grey value.
        Further columns of shape
            With features ``shape`` and ``all``: `unetbio.measurement.features.shape_features`.
        ``intensity_min_CHANNEL`` ..., ``texture_contrast_CHANNEL`` ...
            With features ``texture`` and ``all``: `unetbio.measurement.features.grey_statistics` and
            `unetbio.measurement.features.texture_features`.

        Columns without a value hold NaN: ``polars.DataFrame(columns, nan_to_null=True)`` leaves their fields empty.

    Raises
    ------
    ImageError
        ``not_labels``, ``wrong_ndim``: the label image is none; ``wrong_shape``: image, channel names or probabilities
        do not fit it.
    UsageError
        ``expand_um`` is no number above 0.

    Notes
    -----
    Cells need not be connected, ids need not be consecutive.
    """
    labels = check_label_image(label_image)
    ids, index = _index_cells(labels)
    grey = None if image is None else GreyValues.of(image, labels.shape, channel_names)
    basics = _Basics(len(ids), labels.shape)
    whole = slice(0, len(labels))
    runs = basics.add(index, whole, whole)
    volume, areas = as_volume(index), basics.table[:, AREA]
    columns = {"label": ids, **basics.columns(pixel_size_um or {})}
    if features in ("shape", "all"):
        columns |= shape_features(volume, runs, areas, columns.get("perimeter_px"))
    means = MeanColumns(len(ids), grey)
    means.add(runs, None)
    columns |= means.columns(areas)
    if grey is not None and features in ("texture", "all"):
        columns |= grey.statistics(volume, runs, areas)
    if probabilities is not None:
        columns["confidence"] = mean_over_cells(
            np.asarray(probabilities), "array of probabilities", labels.shape, runs, areas
        )
    rings = _Rings(len(ids), expand_um, _steps(labels.shape, pixel_size_um), grey)
    rings.add(index, whole, None)
    return columns | rings.columns()


def measure_in_bands(
    label_image: Rows,
    image: Any = None,
    *,
    rows: int,
    channel_names: Sequence[str] | None = None,
    pixel_size_um: Mapping[str, float] | None = None,
    expand_um: float | None = None,
) -> Columns:
    """Measure a label image some rows at a time: the basic columns of `measure` and its rings, with equal values.

    Parameters
    ----------
    label_image : array of unsigned int
        ``(Y, X)`` or ``(Z, Y, X)``, in memory or on disk.
    image : array, optional
        ``(C, *spatial)`` raw grey values, read by channel and rows.
    rows : int
        Rows (sections in 3-D) that are read at once.
    channel_names, pixel_size_um, expand_um
        See `measure`.
    """
    bands = bands_of(label_image.shape[0], rows)
    cells = find_cells(label_image, bands)
    grey = None if image is None else GreyValues.of(image, label_image.shape, channel_names)
    basics = _Basics(len(cells.ids), label_image.shape, cells)
    means = MeanColumns(len(cells.ids), grey)
    rings = _Rings(len(cells.ids), expand_um, _steps(label_image.shape, pixel_size_um), grey)
    reach = max(CONTEXT_ROWS, rings.reach)
    for band in bands:
        start = max(0, band.start - reach)
        window = cells.positions(np.asarray(label_image[start : band.stop + reach]))
        core = slice(band.start - start, band.stop - start)
        near = slice(max(0, core.start - CONTEXT_ROWS), core.stop + CONTEXT_ROWS)
        runs = basics.add(window[near], slice(core.start - near.start, core.stop - near.start), band)
        means.add(runs, band)
        rings.add(window, core, band)
    columns = {"label": cells.ids, **basics.columns(pixel_size_um or {})}
    return columns | means.columns(basics.table[:, AREA]) | rings.columns()


class _Basics:
    """Columns that need no grey values, summed band by band.

    Parameters
    ----------
    cells : int
        Number of cells.
    shape : tuple of int
        Of the label image.
    rows : CellRows, optional
        Rows of each cell, where there are several bands.

    Attributes
    ----------
    table : ndarray of int64
        Sums of coordinates.
    """

    def __init__(self, cells: int, shape: tuple[int, ...], rows: CellRows | None = None) -> None:
        self._shape, self._rows = shape, rows
        self.table = np.zeros((cells, TABLE_WIDTH), dtype=np.int64)
        self._borders = np.zeros((cells, BORDER_KINDS), dtype=np.int64)
        self._convex = np.zeros(cells, dtype=np.int64)
        self._pairs: list[Table] = []
        self._unfinished = np.zeros((0, RUN_WIDTH), dtype=np.int64)

    def add(self, window: IndexArray, core: slice, band: slice) -> Table:
        """Add a band, and return its runs, counted from its own first row.

        ``window`` holds the band, at ``core``, and the `CONTEXT_ROWS` rows before and after it.
        """
        runs = label_runs(window)
        self._pairs.append(pairs_of_runs(runs, NEIGHBOUR_DISTANCE))
        row = RUN_Y if window.ndim == 2 else RUN_Z
        if len(window) > len(window[core]):
            runs = runs[(runs[:, row] >= core.start) & (runs[:, row] < core.stop)]
            runs[:, row] -= core.start
        own_runs = runs
        if band.start > 0:
            runs = own_runs.copy()
            runs[:, row] += band.start
        sum_runs(runs, self.table)
        if window.ndim == 2:
            count_border(window, core.start, core.stop, self._borders)
            if self._rows is None:
                self._convex = convex_areas(runs, self.table)
            else:
                self._add_convex(runs, self._rows.stop > band.stop)
        return own_runs

    def columns(self, pixel_size_um: Mapping[str, float]) -> Columns:
        """The columns, in their order."""
        axes = AXES[-len(self._shape) :]
        columns = {**size_columns(self.table, axes, pixel_size_um), **place_columns(self.table, axes)}
        columns |= self._plane() if len(self._shape) == 2 else equivalent_spheres(self.table)
        return columns | self._surroundings()

    def _add_convex(self, runs: Table, is_open: NDArray[np.bool_]) -> None:
        """Add the hulls of the cells that end in this band."""
        runs = np.concatenate([self._unfinished, runs]) if len(self._unfinished) else runs
        stays = is_open[runs[:, RUN_CELL] - 1]
        self._unfinished, done = runs[stays], runs[~stays]
        ids, index = np.unique(done[:, RUN_CELL], return_inverse=True)
        done[:, RUN_CELL] = index + 1
        self._convex[ids - 1] = convex_areas(done, self.table[ids - 1])

    def _plane(self) -> Columns:
        area = self.table[:, AREA]
        return {
            "perimeter_px": perimeters(self._borders),
            "equivalent_diameter_px": np.sqrt(4 * area / pi),
            "eccentricity": eccentricities(self.table),
            "solidity": area / self._convex,
        }

    def _surroundings(self) -> Columns:
        touches = np.zeros(len(self.table), dtype=bool)
        for axis, size in enumerate((1, *self._shape)[-3:]):
            if size > 1:
                touches |= (self.table[:, START + axis] == 0) | (self.table[:, STOP + axis] == size)
        # Pairs near a seam were found in both bands.
        pairs = np.unique(np.concatenate(self._pairs), axis=0) if len(self._pairs) > 1 else self._pairs[0]
        neighbours = np.bincount(pairs.reshape(-1), minlength=len(self.table) + 1)[1:]
        return {"touches_border": touches, "neighbours": neighbours}


def _index_cells(labels: NDArray[Any]) -> tuple[Table, IndexArray]:
    """Ids in ascending order, and the label image with their positions, counted from 1."""
    largest = int(labels.max(initial=0))
    if largest > min(max(LUT_ENTRIES_ALWAYS, LUT_ENTRIES_PER_PIXEL * labels.size), np.iinfo(np.int32).max):
        ids, inverse = np.unique(labels, return_inverse=True)
        has_background = int(ids[0] == 0)
        index = inverse.reshape(labels.shape) + (1 - has_background)
        return ids[has_background:].astype(np.int64), index.astype(np.int32)
    present = np.zeros(largest + 1, dtype=np.int32)
    positions: IndexArray = np.ascontiguousarray(labels, dtype=np.int32)
    _mark_present(positions.reshape(-1), present)
    present[0] = 0
    found: Table = np.flatnonzero(present).astype(np.int64, copy=False)
    if len(found) < largest:
        positions = np.cumsum(present, dtype=np.int32)[positions]
    return found, positions


@compiled
def _mark_present(labels: IndexArray, present: IndexArray) -> None:
    previous = 0
    for label in labels:
        # Runs of one id are long: most pixels need no look into the table.
        if label != previous:
            previous = label
            present[label] = 1


class _Rings:
    """Columns of the rings of background around cells, summed band by band.

    Parameters
    ----------
    cells : int
        Number of cells.
    expand_um : float, optional
        Width of the rings; None for no columns.
    steps : sequence of float
        Size of a pixel along each axis, None where it is unknown.
    grey : GreyValues, optional
        The grey values.

    Attributes
    ----------
    reach : int
        Rows beside a band that decide which of its pixels are in rings.
    """

    def __init__(
        self, cells: int, expand_um: float | None, steps: Sequence[float | None], grey: GreyValues | None
    ) -> None:
        self._distance, self._steps = expand_um, [step for step in steps if step is not None]
        self._is_known = len(self._steps) == len(steps)
        self._size = "ring_area_px" if len(steps) == 2 else "ring_volume_px"
        self._areas = np.zeros(cells, np.int64)
        self._means = MeanColumns(cells, grey, "ring_")
        self.reach = 0 if expand_um is None or not self._is_known else ring_reach(expand_um, self._steps[0])

    def add(self, window: IndexArray, core: slice, band: slice | None) -> None:
        """Add a band, which is the ``core`` of a window of positions of cells; None is the whole image."""
        if self._distance is None or not self._is_known:
            return
        runs = label_runs(ring_labels(window, self._distance, self._steps)[core])
        lengths = runs[:, RUN_STOP] - runs[:, RUN_START]
        self._areas += np.bincount(runs[:, RUN_CELL], lengths, len(self._areas) + 1)[1:].astype(np.int64)
        self._means.add(runs, band)

    def columns(self) -> Columns:
        """Size and mean grey values of the rings; NaN while the size of a pixel is unknown."""
        if self._distance is None:
            return {}
        columns = {self._size: self._areas, **self._means.columns(self._areas)}
        return columns if self._is_known else {name: np.full(len(self._areas), np.nan) for name in columns}


def _steps(shape: tuple[int, ...], pixel_size_um: Mapping[str, float] | None) -> list[float | None]:
    """Size of a pixel along each axis; None where it is unknown."""
    return [(pixel_size_um or {}).get(axis) for axis in AXES[-len(shape) :]]
