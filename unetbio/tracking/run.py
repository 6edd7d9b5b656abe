"""Track the time-lapses of an output folder."""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError, UsageError
from unetbio.io import write_labels
from unetbio.labels import label_dtype, label_hash
from unetbio.measurement import regions
from unetbio.output_layout import provenance_name, result_name, track_picture_name, tracked_name
from unetbio.provenance import read_provenance
from unetbio.results.corrections import RunMask, describe_mask, find_masks_of_run
from unetbio.results.entries import check_folder
from unetbio.results.journal import Entry, hold_output
from unetbio.results.reuse import read_mask_of_run
from unetbio.results.tables.collect_tables import write_known_tables
from unetbio.results.tables.lineages import (
    FrameOfTrack,
    Lineage,
    Track,
    frame_numbers,
    replace_lineages,
    write_lineage,
    write_track_tables,
)
from unetbio.results.tables.measure_cells import open_as_segmented, sections_unlinked, segmented_channels
from unetbio.settings.runs import LARGEST_GAP, TrackRun
from unetbio.tracking.linking import Cells, check_laptrack, link_cells

__all__ = ["Tracked", "track_folder"]

logger = logging.getLogger(__name__)

PICTURE_FRAMES = 12

Picture = Callable[[Path, Sequence[tuple[NDArray[Any] | None, NDArray[Any]]]], None]
Report = Callable[[str, str], None]


@dataclass(frozen=True)
class Tracked:
    """Counts of a tracked output folder."""

    time_lapses: int
    tracks: int
    divisions: int
    failed: int


@dataclass(frozen=True)
class _Sequence:
    """Label images of one time-lapse: one with several frames, or several with their times."""

    entries: tuple[Entry, ...]
    times: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        return self.entries[0].path

    @property
    def result(self) -> str:
        return result_name(self.entries[0].output)


def track_folder(
    out: Path, run: TrackRun, draw: Picture | None = None, report: Report = lambda name, message: None
) -> Tracked:
    """Track all time-lapses of an output folder, and write tables, label images and pictures.

    Parameters
    ----------
    out : path
        Output folder of a run.
    run : TrackRun
        Options.
    draw : callable, optional
        Draws the picture of a time-lapse.
    report : callable
        Called with the name of each time-lapse, and a message if it failed.

    Raises
    ------
    UsageError
        When laptrack is missing, the folder holds no time-lapse, or the regular expression cannot be used.
    """
    check_laptrack()
    check_folder(out)
    with hold_output(out, None):
        entries = find_masks_of_run(out)
        sequences = _sequences(out, entries, run.time_regex)
        lineages: list[Lineage] = []
        failed = 0
        for sequence in sequences:
            try:
                lineages.append(_track(out, sequence, run, draw))
            except ImageError as error:
                failed += 1
                report(sequence.name, f"{error} [{error.reason}]")
                continue
            report(sequence.name, "")
        others = replace_lineages(out, [result_name(entry.output) for entry in entries], lineages)
        write_track_tables(out, [*lineages, *others])
        write_known_tables(out)
    tracks = [track for lineage in lineages for track in lineage.tracks]
    divisions = len({(id(lineage), track.parent) for lineage in lineages for track in lineage.tracks if track.parent})
    return Tracked(len(lineages), len(tracks), divisions, failed)


def _sequences(out: Path, entries: Sequence[Entry], time_regex: str | None) -> list[_Sequence]:
    if time_regex:
        return _by_name(entries, _time_expression(time_regex))
    found = [_Sequence((entry,)) for entry in entries if len(_described(out, entry).times) > 1]
    if not found:
        raise UsageError(
            f"{out} holds no time-lapse; for files of one time each say --time-regex, such as '_t(?P<t>[0-9]+)'"
        )
    return found


def _described(out: Path, entry: Entry) -> RunMask:
    try:
        return describe_mask(out, entry)
    except ImageError:
        return RunMask(entry, "YX", (), (None,), (None,), {}, {})


def _time_expression(text: str) -> re.Pattern[str]:
    try:
        expression = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(f"--time-regex {text} is no regular expression: {error}") from error
    if "t" not in expression.groupindex:
        raise UsageError(f"--time-regex {text} names no group t: write (?P<t>[0-9]+) where the time stands")
    return expression


def _by_name(entries: Sequence[Entry], expression: re.Pattern[str]) -> list[_Sequence]:
    groups: dict[tuple[str, int | None], dict[int, Entry]] = {}
    for entry in entries:
        match = expression.search(entry.path)
        if match is None:
            continue
        if not (match["t"] or "").isdecimal():
            raise UsageError(f"--time-regex finds the time {match['t']!r} in {entry.path}, which is no number from 0")
        key = entry.path[: match.start("t")] + "*" + entry.path[match.end("t") :], entry.series
        other = groups.setdefault(key, {}).setdefault(int(match["t"]), entry)
        if other is not entry:
            raise UsageError(f"{other.path} and {entry.path} are of one time: --time-regex has to tell them apart")
    several = [dict(sorted(group.items())) for group in groups.values() if len(group) > 1]
    if not several:
        raise UsageError("--time-regex finds no two images of one time-lapse: the rest of their paths has to be equal")
    return [_Sequence(tuple(group.values()), tuple(group)) for group in several]


def _track(out: Path, sequence: _Sequence, run: TrackRun, draw: Picture | None) -> Lineage:
    for entry in sequence.entries:
        _check_sections(out, entry)
    masks = [describe_mask(out, entry) for entry in sequence.entries]
    stacks = [read_mask_of_run(out, entry.output) for entry in sequence.entries]
    frames, images = _frames(sequence, masks, stacks)
    measured = [regions.measure(image) for image in images]
    scale = _z_scale(masks[0])
    cells = [Cells(columns["label"], _centroids(columns, scale)) for columns in measured]
    diameters = np.concatenate([columns["equivalent_diameter_px"] for columns in measured])
    if images[0].ndim == 3:
        # Diameters are those of balls of as many voxels, and the distance is in pixels of the plane.
        diameters *= scale ** (1 / 3)
    distance = run.distance or (float(np.median(diameters)) if len(diameters) else 1.0)
    numbers = frame_numbers([frame.t for frame in frames])
    _warn_of_gaps(sequence.name, frames, numbers, run.gap)
    tracks = link_cells(cells, numbers, distance=distance, gap=run.gap, divisions=not run.no_divisions)
    settings: dict[str, float | int | bool | None] = {
        "distance": round(distance, 3),
        "gap": run.gap,
        "divisions": not run.no_divisions,
    }
    lineage = Lineage(frames=frames, tracks=tracks, settings=settings)
    tracked = _renumbered(images, tracks)
    _write_tracked(out, sequence, masks, tracked)
    # The page takes a picture to be that of the lineage beside it.
    if draw is not None:
        _draw(out, sequence, frames, tracked, draw)
    write_lineage(out, sequence.result, lineage)
    return lineage


def _check_sections(out: Path, entry: Entry) -> None:
    """Refuse stacks in which a cell is another one in each section: they would be tracked as so many cells."""
    provenance = read_provenance(out / provenance_name(entry.output))
    if provenance is not None and sections_unlinked(provenance):
        raise ImageError(
            "unlinked_sections",
            f"{entry.path} has its own cells in each section: "
            "segment it with --z each --link 0.25, or --z max, before tracking",
        )


def _warn_of_gaps(name: str, frames: Sequence[FrameOfTrack], numbers: Sequence[int], gap: int) -> None:
    """Say where times are so far apart that no cell is linked."""
    missing = [(after - before - 1, place) for place, (before, after) in enumerate(pairwise(numbers))]
    wide = [(count, place) for count, place in missing if count > gap]
    if wide:
        place, widest = wide[0][1], max(count for count, _ in wide)
        logger.warning(
            "%s: no cell is linked from time %d to %d%s: times between them are missing%s",
            name,
            frames[place].t,
            frames[place + 1].t,
            f", nor over {len(wide) - 1} more gaps" if len(wide) > 1 else "",
            f"; --gap {widest} links it" if widest <= LARGEST_GAP else "",
        )


def _frames(
    sequence: _Sequence, masks: Sequence[RunMask], stacks: Sequence[NDArray[Any]]
) -> tuple[tuple[FrameOfTrack, ...], list[NDArray[Any]]]:
    """Frames by time, and their label images."""
    frames, images = [], []
    for place, (entry, mask, stack) in enumerate(zip(sequence.entries, masks, stacks, strict=True)):
        digest = label_hash(stack)
        several = len(mask.times) > 1
        if several and sequence.times:
            raise ImageError("time_lapse", f"{entry.path} has several times itself: leave --time-regex out")
        for index, image in enumerate(stack if several else stack[np.newaxis]):
            t = sequence.times[place] if sequence.times else mask.times[index]
            frames.append(
                FrameOfTrack(
                    path=entry.path,
                    series=entry.series,
                    output=entry.output,
                    label_hash=digest,
                    index=index,
                    t=index if t is None else t,
                )
            )
            images.append(image)
    if len({image.shape for image in images}) > 1:
        raise ImageError("size_differs", f"the images of {sequence.name} and later times differ in size")
    return tuple(frames), images


def _z_scale(mask: RunMask) -> float:
    """Distance of sections in pixels of the plane."""
    sizes = mask.pixel_size_um
    return sizes["Z"] / sizes["X"] if {"Z", "X"} <= set(sizes) else 1.0


def _centroids(columns: dict[str, NDArray[Any]], z_scale: float) -> NDArray[np.float64]:
    names = [name for name in ("centroid_z_px", "centroid_y_px", "centroid_x_px") if name in columns]
    scales = [z_scale if "_z_" in name else 1.0 for name in names]
    return np.column_stack([columns[name] * scale for name, scale in zip(names, scales, strict=True)])


def _renumbered(images: Sequence[NDArray[Any]], tracks: Sequence[Track]) -> list[NDArray[Any]]:
    """Label images in which each cell has the number of its track."""
    dtype = label_dtype(max((track.number for track in tracks), default=0))
    numbers: list[dict[int, int]] = [{} for _ in images]
    for track in tracks:
        for place, label in track.cells:
            numbers[place][label] = track.number
    found = []
    for image, names in zip(images, numbers, strict=True):
        ids, inverse = np.unique(image, return_inverse=True)
        table = np.array([names.get(label, 0) for label in ids.tolist()], dtype)
        found.append(table[inverse].reshape(image.shape))
    return found


def _write_tracked(out: Path, sequence: _Sequence, masks: Sequence[RunMask], tracked: Sequence[NDArray[Any]]) -> None:
    if len(sequence.entries) == 1:
        path = out / tracked_name(sequence.result)
        _write_mask(path, masks[0], np.stack(tracked))
        return
    for entry, mask, image in zip(sequence.entries, masks, tracked, strict=True):
        path = out / tracked_name(result_name(entry.output))
        _write_mask(path, mask, image)


def _write_mask(path: Path, mask: RunMask, label_image: NDArray[Any]) -> None:
    write_labels(path, label_image, axes=mask.axes, pixel_size_um=mask.pixel_size_um, start=mask.start)


def _draw(
    out: Path, sequence: _Sequence, frames: Sequence[FrameOfTrack], tracked: Sequence[NDArray[Any]], draw: Picture
) -> None:
    """Draw some frames, evenly spaced."""
    entries = {entry.output: entry for entry in sequence.entries}
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), PICTURE_FRAMES)).round().astype(int))
    pictures = []
    for place in chosen.tolist():
        image = tracked[place]
        labels = image if image.ndim == 2 else image[len(image) // 2]
        grey = _grey(out, entries[frames[place].output], frames[place], image)
        pictures.append((grey, labels))
    draw(out / track_picture_name(sequence.result), pictures)


def _grey(out: Path, entry: Entry, frame: FrameOfTrack, image: NDArray[Any]) -> NDArray[Any] | None:
    """First channel of a frame that the model saw, of a stack in the middle section; None where the image is gone."""
    provenance = read_provenance(out / provenance_name(entry.output))
    try:
        opened = open_as_segmented(out, entry, provenance)
        channels, t = segmented_channels(opened, provenance)[:1], opened.times[frame.index]
        if image.ndim == 3:
            grey = opened.image.read(t=t or 0, c=channels[0], z=len(image) // 2)
        else:
            grey = opened.read_channels(t, channels)[0]
    except (ImageError, IndexError, ValueError):
        return None
    return grey if grey.shape == image.shape[-2:] else None
