"""Relate two output folders of the same images, such as nuclei and cells: parents, and the cytoplasm."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import EnvironmentStoppedError, ImageError, UsageError
from unetbio.files import write_text
from unetbio.io import write_labels
from unetbio.labels import label_hash
from unetbio.measurement import regions
from unetbio.measurement.relations import find_parents, subtract
from unetbio.output_layout import CELLS_TEXT, CYTOPLASM, PARENTS, cytoplasm_name, provenance_name, result_name
from unetbio.provenance import read_provenance
from unetbio.results.corrections import RunMask, describe_mask, find_masks_of_run
from unetbio.results.journal import Entry, hold_output
from unetbio.results.reuse import read_mask_of_run
from unetbio.results.tables.cells import safe_text
from unetbio.results.tables.collect_tables import write_known_tables
from unetbio.results.tables.links import write_parents
from unetbio.results.tables.measure_cells import channel_columns, open_input

if TYPE_CHECKING:
    import polars as pl

__all__ = ["RELATED", "Related", "relate_folders", "share_channels"]

logger = logging.getLogger(__name__)

RELATED = "related"
"""Folder of the relations, where one command runs two models."""

Report = Callable[[str, str], None]


@dataclass(frozen=True)
class Related:
    """Counts: images, nuclei with and without a cell, cells, failures."""

    images: int
    nuclei: int
    orphans: int
    cells: int
    failed: int


def relate_folders(nuclei: Path, cells: Path, output: Path, report: Report = lambda name, message: None) -> Related:
    """Write the parent of each nucleus, also into the table of the nuclei, and the cytoplasm of each cell.

    Parameters
    ----------
    nuclei, cells : path
        Output folders of two runs over the same images.
    output : path
        Folder for ``parents.csv``, ``cytoplasm.csv`` and ``x_cytoplasm.ome.tif``.
    report : callable
        Called with the name of each image, and a message if it failed.

    Raises
    ------
    UsageError
        When a folder has no label images, or they have no image in common.
    """
    import polars as pl

    inner = {(entry.path, entry.series): entry for entry in find_masks_of_run(nuclei)}
    outer = {(entry.path, entry.series): entry for entry in find_masks_of_run(cells)}
    common = [key for key in inner if key in outer]
    if not common:
        raise UsageError(f"{nuclei} and {cells} have no image in common: give two runs over the same images")
    if alone := len(inner) + len(outer) - 2 * len(common):
        logger.warning("images left out, since one folder alone has them: %d", alone)
    parents: list[pl.DataFrame] = []
    cytoplasm: list[pl.DataFrame] = []
    failed = 0
    for key in common:
        try:
            tables = _relate(nuclei, inner[key], cells, outer[key], output)
        except ImageError as error:
            failed += 1
            report(key[0], f"{error} [{error.reason}]")
            continue
        parents.append(tables[0])
        cytoplasm.append(tables[1])
        report(key[0], "")
    recorded, rest = (
        pl.concat(several, how="diagonal_relaxed") if several else pl.DataFrame() for several in (parents, cytoplasm)
    )
    related = recorded.drop("output", "label_hash", strict=False)
    for name, table in ((PARENTS, related), (CYTOPLASM, rest)):
        write_text(output / name, table.with_columns(safe_text()).write_csv())
    if parents:
        _record(nuclei, recorded.rename({"overlap": "parent_overlap"}))
    orphans = related["parent"].null_count() if len(related) else 0
    return Related(len(common) - failed, len(related), orphans, len(rest), failed)


def _record(nuclei: Path, parents: "pl.DataFrame") -> None:
    """Let the table of the nuclei have their parents."""
    try:
        with hold_output(nuclei, None):
            write_parents(nuclei, parents)
            write_known_tables(nuclei)
    except EnvironmentStoppedError as error:
        logger.warning("%s gets no columns of parents: %s", nuclei / CELLS_TEXT, error)


def share_channels(channels: tuple[str | int, ...], counts: Sequence[int]) -> list[tuple[str | int, ...]]:
    """Channels for each of several models: given in turn, or once for models of equally many.

    Parameters
    ----------
    channels : tuple
        As given.
    counts : sequence of int
        Channels that each model takes.

    Raises
    ------
    UsageError
        When the numbers do not go together.

    Examples
    --------
    >>> share_channels(("DAPI", "GFP", "RFP"), [1, 2])
    [('DAPI',), ('GFP', 'RFP')]
    >>> share_channels(("DAPI",), [1, 1])
    [('DAPI',), ('DAPI',)]
    """
    if len(channels) == sum(counts):
        ends = np.cumsum(counts).tolist()
        return [channels[end - count : end] for end, count in zip(ends, counts, strict=True)]
    if not channels or all(count == len(channels) for count in counts):
        return [channels] * len(counts)
    wanted = " and ".join(map(str, counts))
    raise UsageError(f"{len(channels)} times --channel, and the models take {wanted}: give those of each model in turn")


def _relate(nuclei: Path, inner: Entry, cells: Path, outer: Entry, output: Path) -> "tuple[pl.DataFrame, pl.DataFrame]":
    import polars as pl

    nucleus_mask, mask = describe_mask(nuclei, inner), describe_mask(cells, outer)
    inside, around = read_mask_of_run(nuclei, inner.output), read_mask_of_run(cells, outer.output)
    if inside.shape != around.shape:
        raise ImageError("size_differs", f"nuclei of {inside.shape} and cells of {around.shape}: segment both alike")
    _refuse_other_planes(nucleus_mask, mask)
    cytoplasm = subtract(around, inside)
    parents, rows = [], []
    for t, nucleus, cell, rest, grey, names in _frames(cells, outer, mask, inside, around, cytoplasm):
        place = {"path": outer.path, "series": outer.series, "t": t}
        parents.append(_parents(nucleus, cell, place))
        rows.append(_cytoplasm(cell, rest, grey, names, mask, parents[-1], place))
    write_labels(
        output / cytoplasm_name(result_name(outer.output)),
        cytoplasm,
        axes=mask.axes,
        pixel_size_um=mask.pixel_size_um,
        start=mask.start,
    )
    source = pl.lit(inner.output).alias("output"), pl.lit(label_hash(inside)).alias("label_hash")
    return pl.concat(parents).with_columns(*source), pl.concat(rows, how="diagonal_relaxed")


def _refuse_other_planes(nuclei: RunMask, cells: RunMask) -> None:
    """Refuse label images of other times or sections; those of a label image without provenance are unknown."""
    if not (nuclei.is_recorded and cells.is_recorded):
        return
    for name, inner, outer in (("time", nuclei.times, cells.times), ("section", nuclei.sections, cells.sections)):
        for one, other in zip(inner, outer, strict=False):
            if None not in (one, other) and one != other:
                raise ImageError(
                    "planes_differ", f"nuclei of {name} {one} lie over cells of {name} {other}: segment both alike"
                )


def _frames(
    cells: Path, entry: Entry, mask: RunMask, *stacks: NDArray[Any]
) -> Iterator[tuple[int | None, NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any] | None, tuple[str, ...]]]:
    """Time, label images and grey values of each frame."""
    opened = open_input(cells, entry, read_provenance(cells / provenance_name(entry.output)), None)
    several = len(mask.times) > 1
    all_names = channel_columns(opened.image.channel_names) if opened else ()
    for index, t in enumerate(mask.times):
        nucleus, cell, rest = (stack[index] if several else stack for stack in stacks)
        present = opened.present_channels(t) if opened else ()
        grey = opened.read_channels(t, present) if opened else None
        fits = grey is not None and grey.shape[1:] == cell.shape
        yield t, nucleus, cell, rest, grey if fits else None, tuple(all_names[channel] for channel in present)


def _parents(nucleus: NDArray[Any], cell: NDArray[Any], place: dict[str, Any]) -> "pl.DataFrame":
    import polars as pl

    found = find_parents(nucleus, cell)
    table = pl.DataFrame({"label": found.labels, "parent": found.parents, "overlap": found.shares})
    table = table.with_columns(pl.when(pl.col("parent") > 0).then(pl.col("parent")).alias("parent"))
    return _placed(table, place)


def _cytoplasm(
    cell: NDArray[Any],
    rest: NDArray[Any],
    grey: NDArray[Any] | None,
    names: tuple[str, ...],
    mask: RunMask,
    parents: "pl.DataFrame",
    place: dict[str, Any],
) -> "pl.DataFrame":
    """A row for each cell; the columns of its cytoplasm are empty where a nucleus fills it."""
    import polars as pl

    size = "area_px" if cell.ndim == 2 else "volume_px"
    measured = regions.measure(rest, grey, channel_names=names or None, pixel_size_um=mask.pixel_size_um)
    kept = {name: column for name, column in measured.items() if name == size or name.startswith("intensity_")}
    table = pl.DataFrame(
        {"label": measured["label"], **{f"cytoplasm_{name}": column for name, column in kept.items()}}, nan_to_null=True
    )
    labels = np.unique(cell[cell > 0]).astype(np.int64)
    counts = parents.drop_nulls("parent").group_by("parent").len("nuclei").rename({"parent": "label"})
    cells = (
        pl.DataFrame({"label": labels})
        .join(counts, on="label", how="left")
        .with_columns(pl.col("nuclei").fill_null(0).cast(pl.Int64))
    )
    return _placed(cells.join(table, on="label", how="left").sort("label"), place)


def _placed(table: "pl.DataFrame", place: dict[str, Any]) -> "pl.DataFrame":
    import polars as pl

    columns = [
        pl.lit(place["path"]).alias("path"),
        pl.lit(place["series"], dtype=pl.Int64).alias("series"),
        pl.lit(place["t"], dtype=pl.Int64).alias("t"),
    ]
    return table.select(*columns, *table.columns)
