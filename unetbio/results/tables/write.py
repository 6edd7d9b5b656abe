"""Write the tables of an output folder, and the palette of classes."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unetbio.classes import hex_colours
from unetbio.files import sha256_file, write_text
from unetbio.io.formats.zarr.plates import write_plate
from unetbio.io.tables import csv_text
from unetbio.measurement.table_schema import SUMMARY_COLUMNS, further_names
from unetbio.output_layout import (
    CELLS,
    CELLS_TEXT,
    CLASSES,
    SUMMARY,
    TABLE_HASHES,
    fields_of_plate,
    find_plates,
    result_name,
)
from unetbio.provenance import FrameRecord
from unetbio.results.journal import Entry
from unetbio.results.result_files import Outcome
from unetbio.results.tables.cells import CellStore, remove_job_cells, write_cells
from unetbio.results.tables.links import Links, read_links

__all__ = ["class_columns", "write_classes", "write_tables"]

logger = logging.getLogger(__name__)


def write_tables(out: Path, outcomes: Iterable[Outcome], cells: CellStore) -> None:
    """Write the three tables, sorted by path, series and time, and remove the rows of jobs, which they now hold.

    Parameters
    ----------
    out : pathlib.Path
        The output folder.
    outcomes : iterable of Outcome
        All images of the folder.
    cells : CellStore
        Their cells.
    """
    ordered = sorted(outcomes, key=lambda outcome: outcome.entry.order)
    links = read_links(out, [outcome.entry.output for outcome in ordered])
    extra = _extra_columns(ordered, cells, links)
    # The cells come first, so that the summary never counts cells that the table lacks.
    write_cells(out, ordered, extra, cells, links)
    write_text(out / SUMMARY, _summary(ordered, extra))
    tables = [name for name in (SUMMARY, CELLS, CELLS_TEXT) if (out / name).is_file()]
    write_text(out / TABLE_HASHES, "".join(f"{sha256_file(out / name)}  {name}\n" for name in tables))
    for plate in find_plates(out):
        write_plate(plate, [field.relative_to(plate).as_posix() for field in fields_of_plate(plate)])
    remove_job_cells(out)
    _warn_of_repeated(out, ordered)


def _warn_of_repeated(out: Path, outcomes: Sequence[Outcome]) -> None:
    """Warn of an image that stands twice in the tables, since runs were given its folder and the file alone."""
    found: dict[tuple[str, int, str], dict[str, Entry]] = {}
    for entry in (outcome.entry for outcome in outcomes if outcome.entry.status != "failed"):
        found.setdefault(entry.image, {}).setdefault(result_name(entry.output), entry)
    repeated = [list(entries.values()) for entries in found.values() if len(entries) > 1]
    if repeated:
        one, other, *_ = repeated[0]
        logger.warning(
            "%s and %s are one image, and its cells are twice in the tables%s: remove the mask of one, %s or %s",
            one.path,
            other.path,
            f" ({len(repeated)} such images)" if len(repeated) > 1 else "",
            out / one.output,
            out / other.output,
        )


def write_classes(out: Path, class_names: Sequence[str]) -> None:
    """Write the palette of class masks: number, name and colour of each class."""
    colours = hex_colours(len(class_names))
    rows = [(number, *row) for number, row in enumerate(zip(class_names, colours, strict=True))]
    write_text(out / CLASSES, csv_text([("class", "name", "colour"), *rows]))


def _extra_columns(outcomes: Sequence[Outcome], cells: CellStore, links: Links) -> dict[str, str]:
    """The user's columns and their names in the tables."""
    taken = {*class_columns(outcomes), *links.columns, *cells.columns}
    return further_names((name for outcome in outcomes for name in outcome.entry.further_columns), taken)


def _summary(outcomes: Sequence[Outcome], extra: Mapping[str, str]) -> str:
    columns = [*_summary_columns(outcomes), *class_columns(outcomes)]
    lines: list[list[Any]] = [[*columns, *extra.values()]]
    for outcome in outcomes:
        further = outcome.entry.further_columns
        for frame in outcome.frames or (None,):
            row = {**_entry_cells(outcome), **_frame_cells(frame)}
            lines.append([*(row.get(name) for name in columns), *(further.get(name, "") for name in extra)])
    return csv_text(lines)


def _summary_columns(outcomes: Sequence[Outcome]) -> list[str]:
    """Columns of every summary, and the zoom where any frame has one; earlier versions recorded none."""
    has_zoom = any(frame.zoom is not None for outcome in outcomes for frame in outcome.frames)
    return [name for name in SUMMARY_COLUMNS if name != "zoom" or has_zoom]


def class_columns(outcomes: Sequence[Outcome]) -> list[str]:
    """Columns for the share of the pixels, or the number of cells, of each class."""
    frames = [frame for outcome in outcomes for frame in outcome.frames]
    return list(dict.fromkeys(name for frame in frames for name in _class_cells(frame)))


def _class_cells(frame: FrameRecord) -> dict[str, float]:
    shares = {f"area_fraction_{name}": share for name, share in frame.class_fractions.items()}
    return {**shares, **{f"n_cells_{name}": count for name, count in frame.class_counts.items()}}


def _entry_cells(outcome: Outcome) -> dict[str, Any]:
    entry = outcome.entry
    failed = entry.status == "failed"
    return {
        "path": entry.path,
        "series": entry.series,
        "pixel_size_um": outcome.pixel_size_um,
        # Kept results are done, so that interrupted runs give the same tables as others.
        "status": "failed" if failed else "done",
        "reason": entry.reason if failed else "",
    }


def _frame_cells(frame: FrameRecord | None) -> dict[str, Any]:
    if frame is None:
        return dict.fromkeys(("t", "n_cells", "median_diameter_px", "area_fraction", "zoom", "warnings"))
    return {
        "t": frame.t,
        "n_cells": frame.n_cells,
        "median_diameter_px": frame.median_diameter_px,
        "area_fraction": frame.area_fraction,
        "zoom": frame.zoom,
        "warnings": " ".join(frame.warnings),
        **_class_cells(frame),
    }
