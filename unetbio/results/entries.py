"""Images of an output folder, by its journals and provenances."""

import functools
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from unetbio.errors import UsageError
from unetbio.output_layout import described_mask, find_provenances, is_journal, provenance_name
from unetbio.provenance import read_provenance
from unetbio.results.journal import GONE, Entry, newest_entries, read_journals

__all__ = ["check_folder", "known_entries", "unjournaled_entries"]

logger = logging.getLogger(__name__)


def check_folder(out: Path) -> None:
    """Refuse what cannot be an output folder.

    Raises
    ------
    UsageError
        When it is no folder.
    """
    if not out.is_dir():
        raise UsageError(f"{out} is not a folder: give the output folder of unetbio segment")


def known_entries(out: Path) -> dict[str, Entry]:
    """Entries of all journals and provenances of an output folder, by label image or class mask.

    A label image with a provenance is done, even if a kill prevented its line in the journal. A failed file counts even
    if its input is missing, until a later run writes it, in whatever format. Missing label images are left out; a
    warning counts those that can be made again. So are images that a run found to be removed.
    """
    journals = _without_superseded(read_journals(out, warn=True))
    entries, gone = {}, {}
    for name, entry in journals.items():
        if entry.reason == GONE:
            continue
        if entry.status == "failed" or (out / name).exists():
            entries[name] = entry
        elif Path(entry.input).exists():
            gone[name] = entry
    removed = [name for name, entry in journals.items() if entry.reason == GONE]
    entries |= {entry.output: entry for entry in unjournaled_entries(out, journals, (*entries, *removed))}
    _warn_of_gone(gone, entries)
    return entries


def unjournaled_entries(out: Path, journals: Iterable[str], known: Iterable[str]) -> Iterator[Entry]:
    """Entries of the label images and class masks that their provenances alone describe.

    Where something was segmented into the folder itself, output folders below it are of other runs, which have tables
    of their own.

    Parameters
    ----------
    out : pathlib.Path
        The output folder; may be missing.
    journals : iterable of str
        Outputs in its journals.
    known : iterable of str
        Outputs that are known otherwise; their results are left out.
    """
    passed = {out / provenance_name(name) for name in known}
    for path in sorted(set(find_provenances(out, nested=not _has_own_results(out, journals))) - passed):
        provenance = read_provenance(path)
        mask = described_mask(path, provenance.output.name) if provenance else None
        if provenance is None or mask is None or not mask.exists() or not mask.is_relative_to(out):
            continue
        if mask.name != PurePosixPath(provenance.output.name).name:
            # A copy under another name, such as one that was put aside.
            continue
        output = mask.relative_to(out).as_posix()
        yield Entry(
            output,
            provenance.input.path,
            provenance.input.absolute,
            "done",
            series=provenance.settings.get("series"),
            columns=provenance.columns,
            path_columns=provenance.path_columns,
            place=provenance.place,
        )


def _has_own_results(out: Path, journals: Iterable[str]) -> bool:
    """Whether an output in the journals of a folder lies in no output folder below it.

    `measure` notes columns from paths of all outputs in the journal of the folder that it measures.
    """

    @functools.cache
    def has_journal(folder: Path) -> bool:
        return any(is_journal(path.name) for path in folder.glob("*"))

    return any(not any(has_journal(out / above) for above in PurePosixPath(name).parents[:-1]) for name in journals)


def _without_superseded(journals: Mapping[str, Entry]) -> dict[str, Entry]:
    """Entries without those of another format where the result failed before or since; edited masks stay."""
    newest = newest_entries(journals.values())

    def counts(entry: Entry) -> bool:
        last = newest[provenance_name(entry.output)]
        return entry is last or (entry.status != "failed" and last.has_mask)

    return {name: entry for name, entry in journals.items() if counts(entry)}


def _warn_of_gone(gone: Mapping[str, Entry], entries: Mapping[str, Entry]) -> None:
    # One that was made again in another format, or of an image that has another, is not missing.
    results, images = {provenance_name(name) for name in entries}, {entry.image for entry in entries.values()}
    names = [name for name, entry in gone.items() if provenance_name(name) not in results and entry.image not in images]
    if len(names) == 1:
        logger.warning("1 mask is gone: %s; segment makes it again", names[0])
    elif names:
        logger.warning("%d masks are gone, such as %s; segment makes them again", len(names), names[0])
