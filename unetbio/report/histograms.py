"""Histograms of the page: bars between round numbers."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from unetbio.files import naming
from unetbio.output_layout import CELLS
from unetbio.report.wording import counted, grouped, readable

__all__ = ["cell_sizes", "histogram"]

MAX_BARS = 24
# The last bar ends here if a few values above twice this would squeeze all others into the first bar.
HISTOGRAM_PERCENT = 99.5
# Sizes of cells with their headings; the first one that all cells have is shown.
SIZES = {"volume_um3": "Cell volume (um³)", "area_um2": "Cell area (um²)", "area_px": "Cell area (pixels)"}


def cell_sizes(out: Path) -> tuple[str, NDArray[np.float64]]:
    """Heading and sizes of all cells of an output folder, in the best unit that all of them have; empty for none."""
    table = out / CELLS
    if not table.is_file():
        return "", np.empty(0)
    # Folders may be called exp[3], which is no pattern here.
    with naming(table):
        cells = pl.scan_parquet(table, glob=False)
        present = cells.collect_schema().names()
        for column, title in SIZES.items():
            if column in present:
                values = cells.select(pl.col(column).cast(pl.Float64)).collect().to_series()
                if len(values) and not values.null_count() and bool(values.is_finite().all()):
                    return title, values.to_numpy()
    return "", np.empty(0)


def histogram(values: NDArray[np.float64], title: str, unit: str) -> dict[str, Any]:
    """Bars between round numbers, with texts for the template and for screen readers.

    Parameters
    ----------
    values : ndarray
        At least one.
    title : str
        What they are.
    unit : str
        What has such a value, in the singular.
    """
    low, high, top = float(values.min()), float(np.percentile(values, HISTOGRAM_PERCENT)), float(values.max())
    high = top if top <= 2 * high else high
    step = _round_step((high - low) / MAX_BARS, whole=bool(np.all(values == np.round(values))))
    first = math.floor(low / step) * step
    number = max(1, math.floor((high - first) / step) + 1)
    edges = first + step * np.arange(number + 1)
    counts, _ = np.histogram(values, edges)
    beyond = len(values) - int(counts.sum())
    tallest = max(1, int(counts.max()))
    bars = [
        {
            "percent": f"{100 * count / tallest:.3g}",
            "text": f"{readable(left)} to {readable(right)}: {counted(int(count), unit)}",
        }
        for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True)
    ]
    note = f"{counted(len(values), unit)}, median {readable(float(np.median(values)))}"
    if beyond:
        note += f"; {grouped(beyond)} beyond the last bar, up to {readable(top)}"
    return {
        "title": title,
        "bars": bars,
        "low": readable(edges[0]),
        "middle": readable((edges[0] + edges[-1]) / 2),
        "high": readable(edges[-1]),
        "note": note,
        "description": f"Histogram. {title}: {note}; the fullest bar holds {counted(tallest, unit)}.",
    }


def _round_step(width: float, *, whole: bool) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least ``width``, and at least 1 for whole numbers."""
    if width <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(width))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= width * (1 - 1e-9))
    return max(step, 1.0) if whole else step
