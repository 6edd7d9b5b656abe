"""Which annotations belong to which image."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from unetbio.annotations.challenge import ENDING, is_marker, is_segmented, time_of
from unetbio.annotations.matching import Finder, Names
from unetbio.annotations.regions import Sheet
from unetbio.annotations.sources import CHALLENGE, COCO, MASKS, Source, find_sources, without_repeats
from unetbio.errors import ImageError, UsageError
from unetbio.imports.places import ONE_SECTION, Places
from unetbio.io.mask_names import section_of
from unetbio.settings.runs import ImportRun

__all__ = ["Job", "assign_annotations"]

logger = logging.getLogger(__name__)

SHOWN = 3

Failures = list[tuple[str, ImageError]]
"""Names of annotations that cannot be used, and why."""


@dataclass
class Job:
    """An image, and its annotations: a source, with the sheet of a file of many images."""

    names: Names
    given: list[tuple[Source, Sheet | None]] = field(default_factory=list)

    def annotation(self) -> tuple[Source, Sheet | None]:
        """The one annotation of the image.

        Raises
        ------
        ImageError
            ``several_annotations``.
        """
        if len(self.given) > 1:
            raise ImageError("several_annotations", self._describe_all())
        return self.given[0]

    def _describe_all(self) -> str:
        names = [sheet.image if sheet else source.name for source, sheet in self.given]
        source = self.given[0][0]
        if all(other is source and sheet for other, sheet in self.given):
            planes = ", or its series, t or z" if source.format == COCO else ""
            return (
                f"{source.name} lists it {len(names)} times, as {' and '.join(sorted(set(names))[:SHOWN])}: keep one "
                f"entry, or give each the folder of its image (a/f.tif){planes}"
            )
        return f"it has several annotations, {' and '.join(sorted(names)[:SHOWN])}: keep one, or choose with --from"


def assign_annotations(annotations: Sequence[Path], places: Places, run: ImportRun) -> tuple[list[Job], Failures]:
    """Annotated images with their annotations, and annotations that cannot be used."""
    jobs: dict[str, Job] = {}
    failures: Failures = []
    finder = Finder(places.names)
    for names, source in places.paired():
        jobs.setdefault(names.result, Job(names)).given.append((source, None))
    if not jobs:
        sources = list(_sources(annotations, places, run, failures))
        for source in sources:
            try:
                found = list(_images_of(source, finder, failures))
            except ImageError as error:
                failures.append((source.name, error))
                continue
            except OSError as error:
                failures.append((source.name, ImageError("unreadable", f"cannot be read: {error.strerror or error}")))
                continue
            for names, part, sheet in found:
                jobs.setdefault(names.result, Job(names)).given.append((part, sheet))
    order = {names.result: index for index, names in enumerate(places.names)}
    ordered = sorted(jobs.values(), key=lambda job: order.get(job.names.result, 0))
    return ordered, failures


def _sources(annotations: Sequence[Path], places: Places, run: ImportRun, failures: Failures) -> Iterator[Source]:
    others: list[Path] = []
    for given in annotations:
        if not given.exists():
            raise UsageError(f"{given} does not exist: give files or folders of annotations")
        sources, refused, left = find_sources(given, only=run.format)
        others += left
        if run.format is None:
            sources, refused = without_repeats(sources, refused)
        failures += [(str(path), error) for path, error in refused if run.format is None]
        masks = [source for source in sources if source.format == MASKS and not places.is_own(source.paths[0])]
        yield from (source for source in sources if source.format != MASKS)
        yield from _mask_sources(_without_markers(masks), Finder(places.names))
    if others:
        logger.info("%d other file%s left out, such as %s", len(others), "" if len(others) == 1 else "s", others[0])


def _without_markers(masks: Sequence[Source]) -> Sequence[Source]:
    """Leave out the markers of tracks where there are masks of whole cells (Cell Tracking Challenge)."""
    markers = [source for source in masks if is_marker(source.paths[0])]
    if not markers or not any(is_segmented(source.paths[0]) for source in masks):
        return masks
    logger.info(
        "%d markers of tracks left out, such as %s: beside them lie masks of whole cells; give their folder by itself "
        "to take them",
        len(markers),
        markers[0].paths[0],
    )
    return [source for source in masks if source not in markers]


def _mask_sources(sources: Iterable[Source], finder: Finder) -> Iterator[Source]:
    """Masks by their own names, or folders of pictures by the name of the folder."""
    folders: dict[str, Source] = {}
    for source in sources:
        name = PurePosixPath(source.name)
        folder = name.parent.parent if name.parent.name in ("masks", "labels") else name.parent
        if not _is_known(source.name, finder) and folder.name and _is_known(str(folder), finder):
            folders[str(folder)] = Source((source.paths[0].parent,), str(folder), MASKS)
        else:
            yield source
    yield from folders.values()


def _is_known(name: str, finder: Finder) -> bool:
    """Whether a file is named like an image, or like several, which fails when its own turn comes."""
    try:
        return finder.by_file(name) is not None
    except ImageError:
        return True


def _images_of(source: Source, finder: Finder, failures: Failures) -> Iterator[tuple[Names, Source, Sheet | None]]:
    """Images that a source annotates; of one of many images, those that are not there fail alone."""
    if source.is_of_many:
        yield from _all_but_missing(_sheets(source, finder), failures)
        return
    if source.format == CHALLENGE:
        yield from _all_but_missing(_times(source, finder), failures)
        return
    _refuse_section(source)
    names = finder.by_file(source.name)
    if names is None and source.format == "labelme":
        names = finder.by_name(source.read()[0].image)
    if names is not None:
        yield names, source, None
    elif source.paths[0].suffix.lower() == ".roi":
        yield from _single_rois(source, finder)
    else:
        raise _no_image(source.name, finder)


def _refuse_section(source: Source) -> None:
    """Refuse the mask of one section, of which no label image of its stack can be made."""
    if source.format == MASKS and section_of(source.paths[0]) is not None:
        raise ImageError("one_section", ONE_SECTION)


def _all_but_missing(
    found: Iterable[tuple[Names, Source, Sheet | None] | tuple[str, ImageError]], failures: Failures
) -> Iterator[tuple[Names, Source, Sheet | None]]:
    """Images that are there; the others are failures, and the first one is raised if there is none."""
    listed = list(found)
    there = [one for one in listed if len(one) == 3]
    missing = [one for one in listed if len(one) == 2]
    if missing and not there:
        raise missing[0][1]
    failures += missing
    yield from there


def _sheets(source: Source, finder: Finder) -> Iterator[tuple[Names, Source, Sheet | None] | tuple[str, ImageError]]:
    """Images that a file names, or why one cannot be found."""
    for sheet in source.read():
        try:
            names = finder.by_name(sheet.image, sheet.series)
        except ImageError as error:
            yield _name_in(source, sheet), error
            continue
        if names is not None:
            yield names, source, sheet
        elif sheet.regions or sheet.left_out:
            yield _name_in(source, sheet), _no_image(sheet.image, finder)


def _name_in(source: Source, sheet: Sheet) -> str:
    """Name of an image in a file of many."""
    return f"{source.name}, {sheet.image}" if sheet.image else source.name


def _times(source: Source, finder: Finder) -> Iterator[tuple[Names, Source, Sheet | None] | tuple[str, ImageError]]:
    """A time-lapse with the label images of all times; or the images of each time, ``x/t000.tif`` or ``x_t000.tif``."""
    name = source.name.removesuffix(ENDING)
    times = [_time(name, time_of(path), finder) for path in source.paths]
    # Images of several times, such as 00/x.tif and 01/x.tif, may all have the name of the time-lapse.
    lapse = None if len(times) > 1 and None not in times else _lapse(name, times, finder)
    if lapse is not None:
        yield lapse, source, None
        return
    for names, path in zip(times, source.paths, strict=True):
        if names is None:
            time = time_of(path)
            names = _no_image(f"{name}, {name}/t{time} or {name}_t{time}", finder)
        if isinstance(names, ImageError):
            yield f"{name}/{path.name}", names
        else:
            yield names, Source((path,), path.name, MASKS), None


def _time(name: str, time: str, finder: Finder) -> Names | ImageError | None:
    """The image of a single time, or why it cannot be told; None if there is none."""
    try:
        return finder.by_name(f"{name}/t{time}") or finder.by_time(name, int(time))
    except ImageError as error:
        return error


def _lapse(name: str, times: Sequence[Names | ImageError | None], finder: Finder) -> Names | None:
    """The time-lapse of a name; None if there is none, or if images of single times have the name."""
    try:
        return finder.by_name(name)
    except ImageError:
        if not any(times):
            raise
        return None


def _single_rois(source: Source, finder: Finder) -> Iterator[tuple[Names, Source, Sheet | None]]:
    """Regions that lie in one folder, each a file."""
    found = [(finder.by_file(path.name), path) for path in source.paths]
    if all(names is not None for names, _ in found):
        for names, path in found:
            if names is not None:
                yield names, Source((path,), path.name, source.format), None
    elif len(finder.images) == 1:
        yield finder.images[0], source, None
    else:
        raise ImageError(
            "no_image",
            f"{len(source.paths)} regions such as {source.paths[0].name}, and no name says of which image: "
            "put those of x.tif into a folder x, or save them as x_RoiSet.zip",
        )


def _no_image(name: str, finder: Finder) -> ImageError:
    shown = ", ".join(names.path for names in finder.images[:SHOWN])
    more = " ..." if len(finder.images) > SHOWN else ""
    return ImageError("no_image", f"no image has a name like {name or 'an empty one'}; there are {shown}{more}")
