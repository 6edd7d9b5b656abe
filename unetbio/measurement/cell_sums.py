"""Sums of the coordinates of each cell, and the columns of the table that follow from them."""

from collections.abc import Mapping
from math import pi, prod

import numpy as np
from numpy.typing import NDArray

from unetbio.compilation import compiled
from unetbio.measurement.columns import AXES, Columns, Table

__all__ = [
    "AREA",
    "START",
    "STOP",
    "TABLE_WIDTH",
    "eccentricities",
    "equivalent_spheres",
    "place_columns",
    "size_columns",
    "sum_runs",
]

# Columns of the table of sums: coordinates count from the cell's first pixel, so that the sums stay small and exact.
AREA, FIRST, START, STOP, SUM, SUM_YY, SUM_YX, SUM_XX, TABLE_WIDTH = 0, 1, 4, 7, 10, 13, 14, 15, 16


@compiled
def sum_runs(runs: Table, table: Table) -> None:
    """Add to area, bounding box and sums of coordinates of each cell.

    Parameters
    ----------
    runs : ndarray of int64
        `unetbio.labels.label_runs`, in raster order; cells are numbered from 1.
    table : ndarray of int64
        ``(cells, TABLE_WIDTH)``, of zeros before the first runs.
    """
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


def size_columns(table: Table, axes: str, pixel_size_um: Mapping[str, float]) -> Columns:
    """Pixels of each cell and their size in micrometres; NaN where an axis has no size."""
    pixel = prod(pixel_size_um.get(axis, float("nan")) for axis in axes)
    names = ("area_px", "area_um2") if len(axes) == 2 else ("volume_px", "volume_um3")
    return {names[0]: table[:, AREA].copy(), names[1]: table[:, AREA] * pixel}


def place_columns(table: Table, axes: str) -> Columns:
    """Centroids, and first and last indices, along the axes."""
    columns: Columns = {}
    positions = [(axis.lower(), AXES.index(axis)) for axis in axes]
    for axis, offset in positions:
        columns[f"centroid_{axis}_px"] = table[:, FIRST + offset] + table[:, SUM + offset] / table[:, AREA]
    for axis, offset in positions:
        columns[f"bbox_{axis}_start"] = table[:, START + offset].copy()
    for axis, offset in positions:
        columns[f"bbox_{axis}_stop"] = table[:, STOP + offset].copy()
    return columns


def equivalent_spheres(table: Table) -> Columns:
    """Diameter of the sphere with as many pixels as each cell."""
    return {"equivalent_diameter_px": np.cbrt(6 * table[:, AREA] / pi)}


def eccentricities(table: Table) -> NDArray[np.float64]:
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
