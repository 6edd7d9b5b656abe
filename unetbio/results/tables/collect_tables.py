"""Collect the results in an output folder into its tables."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from unetbio.errors import ImageError, UnetbioError, UsageError
from unetbio.files import stamp
from unetbio.machine import available_cores
from unetbio.measurement.regions import Features
from unetbio.measurement.table_schema import SECTION
from unetbio.notes import say_without_effect
from unetbio.output_layout import SUMMARY, holds_classes, provenance_name
from unetbio.provenance import NOT_EXACT, Fingerprint, Provenance, read_provenance
from unetbio.results.entries import check_folder, known_entries
from unetbio.results.journal import Entry, Journal, hold_output, journal_path
from unetbio.results.result_files import Outcome
from unetbio.results.reuse import KeptResult, remove_leftovers, state_of_labels
from unetbio.results.tables.cells import CachedCells, CellStore
from unetbio.results.tables.measure_cells import (
    measure_again,
    pixel_size_of,
    sections_unlinked,
    with_class_counts,
    with_given_size,
)
from unetbio.results.tables.measured_from import TableOptions, fits_without_input, sources_of
from unetbio.results.tables.path_columns import add_path_columns
from unetbio.results.tables.write import write_tables
from unetbio.settings.runs import MeasureRun
from unetbio.settings.values import PixelSize

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "OnOutcome",
    "Summary",
    "measure",
    "reuse_or_measure",
    "summarize",
    "tidy",
    "write_all_tables",
    "write_known_tables",
]

logger = logging.getLogger(__name__)

OnOutcome = Callable[[Outcome], None]


@dataclass(frozen=True)
class Summary:
    """Counts of a batch.

    ``cells`` is None for class masks, ``table`` is None if none was written; ``unlike`` counts the images that are
    unlike the training images of the model, by reason, and ``not_exact`` those whose masks tiles may change.
    """

    images: int
    cells: int | None
    failed: int
    table: Path | None
    unlike: Mapping[str, int] = field(default_factory=dict)
    not_exact: Mapping[str, int] = field(default_factory=dict)


def summarize(outcomes: Sequence[Outcome], table: Path | None) -> Summary:
    """Count images, cells and failures."""
    failed = sum(outcome.entry.status == "failed" for outcome in outcomes)
    counts = [outcome.n_cells for outcome in outcomes if outcome.frames]
    only_classes = bool(counts) and all(count is None for count in counts)
    cells = None if only_classes else sum(count or 0 for count in counts)
    unlike, not_exact = (_count_reasons(outcomes, warning) for warning in ("unlike_training", NOT_EXACT))
    return Summary(len(outcomes), cells, failed, table, unlike, not_exact)


def _count_reasons(outcomes: Sequence[Outcome], warning: str) -> Counter[str]:
    """Count the images with a warning by its reason; the first of the frames that has it counts."""
    found = (_reason(outcome, f"{warning}:") for outcome in outcomes)
    return Counter(reason for reason in found if reason)


def _reason(outcome: Outcome, start: str) -> str:
    warnings = (warning for frame in outcome.frames for warning in frame.warnings)
    return next((warning.removeprefix(start) for warning in warnings if warning.startswith(start)), "")


def measure(
    out: str | os.PathLike[str],
    *,
    expand: float | None = None,
    pixel_size: PixelSize | None = None,
    features: Features = "basic",
    metadata_regex: str | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    on_outcome: OnOutcome = lambda outcome: None,
) -> Summary:
    """Measure the label images of an output folder and write its tables, as the command ``unetbio measure`` does.

    Rows of images that were measured like this and have not changed since are kept; files that killed jobs were
    writing are removed.

    Parameters
    ----------
    out : path
        Output folder of a run, or of all parts of one.
    expand : float, optional
        Measure the ring of background around each cell too, this many micrometres wide.
    pixel_size : float or tuple of two floats, optional
        Micrometres, instead of what is known of the images; of stacks ``(Z, YX)``.
    features : {"basic", "shape", "texture", "all"}
        Further columns: of shape, of grey values and texture, or both.
    metadata_regex : str, optional
        See `unetbio.results.tables.path_columns.add_path_columns`.
    overwrite : bool
        Measure all images again, also those that have not changed.
    workers : int, optional
        Threads that measure; all cores of this process unless given.
    on_outcome : callable
        Called with the `Outcome` of each image.

    Raises
    ------
    UsageError
        When there is nothing to measure, or the regular expression cannot be used.
    """
    run = MeasureRun(expand, pixel_size, features, metadata_regex, workers, overwrite)
    out, asked = Path(out), TableOptions(run.expand, run.pixel_size, run.features)
    check_folder(out)
    with hold_output(out, None):
        remove_leftovers(out)
        known = list(known_entries(out).values())
        entries = add_path_columns(known, metadata_regex)
        if not entries:
            raise UsageError(
                f"{out} holds no results of unetbio segment: neither journals nor *_labels.json or *_classes.json"
            )
        _say_without_effect(asked, entries)
        _remember_columns(out, known, entries)
        with ThreadPoolExecutor(workers or available_cores()) as pool:
            cached = None if overwrite else CachedCells(out)
            cells, outcomes, without_rings = CellStore(out, None, asked), [], _WithoutRings()
            changed = _ChangedInputs(out)
            for outcome in pool.map(partial(reuse_or_measure, out, cached=cached, asked=asked), entries):
                on_outcome(outcome)
                without_rings.add(outcome)
                changed.add(outcome)
                outcomes.append(cells.add(outcome))
        write_tables(out, outcomes, cells)
    without_rings.warn(len(outcomes))
    _warn_of_gone_inputs(outcomes)
    changed.warn(len(outcomes))
    return summarize(outcomes, out / SUMMARY)


def _say_without_effect(asked: TableOptions, entries: Sequence[Entry]) -> None:
    """Say which options have no effect, since all masks are of classes."""
    given = {"--expand": asked.expand_um is not None, f"--features {asked.features}": asked.features != "basic"}
    if all(holds_classes(entry.output) for entry in entries):
        for option in (option for option, is_given in given.items() if is_given):
            say_without_effect(option, "class masks have no cells")


def _remember_columns(out: Path, before: Sequence[Entry], now: Sequence[Entry]) -> None:
    """Record new columns of paths in the journal, so that the next run writes them too."""
    changed = [entry for old, entry in zip(before, now, strict=True) if entry.columns != old.columns]
    if changed:
        with Journal(journal_path(out, None)) as journal:
            for entry in changed:
                journal.append(replace(entry, time=Entry.now()))


def tidy(out: Path, write_page: Callable[[Path], object] | None = None) -> None:
    """Remove temporary files of killed jobs, and write the tables again on request.

    Parameters
    ----------
    out : pathlib.Path
        The output folder; may be missing.
    write_page : callable, optional
        Write the tables again, then the page with this function.

    Raises
    ------
    EnvironmentStoppedError
        When another run works in the folder.
    """
    if out.is_dir():
        with hold_output(out, None):
            remove_leftovers(out)
            if write_page is not None:
                write_known_tables(out)
                write_page(out)


# Column of rings that is empty, the cause, and the remedy.
_MISSING_SIZES = {
    "ring_area_px": ("no pixel size", "--pixel-size UM, such as 0.5"),
    "ring_volume_px": ("no pixel size along all of Z, Y and X", "--pixel-size Z,UM, such as 2,0.5"),
}


class _WithoutRings:
    """Images whose columns of rings are empty."""

    def __init__(self) -> None:
        self._paths: dict[str, list[str]] = {column: [] for column in _MISSING_SIZES}

    def add(self, outcome: Outcome) -> None:
        for column, paths in self._paths.items():
            if _is_empty(outcome.cells, column):
                paths.append(outcome.entry.path)

    def warn(self, count: int) -> None:
        """Warn of them, among ``count`` images."""
        for column, paths in self._paths.items():
            if paths:
                what, remedy = _MISSING_SIZES[column]
                logger.warning(
                    "%s that can be trusted in %d of %d images, such as %s: their ring columns are empty; "
                    "measure again with %s",
                    what,
                    len(paths),
                    count,
                    paths[0],
                    remedy,
                )


def _warn_of_gone_inputs(outcomes: Sequence[Outcome]) -> None:
    gone = [outcome.entry.path for outcome in outcomes if outcome.input_gone]
    if gone:
        logger.warning(
            "%d of %d images are not there, such as %s: the rows of their masks, which have not changed, are kept",
            len(gone),
            len(outcomes),
            gone[0],
        )


class _ChangedInputs:
    """Images that were measured on a file that has changed since it was segmented."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._paths: list[str] = []
        # A file may hold hundreds of images.
        self._is_same = cache(_is_same)

    def add(self, outcome: Outcome) -> None:
        record = outcome.measured_on
        source = record.find((self._out / outcome.entry.output).parent) if record else None
        if record and source and not record.agrees(source, self._is_same):
            self._paths.append(outcome.entry.path)

    def warn(self, count: int) -> None:
        """Warn of them, among ``count`` images."""
        if self._paths:
            logger.warning(
                "%d of %d images have changed since they were segmented, such as %s: they were measured as they are "
                "now; verify names them all, and segment makes their masks again, except those edited by hand",
                len(self._paths),
                count,
                self._paths[0],
            )


def _is_same(known: Fingerprint, path: Path) -> bool:
    """Whether a file holds the same bytes; as for `sources_of`, its size and the time of its content are sufficient."""
    with suppress(OSError):
        if stamp(path)[:2] == (known.size, known.mtime_ns):
            return True
    return known.matches(path)


def _is_empty(table: "pl.DataFrame | None", column: str) -> bool:
    if table is None or table.is_empty() or column not in table.columns:
        return False
    return table[column].null_count() == len(table)


def write_known_tables(out: Path) -> None:
    """Write the tables of all results in the folder again, with the options of the tables."""
    cached = CachedCells(out)
    write_all_tables(out, [], CellStore(out, None, cached.options), cached)


def write_all_tables(out: Path, outcomes: Sequence[Outcome], cells: CellStore, cached: CachedCells) -> None:
    """Write the tables of these outcomes, whose cells are stored, and of all other results in the folder."""
    # Label images of one image in two formats share a provenance.
    mine = {provenance_name(outcome.entry.output) for outcome in outcomes}
    others = [entry for name, entry in known_entries(out).items() if provenance_name(name) not in mine]
    write_tables(out, [*outcomes, *(cells.add(reuse_or_measure(out, entry, cached)) for entry in others)], cells)


def reuse_or_measure(
    out: Path,
    entry: Entry,
    cached: CachedCells | None,
    kept: KeptResult | None = None,
    *,
    asked: TableOptions | None = None,
) -> Outcome:
    """Take the cells of an earlier result from the table if they still fit, or measure them again.

    Rows fit if they were measured on the same files with the options ``asked`` for (by default those of the table).
    """
    if entry.status == "failed":
        return Outcome(entry)
    is_intact = True
    if kept is None:
        provenance = read_provenance(out / provenance_name(entry.output))
        state = state_of_labels(out / entry.output, provenance)
        is_intact = state == "intact"
        kept = KeptResult(state == "edited", provenance)
    options = asked or (cached.options if cached else TableOptions())
    sources = None
    try:
        if kept.provenance and not kept.edited and is_intact:
            sources = sources_of(out, entry, kept.provenance, options)
            found = _find(out, cached, entry, kept.provenance, sources, options) if cached else None
            if found is not None:
                return found
        measured = measure_again(out, entry, kept.provenance, options, edited=kept.edited)
        record = kept.provenance.input if kept.provenance else None
        return replace(measured, measured_from=sources or "", measured_on=record)
    except ImageError as error:
        return Outcome(replace(entry, status="failed", reason=error.reason, message=str(error)))
    except UnetbioError:
        raise
    except Exception as error:
        # As in a run, an internal error fails this image only.
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return Outcome(replace(entry, status="failed", reason="internal", message=f"internal error ({text})"))


def _find(
    out: Path,
    cached: CachedCells,
    entry: Entry,
    provenance: Provenance,
    sources: str | None,
    options: TableOptions,
) -> Outcome | None:
    """Earlier measurements of a label image that has not changed; None if there are none that fit."""
    digest = provenance.output.label_hash
    size = options.pixel_size_um
    given = provenance if size is None else with_given_size(provenance, size)
    if holds_classes(entry.output):
        return Outcome(entry, provenance.frames, pixel_size_of(given), digest)
    known = cached.sources_of(entry.output)
    # An image cannot be measured again without its input, so its rows are kept.
    is_gone = sources is None
    fits = fits_without_input(known, out, entry, provenance, options) if is_gone else known == sources
    cells = cached.find(entry.output, digest) if fits else None
    # Linked and unlinked sections can give the same label image with different rows.
    if cells is None or (SECTION in cells.columns) != sections_unlinked(provenance):
        return None
    found = Outcome(entry, provenance.frames, pixel_size_of(given), digest, cells, known, input_gone=is_gone)
    return with_class_counts(found, provenance)
