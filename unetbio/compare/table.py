"""The table of a comparison, as Markdown and as CSV."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from unetbio.compare.runs import Row
from unetbio.io.tables import csv_text

__all__ = ["COLUMNS", "Column", "caption", "cells", "write_csv", "write_markdown"]


def _share(value: float) -> str:
    return f"{value:.3f}"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _count(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ")


def _millions(value: float) -> str:
    return _count(value) if value < 1e5 else f"{value / 1e6:.3g} M"


def _mebibytes(value: float) -> str:
    return f"{value / 2**20:.0f} MiB" if value >= 10 * 2**20 else f"{value / 2**20:.1f} MiB"


def _tenths(value: float) -> str:
    return f"{value:.1f}"


def _significant(value: float) -> str:
    return f"{value:.3g}"


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Parameters
    ----------
    key : str
        Name in `Row.scores` and in CSV.
    heading : str
        Heading in Markdown and on the page.
    form : callable
        Format of a number in Markdown and on the page.
    meaning : str
        One line that explains the column.
    """

    key: str
    heading: str
    form: Callable[[float], str]
    meaning: str


COLUMNS = (
    Column("AP@.5", "AP@.5", _share, "TP / (TP + FP + FN) where cells match from IoU .5 on"),
    Column("mean_AP", "mean AP", _share, "mean of AP from IoU .5 to .95"),
    Column("F1@.5", "F1@.5", _share, "2 TP / (2 TP + FP + FN) at IoU .5"),
    Column("foreground_IoU", "pixel IoU", _share, "intersection over union of all cells' pixels"),
    Column(
        "output_stride",
        "stride",
        _count,
        "pixels along an axis for one value of the output, before the last interpolation",
    ),
    Column(
        "oracle_IoU",
        "oracle",
        _share,
        "pixel IoU of a network that knows the share of cells in each block of that stride, interpolated linearly",
    ),
    Column("IoU_of_oracle", "of oracle", _percent, "pixel IoU as a share of the oracle's"),
    Column("boundary_F1", "boundary F1", _share, "outlines that agree within 2 pixels: low where detail is lost"),
    Column("AP@.5_small", "AP small", _share, "AP@.5 of the smallest third of the cells"),
    Column("AP@.5_medium", "AP medium", _share, "of the middle third"),
    Column("AP@.5_large", "AP large", _share, "of the largest third"),
    Column("merges_per_100", "merges/100", _tenths, "cells found that swallow two or more, for 100 true cells"),
    Column("parameters", "parameters", _millions, "trainable numbers"),
    Column(
        "multiply_adds_per_pixel",
        "multiply-adds/px",
        _count,
        "of all convolutions, over these images with the network's own tiles or windows",
    ),
    Column("seconds_per_megapixel", "s/megapixel", _significant, "in the network, and in its CRF, on this machine"),
    Column("memory_bytes", "memory", _mebibytes, "weights and the feature maps held at once for the largest tile"),
    Column(
        "exact_tiling",
        "exact tiles",
        str,
        "whether the result is the same for all tile sizes; if not, windows are blended",
    ),
    Column("steps", "steps", _count, "of training"),
    Column("seconds_trained", "seconds trained", _count, "spent in training and validation"),
)


def cells(row: Row) -> list[str]:
    """Text of each column for a variant; empty if it failed."""
    texts = []
    for column in COLUMNS:
        value = row.scores.get(column.key, math.nan)
        is_missing = isinstance(value, float) and math.isnan(value)
        texts.append("" if is_missing else value if isinstance(value, str) else column.form(value))
    return texts


def caption(rows: Sequence[Row], scored_on: str) -> str:
    """Caption: the images that the scores were measured on, and the sizes of small, medium and large cells."""
    borders = next((row.size_borders_px for row in rows if not row.failure), None)
    sizes = ""
    if borders is not None:
        sizes = f" Small cells have at most {borders[0]:.0f} pixels, large ones more than {borders[1]:.0f}."
    return f"Scored on {scored_on}.{sizes}"


def write_markdown(title: str, question: str, rows: Sequence[Row], scored_on: str) -> str:
    """The table with its captions; the row of a failed variant says why."""
    lines = [f"# {title}", "", *([question, ""] if question else [])]
    lines.append(f"| network | {' | '.join(column.heading for column in COLUMNS)} |")
    lines.append(f"|---|{'---:|' * len(COLUMNS)}")
    for row in rows:
        texts = [f"failed: {row.failure}", *[""] * (len(COLUMNS) - 1)] if row.failure else cells(row)
        lines.append(f"| {' | '.join(text.replace('|', '/') for text in (row.variant.name, *texts))} |")
    meanings = [f"- {column.heading}: {column.meaning}" for column in COLUMNS]
    return "\n".join([*lines, "", caption(rows, scored_on), "", *meanings]) + "\n"


def write_csv(rows: Sequence[Row]) -> str:
    """One row for each variant; numbers with all digits, empty if there are none."""
    lines: list[list[Any]] = [["network", *(column.key for column in COLUMNS), "failure"]]
    for row in rows:
        values = [row.scores.get(column.key, math.nan) for column in COLUMNS]
        texts = ["" if isinstance(value, float) and math.isnan(value) else value for value in values]
        lines.append([row.variant.name, *texts, row.failure])
    return csv_text(lines)
