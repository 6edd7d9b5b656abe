"""Inputs and output names of a batch, before the first image is opened."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from unetbio.errors import ImageError, UsageError
from unetbio.files import cached_real_path
from unetbio.io.discover import Found, part_of, table_input
from unetbio.io.grouping import AUTO
from unetbio.io.list_images import ChosenSeries, find_images, images_of, series_of
from unetbio.io.missing import MISSING_POSITION
from unetbio.output_layout import (
    TABLE_HASHES,
    TABLES_AND_PAGE,
    MaskKind,
    find_provenances,
    is_journal,
    is_output_folder,
    overlay_name,
    split_time,
)
from unetbio.preprocessing.drawn_regions import read_regions
from unetbio.provenance import read_provenance
from unetbio.results.items import Item
from unetbio.results.journal import Part
from unetbio.settings.image_tables import COLUMNS, ImageRow, read_image_table
from unetbio.settings.segmentation import Settings

__all__ = [
    "check_names",
    "check_probabilities",
    "found_items",
    "go_on_at_own_scale",
    "leave_out_absent",
    "list_items",
    "read_table",
    "refuse_others_files",
    "select_part",
    "spread",
]

logger = logging.getLogger(__name__)


T = TypeVar("T")

Regions = list[tuple[tuple[str, ...], Mapping[str, str]]]

ABSENT = ("missing_well", "missing_field", MISSING_POSITION)
"""Reasons of images that a plate or a file names and that ``--partial`` leaves out."""


def list_items(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    table: str | os.PathLike[str] | None,
    settings: Settings,
    out: str | os.PathLike[str] | None,
    masks: MaskKind,
    *,
    group: str = AUTO,
) -> list[Item]:
    """Items of inputs, or of a table: `found_items`, `read_table`.

    Raises
    ------
    UsageError
        As they do, and when both or neither are given, or ``group`` with a table.
    """
    if bool(inputs) == bool(table):
        raise UsageError("give either INPUT or --table: " + ("both are given" if table else "neither is given"))
    if table and group != AUTO:
        raise UsageError("--group joins the files of INPUT: a table names each image; leave out one of the two")
    folder = None if out is None else Path(out)
    if table:
        return read_table(Path(table), settings, masks, out=folder)
    paths = [inputs] if isinstance(inputs, (str, os.PathLike)) else inputs
    return found_items(paths, settings, folder, masks, group=group)


def found_items(
    inputs: Sequence[str | os.PathLike[str]],
    settings: Settings,
    out: Path | None,
    masks: MaskKind = "instances",
    *,
    group: str = AUTO,
) -> list[Item]:
    """Items of files, folders and patterns, in the order of `find_images`, which leaves out the output folder.

    Parameters
    ----------
    inputs : sequence of path-like
        Files, folders and patterns.
    settings : Settings
        Settings of the run; ``series`` chooses images of files that hold several.
    out : pathlib.Path, optional
        The output folder.
    masks : {"instances", "classes"}
        Label images or class masks.
    group : str
        How files are joined by their names: `unetbio.io.grouping.group_files`.

    Raises
    ------
    UsageError
        When an input does not exist or no image is found.
    """
    found = find_images(inputs, out=out, group=group, series=settings.series)
    regions = _regions(settings)
    return [item for image in found for item in _items_of(image, settings, regions, out, masks)]


def _regions(settings: Settings) -> Regions:
    """Each region, as the settings of an image have it, and what its annotation says; all of an image without any."""
    regions = read_regions(settings.region)
    return [((str(given.region),), given.columns) for given in regions] or [((), {})]


def _items_of(
    found: Found, settings: Settings, regions: Regions, out: Path | None, masks: MaskKind, **others: Any
) -> Iterator[Item]:
    """One item for each chosen image of a file, and for each region of it."""
    try:
        chosen = series_of(found, settings.series, settings.axes)
    except ImageError as error:
        chosen = [ChosenSeries(error=error)]
    for each in chosen:
        number = each.number
        place = {**found.place, **({"position": each.name} if each.name else {})}
        for region, says in regions:
            # Most images of a run share its settings.
            is_alike = (number, region) == (settings.series, settings.region)
            own = settings if is_alike else replace(settings, series=number, region=region)
            image = replace(found, place={**place, **says}, error=each.error or found.error)
            item = Item.of(image, own, masks=masks, **others)
            yield _as_earlier(item, out) if settings.series is None and number == 0 else item


def _as_earlier(item: Item, out: Path | None) -> Item:
    """The first image of a file, named as by versions that segmented it alone, where its result is there."""
    alone = replace(item, settings=replace(item.settings, series=None))
    return alone if out is not None and (out / alone.labels).exists() else item


def read_table(path: Path, settings: Settings, masks: MaskKind = "instances", *, out: Path | None = None) -> list[Item]:
    """Items of a table, in its order; a row whose file holds several images is as many items, or those of ``series``.

    Parameters
    ----------
    path : pathlib.Path
        With a header: ``image`` is required and is relative to the table's folder; ``channel``, ``series``, ``t``,
        ``z``, ``axes``, ``pixel_size_um``, ``diameter_px``, ``image_level`` and ``image_region`` override the settings
        of the run where they are not empty; ``mask`` is not used here; all others are carried into the tables.
    settings : Settings
        Settings of the run.
    masks : {"instances", "classes"}
        Label images or class masks.
    out : pathlib.Path, optional
        The output folder.

    Raises
    ------
    UsageError
        When the table cannot be read, lacks the column, is empty, or holds an invalid value.
    """
    try:
        table = read_image_table(path, settings)
        items = [item for row in table.rows for item in _items_of_row(path, row, out, masks)]
    except UsageError as error:
        raise UsageError(f"--table {error}") from error
    if "mask" in table.columns:
        logger.info("%s: the column 'mask' is for unetbio train and compare; it is left out here", path)
    return items


def _items_of_row(table: Path, row: ImageRow, out: Path | None, masks: MaskKind) -> Iterator[Item]:
    try:
        found = table_input(table, row.cells["image"])
    except UsageError as error:
        raise UsageError(f"{table}, line {row.line}: {error}") from error
    # Tables of results repeat no column that says how an image is read.
    columns = {name: value for name, value in row.cells.items() if name not in COLUMNS}
    regions = _regions(row.settings)
    for image in images_of(found, row.settings.series):
        yield from _items_of(image, row.settings, regions, out, masks, columns=columns)


def leave_out_absent(items: Sequence[Item]) -> list[Item]:
    """The items without wells, fields and positions that are not there and that ``--partial`` does without."""
    kept = []
    for item in items:
        if item.settings.partial and item.error is not None and item.error.reason in ABSENT:
            logger.warning("%s: %s [%s]", item.source, item.error, item.error.reason)
        else:
            kept.append(item)
    return kept


def check_names(items: Sequence[Item], out: Path) -> None:
    """Refuse a batch that would write two images to one name, need a folder where a file is, or overwrite an input.

    Names that differ only in case count as equal, as they are on many file systems.

    Raises
    ------
    UsageError
        Naming the first two.
    """
    real = cached_real_path()
    sources = {real(item.source) for item in items}
    taken: dict[str, Item] = {}
    for item in items:
        other = taken.setdefault(item.result.casefold(), item)
        if other is not item and other.source == item.source:
            raise UsageError(
                f"{item.source} is asked for twice with one result, {item.labels}: "
                "leave out one, or give each a series or a region of its own"
            )
        if other is not item:
            raise _both_written_to(item.labels, other, item)
        if real(out / item.labels) in sources:
            raise UsageError(f"{item.labels} would be written over an input: choose another output folder")
    _check_folders(items, out)


def _check_folders(items: Sequence[Item], out: Path) -> None:
    """Refuse images in folders that are called as a file of the results, such as ``summary.csv/x.tif``."""
    folders = {
        str(folder).casefold(): (str(folder), item)
        for item in items
        for folder in PurePosixPath(item.result).parents
        if folder.name
    }
    if not folders:
        return
    of_items = (name for item in items for name in (item.labels, item.provenance, overlay_name(item.labels)))
    for name in (*TABLES_AND_PAGE, *filter(is_journal, folders), *of_items):
        if found := folders.get(name.casefold()):
            folder, item = found
            raise UsageError(
                f"{item.source}: its results need the folder {folder} in {out}, where a file of the results is called "
                "so: rename the folder of the image"
            )


def check_probabilities(items: Sequence[Item]) -> None:
    """Refuse a time-lapse ``x`` beside an image ``x_t000``, whose probabilities would have one name.

    Raises
    ------
    UsageError
        Naming the first two.
    """
    by_result = {item.result.casefold(): item for item in items}
    counts: dict[str, int] = {}
    for item in items:
        if (found := split_time(item.result)) and (other := by_result.get(found[0].casefold())):
            name = item.probabilities_of(None)
            is_same = other.probabilities_of(found[1]).casefold() == name.casefold()
            if is_same and other.result not in counts:
                counts[other.result] = _count_times(other)
            if is_same and found[1] < counts[other.result]:
                raise _both_written_to(name, other, item)


def _count_times(item: Item) -> int:
    """Times of an image that have a file of probabilities each; the run reports an image that cannot be opened."""
    try:
        count = item.read().size("T") if item.settings.t is None else 1
    except (ImageError, OSError):
        return 0
    return count if count > 1 else 0


def _both_written_to(name: str, one: Item, other: Item) -> UsageError:
    return UsageError(
        f"{one.source} and {other.source} would both be written to {name}: rename one, or segment them into two output "
        "folders"
    )


def refuse_others_files(names: Iterable[str], out: Path) -> None:
    """Refuse a folder in which no run has begun, but files of these names lie, which a run would replace.

    Raises
    ------
    UsageError
        Naming the first.
    """
    there = {path.name for path in out.glob("*")}
    if is_output_folder(there) or TABLE_HASHES in there:
        return
    name = next((name for name in names if (out / name).exists()), None)
    if name is not None and not any(map(read_provenance, find_provenances(out))):
        raise UsageError(
            f"{out} holds {name}, which no run of unetbio wrote there and this one would replace: choose another "
            "output folder, or move the file away"
        )


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
    """The items of one job, chosen by a hash of their files' names, so that new images move no others."""
    # Regions stay with their file: a workflow starts the jobs that hold a file, and again those whose file changed.
    return [item for item in items if part_of(item.file, part.count) == part.index]


def spread(items: Sequence[T], count: int | None) -> list[T]:
    """``count`` items spread evenly over all, in order; all of them if it is None."""
    if count is None or count >= len(items):
        return list(items)
    return [items[index * len(items) // count] for index in range(count)]
