"""``run.jsonl``: one line a file, appended when the file is finished, so that a killed run can continue."""

import contextlib
import dataclasses
import json
import logging
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, Literal

from pydantic import Field, TypeAdapter

from unetbio.errors import UsageError
from unetbio.files import lock, open_regular, read_bytes, stopping
from unetbio.output_layout import JOURNAL, LOCK, is_journal, job_journal_name, job_lock_name, provenance_name
from unetbio.provenance import MOST

__all__ = [
    "GONE",
    "Entry",
    "Journal",
    "Part",
    "count_damaged",
    "hold_output",
    "newest_entries",
    "parse_part",
    "read_journals",
]

logger = logging.getLogger(__name__)

Status = Literal["done", "failed", "skipped"]

GONE = "gone"
"""Reason of a line whose file failed before and has been removed since."""


@dataclass(frozen=True)
class Part:
    """One of ``count`` jobs that share an output folder; ``index`` counts from 1."""

    index: int
    count: int

    @property
    def label(self) -> str:
        """``K-of-N``, as in file names."""
        return f"{self.index}-of-{self.count}"


@dataclass(frozen=True)
class Entry:
    """Result of one file.

    Parameters
    ----------
    output : str
        Label image, relative to the output folder, with forward slashes; identifies the line.
    path : str
        Name of the input in the tables.
    input : str
        Absolute path of the input.
    status : {"done", "failed", "skipped"}
        ``skipped``: kept from an earlier run; ``reason`` is ``unchanged`` or ``edited``.
    series : int, optional
        Index of the image in its file, when one was asked for.
    reason, message : str
        Of a failed file: reason code, and the line shown to the user; of a mask that could not be measured the line.
    columns : dict
        Further columns: of the user's table, and of the path.
    path_columns : sequence of str
        Names of the columns that come from the path. Another ``--metadata-regex`` removes them.
    place : dict
        Plate, well, row, column and field of the image, or its position in the file: further columns.
    time : str
        End of the work on the file, UTC, ISO 8601.
    """

    output: str
    path: str
    input: str
    status: Status
    series: Annotated[int, Field(ge=0, le=MOST)] | None = None
    reason: str = ""
    message: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    path_columns: Sequence[str] = ()
    place: dict[str, str] = field(default_factory=dict)
    time: str = field(default_factory=lambda: Entry.now())

    @property
    def has_mask(self) -> bool:
        """Whether there is a mask of it; one that was edited by hand stays where it cannot be that of the image."""
        return self.status != "failed" or self.reason == "edited"

    @property
    def file(self) -> str:
        """Name of the file in the tables: the path without the region."""
        return self.path.rpartition("#xywh=")[0] if "image_region" in self.place else self.path

    @property
    def image(self) -> tuple[str, int, str]:
        """The image itself, whatever its names: file, series and region."""
        return self.input, self.series or 0, self.place.get("image_region", "")

    @property
    def order(self) -> tuple[str, int, str]:
        """Its place among those of a folder: by path and series."""
        return self.path, self.series or 0, self.output

    @property
    def further_columns(self) -> dict[str, str]:
        """Columns of all tables besides those of the program; the user's override those of the place."""
        return {**self.place, **self.columns}

    @staticmethod
    def now() -> str:
        """The current time as journal lines write it."""
        return datetime.now(UTC).isoformat(timespec="microseconds")


_ENTRY = TypeAdapter(Entry)

# Earlier versions wrote none.
_CHECKED = re.compile(rb', "(.{3})": "([0-9a-f]{8})"}\s*$')


class Journal:
    """An open journal, to append to.

    Parameters
    ----------
    path : path-like
        Made if missing. An incomplete last line, left by a killed run, is ended and later ignored.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._stream: IO[str] | None = None

    def __enter__(self) -> "Journal":
        with stopping(self.path):
            torn = self.path.is_file() and not read_bytes(self.path).endswith(b"\n") and self.path.stat().st_size > 0
            self._stream = open_regular(self.path, "a", encoding="utf-8")
            if torn:
                self._stream.write("\n")
        return self

    def __exit__(self, *exception: object) -> None:
        if self._stream:
            # `append` has reported what could not be written; closing would repeat it.
            with contextlib.suppress(OSError):
                self._stream.close()

    def append(self, entry: Entry) -> None:
        """Write one line and hand it to the operating system.

        Raises
        ------
        EnvironmentStoppedError
            When the disk is full.
        """
        if self._stream is None:
            raise ValueError("the journal is not open")
        with stopping(self.path):
            self._stream.write(_line(entry))
            self._stream.flush()


def journal_path(out: Path, part: Part | None) -> Path:
    """``run.jsonl`` or ``run.K-of-N.jsonl``."""
    return out / (job_journal_name(part.label) if part else JOURNAL)


def read_journals(out: Path, *, warn: bool = False) -> dict[str, Entry]:
    """The last line of each file, by its output, from all journals of a folder.

    Unreadable lines, such as an incomplete one of a killed run, are skipped; ``warn`` counts them in one warning.
    """
    paths = sorted(path for path in out.glob("*") if is_journal(path.name))
    lines = [line for path in paths for line in read_bytes(path).splitlines() if line.strip()]
    entries = [entry for line in lines if (entry := _parse(line))]
    if warn and (count := len(lines) - len(entries)):
        logger.warning("%s: lines of its journal that cannot be read: %d; they count as missing", out, count)
    entries.sort(key=lambda entry: entry.time)
    return {entry.output: entry for entry in entries}


def newest_entries(entries: Iterable[Entry]) -> dict[str, Entry]:
    """The last of these entries of each result, by its provenance, which masks of two formats share."""
    return {provenance_name(entry.output): entry for entry in sorted(entries, key=lambda entry: entry.time)}


@contextlib.contextmanager
def hold_output(out: Path, part: Part | None, *, patience: float = 0.0) -> Iterator[None]:
    """Lock the output folder: for one whole run, or for each part, while other parts run.

    Another run is waited for so many seconds.

    Raises
    ------
    EnvironmentStoppedError
        When another run holds it, or it cannot be written.
    """
    if part is None:
        with lock(out / LOCK, patience=patience):
            yield
    else:
        with lock(out / LOCK, shared=True), lock(out / job_lock_name(part.label)):
            yield


def parse_part(text: str) -> Part:
    """``K/N``, counted from 1.

    Raises
    ------
    UsageError
        When it is not of this form, or K is not one of 1 to N.
    """
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--part {text} is not K/N with K from 1 to N: for ten jobs give 1/10, 2/10 ... 10/10")
    return Part(int(match[1]), int(match[2]))


def count_damaged(path: Path) -> int:
    """Number of lines in a journal that are not as they were written."""
    lines = [line for line in read_bytes(path).splitlines() if line.strip()]
    return sum(_parse(line) is None for line in lines)


def _line(entry: Entry) -> str:
    text = json.dumps(dataclasses.asdict(entry), ensure_ascii=False).removesuffix("}")
    # Names that are no UTF-8 are written as the bytes they are.
    return f'{text}, "crc": "{zlib.crc32(os.fsencode(text)):08x}"}}\n'


def _parse(line: bytes) -> Entry | None:
    """The entry of a line; None if it is incomplete, a value is invalid, or it differs from its checksum.

    So is an output that lies elsewhere.
    """
    checked = _CHECKED.search(line)
    if checked and (checked[1] != b"crc" or int(checked[2], 16) != zlib.crc32(line[: checked.start()])):
        return None
    try:
        entry = _ENTRY.validate_json(line, strict=True)
        datetime.fromisoformat(entry.time)
    except ValueError:
        return None
    place = PurePosixPath(entry.output)
    is_below = bool(place.parts) and not place.is_absolute() and ".." not in place.parts
    return entry if is_below and "\0" not in entry.output + entry.input else None
