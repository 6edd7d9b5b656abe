"""Select failed images of an output folder, and forget images whose files were removed."""

import csv
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from unetbio.batch.plan import select_part
from unetbio.files import real_path
from unetbio.io.missing import MISSING_POSITION
from unetbio.io.remote import is_copy
from unetbio.io.tables import read_csv
from unetbio.output_layout import SUMMARY, result_name
from unetbio.results.entries import unjournaled_entries
from unetbio.results.items import Item
from unetbio.results.journal import (
    GONE,
    Entry,
    Journal,
    Part,
    hold_output,
    journal_path,
    newest_entries,
    read_journals,
)

__all__ = ["forget_gone", "select_failed"]


def select_failed(items: Sequence[Item], out: Path) -> list[Item]:
    """The items that failed in an earlier run: during segmentation (journals) or measurement (summary).

    Parameters
    ----------
    items : sequence of Item
        All images of this run.
    out : pathlib.Path
        The output folder; may be missing.
    """
    newest = newest_entries(read_journals(out).values())
    written = {name for name, entry in newest.items() if entry.status == "failed"}
    measured = _failed_rows(out / SUMMARY)
    return [item for item in items if item.provenance in written or (item.path, _text(item.series)) in measured]


def forget_gone(items: Sequence[Item], out: Path, part: Part | None, *, unlisted: bool = False) -> list[str]:
    """Record in the journal that images are gone, so that they leave the tables; their masks stay.

    A missing file counts as removed if the items come from its folder or table and do not include it. A missing file
    that is still requested stays a failure. A series or a region that the file does not hold no longer counts once the
    file is given with another one, or a position that lacks all planes once the file is given with ``partial``; nor
    does a failure of a file as one image that is seen to hold several now, or of one of several if it holds one.

    Parameters
    ----------
    items : sequence of Item
        All images of the source, also those that this run leaves out.
    out : pathlib.Path
        The output folder; may be missing.
    part : Part, optional
        Consider only the files of this job, and those that no journal knows.
    unlisted : bool
        Failures from the folder or table of the items that are not among them are gone too, though their files are
        there.

    Returns
    -------
    list of str
        Paths of these images as in the tables, with their series.

    Raises
    ------
    EnvironmentStoppedError
        When another run uses the folder, or it cannot be written.
    """
    listed = {item.result for item in items}
    journals = read_journals(out)
    # The job that has made the others may have had no other file, and so be none of the jobs now.
    entries = [entry for entry in journals.values() if part is None or _is_of(entry, part)]
    entries += unjournaled_entries(out, journals, (*journals, *(item.labels for item in items)))
    others = [entry for entry in entries if entry.reason != GONE and result_name(entry.output) not in listed]
    if not others:
        return []
    now = _Listed.of(items)
    measured = _failed_rows(out / SUMMARY) if unlisted else set()

    def is_given_up(entry: Entry) -> bool:
        has_failed = entry.status == "failed" or (entry.path, _text(entry.series)) in measured
        return unlisted and has_failed and now.is_source_of(entry)

    # Journals have them in the order in which workers ended.
    gone = sorted((one for one in others if now.lacks(one) or is_given_up(one)), key=lambda entry: entry.order)
    if gone:
        with hold_output(out, part), Journal(journal_path(out, part)) as journal:
            for entry in gone:
                journal.append(replace(entry, status="skipped", reason=GONE, message="", time=Entry.now()))
    return [now.title(entry) for entry in gone]


def _is_of(entry: Entry, part: Part) -> bool:
    return bool(select_part([Item(Path(entry.input), entry.file)], part))


def _is_there(path: Path) -> bool:
    """Whether a file exists, or may exist: its folder cannot be searched, or it is fetched from an address."""
    try:
        return path.exists() or is_copy(path)
    except OSError:
        return True


@dataclass(frozen=True)
class _Listed:
    """What the items of a run are made of.

    Parameters
    ----------
    series : dict
        Series of each file; None of a file with one image.
    origins : set
        Folders that paths in the tables start from.
    pieces : set of pathlib.Path
        Files of images that consist of several.
    sets : set of str
        Paths of these images.
    partial : set of pathlib.Path
        Files of which missing positions are left out.
    """

    series: Mapping[Path, Set[int | None]]
    origins: Set[PurePath | None]
    pieces: Set[Path]
    sets: Set[str]
    partial: Set[Path]

    @classmethod
    def of(cls, items: Sequence[Item]) -> "_Listed":
        sources = {(real_path(item.source), item.path, item.series, item.settings.partial) for item in items}
        series: dict[Path, set[int | None]] = {}
        for source, _, number, _ in sources:
            series.setdefault(source, set()).add(number)
        sets = {item.file: item.image_set.paths for item in items if item.image_set}
        return cls(
            series,
            {_origin(source, path) for source, path, *_ in sources} - {None},
            {real_path(file) for files in sets.values() for file in files},
            sets.keys(),
            {source for source, *_, is_partial in sources if is_partial},
        )

    def is_source_of(self, entry: Entry) -> bool:
        """Whether the items come from the folder, or table, that an entry came from."""
        return _origin(Path(entry.input), entry.path) in self.origins

    def lacks(self, entry: Entry) -> bool:
        """Whether an entry, of another result than those of the items, is of an image that is no longer asked for."""
        path = Path(entry.input)
        # The first file of a set is the input of all its regions, which are no pieces.
        if path in self.pieces and entry.file not in self.sets:
            return True
        if not _is_there(path):
            return self.is_source_of(entry)
        listed = self.series.get(path, set())
        if entry.reason in ("no_such_series", "no_such_region"):
            return bool(listed)
        if entry.reason == MISSING_POSITION and path in self.partial:
            return True
        is_other_kind = None not in listed if entry.series is None else listed == {None}
        return entry.status == "failed" and bool(listed) and is_other_kind

    def title(self, entry: Entry) -> str:
        """The image as in the tables; of a file that is there, which image of it, or that it is listed no longer."""
        path = Path(entry.input)
        if entry.series is not None:
            return f"{entry.path}, series {entry.series}"
        if entry.file != entry.path:
            return entry.path
        if path in self.series or path in self.pieces:
            return f"{entry.path}, as one image"
        return f"{entry.path}, no longer in the table" if _is_there(path) else entry.path


def _origin(source: Path, path: str) -> PurePath | None:
    """The folder that the path in the tables starts from; None if a link leads elsewhere.

    The files of a set have other names than its path, and may lie in folders below it.
    """
    folders = PurePath(path).parts[:-1]
    above = source.parts[:-1]
    for start in range(len(above) - len(folders), 0, -1):
        if above[start : start + len(folders)] == folders:
            return PurePath(*above[:start])
    return None


def _failed_rows(summary: Path) -> set[tuple[str, str]]:
    """Path and series of each failed row; none of a summary that another program saved in a way of its own."""
    if not summary.is_file():
        return set()
    try:
        header, *rows = read_csv(summary) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error):
        return set()
    records = [dict(zip(header, row, strict=False)) for row in rows]
    failed = [record for record in records if record.get("status") == "failed"]
    return {(record.get("path", ""), record.get("series", "")) for record in failed}


def _text(series: int | None) -> str:
    return "" if series is None else str(series)
