"""Tracks of cells over time: a record beside the label image, and two tables of a folder.

``x_tracks.json`` holds the tracks of one time-lapse, ``tracks.csv`` a row for each cell of all of them, and
``lineages.csv`` a row for each track.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from unetbio.files import read_bytes, write_json, write_text
from unetbio.io.tables import csv_text
from unetbio.output_layout import LINEAGES, TRACKS, result_name, track_picture_name, tracked_name, tracks_name

__all__ = [
    "FrameOfTrack",
    "Lineage",
    "Track",
    "frame_numbers",
    "read_lineage",
    "replace_lineages",
    "write_lineage",
    "write_track_tables",
]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class FrameOfTrack(_Record):
    """One time of a time-lapse.

    Parameters
    ----------
    path : str
        Image in the tables.
    series : int, optional
        Of the image in its file.
    output : str
        Label image, from the output folder.
    label_hash : str
        Of the label image when it was tracked.
    index : int
        Frame in the label image.
    t : int
        Time.
    """

    path: str
    series: int | None = None
    output: str
    label_hash: str
    index: int
    t: int


class Track(_Record):
    """A cell over time.

    Parameters
    ----------
    number : int
        From 1.
    parent : int, optional
        Track that divided into this one.
    cells : tuple of (int, int)
        Position in the list of frames, and number of the cell in its label image, by time.
    """

    number: int
    parent: int | None = None
    cells: tuple[tuple[int, int], ...]


class Lineage(_Record):
    """Tracks of one time-lapse.

    Parameters
    ----------
    frames : tuple of FrameOfTrack
        By time.
    tracks : tuple of Track
        By number.
    settings : dict
        Options of ``unetbio track``.
    """

    frames: tuple[FrameOfTrack, ...]
    tracks: tuple[Track, ...]
    settings: dict[str, float | int | bool | None] = {}

    @property
    def times(self) -> tuple[int, ...]:
        """Time of each frame."""
        return tuple(frame.t for frame in self.frames)


def frame_numbers(times: Sequence[int]) -> tuple[int, ...]:
    """Numbers of frames: their times, counted in the smallest step between two of them.

    A time that is missing leaves out a number.

    Parameters
    ----------
    times : sequence of int
        Rising.

    Examples
    --------
    >>> frame_numbers([7, 8, 11]), frame_numbers([0, 10, 20, 40])
    ((7, 8, 11), (0, 1, 2, 4))
    """
    steps = [after - before for before, after in pairwise(times)]
    smallest = min(steps, default=1)
    return tuple(accumulate((round(step / smallest) for step in steps), initial=times[0] // smallest))


def write_lineage(out: Path, result: str, lineage: Lineage) -> None:
    """Write the record of a time-lapse."""
    write_json(out / tracks_name(result), lineage.model_dump(mode="json"))


def read_lineage(out: Path, result: str) -> Lineage | None:
    """Read the record of a time-lapse; None if it is missing or invalid."""
    try:
        return Lineage.model_validate_json(read_bytes(out / tracks_name(result)))
    except (OSError, ValidationError):
        return None


def replace_lineages(out: Path, results: Iterable[str], made: Sequence[Lineage]) -> list[Lineage]:
    """Remove earlier tracks of label images that were tracked again in another time-lapse.

    Parameters
    ----------
    out : pathlib.Path
        The output folder.
    results : iterable of str
        Names of all results of the folder.
    made : sequence of Lineage
        Time-lapses of this run, which are written.

    Returns
    -------
    list of Lineage
        Earlier time-lapses that stay.
    """
    begun = {result_name(lineage.frames[0].output) for lineage in made}
    tracked = {frame.output for lineage in made for frame in lineage.frames}
    stay = []
    for result in results:
        lineage = None if result in begun else read_lineage(out, result)
        if lineage is None:
            continue
        outputs = {frame.output for frame in lineage.frames}
        if outputs.isdisjoint(tracked):
            stay.append(lineage)
            continue
        names = [tracks_name(result), track_picture_name(result)]
        names += [tracked_name(result_name(output)) for output in outputs - tracked]
        for name in names:
            (out / name).unlink(missing_ok=True)
    return stay


def write_track_tables(out: Path, lineages: Sequence[Lineage]) -> None:
    """Write ``tracks.csv`` and ``lineages.csv``."""
    cells = ("path", "series", "t", "label", "track", "parent")
    write_text(out / TRACKS, csv_text([cells, *(row for lineage in lineages for row in _cells(lineage))]))
    tracks = ("path", "series", "track", "parent", "first_t", "last_t", "cells", "children")
    write_text(out / LINEAGES, csv_text([tracks, *(row for lineage in lineages for row in _tracks(lineage))]))


def _cells(lineage: Lineage) -> Iterator[Sequence[object]]:
    rows = [(place, label, track) for track in lineage.tracks for place, label in track.cells]
    for place, label, track in sorted(rows, key=lambda row: row[:2]):
        frame = lineage.frames[place]
        yield frame.path, frame.series, frame.t, label, track.number, track.parent


def _tracks(lineage: Lineage) -> Iterator[Sequence[object]]:
    children: dict[int, list[int]] = {}
    for track in lineage.tracks:
        if track.parent is not None:
            children.setdefault(track.parent, []).append(track.number)
    for track in lineage.tracks:
        first, last = (lineage.frames[track.cells[end][0]] for end in (0, -1))
        named = " ".join(map(str, children.get(track.number, ())))
        yield first.path, first.series, track.number, track.parent, first.t, last.t, len(track.cells), named
