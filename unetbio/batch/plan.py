"""Inputs and output names of a batch, before the first image is opened."""

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from unetbio.errors import UsageError
from unetbio.files import real_path
from unetbio.io.discover import find_inputs, part_of, table_input
from unetbio.output_layout import MaskKind
from unetbio.provenance import read_provenance
from unetbio.results.items import Item
from unetbio.results.journal import Part
from unetbio.settings.image_tables import ImageRow, read_image_table
from unetbio.settings.segmentation import READING, Settings

__all__ = ["check_names", "found_items", "go_on_at_own_scale", "list_items", "read_table", "select_part", "spread"]

logger = logging.getLogger(__name__)


T = TypeVar("T")

TAKEN = ("image", "mask", *READING)
"""Columns that the tables of results do not repeat."""


def list_items(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    table: str | os.PathLike[str] | None,
    settings: Settings,
    out: str | os.PathLike[str] | None,
    masks: MaskKind,
) -> list[Item]:
    """Items of inputs, or of a table: `found_items`, `read_table`.

    Raises
    ------
    UsageError
        As they do, and when both or neither are given.
    """
    if bool(inputs) == bool(table):
        raise UsageError("give either INPUT or --table: " + ("both are given" if table else "neither is given"))
    if table:
        return read_table(Path(table), settings, masks)
    paths = [inputs] if isinstance(inputs, (str, os.PathLike)) else inputs
    return found_items(paths, settings, None if out is None else Path(out), masks)


def found_items(
    inputs: Sequence[str | os.PathLike[str]], settings: Settings, out: Path | None, masks: MaskKind = "instances"
) -> list[Item]:
    """Items of files, folders and patterns, in the order of `find_inputs`, which leaves out the output folder.

    Raises
    ------
    UsageError
        When an input does not exist or no image is found.
    """
    return [Item(file.path, file.relative.as_posix(), settings, masks=masks) for file in find_inputs(inputs, out=out)]


def read_table(path: Path, settings: Settings, masks: MaskKind = "instances") -> list[Item]:
    """Items of a table, in its order.

    Parameters
    ----------
    path : pathlib.Path
        With a header: ``image`` is required and is relative to the table's folder; ``channel``, ``series``, ``t``,
        ``z``, ``axes``, ``pixel_size_um`` and ``diameter_px`` override the settings of the run where they are not
        empty; ``mask`` is not used here; all others are carried into the tables.
    settings : Settings
        Settings of the run.
    masks : {"instances", "classes"}
        Label images or class masks.

    Raises
    ------
    UsageError
        When the table cannot be read, lacks the column, is empty, or holds an invalid value.
    """
    try:
        table = read_image_table(path, settings)
        items = [_item_of_row(path, row) for row in table.rows]
    except UsageError as error:
        raise UsageError(f"--table {error}") from error
    if "mask" in table.columns:
        logger.info("%s: the column 'mask' is for unetbio train and compare; it is left out here", path)
    return [replace(item, masks=masks) for item in items]


def _item_of_row(table: Path, row: ImageRow) -> Item:
    found = table_input(table, row.cells["image"])
    columns = {name: value for name, value in row.cells.items() if name not in TAKEN}
    return Item(found.path, found.relative.as_posix(), row.settings, columns)


def check_names(items: Sequence[Item], out: Path) -> None:
    """Refuse a batch that would write two images to one name, or overwrite an input.

    Names that differ only in case count as equal, as they are on many file systems.

    Raises
    ------
    UsageError
        Naming the first two.
    """
    sources = {real_path(item.source) for item in items}
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
        if real_path(out / item.labels) in sources:
            raise UsageError(f"{item.labels} would be written over an input: choose another output folder")


def go_on_at_own_scale(items: Sequence[Item], listed: Sequence[Item], out: Path, model_sha256: str) -> list[Item]:
    """Let a folder that was begun at the model's own scale go on so, rather than hold masks of both kinds.

    Parameters
    ----------
    items : sequence of Item
        Items of this run.
    listed : sequence of Item
        All items, so that jobs of one folder agree: the first of them with a result decides.
    out : pathlib.Path
        The output folder.
    model_sha256 : str
        Of the model's file; results of other models say nothing.
    """
    unset = (item for item in listed if item.settings.diameter_px is None)
    found = (provenance for item in unset if (provenance := read_provenance(out / item.provenance)))
    first = next((provenance for provenance in found if provenance.model.sha256 == model_sha256), None)
    if first is None or first.settings.get("diameter_px") is not None:
        return list(items)
    logger.warning(
        "%s was begun at the model's own scale and goes on so; --diameter auto finds the scale of each image", out
    )
    return [_at_own_scale(item) if item.settings.diameter_px is None else item for item in items]


def _at_own_scale(item: Item) -> Item:
    return replace(item, settings=replace(item.settings, diameter_px="model"))


def select_part(items: Sequence[Item], part: Part) -> list[Item]:
    """The items of one job, chosen by a hash of their names, so that new images move no others."""
    return [item for item in items if part_of(item.path, part.count) == part.index]


def spread(items: Sequence[T], count: int | None) -> list[T]:
    """``count`` items spread evenly over all, in order; all of them if it is None."""
    if count is None or count >= len(items):
        return list(items)
    return [items[index * len(items) // count] for index in range(count)]
