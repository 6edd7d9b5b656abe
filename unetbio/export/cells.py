"""Read the cells of an output folder: shapes from the label images, measurements from the table."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unetbio.errors import ImageError, UsageError
from unetbio.measurement.table_schema import SECTION
from unetbio.output_layout import holds_classes, provenance_name, result_name
from unetbio.postprocessing.bands import planes_of
from unetbio.provenance import PartRecord, read_provenance
from unetbio.results.corrections import stored_planes
from unetbio.results.entries import check_folder, known_entries
from unetbio.results.journal import Entry
from unetbio.results.reuse import large_labels, read_label_file
from unetbio.results.tables.cells import CachedCells
from unetbio.results.tables.collect_tables import reuse_or_measure
from unetbio.results.tables.lineages import Lineage, read_lineage
from unetbio.results.tables.links import Links, read_links
from unetbio.results.tables.write import class_columns

if TYPE_CHECKING:
    import polars as pl

__all__ = ["ExportImage", "Plane", "find_images", "read_cells"]

# About 50 MB for a table of thirty columns.
ROWS_AT_ONCE = 200_000

Measurements = Mapping[int, Mapping[str, Any]]
"""Columns of the table by cell: numbers, and the class of the cell as text where it has one."""


@dataclass(frozen=True)
class Plane:
    """One plane of a label image.

    Parameters
    ----------
    t, z : int, optional
        Time and section, from 0, if there are several.
    label_image : array
        ``(Y, X)``; a large one is on disk.
    measurements : mapping
        Columns of the table for each cell, by its id, without missing values. Planes of a linked object have the
        measurements of the whole object.
    """

    t: int | None
    z: int | None
    label_image: Any
    measurements: Measurements


@dataclass(frozen=True)
class ExportImage:
    """An image of an output folder with its cells.

    Parameters
    ----------
    entry : Entry
        Line in the journal: path, series and further columns.
    label_hash : str
        Hash of the label image.
    label_image : array
        ``([T,] [Z,] Y, X)``; a large plane is on disk.
    times : tuple of int or None
        One for each frame; several frames lie along a first axis T.
    section : int, optional
        Section of the stack, if only one was segmented.
    stored : mapping
        Lengths of the axes C, Z and T in the file, as ImageJ counts planes; empty if unknown.
    table : polars.DataFrame
        A row for each cell.
    out : path
        The output folder.
    lineage : Lineage, optional
        Tracks that begin in this label image.
    part : PartRecord, optional
        What the label image shows of the file, if not all of it at full resolution.
    first_section : int
        Number in the file of the first section of the label image.
    taken : frozenset of str
        Names that columns of the user cannot have in the tables, besides those of ``table``.
    """

    entry: Entry
    label_hash: str
    label_image: Any
    times: tuple[int | None, ...]
    section: int | None
    stored: Mapping[str, int]
    table: "pl.DataFrame"
    out: Path = Path()
    lineage: Lineage | None = None
    part: PartRecord | None = None
    first_section: int = 0
    taken: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """``a/b/x`` for ``a/b/x_labels.ome.tif``."""
        return result_name(self.entry.output)

    @property
    def is_hyperstack(self) -> bool:
        """Whether the file varies along more than one of channel, section and time, as ImageJ counts them."""
        return sum(count > 1 for count in self.stored.values()) > 1

    def planes(self) -> Iterator[Plane]:
        """All planes, by time and section."""
        import polars as pl

        for number, t in enumerate(self.times):
            frame = planes_of(self.label_image, number) if len(self.times) > 1 else self.label_image
            rows = self._rows(t)
            if len(frame.shape) == 2:
                yield Plane(t, self.section, frame, _measurements(rows))
            elif SECTION in rows.columns:
                for index in range(frame.shape[0]):
                    z = self.first_section + index
                    measured = _measurements(rows.filter(pl.col(SECTION) == z).drop(SECTION))
                    yield Plane(t, z, planes_of(frame, index), measured)
            else:
                measured = _measurements(rows)
                for index in range(frame.shape[0]):
                    yield Plane(t, self.first_section + index, planes_of(frame, index), measured)

    def _rows(self, t: int | None) -> "pl.DataFrame":
        import polars as pl

        return self.table.filter(pl.col("t").eq_missing(t)).drop("t")


def _measurements(rows: "pl.DataFrame") -> Measurements:
    return {
        row["label"]: {name: value for name, value in row.items() if _is_known(value)}
        for row in rows.iter_rows(named=True)
    }


def _is_known(value: Any) -> bool:
    """Whether a value exists and is finite; the formats cannot hold others."""
    return value is not None and not (isinstance(value, float) and not isfinite(value))


def find_images(out: Path) -> list[Entry]:
    """Images of an output folder with label images, and failed ones, in the order of the tables.

    Raises
    ------
    UsageError
        When there are none.
    """
    check_folder(out)
    entries = known_entries(out).values()
    if not entries:
        raise UsageError(f"{out} holds no results of unetbio segment: neither journals nor *_labels.json")
    cells = [entry for entry in entries if not holds_classes(entry.output)]
    if not cells:
        raise UsageError(f"{out} holds class masks alone: cells are exported, and these have none")
    return sorted(cells, key=lambda entry: entry.order)


def read_cells(out: Path, entries: list[Entry]) -> Iterator[ExportImage | Entry]:
    """Read one image after another; failed images, in this run or before, give their entry."""
    cached = CachedCells(out, rows_at_once=ROWS_AT_ONCE)
    links = read_links(out, [entry.output for entry in entries])
    for entry in entries:
        yield _read(out, entry, cached, links)


def _read(out: Path, entry: Entry, cached: CachedCells, links: Links) -> ExportImage | Entry:
    outcome = reuse_or_measure(out, entry, cached)
    if outcome.cells is None:
        return outcome.entry
    cells = links.add(outcome, outcome.cells)
    provenance = read_provenance(out / provenance_name(entry.output))
    try:
        labels: Any = large_labels(out / entry.output, provenance)
        if labels is None:
            labels = read_label_file(out / entry.output, provenance)
    except ImageError as error:
        # The file has the recorded size and time, but its pixels, which are first read here, are damaged.
        return replace(entry, status="failed", reason=error.reason, message=f"{entry.output}: {error}")
    times = tuple(frame.t for frame in outcome.frames)
    lineage = read_lineage(out, result_name(entry.output))
    part = provenance.input.part if provenance else None
    return ExportImage(
        outcome.entry,
        outcome.label_hash,
        labels,
        times,
        provenance.single_section if provenance else None,
        stored_planes(provenance) if provenance else {},
        cells,
        out,
        lineage,
        part,
        provenance.first_section if provenance else 0,
        frozenset({*class_columns([outcome]), *links.columns}),
    )
