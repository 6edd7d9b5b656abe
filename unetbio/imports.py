"""Import annotations of other programs as label images, into a new folder or into the output folder of a run."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.annotations.challenge import ENDING, is_marker, is_segmented, read_times, time_of
from unetbio.annotations.masks import is_mask_folder, read_mask, read_mask_folder
from unetbio.annotations.matching import Finder, Names
from unetbio.annotations.outlines import Polygons
from unetbio.annotations.painting import Painting, paint
from unetbio.annotations.parts import find_parts
from unetbio.annotations.regions import Grid, Region, Sheet
from unetbio.annotations.sources import CHALLENGE, FORMATS, GEOJSON, MASKS, Source, find_sources
from unetbio.errors import ImageError, UsageError
from unetbio.files import real_path, remove_stale
from unetbio.io import find_inputs, output_names, read_image, read_labels, stem, write_labels
from unetbio.io.cell_classes import CellClasses, cell_classes_path, read_cell_classes, write_cell_classes
from unetbio.io.discover import MASK_SUFFIXES, Found, section_of
from unetbio.io.image import Image
from unetbio.io.labels import label_suffix
from unetbio.io.pairing.layouts import Layout, find_layout
from unetbio.output_layout import mask_name, objects_name, result_name
from unetbio.preprocessing.prepare import series_number
from unetbio.provenance import PartRecord
from unetbio.results.corrections import RunMask, describe_mask, find_masks_of_run, store_correction
from unetbio.results.journal import Entry, hold_output
from unetbio.settings.runs import ImportRun
from unetbio.settings.segmentation import Settings

__all__ = ["Imported", "import_annotations"]

logger = logging.getLogger(__name__)

SHOWN = 3

ONE_SECTION = (
    "it is the mask of one section of a stack: unetbio train takes such masks as they are; to import, give a label "
    "image of the whole stack"
)
"""Why no label image of the stack is made, and what to do."""

Report = Callable[[str, str], None]


@dataclass(frozen=True)
class _Classes:
    """Classes of the cells of a mask, and the ids that the annotations name; None: they name all."""

    by_id: CellClasses = field(default_factory=dict)
    named: frozenset[int] | None = None


_Mask = tuple[NDArray[Any], _Classes]
"""A label image, and the classes of its cells."""


@dataclass(frozen=True)
class Imported:
    """Counts of an import; ``unchanged`` masks of a run were as they are now."""

    images: int
    cells: int
    failed: int
    unchanged: int


@dataclass
class _Job:
    """An image, and its annotations: a source, with the sheet of a file of many images."""

    names: Names
    given: list[tuple[Source, Sheet | None]] = field(default_factory=list)


def import_annotations(
    annotations: Sequence[Path],
    output: Path | None,
    run: ImportRun,
    reading: Settings | None = None,
    report: Report = lambda name, message: None,
) -> Imported:
    """Write the label images of annotated images.

    Parameters
    ----------
    annotations : sequence of path
        Files and folders.
    output : path, optional
        Folder for the label images, ``x_labels.ome.tif`` for ``x.tif``.
    run : ImportRun
        Options.
    reading : Settings
        Series, time, section and axes of the images, if they are not those of the files.
    report : callable
        Called with the name of each image, and a message if it failed.

    Raises
    ------
    UsageError
        When there are no annotations or no images, or the options do not go together.
    """
    reading = reading or Settings()
    if output is None and run.into is None:
        raise UsageError("give -o FOLDER for the masks, --into RESULTS for those of a run, or both")
    if run.into is not None and run.images is not None:
        raise UsageError("--into knows the images of its run: leave --images out")
    given = [reading.series, reading.t, reading.z, reading.axes]
    if run.into is not None and any(value is not None for value in given):
        raise UsageError("--into reads images as its run did: leave --series, --t, --z and --axes out")
    if isinstance(reading.z, str):
        raise UsageError(f"--z {reading.z}: annotations lie in sections; give the number of one, or leave --z out")
    places: _Places = _OfRun(run.into, output, run) if run.into else _OfImages(annotations, output, run, reading)
    with hold_output(run.into, None) if run.into else nullcontext():
        for folder in filter(None, (run.into, output)):
            remove_stale(folder, below=True)
        return _import(annotations, places, run, report)


def _import(annotations: Sequence[Path], places: "_Places", run: ImportRun, report: Report) -> Imported:
    jobs, failures = _plan(annotations, places, run)
    if not jobs and not failures:
        wanted = FORMATS[run.format] if run.format else "; ".join(FORMATS.values())
        raise UsageError(f"no annotations in {', '.join(map(str, annotations))}: looked for {wanted}")
    for name, error in failures:
        report(name, f"{error} [{error.reason}]")
    cells = unchanged = failed = 0
    for job in jobs:
        try:
            count, is_changed = _import_one(job, places, run)
        except ImageError as error:
            failed += 1
            report(job.names.path, f"{error} [{error.reason}]")
            continue
        cells += count
        unchanged += not is_changed
        report(job.names.path, "")
    _say_without(places, jobs)
    return Imported(len(jobs) - failed, cells, failed + len(failures), unchanged)


def _say_without(places: "_Places", jobs: Sequence[_Job]) -> None:
    annotated = {job.names.path for job in jobs}
    without = [names.path for names in places.names if names.path not in annotated]
    if without:
        logger.info(
            "%d of %d images have no annotations, such as %s: nothing is written for them",
            len(without),
            len(places.names),
            without[0],
        )


# --- Which annotations belong to which image --------------------------------------------------------------------------


def _plan(
    annotations: Sequence[Path], places: "_Places", run: ImportRun
) -> tuple[list[_Job], list[tuple[str, ImageError]]]:
    """Annotated images with their annotations, and annotations that cannot be used."""
    jobs: dict[str, _Job] = {}
    failures: list[tuple[str, ImageError]] = []
    finder = Finder(places.names)
    for names, source in places.paired():
        jobs.setdefault(names.result, _Job(names)).given.append((source, None))
    if not jobs:
        sources = list(_sources(annotations, places, run, failures))
        for source in sources:
            try:
                found = list(_images_of(source, finder))
            except ImageError as error:
                failures.append((source.name, error))
                continue
            except OSError as error:
                failures.append((source.name, ImageError("unreadable", f"cannot be read: {error.strerror or error}")))
                continue
            for names, part, sheet in found:
                jobs.setdefault(names.result, _Job(names)).given.append((part, sheet))
    order = {names.result: index for index, names in enumerate(places.names)}
    ordered = sorted(jobs.values(), key=lambda job: order.get(job.names.result, 0))
    return ordered, failures


def _sources(
    annotations: Sequence[Path], places: "_Places", run: ImportRun, failures: list[tuple[str, ImageError]]
) -> Iterator[Source]:
    others = 0
    for given in annotations:
        if not given.exists():
            raise UsageError(f"{given} does not exist: give files or folders of annotations")
        sources, refused, left = find_sources(given, only=run.format)
        others += left
        failures += [(str(path), error) for path, error in refused if run.format is None]
        masks = [source for source in sources if source.format == MASKS and not places.is_own(source.paths[0])]
        yield from (source for source in sources if source.format != MASKS)
        yield from _mask_sources(_without_markers(masks), Finder(places.names))
    if others:
        logger.info("%d other file%s left out", others, "" if others == 1 else "s")


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
        if finder.by_file(source.name) is None and folder.name and finder.by_file(str(folder)):
            folders[str(folder)] = Source((source.paths[0].parent,), str(folder), MASKS)
        else:
            yield source
    yield from folders.values()


def _images_of(source: Source, finder: Finder) -> Iterator[tuple[Names, Source, Sheet | None]]:
    """Images that a source annotates."""
    if source.is_of_many:
        for sheet in source.read():
            names = finder.by_name(sheet.image, sheet.series)
            if names is None and (sheet.regions or sheet.left_out):
                raise _no_image(sheet.image, finder)
            if names is not None:
                yield names, source, sheet
        return
    if source.format == CHALLENGE:
        yield from _times(source, finder)
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


def _times(source: Source, finder: Finder) -> Iterator[tuple[Names, Source, Sheet | None]]:
    """A time-lapse with the label images of all times; or the images of each time, ``x/t000.tif`` or ``x_t000.tif``."""
    name = source.name.removesuffix(ENDING)
    times = [
        finder.by_name(f"{name}/t{time}") or finder.by_time(name, int(time)) for time in map(time_of, source.paths)
    ]
    # Images of several times, such as 00/x.tif and 01/x.tif, may all have the name of the time-lapse.
    lapse = None if len(times) > 1 and None not in times else finder.by_name(name)
    if lapse is not None:
        yield lapse, source, None
        return
    for names, path in zip(times, source.paths, strict=True):
        if names is None:
            time = time_of(path)
            raise _no_image(f"{name}, {name}/t{time} or {name}_t{time}", finder)
        yield names, Source((path,), path.name, MASKS), None


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


# --- From annotations to a label image --------------------------------------------------------------------------------


def _import_one(job: _Job, places: "_Places", run: ImportRun) -> tuple[int, bool]:
    """Write the mask of an image; returns its cells, and whether it is new."""
    if len(job.given) > 1:
        shown = " and ".join(sorted(sheet.image if sheet else source.name for source, sheet in job.given)[:SHOWN])
        raise ImageError("several_annotations", f"it has several annotations, {shown}: keep one, or choose with --from")
    source, sheet = job.given[0]
    place = places.open(job.names)
    label_image, classes = _read(source, sheet, place, job.names.path, run)
    return len(np.unique(label_image[label_image > 0])), place.store(label_image, classes)


def _read(source: Source, sheet: Sheet | None, place: "_Place", name: str, run: ImportRun) -> _Mask:
    path, grid = source.paths[0], place.grid
    if source.format in (MASKS, CHALLENGE) and run.kinds:
        raise ImageError("no_classes", f"{source.name}: masks have no classes; leave --class out")
    if run.split_components and (source.format != MASKS or is_mask_folder(path)):
        raise ImageError("no_mask", f"{source.name}: --split-components is for masks of one value; leave it out")
    try:
        if source.format == CHALLENGE:
            return read_times(source.paths, grid), _Classes()
        if source.format == MASKS and not is_mask_folder(path):
            label_image = read_mask(path, grid, split_components=run.split_components, series=place.series)
            _say_if_reused(label_image, grid, name)
            return label_image, _Classes(named=frozenset() if run.split_components else None)
        if source.format == MASKS:
            painting, named = read_mask_folder(path, grid), frozenset[int]()
        else:
            read = sheet or source.read()[0]
            grid.check(read)
            regions = _chosen(read, name, run)
            if place.part is not None and source.format == GEOJSON:
                regions = [_in_part(region, place.part) for region in regions]
            painting, named = paint(regions, grid), frozenset(region.number for region in regions if region.number)
    except ImageError as error:
        raise ImageError(error.reason, f"{source.name}: {error}") from error
    except OSError as error:
        raise ImageError("unreadable", f"{source.name} cannot be read: {error.strerror or error}") from error
    _say(painting, name)
    return painting.label_image, _Classes(painting.classes, named)


def _say_if_reused(label_image: NDArray[Any], grid: Grid, name: str) -> None:
    """Say that numbers, or colours, stand for several cells each, as in a mask of classes."""
    if len(grid.times) > 1:
        return
    parts = find_parts(label_image)
    if parts.is_reused:
        logger.warning(
            "%s: %d of %d numbers or colours stand in parts that are far from each other, as in a mask of classes, or "
            "of 8 bits with more than 255 cells: each is one cell now; --split-components makes each part a cell",
            name,
            len(parts.far),
            parts.ids,
        )


def _chosen(sheet: Sheet, name: str, run: ImportRun) -> list[Region]:
    """Regions of the classes that are asked for."""
    for what, count in sorted(sheet.left_out.items()):
        logger.warning("%s: left out: %d x %s", name, count, what)
    kinds = {region.kind for region in sheet.regions}
    if not run.kinds:
        if len(kinds) > 1:
            listed = ", ".join(sorted(kind or "without class" for kind in kinds))
            logger.warning(
                "%s: regions of several classes are cells: %s; %s beside the mask holds their classes, and "
                "--class NAME takes one alone",
                name,
                listed,
                objects_name("x"),
            )
        return sheet.regions
    if missing := set(run.kinds) - kinds:
        logger.warning("%s: no region of the class %s", name, ", ".join(sorted(missing)))
    return [region for region in sheet.regions if region.kind in run.kinds]


def _in_part(region: Region, part: PartRecord) -> Region:
    """A region in pixels of the mask; QuPath knows those of the file alone, also where a part of it was segmented."""
    if not isinstance(region.shape, Polygons):
        return region
    return replace(region, shape=region.shape.seen_from((part.rows[0], part.columns[0]), part.scale))


def _say(painting: Painting, name: str) -> None:
    """Say which regions are not whole in the mask."""
    for count, what in (
        (painting.overlapping, "pixels of several regions, which belong to the smallest"),
        (painting.hidden, "regions lost, since smaller ones cover all their pixels"),
        (painting.outside, "regions lost, since they have no pixel in the image"),
        (painting.elsewhere, "regions left out, since they lie in other times or sections"),
    ):
        if count:
            logger.warning("%s: %s: %d", name, what, count)


# --- Where masks go ---------------------------------------------------------------------------------------------------


class _Place:
    """Where the mask of one image goes.

    ``series`` is its number in a file of several, ``part`` what the mask shows of the file, if not all of it.
    """

    def __init__(
        self,
        grid: Grid,
        store: Callable[[NDArray[Any], _Classes], bool],
        series: int | None,
        part: PartRecord | None = None,
    ) -> None:
        self.grid = grid
        self.store = store
        self.series = series
        self.part = part


class _Places:
    """Images of an import."""

    names: list[Names]

    def paired(self) -> Iterator[tuple[Names, Source]]:
        """Images whose masks are known by the layout of the folder."""
        return iter(())

    def is_own(self, path: Path) -> bool:
        """Whether a file is one of the images, not a mask."""
        raise NotImplementedError

    def open(self, names: Names) -> _Place:
        """The place of an image.

        Raises
        ------
        ImageError
            ``no_image``, and as `unetbio.io.read_image`.
        """
        raise NotImplementedError


class _OfImages(_Places):
    """Images of a folder; their masks go to a new folder."""

    def __init__(self, annotations: Sequence[Path], output: Path | None, run: ImportRun, reading: Settings) -> None:
        self._output, self._run, self._reading = output or Path(), run, reading
        only = annotations[0] if len(annotations) == 1 else None
        is_beside = run.images is None or (only is not None and real_path(run.images) == real_path(only))
        self._layout = _find_layout(only) if is_beside and only is not None and run.format in (None, MASKS) else None
        if self._layout is not None:
            _refuse_sections(self._layout)
        found = self._listed(annotations, run.images, only)
        self._own = {real_path(item.path) for item in found}
        self._found = {item.relative.as_posix(): item for item in found}
        results = (name.as_posix() for name in output_names(found))
        self.names = [Names(path, result) for path, result in zip(self._found, results, strict=True)]

    def _listed(self, annotations: Sequence[Path], images: Path | None, only: Path | None) -> list[Found]:
        if self._layout is not None and only is not None:
            return [_below(only, image) for image, _ in _pairs(self._layout)]
        where = [images] if images else [path if path.is_dir() else path.parent for path in annotations]
        found = find_inputs(where)
        plain = [item for item in found if not stem(item.path).endswith(MASK_SUFFIXES)]
        return plain if images is None else found

    def paired(self) -> Iterator[tuple[Names, Source]]:
        """See `_Places`."""
        if self._layout is None:
            return
        logger.info("found %s", self._layout.title)
        for names, (_, mask) in zip(self.names, _pairs(self._layout), strict=True):
            yield names, Source((mask,), mask.name, MASKS)

    def is_own(self, path: Path) -> bool:
        """See `_Places`."""
        return real_path(path) in self._own

    def open(self, names: Names) -> _Place:
        """See `_Places`."""
        item, chosen, result = self._found[names.path], names.series, names.result
        if chosen is None and self._reading.series is not None:
            chosen = series_number(item.path, self._reading)
            result = f"{result}_s{chosen:02d}"
        image = read_image(item.path, axes=self._reading.axes, series=chosen or 0)
        grid = _grid_of(image, self._reading)
        path = self._output / mask_name(result, "instances", label_suffix(item.path))

        def store(label_image: NDArray[Any], classes: _Classes) -> bool:
            is_new = _write(path, label_image, grid, image, overwrite=self._run.overwrite)
            _write_classes(cell_classes_path(path), classes, is_new=is_new)
            return is_new

        return _Place(grid, store, chosen)


class _OfRun(_Places):
    """Images of an output folder, whose masks are replaced."""

    def __init__(self, out: Path, output: Path | None, run: ImportRun) -> None:
        self._out, self._output, self._run = out, output, run
        entries = find_masks_of_run(out)
        self._entries = {result_name(entry.output): entry for entry in entries}
        self.names = [Names(entry.path, result, entry.series) for result, entry in self._entries.items()]

    def is_own(self, path: Path) -> bool:
        """See `_Places`."""
        return real_path(self._out) in real_path(path).parents

    def open(self, names: Names) -> _Place:
        """See `_Places`."""
        entry = self._entries.get(names.result)
        if entry is None:
            raise ImageError("no_image", f"{names.result} has no mask in {self._out}")
        mask = describe_mask(self._out, entry)
        height, width = mask.shape[-2:]
        grid = Grid(height, width, mask.times, mask.sections, mask.stored)
        return _Place(
            grid,
            lambda label_image, classes: self._store(entry, mask, label_image, classes),
            entry.series,
            mask.part,
        )

    def _store(self, entry: Entry, mask: RunMask, label_image: NDArray[Any], classes: _Classes) -> bool:
        if self._output:
            path = self._output / entry.output
            is_new = not _is_there(path, label_image, overwrite=self._run.overwrite)
            if is_new:
                sizes = mask.pixel_size_um
                write_labels(path, label_image, axes=mask.axes, pixel_size_um=sizes, start=mask.start)
            _write_classes(cell_classes_path(path), classes, is_new=is_new)
        is_changed = store_correction(self._out, mask, label_image)
        if mask.has_cell_classes:
            # Annotations replace the classes of a run even where their cells are those of its mask.
            is_new = is_changed or bool(classes.by_id)
            _write_classes(self._out / objects_name(result_name(entry.output)), classes, is_new=is_new)
        return is_changed


def _write_classes(path: Path, classes: _Classes, *, is_new: bool) -> None:
    """Write the table of classes of a mask; that of a mask which is not new stays, as it may be corrected by hand."""
    is_there = path.exists()
    if is_there and not is_new:
        return
    if classes.by_id:
        write_cell_classes(path, classes.by_id)
    elif is_there and classes.named is not None:
        _keep_classes(path, classes.named)


def _keep_classes(path: Path, named: frozenset[int]) -> None:
    """Remove classes of ids that annotations do not name: such a number now belongs to another cell, or to none."""
    before = read_cell_classes(path)
    kept = {t: {number: name for number, name in table.items() if number in named} for t, table in before.items()}
    if kept != before:
        write_cell_classes(path, kept)


def _find_layout(folder: Path) -> Layout | None:
    """The layout of a folder with images and masks; None if the folder of the masks holds drawn annotations."""
    try:
        return find_layout(folder)
    except UsageError:
        if all(source.format == MASKS for source in find_sources(folder)[0]):
            raise
        return None


def _refuse_sections(layout: Layout) -> None:
    mask = next((mask for _, mask in _pairs(layout) if section_of(mask) is not None), None)
    if mask is not None:
        raise UsageError(f"{mask}: {ONE_SECTION}")


def _pairs(layout: Layout) -> Iterator[tuple[Path, Path]]:
    return iter((*layout.training, *layout.validation, *layout.test))


def _below(folder: Path, path: Path) -> Found:
    return Found(path, PurePosixPath(path.relative_to(folder).as_posix()))


def _grid_of(image: Image, reading: Settings) -> Grid:
    """Pixels of the label image of an image, or of the chosen time and section."""
    planes: dict[str, tuple[int | None, ...]] = {}
    for axis, chosen in (("T", reading.t), ("Z", reading.z)):
        size = image.size(axis)
        if isinstance(chosen, int):
            if chosen >= size:
                raise ImageError("no_such_plane", f"--{axis.lower()} {chosen}: it has {size} along {axis}, from 0")
            planes[axis] = (chosen,)
        else:
            planes[axis] = tuple(range(size)) if size > 1 else (None,)
    stored = {axis: image.size(axis) for axis in "CZT"}
    return Grid(image.size("Y"), image.size("X"), planes["T"], planes["Z"], stored)


def _write(path: Path, label_image: NDArray[Any], grid: Grid, image: Image, *, overwrite: bool) -> bool:
    if _is_there(path, label_image, overwrite=overwrite):
        return False
    trusted = image.pixel_size_um if image.pixel_size_trusted else {}
    sizes = {axis: size for axis, size in trusted.items() if axis in grid.axes}
    affine = image.affine if label_image.shape == tuple(image.size(axis) for axis in grid.axes) else None
    write_labels(path, label_image, axes=grid.axes, pixel_size_um=sizes, affine=affine)
    return True


def _is_there(path: Path, label_image: NDArray[Any], *, overwrite: bool) -> bool:
    """Whether the mask is written already, as after a killed run; another mask in its place is refused."""
    if overwrite or not path.exists():
        return False
    try:
        if np.array_equal(read_labels(path, allow_binary=True), label_image):
            return True
    except ImageError as error:
        logger.debug("%s: %s", path, error)
    raise ImageError("exists", f"{path} exists: give another folder, or --overwrite")
