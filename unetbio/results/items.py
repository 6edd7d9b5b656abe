"""What a batch will read and what it will write, known before the first image is opened."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

from unetbio.errors import UsageError
from unetbio.io.discover import OVERLAYS, find_inputs, part_of, stem, table_input
from unetbio.io.labels import label_suffix
from unetbio.io.tables import read_table_file, warn_of_near_misses
from unetbio.provenance import Provenance
from unetbio.results.journal import Part
from unetbio.settings.segmentation import PixelSize, Settings, parse_pixel_size

__all__ = [
    "FORMATS",
    "MASKS",
    "Format",
    "Item",
    "Target",
    "available_cores",
    "check_names",
    "found_items",
    "holds_classes",
    "other_format",
    "overlay_name",
    "provenance_name",
    "read_table",
    "result_name",
    "select_part",
    "spread",
]

Target = Literal["instances", "classes"]
Format = Literal["auto", "ome-tiff", "ome-zarr"]
Number = TypeVar("Number", int, float)

MASKS: Mapping[Target, str] = {"instances": "_labels", "classes": "_classes"}
PROBABILITIES = "_probabilities"

FORMATS: Mapping[Format, str] = {"ome-tiff": ".ome.tif", "ome-zarr": ".ome.zarr"}
"""Endings of label images in the formats that can be asked for; ``auto`` is NIfTI for NIfTI and OME-TIFF otherwise."""

KNOWN_COLUMNS = ("image", "mask", "channel", "series", "pixel_size_um", "diameter_px")


@dataclass(frozen=True)
class Item:
    """One image to segment.

    Parameters
    ----------
    source : pathlib.Path
        The file.
    path : str
        What tables call it, with forward slashes: its path below the folder that was given.
    settings : Settings
        Of this image: those of the run, with what a table says of it.
    columns : dict
        Further columns of the table and of the path, carried into every table that is written.
    path_columns : sequence of str
        Which of them come from the path; see `unetbio.results.path_columns`.
    target : {"instances", "classes"}
        What the model makes: label images or class masks.
    format : {"auto", "ome-tiff", "ome-zarr"}
        Of the label image; probabilities are NIfTI beside NIfTI and OME-TIFF otherwise.
    """

    source: Path
    path: str
    settings: Settings = field(default_factory=Settings)
    columns: dict[str, str] = field(default_factory=dict)
    path_columns: Sequence[str] = ()
    target: Target = "instances"
    format: Format = "auto"

    @property
    def result(self) -> str:
        """Path of the results below the output folder, without ending: ``a/b/x``, of a series ``a/b/x_s03``."""
        path = PurePosixPath(self.path)
        series = "" if self.settings.series is None else f"_s{self.settings.series:02d}"
        return str(path.with_name(stem(path) + series))

    @property
    def labels(self) -> str:
        """Label image, or class mask, below the output folder."""
        suffix = FORMATS.get(self.format, self._suffix)
        return f"{self.result}{MASKS[self.target]}{suffix}"

    @property
    def provenance(self) -> str:
        """Provenance below the output folder."""
        return f"{self.result}{MASKS[self.target]}.json"

    @property
    def objects(self) -> str:
        """Table of objects below the output folder, where a model finds them."""
        return f"{self.result}_objects.csv"

    def probabilities_of(self, t: int | None) -> str:
        """Probabilities below the output folder; of a time-lapse each time is a file."""
        time = "" if t is None else f"_t{t:03d}"
        return f"{self.result}{time}{PROBABILITIES}{self._suffix}"

    def probabilities_names(self, times: Sequence[int | None]) -> tuple[str, ...]:
        """Probabilities of an image with these frames, below the output folder."""
        return tuple(self.probabilities_of(t if len(times) > 1 else None) for t in times)

    @property
    def _suffix(self) -> str:
        return label_suffix(self.path) if self.format == "auto" else ".ome.tif"


def available_cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def result_name(output: str) -> str:
    """``a/b/x`` of ``a/b/x_labels.ome.tif`` and of ``a/b/x_classes.ome.tif``."""
    return output.rpartition(_ending(output))[0]


def provenance_name(output: str) -> str:
    """Provenance of a label image or class mask, both below the output folder."""
    return f"{result_name(output)}{_ending(output)}.json"


def other_format(out: Path, item: Item, provenance: Provenance | None) -> Path | None:
    """The label image that a provenance describes, where it is not the one that the item would be written to."""
    if provenance is None:
        return None
    name = provenance.output.name
    own = item.labels.rpartition("/")[2]
    # Nothing but label images of the same stem is meant, whatever the file says.
    if name == own or "/" in name or result_name(name) != result_name(own):
        return None
    return (out / item.labels).with_name(name)


def overlay_name(output: str) -> str:
    """Picture of a label image or class mask, both below the output folder; an image may have one of each."""
    return f"{OVERLAYS}/{result_name(output)}{_ending(output).replace('_', '.')}.jpg"


def holds_classes(output: str) -> bool:
    """Whether an output is a class mask, by its name."""
    return _ending(output) == MASKS["classes"]


def _ending(output: str) -> str:
    return max(MASKS.values(), key=output.rfind)


def found_items(
    inputs: Sequence[str | os.PathLike[str]], settings: Settings, out: Path | None, target: Target = "instances"
) -> list[Item]:
    """Items of files, folders and patterns, in the order in which `find_inputs` lists them.

    What lies in the output folder is left out, as `find_inputs` does.

    Raises
    ------
    UsageError
        When an input does not exist or no image is found.
    """
    return [Item(file.path, file.relative.as_posix(), settings, target=target) for file in find_inputs(inputs, out=out)]


def read_table(path: Path, settings: Settings, target: Target = "instances") -> list[Item]:
    """Items of a table, in its order.

    Parameters
    ----------
    path : pathlib.Path
        ``.csv`` or ``.tsv`` with a header: ``image`` is required and is relative to the table's folder; ``channel``,
        ``series``, ``pixel_size_um`` and ``diameter_px`` override the settings of the run where they are not empty;
        ``mask`` is not used here; all others are carried into the tables.
    settings : Settings
        Of the run.
    target : {"instances", "classes"}
        What the model makes.

    Raises
    ------
    UsageError
        When the table cannot be read, lacks the column, is empty, or holds a value that is not what its column says.
    """
    try:
        table = read_table_file(path)
    except UsageError as error:
        raise UsageError(f"--table {error}") from error
    if "image" not in table.columns:
        raise UsageError(f"--table {path} has no column 'image'; it has {', '.join(table.columns) or 'none'}")
    if not table.rows:
        raise UsageError(f"--table {path} has a header but no rows")
    warn_of_near_misses(path, table.columns, KNOWN_COLUMNS)
    items = (_item_of_row(path, row.line, row.cells, settings) for row in table.rows)
    return [replace(item, target=target) for item in items]


def _item_of_row(table: Path, line: int, cells: dict[str, str], settings: Settings) -> Item:
    if not cells["image"]:
        raise UsageError(f"--table {table}, line {line}: the column 'image' is empty")
    found = table_input(table, cells["image"])
    try:
        changes: dict[str, Any] = {
            "channel": (cells["channel"],) if cells.get("channel") else settings.channel,
            "series": _number(cells, "series", int, settings.series),
            "pixel_size_um": _pixel_size(cells, settings.pixel_size_um),
            "diameter_px": _number(cells, "diameter_px", float, settings.diameter_px),
        }
        own = replace(settings, **changes)
    except (ValueError, UsageError) as error:
        raise UsageError(f"--table {table}, line {line}: {error}") from error
    columns = {name: value for name, value in cells.items() if name not in KNOWN_COLUMNS}
    return Item(found.path, found.relative.as_posix(), own, columns)


def _pixel_size(cells: dict[str, str], default: PixelSize | None) -> PixelSize | None:
    text = cells.get("pixel_size_um", "")
    if not text:
        return default
    try:
        return parse_pixel_size(text)
    except ValueError as error:
        raise ValueError(f"pixel_size_um {error}") from error


def _number(cells: dict[str, str], column: str, kind: type[Number], default: Number | None) -> Number | None:
    text = cells.get(column, "")
    if not text:
        return default
    try:
        return kind(text)
    except ValueError as error:
        needed = "a whole number" if kind is int else "a number"
        raise ValueError(f"{column} {text!r} is not {needed}") from error


def check_names(items: Sequence[Item], out: Path) -> None:
    """Refuse a batch in which two images would be written to the same name, or one over an input.

    Names that differ in case alone count as the same: on many file systems they are.

    Raises
    ------
    UsageError
        Naming the first two.
    """
    sources = {item.source.resolve() for item in items}
    taken: dict[str, Item] = {}
    for item in items:
        other = taken.setdefault(item.result.casefold(), item)
        if other is not item and other.source == item.source:
            raise UsageError(
                f"{item.source} is asked for twice with one result, {item.labels}: "
                "leave out one, or give each a series of its own"
            )
        if other is not item:
            raise UsageError(
                f"{other.source} and {item.source} would both be written to {item.labels}: "
                "rename one, or segment them into two output folders"
            )
        if (out / item.labels).resolve() in sources:
            raise UsageError(f"{item.labels} would be written over an input: choose another output folder")


def select_part(items: Sequence[Item], part: Part) -> list[Item]:
    """The items of one job of several: by a hash of their names, never by their position."""
    return [item for item in items if part_of(item.path, part.count) == part.index]


def spread(items: Sequence[Item], count: int | None) -> frozenset[str]:
    """Results of ``count`` items spread evenly over all of them; all when it is None."""
    if count is None or count >= len(items):
        return frozenset(item.result for item in items)
    return frozenset(items[index * len(items) // count].result for index in range(count))
