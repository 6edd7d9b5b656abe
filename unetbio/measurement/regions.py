"""One row a cell: size, place, shape, neighbours and intensities, all cells in one pass.

The label image is cut into runs (pixels of one id side by side in a row) once; sums of coordinates over a run have a
closed form, so the cost follows the number of rows that cells cover, not the number of cells.
"""

from collections.abc import Mapping, Sequence
from math import pi, prod
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unetbio.compilation import compiled
from unetbio.errors import ImageError
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
from unetbio.measurement.cytoplasm_rings import ring_labels, ring_reach
from unetbio.measurement.features import grey_statistics, shape_features, texture_features
from unetbio.postprocessing.bands import Rows, bands_of

__all__ = ["Columns", "Features", "measure", "measure_in_bands"]

Features = Literal["basic", "shape", "texture", "all"]

AXES = "ZYX"
NEIGHBOUR_DISTANCE = 2

# Columns of the table of sums: coordinates count from the cell's first pixel, so that the sums stay small and exact.
AREA, FIRST, START, STOP, SUM, SUM_YY, SUM_YX, SUM_XX, TABLE_WIDTH = 0, 1, 4, 7, 10, 13, 14, 15, 16

# Weights of border pixels after the first, which is 1, and which of them a pixel has by its neighbourhood: 1 for
# itself, 2 for each border pixel over an edge, 10 over a corner.
BORDER_WEIGHTS = (np.sqrt(2), (1 + np.sqrt(2)) / 2)
BORDER_CODES = np.full(50, -1)
BORDER_CODES[[5, 7, 15, 17, 25, 27]] = 0
BORDER_CODES[[21, 33]] = 1
BORDER_CODES[[13, 23]] = 2

CONTEXT_ROWS = NEIGHBOUR_DISTANCE
"""Rows beside a band that decide which of its pixels are at a border, and which cells are neighbours."""

IndexArray = NDArray[np.int32]
Table = NDArray[np.int64]
Columns = dict[str, NDArray[Any]]


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
    grey = None if image is None else _Grey.of(image, labels.shape, channel_names)
    basics = _Basics(len(ids), labels.shape)
    whole = slice(0, len(labels))
    runs = basics.add(index, whole, whole)
    volume, areas = as_volume(index), basics.table[:, AREA]
    columns = {"label": ids, **basics.columns(pixel_size_um or {})}
    if features in ("shape", "all"):
        columns |= shape_features(volume, runs, areas, columns.get("perimeter_px"))
    means = _Means(len(ids), grey)
    means.add(runs, None)
    columns |= means.columns(areas)
    if grey is not None and features in ("texture", "all"):
        columns |= grey.statistics(volume, runs, areas)
    if probabilities is not None:
        columns["confidence"] = _mean_over_cells(
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
    grey = None if image is None else _Grey.of(image, label_image.shape, channel_names)
    basics = _Basics(len(cells.ids), label_image.shape, cells)
    means = _Means(len(cells.ids), grey)
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
        self._borders = np.zeros((cells, 1 + len(BORDER_WEIGHTS)), dtype=np.int64)
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
        _sum_runs(runs, self.table)
        if window.ndim == 2:
            _count_border(window, core.start, core.stop, self._borders)
            if self._rows is None:
                self._convex = _convex_areas(runs, self.table)
            else:
                self._add_convex(runs, self._rows.stop > band.stop)
        return own_runs

    def columns(self, pixel_size_um: Mapping[str, float]) -> Columns:
        """The columns, in their order."""
        axes = AXES[-len(self._shape) :]
        columns = {**_size(self.table, axes, pixel_size_um), **_place(self.table, axes)}
        columns |= self._plane() if len(self._shape) == 2 else _sphere(self.table)
        return columns | self._surroundings()

    def _add_convex(self, runs: Table, is_open: NDArray[np.bool_]) -> None:
        """Add the hulls of the cells that end in this band."""
        runs = np.concatenate([self._unfinished, runs]) if len(self._unfinished) else runs
        stays = is_open[runs[:, RUN_CELL] - 1]
        self._unfinished, done = runs[stays], runs[~stays]
        ids, index = np.unique(done[:, RUN_CELL], return_inverse=True)
        done[:, RUN_CELL] = index + 1
        self._convex[ids - 1] = _convex_areas(done, self.table[ids - 1])

    def _plane(self) -> Columns:
        area, (edges, corners, both) = self.table[:, AREA], self._borders.T
        return {
            # Added one by one, so that a cell has the same length among any others.
            "perimeter_px": edges + BORDER_WEIGHTS[0] * corners + BORDER_WEIGHTS[1] * both,
            "equivalent_diameter_px": np.sqrt(4 * area / pi),
            "eccentricity": _eccentricity(self.table),
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


@compiled
def _sum_runs(runs: Table, table: Table) -> None:
    """Add to area, bounding box and sums of coordinates of each cell; runs come in raster order."""
    for run in range(len(runs)):
        cell, z, y, start, stop = runs[run]
        sums = table[cell - 1]
        if sums[AREA] == 0:
            sums[FIRST : FIRST + 3] = z, y, start
            sums[START : START + 3] = z, y, start
        size = stop - start
        sums[AREA] += size
        sums[START + 1] = min(sums[START + 1], y)
        sums[START + 2] = min(sums[START + 2], start)
        sums[STOP] = max(sums[STOP], z + 1)
        sums[STOP + 1] = max(sums[STOP + 1], y + 1)
        sums[STOP + 2] = max(sums[STOP + 2], stop)
        dz, dy = z - sums[FIRST], y - sums[FIRST + 1]
        low, high = start - sums[FIRST + 2], stop - 1 - sums[FIRST + 2]
        sum_x = (low + high) * size // 2
        sums[SUM] += dz * size
        sums[SUM + 1] += dy * size
        sums[SUM + 2] += sum_x
        sums[SUM_YY] += dy * dy * size
        sums[SUM_YX] += dy * sum_x
        # sum of k**2 for k up to n is n (n + 1) (2 n + 1) / 6; it holds for n < 0 as the sum's continuation.
        sums[SUM_XX] += (high * (high + 1) * (2 * high + 1) - (low - 1) * low * (2 * low - 1)) // 6


def _size(table: Table, axes: str, pixel_size_um: Mapping[str, float]) -> Columns:
    # An axis without a size makes the product NaN.
    pixel = prod(pixel_size_um.get(axis, float("nan")) for axis in axes)
    names = ("area_px", "area_um2") if len(axes) == 2 else ("volume_px", "volume_um3")
    return {names[0]: table[:, AREA].copy(), names[1]: table[:, AREA] * pixel}


def _place(table: Table, axes: str) -> Columns:
    columns: Columns = {}
    positions = [(axis.lower(), AXES.index(axis)) for axis in axes]
    for axis, offset in positions:
        columns[f"centroid_{axis}_px"] = table[:, FIRST + offset] + table[:, SUM + offset] / table[:, AREA]
    for axis, offset in positions:
        columns[f"bbox_{axis}_start"] = table[:, START + offset].copy()
    for axis, offset in positions:
        columns[f"bbox_{axis}_stop"] = table[:, STOP + offset].copy()
    return columns


def _sphere(table: Table) -> Columns:
    return {"equivalent_diameter_px": np.cbrt(6 * table[:, AREA] / pi)}


def _eccentricity(table: Table) -> NDArray[np.float64]:
    """``sqrt(1 - small / large)`` of the eigenvalues of the covariance of the pixels' coordinates."""
    sums = table.astype(np.float64)
    area, sum_y, sum_x = sums[:, AREA], sums[:, SUM + 1], sums[:, SUM + 2]
    # Covariances times the squared area: whole numbers, exact for cells of up to about 200 000 pixels.
    yy = area * sums[:, SUM_YY] - sum_y**2
    xx = area * sums[:, SUM_XX] - sum_x**2
    yx = area * sums[:, SUM_YX] - sum_y * sum_x
    # Eigenvalues of [[yy, yx], [yx, xx]] are middle +- spread; 1 - small / large = 2 spread / (middle + spread).
    middle, spread = (yy + xx) / 2, np.hypot((yy - xx) / 2, yx)
    large = middle + spread
    ratio = np.divide(2 * spread, large, out=np.zeros_like(large), where=large > 0)
    eccentricity: NDArray[np.float64] = np.sqrt(np.clip(ratio, 0, 1))
    return eccentricity


@compiled
def _count_border(labels: IndexArray, start: int, stop: int, counts: Table) -> None:
    """Add the border pixels of each cell in the rows from start to stop, by the weight of their neighbourhood.

    The neighbourhood is coded as in `skimage.measure.perimeter`.
    """
    height, width = labels.shape
    # A cell's border pixel keeps its id, everything else is 0; a frame of zeros saves looking for the image's border.
    border = np.zeros((height + 2, width + 2), dtype=np.int32)
    for y in range(height):
        for x in range(width):
            label = labels[y, x]
            if label == 0:
                continue
            inside = (
                0 < y < height - 1
                and 0 < x < width - 1
                and labels[y, x - 1] == label
                and labels[y, x + 1] == label
                and labels[y - 1, x] == label
                and labels[y + 1, x] == label
            )
            if not inside:
                border[y + 1, x + 1] = label
    for y in range(start + 1, stop + 1):
        for x in range(1, width + 1):
            label = border[y, x]
            if label == 0:
                continue
            code = 1
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    if border[y + dy, x + dx] == label and (dy != 0 or dx != 0):
                        code += 10 if dy != 0 and dx != 0 else 2
            if BORDER_CODES[code] >= 0:
                counts[label - 1, BORDER_CODES[code]] += 1


# The convex hull of a cell is that of the middles of its pixels' edges. In doubled coordinates these are the integers
# (2 y, 2 x - 1), (2 y, 2 x + 1), (2 y - 1, 2 x), (2 y + 1, 2 x), and only those of a row's first and last pixel can lie
# on the hull. Its left side is the lower convex envelope of x over y, its right side that of -x mirrored. With f the
# first and l the last pixel of a row in the hull, the row holds 1 - f + l pixels; -l is the first one of the mirrored.


def _convex_areas(runs: Table, table: Table) -> Table:
    """Pixels in the convex hull of each cell."""
    heights = table[:, STOP + 1] - table[:, START + 1]
    offsets = np.concatenate(([0], np.cumsum(heights)))
    first, last = _row_ends(runs, table[:, START + 1].copy(), offsets)
    areas: Table = heights - _sum_envelopes(first, offsets) - _sum_envelopes(-last, offsets)
    return areas


NO_PIXEL = np.iinfo(np.int64).max


@compiled
def _row_ends(runs: Table, tops: Table, offsets: Table) -> tuple[Table, Table]:
    """First and last pixel of each cell in each row of its bounding box; rows of cell ``i`` start at ``offsets[i]``."""
    first = np.full(offsets[-1], NO_PIXEL)
    last = np.full(offsets[-1], -NO_PIXEL)
    for run in range(len(runs)):
        cell = runs[run, RUN_CELL] - 1
        row = offsets[cell] + runs[run, RUN_Y] - tops[cell]
        first[row] = min(first[row], runs[run, RUN_START])
        last[row] = max(last[row], runs[run, RUN_STOP] - 1)
    return first, last


@compiled
def _sum_envelopes(ends: Table, offsets: Table) -> Table:
    """Sum of the first pixels in the hull over the rows of each cell."""
    sums = np.zeros(len(offsets) - 1, dtype=np.int64)
    for cell in range(len(sums)):
        rows = ends[offsets[cell] : offsets[cell + 1]]
        hull = np.empty((2 * len(rows) + 1, 2), dtype=np.int64)
        size = 0
        # Doubled y from the top edge of the first row to the bottom edge of the last; even ones are rows of pixels.
        for y in range(-1, 2 * len(rows)):
            if y % 2 == 0:
                x = rows[y // 2] if rows[y // 2] == NO_PIXEL else 2 * rows[y // 2] - 1
            else:
                above = rows[y // 2] if y > 0 else NO_PIXEL
                below = rows[y // 2 + 1] if y + 1 < 2 * len(rows) else NO_PIXEL
                x = min(above, below)
                x = x if x == NO_PIXEL else 2 * x
            if x == NO_PIXEL:
                continue
            while size >= 2 and _is_outside(hull[size - 2], hull[size - 1], y, x):
                size -= 1
            hull[size] = y, x
            size += 1
        edge = 0
        for row in range(len(rows)):
            while hull[edge + 1, 0] < 2 * row:
                edge += 1
            (top, left), (bottom, right) = hull[edge], hull[edge + 1]
            # ceil of half the envelope's x at this row
            twice = left * (bottom - top) + (right - left) * (2 * row - top)
            sums[cell] -= -twice // (2 * (bottom - top))
    return sums


@compiled
def _is_outside(before: Table, point: Table, y: int, x: int) -> bool:
    """Tell whether a point of the envelope lies on or right of the line from the one before it to a new one."""
    return bool((point[1] - before[1]) * (y - before[0]) >= (x - before[1]) * (point[0] - before[0]))


class _Grey(NamedTuple):
    """Raw grey values of an image that fits the label image, and how its channels are called in columns."""

    image: Any
    shape: tuple[int, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, image: Any, shape: tuple[int, ...], channel_names: Sequence[str] | None) -> "_Grey":
        if len(image.shape) != len(shape) + 1:
            raise ImageError(
                "wrong_shape",
                f"the image has shape {tuple(image.shape)} and the label image {shape}: "
                "needs one more axis, the channels, in front",
            )
        if tuple(image.shape[1:]) != shape:
            raise ImageError(
                "wrong_shape",
                f"the image has shape {tuple(image.shape[1:])} and the label image {shape}: both need the same size",
            )
        channels = int(image.shape[0])
        names = [str(channel) for channel in range(channels)] if channel_names is None else list(channel_names)
        if len(names) != channels:
            raise ImageError(
                "wrong_shape", f"{len(names)} channel names for {channels} channels: give one name a channel"
            )
        unique = [f"{name}_{channel}" if names.count(name) > 1 else name for channel, name in enumerate(names)]
        return cls(image, shape, tuple(unique))

    def statistics(self, volume: IndexArray, runs: Table, areas: Table) -> Columns:
        """Columns of grey values and texture of each channel."""
        columns: Columns = {}
        for channel, name in enumerate(self.names):
            values = _native(np.asarray(self.image[channel]), "image", self.shape)
            found = grey_statistics(values, volume, runs, areas)
            columns |= {f"intensity_{what}_{name}": column for what, column in found.items()}
            found = texture_features(values, volume, runs, len(areas))
            columns |= {f"texture_{what}_{name}": column for what, column in found.items()}
        return columns


def _native(values: NDArray[Any], name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Grey values as a compiled loop takes them."""
    if values.shape != shape:
        raise ImageError(
            "wrong_shape", f"the {name} has shape {values.shape} and the label image {shape}: both need the same size"
        )
    if values.dtype.kind not in "ui" and values.dtype != np.float32:
        values = values.astype(np.float64)
    return as_volume(values.astype(values.dtype.newbyteorder("="), copy=False))


def _steps(shape: tuple[int, ...], pixel_size_um: Mapping[str, float] | None) -> list[float | None]:
    """Size of a pixel along each axis; None where it is unknown."""
    return [(pixel_size_um or {}).get(axis) for axis in AXES[-len(shape) :]]


class _Means:
    """Mean grey values of cells or of their rings, summed band by band.

    Parameters
    ----------
    cells : int
        Number of cells.
    grey : _Grey, optional
        The grey values.
    prefix : str
        Of the names of the columns.
    """

    def __init__(self, cells: int, grey: _Grey | None, prefix: str = "") -> None:
        self._grey, self._prefix = grey, prefix
        self._sums = np.zeros((len(grey.names) if grey else 0, cells))

    def add(self, runs: Table, band: slice | None) -> None:
        """Add the grey values of the runs of a band, counted from its first row; None is the whole image."""
        if self._grey is None:
            return
        image, shape = self._grey.image, self._grey.shape
        shape = shape if band is None else (band.stop - band.start, *shape[1:])
        for channel, sums in enumerate(self._sums):
            values = np.asarray(image[channel] if band is None else image[channel, band])
            _sum_values(_native(values, "image", shape), runs, sums)

    def columns(self, areas: Table) -> Columns:
        """One column a channel; NaN for cells without pixels."""
        names = [f"{self._prefix}intensity_mean_{name}" for name in self._grey.names] if self._grey else []
        return {
            name: np.divide(sums, areas, out=np.full(len(areas), np.nan), where=areas > 0)
            for name, sums in zip(names, self._sums, strict=True)
        }


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
    grey : _Grey, optional
        The grey values.

    Attributes
    ----------
    reach : int
        Rows beside a band that decide which of its pixels are in rings.
    """

    def __init__(self, cells: int, expand_um: float | None, steps: Sequence[float | None], grey: _Grey | None) -> None:
        self._distance, self._steps = expand_um, [step for step in steps if step is not None]
        self._is_known = len(self._steps) == len(steps)
        self._size = "ring_area_px" if len(steps) == 2 else "ring_volume_px"
        self._areas = np.zeros(cells, np.int64)
        self._means = _Means(cells, grey, "ring_")
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


def _mean_over_cells(
    values: NDArray[Any], name: str, shape: tuple[int, ...], runs: Table, areas: Table
) -> NDArray[np.float64]:
    sums = np.zeros(len(areas))
    _sum_values(_native(values, name, shape), runs, sums)
    means: NDArray[np.float64] = np.divide(sums, areas, out=np.full(len(areas), np.nan), where=areas > 0)
    return means


@compiled
def _sum_values(values: NDArray[Any], runs: Table, sums: NDArray[np.float64]) -> None:
    for run in range(len(runs)):
        cell, z, y, start, stop = runs[run]
        for x in range(start, stop):
            sums[cell - 1] += values[z, y, x]
