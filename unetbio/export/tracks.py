"""Tracks for other programs: the folders of the Cell Tracking Challenge, and the files of TrackMate.

Sources: celltrackingchallenge.net (naming and content of results: ``mask000.tif``, ``res_track.txt``), and the files
that TrackMate 7 writes (fiji.plugin.trackmate.io.TmXmlWriter).
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.export.cells import ExportImage
from unetbio.files import atomic_path, write_text
from unetbio.io import write_labels
from unetbio.labels import label_hash
from unetbio.measurement import regions
from unetbio.output_layout import challenge_folder, result_name, time_lapse_name, trackmate_name
from unetbio.results.reuse import read_mask_of_run
from unetbio.results.tables.lineages import Lineage, frame_numbers

__all__ = ["ChallengeWriter", "TrackMateWriter"]

logger = logging.getLogger(__name__)

MAX_CHALLENGE_TRACKS = 65_535
"""Masks of the challenge have 16 bits."""


class _TracksWriter:
    """Write the tracks of time-lapses.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._has_written = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Say so if there was nothing to write; every file is complete."""
        if not self._has_written and exception[:1] in ((), (None,)):
            logger.warning(
                "no tracks are there: run unetbio track first, with --time-regex where each time is a file of its own"
            )

    def add(self, image: ExportImage) -> int:
        """Write the tracks that begin in a label image; returns their number.

        Raises
        ------
        ImageError
            ``no_tracks``, ``changed``: the time-lapse was not tracked, or its masks have changed since.
        """
        if image.lineage is None:
            if len(image.times) > 1:
                raise ImageError("no_tracks", "not tracked yet: run unetbio track on the folder first")
            logger.debug("%s: no time-lapse, left out", image.entry.path)
            return 0
        self.write(image, image.lineage, _frames(image, image.lineage))
        self._has_written = True
        return len(image.lineage.tracks)

    def write(self, image: ExportImage, lineage: Lineage, frames: list[NDArray[Any]]) -> None:
        """Write the files of a time-lapse."""
        raise NotImplementedError


def _frames(image: ExportImage, lineage: Lineage) -> list[NDArray[Any]]:
    """Label images of a time-lapse, by time."""
    stacks: dict[str, NDArray[Any]] = {image.entry.output: image.label_image[:]}
    frames = []
    for frame in lineage.frames:
        if frame.output not in stacks:
            stacks[frame.output] = read_mask_of_run(image.out, frame.output)
        stack = stacks[frame.output]
        if label_hash(stack) != frame.label_hash:
            raise ImageError("changed", f"{frame.output} has changed since it was tracked: run unetbio track again")
        is_series = sum(other.output == frame.output for other in lineage.frames) > 1
        frames.append(stack[frame.index] if is_series else stack)
    return frames


def _name(image: ExportImage, lineage: Lineage) -> tuple[str, int]:
    """Name of a time-lapse, and the number of digits of its times.

    Times that are files share a name without the time; if there is none (``t000.tif``), that of their folder.
    """
    digits = max(3, len(str(max(lineage.times))))
    results = [result_name(frame.output) for frame in lineage.frames]
    if len(set(results)) < 2:
        return image.name, digits
    for start, end in _runs_of_times(results, lineage.times):
        folder = Path(image.entry.input).absolute().parent.name
        return time_lapse_name(results[0], start, end) or folder or image.name, max(digits, end - start)
    return image.name, digits


def _runs_of_times(results: Sequence[str], times: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Digits of the first name that are its time, where all others differ from it in their time alone."""
    for run in re.finditer(r"\d+", results[0]):
        start, end = run.span()
        rest = re.compile(re.escape(results[0][:start]) + r"(\d+)" + re.escape(results[0][end:]))
        found = [rest.fullmatch(result) for result in results]
        if [match and int(match[1]) for match in found] == list(times):
            yield start, end


class ChallengeWriter(_TracksWriter):
    """Write ``x_RES/mask000.tif`` ... and ``x_RES/res_track.txt`` for each time-lapse; numbers are its times."""

    def write(self, image: ExportImage, lineage: Lineage, frames: list[NDArray[Any]]) -> None:
        """See `_TracksWriter`."""
        rows, numbers = _pieces(lineage)
        if len(rows) > MAX_CHALLENGE_TRACKS:
            raise ImageError("too_many_labels", f"{len(rows)} tracks, and 16 bits hold {MAX_CHALLENGE_TRACKS}")
        name, digits = _name(image, lineage)
        folder = self.folder / challenge_folder(name)
        for place, (frame, t) in enumerate(zip(frames, lineage.times, strict=True)):
            ids, inverse = np.unique(frame, return_inverse=True)
            table = np.array([numbers.get((place, label), 0) for label in ids.tolist()], np.uint16)
            _write_plain(folder / f"mask{t:0{digits}d}.tif", table[inverse].reshape(frame.shape))
        write_text(
            folder / "res_track.txt",
            "".join(
                f"{number} {lineage.times[first]} {lineage.times[last]} {parent}\n"
                for number, first, last, parent in rows
            ),
        )


def _pieces(lineage: Lineage) -> tuple[list[tuple[int, int, int, int]], Mapping[tuple[int, int], int]]:
    """Rows (number, first, last, parent) of tracks without gaps, by place, and the number of each cell.

    The challenge has no gaps: what follows one is a track of its own, whose parent is what came before. A time that is
    missing is one too.
    """
    rows: list[tuple[int, int, int, int]] = []
    frames = frame_numbers(lineage.times)
    numbers: dict[tuple[int, int], int] = {}
    last_piece: dict[int, int] = {}
    free = len(lineage.tracks) + 1
    for track in lineage.tracks:
        number, parent, start = track.number, -1, track.cells[0][0]
        before = start
        for place, label in track.cells:
            if frames[place] > frames[before] + 1:
                rows.append((number, start, before, parent))
                number, parent, start, free = free, number, place, free + 1
            numbers[place, label] = number
            before = place
        rows.append((number, start, before, parent))
        last_piece[track.number] = number
    parents = {track.number: last_piece.get(track.parent, 0) for track in lineage.tracks if track.parent}
    rows = [
        (number, first, last, parents.get(number, 0) if parent == -1 else parent)
        for number, first, last, parent in rows
    ]
    return sorted(rows), numbers


def _write_plain(path: Path, label_image: NDArray[np.uint16]) -> None:
    """Write a mask as plain TIFF, as the programs of the challenge read it."""
    write_labels(path, label_image)


class TrackMateWriter(_TracksWriter):
    """Write ``x_TrackMate.xml`` for each time-lapse."""

    def write(self, image: ExportImage, lineage: Lineage, frames: list[NDArray[Any]]) -> None:
        """See `_TracksWriter`."""
        with atomic_path(self.folder / trackmate_name(_name(image, lineage)[0])) as temporary:
            temporary.write_text("\n".join(_trackmate(image, lineage, frames)) + "\n", encoding="utf-8")


def _trackmate(image: ExportImage, lineage: Lineage, frames: list[NDArray[Any]]) -> list[str]:
    spots: dict[tuple[int, int], int] = {}
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<TrackMate version="7.11.1">',
        '<Model spatialunits="pixel" timeunits="frame">',
        "<FeatureDeclarations><SpotFeatures/><EdgeFeatures/><TrackFeatures/></FeatureDeclarations>",
        f'<AllSpots nspots="{sum(len(track.cells) for track in lineage.tracks)}">',
    ]
    first_section = image.first_section if frames[0].ndim == 3 else image.section or 0
    for place, (t, frame) in enumerate(zip(_frames_in_file(lineage), frames, strict=True)):
        lines.append(f'<SpotsInFrame frame="{t}">')
        columns = regions.measure(frame)
        for row, label in enumerate(columns["label"].tolist()):
            spots[place, label] = len(spots)
            x, y, z = (
                columns[f"centroid_{axis}_px"][row] if f"centroid_{axis}_px" in columns else 0.0 for axis in "xyz"
            )
            radius = columns["equivalent_diameter_px"][row] / 2
            lines.append(
                f'<Spot ID="{spots[place, label]}" name="{label}" POSITION_X="{x:.3f}" POSITION_Y="{y:.3f}" '
                f'POSITION_Z="{z + first_section:.3f}" POSITION_T="{t}.0" FRAME="{t}" RADIUS="{radius:.3f}" '
                'QUALITY="1.0" VISIBILITY="1"/>'
            )
        lines.append("</SpotsInFrame>")
    lines += ["</AllSpots>", "<AllTracks>"]
    trees = _trees(lineage)
    for number, edges in enumerate(trees):
        lines.append(f'<Track name="Track_{number}" TRACK_ID="{number}" TRACK_INDEX="{number}">')
        lines += [f'<Edge SPOT_SOURCE_ID="{spots[a]}" SPOT_TARGET_ID="{spots[b]}" LINK_COST="-1.0"/>' for a, b in edges]
        lines.append("</Track>")
    height, width = frames[0].shape[-2:]
    sections = max(image.stored.get("Z", 1), frames[0].shape[0] if frames[0].ndim == 3 else 1)
    times = max(image.stored.get("T", 1), len(frames))
    source = Path(image.entry.input)
    return [
        *lines,
        "</AllTracks>",
        "<FilteredTracks>",
        *(f'<TrackID TRACK_ID="{number}"/>' for number in range(len(trees))),
        "</FilteredTracks>",
        "</Model>",
        "<Settings>",
        f"<ImageData filename={quoteattr(source.name)} folder={quoteattr(str(source.parent) + '/')} "
        f'width="{width}" height="{height}" nslices="{sections}" nframes="{times}" pixelwidth="1.0" '
        'pixelheight="1.0" voxeldepth="1.0" timeinterval="1.0"/>',
        "</Settings>",
        "</TrackMate>",
    ]


def _frames_in_file(lineage: Lineage) -> Sequence[int]:
    """Number of each frame in the file of a time-lapse, whose times may be left out; files of one time are counted."""
    is_file = len({frame.output for frame in lineage.frames}) == 1
    return lineage.times if is_file else range(len(lineage.frames))


Edges = list[tuple[tuple[int, int], tuple[int, int]]]


def _trees(lineage: Lineage) -> list[Edges]:
    """Edges of each tree of tracks; TrackMate has no tracks without edges."""
    by_number = {track.number: track for track in lineage.tracks}
    roots: dict[int, int] = {}
    edges: dict[int, Edges] = {}
    for track in lineage.tracks:
        # A parent has a smaller number, since it begins earlier.
        root = roots[track.number] = roots.get(track.parent, track.number) if track.parent else track.number
        own = edges.setdefault(root, [])
        if track.parent:
            own.append((by_number[track.parent].cells[-1], track.cells[0]))
        own += zip(track.cells, track.cells[1:], strict=False)
    return [tree for tree in edges.values() if tree]
