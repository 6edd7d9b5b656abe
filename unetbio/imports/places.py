"""Images of an import, and where the mask of each goes."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.annotations.matching import Names
from unetbio.annotations.regions import Grid
from unetbio.annotations.sources import MASKS, Source, find_sources
from unetbio.errors import ImageError, UsageError
from unetbio.files import real_path
from unetbio.io import find_inputs, output_names, read_image, read_labels, stem, write_labels
from unetbio.io.cell_classes import CellClasses, cell_classes_path, read_cell_classes, write_cell_classes
from unetbio.io.discover import Found
from unetbio.io.grey_pictures import plane_counts
from unetbio.io.grouping import AUTO, group_files
from unetbio.io.image import Image
from unetbio.io.labels import label_suffix
from unetbio.io.list_images import images_of, series_of
from unetbio.io.mask_names import MASK_SUFFIXES, section_of
from unetbio.io.pairing.layouts import Layout, find_layout
from unetbio.output_layout import NIFTI, mask_name, objects_name, provenance_name, result_name
from unetbio.preprocessing.prepare import series_number
from unetbio.provenance import PartRecord, read_provenance
from unetbio.results.corrections import RunMask, describe_mask, find_masks_of_run, store_correction, write_mask
from unetbio.results.journal import Entry
from unetbio.results.recorded_input import input_under
from unetbio.results.reuse import read_mask_of_run
from unetbio.settings.runs import ImportRun
from unetbio.settings.segmentation import Settings

__all__ = ["ONE_SECTION", "ImagePlaces", "NamedClasses", "Place", "Places", "RunPlaces"]

logger = logging.getLogger(__name__)

ONE_SECTION = (
    "it is the mask of one section of a stack: unetbio train takes such masks as they are; to import, give a label "
    "image of the whole stack"
)
"""Why no label image of the stack is made, and what to do."""

SHOWN = 3
"""Number of images of a file that a message names."""


@dataclass(frozen=True)
class NamedClasses:
    """Classes of the cells of a mask, and the ids that the annotations name; None: they name all.

    ``kept_times`` are those whose cells stay as they were.
    """

    by_id: CellClasses = field(default_factory=dict)
    named: frozenset[int] | None = None
    kept_times: frozenset[int | None] = frozenset()


@dataclass(frozen=True)
class Place:
    """Where the mask of one image goes.

    ``series`` is its number in a file of several, ``part`` what the mask shows of the file, if not all of it.
    ``read_before`` reads the mask that it replaces in a run. ``image`` is the image, if it says where its voxels are.
    ``has_classes``: a table beside the mask holds the classes of cells.
    """

    grid: Grid
    store: Callable[[NDArray[Any], NamedClasses], bool]
    series: int | None
    part: PartRecord | None = None
    read_before: Callable[[], NDArray[Any]] | None = None
    image: Image | None = None
    has_classes: bool = True


class Places:
    """Images of an import."""

    names: list[Names]

    def paired(self) -> Iterator[tuple[Names, Source]]:
        """Images whose masks are known by the layout of the folder."""
        return iter(())

    def is_own(self, path: Path) -> bool:
        """Whether a file is one of the images, not a mask."""
        raise NotImplementedError

    def without(self, annotated: Set[str]) -> tuple[list[str], int]:
        """Paths of images without annotations, by the paths of those that have some, and the number of all images."""
        return [names.path for names in self.names if names.path not in annotated], len(self.names)

    def open(self, names: Names) -> Place:
        """The place of an image.

        Raises
        ------
        ImageError
            ``no_image``, and as `unetbio.io.read_image`.
        """
        raise NotImplementedError


class ImagePlaces(Places):
    """Images of a folder; their masks go to a new folder."""

    def __init__(self, annotations: Sequence[Path], output: Path | None, run: ImportRun, reading: Settings) -> None:
        self._output, self._run, self._reading = output or Path(), run, reading
        only = annotations[0] if len(annotations) == 1 else None
        is_beside = run.images is None or (only is not None and real_path(run.images) == real_path(only))
        self._layout = _find_layout(only) if is_beside and only is not None and run.format in (None, MASKS) else None
        if self._layout is not None:
            _refuse_sections(self._layout)
        files = self._listed(annotations, run.images, only)
        self._own = {real_path(item.path) for item in files}
        self._images = files if self._layout else _as_segmented(files)
        # Annotations may be drawn on a file, or on the field of a plate that several files are.
        found = [*files, *(image for image in self._images if image.image_set or image.plate)]
        self._found = {item.relative.as_posix(): item for item in found}
        results = [item.result or name for item, name in zip(found, output_names(found), strict=True)]
        self.names = [Names(path, result.as_posix()) for path, result in zip(self._found, results, strict=True)]

    def without(self, annotated: Set[str]) -> tuple[list[str], int]:
        """See `Places`."""
        done = {real_path(path) for name in annotated for path in self._found[name].files}
        left = [image for image in self._images if not done & {real_path(path) for path in image.files}]
        return [image.relative.as_posix() for image in left], len(self._images)

    def _listed(self, annotations: Sequence[Path], images: Path | None, only: Path | None) -> list[Found]:
        if self._layout is not None and only is not None:
            return [_below(only, image) for image, _ in _pairs(self._layout)]
        where = [images] if images else [path if path.is_dir() else path.parent for path in annotations]
        found = find_inputs(where)
        plain = [item for item in found if not stem(item.path).endswith(MASK_SUFFIXES)]
        return plain if images is None else found

    def paired(self) -> Iterator[tuple[Names, Source]]:
        """See `Places`."""
        if self._layout is None:
            return
        logger.info("found %s", self._layout.title)
        for names, (_, mask) in zip(self.names, _pairs(self._layout), strict=True):
            yield names, Source((mask,), mask.name, MASKS)

    def is_own(self, path: Path) -> bool:
        """See `Places`."""
        return real_path(path) in self._own

    def open(self, names: Names) -> Place:
        """See `Places`."""
        item, chosen, result = self._found[names.path], names.series, names.result
        if item.error is not None:
            raise item.error
        if chosen is None and self._reading.series is not None:
            chosen = series_number(item.path, self._reading)
            result = f"{result}_s{chosen:02d}"
        number = _only_series(item, self._reading.axes) if chosen is None else chosen
        image = (
            item.image_set.open(self._reading.axes)
            if item.image_set
            else read_image(item.path, axes=self._reading.axes, series=number)
        )
        grid = _grid_of(image, self._reading)
        path = self._output / mask_name(result, "instances", label_suffix(item.path))

        def store(label_image: NDArray[Any], classes: NamedClasses) -> bool:
            is_new = _write(path, label_image, grid, image, overwrite=self._run.overwrite)
            _write_classes(cell_classes_path(path), classes, is_new=is_new)
            return is_new

        return Place(grid, store, chosen, image=image)


class RunPlaces(Places):
    """Images of an output folder, whose masks are replaced."""

    def __init__(self, out: Path, output: Path | None, run: ImportRun) -> None:
        self._out, self._output, self._run = out, output, run
        entries = find_masks_of_run(out)
        self._entries = {result_name(entry.output): entry for entry in entries}
        self.names = [Names(entry.path, result, entry.series) for result, entry in self._entries.items()]

    def is_own(self, path: Path) -> bool:
        """See `Places`."""
        return real_path(self._out) in real_path(path).parents

    def open(self, names: Names) -> Place:
        """See `Places`."""
        entry = self._entries.get(names.result)
        if entry is None:
            raise ImageError("no_image", f"{names.result} has no mask in {self._out}")
        mask = describe_mask(self._out, entry)
        height, width = mask.shape[-2:]
        grid = Grid(height, width, mask.times, mask.sections, mask.stored)
        return Place(
            grid,
            lambda label_image, classes: self._store(entry, mask, label_image, classes),
            entry.series,
            mask.part,
            lambda: read_mask_of_run(self._out, entry.output),
            self._placed_image(entry),
            has_classes=self._output is not None or mask.has_cell_classes,
        )

    def _placed_image(self, entry: Entry) -> Image | None:
        """What says where the voxels of a mask are: its input, or itself without one; None unless that is NIfTI."""
        if not entry.file.lower().endswith(NIFTI):
            return None
        provenance, path = read_provenance(self._out / provenance_name(entry.output)), self._out / entry.output
        # Without provenance, masks of a run are read as they are stored.
        image = None if provenance is None else input_under(path, provenance)
        return _placed_mask(path, entry) if image is None else image

    def _store(self, entry: Entry, mask: RunMask, label_image: NDArray[Any], classes: NamedClasses) -> bool:
        if self._output:
            path = self._output / entry.output
            is_new = not _is_there(path, label_image, overwrite=self._run.overwrite)
            if is_new:
                write_mask(self._out, mask, label_image, self._output)
            _write_classes(cell_classes_path(path), classes, is_new=is_new)
        is_changed = store_correction(self._out, mask, label_image)
        if mask.has_cell_classes:
            # Annotations replace the classes of a run even where their cells are those of its mask.
            is_new = is_changed or bool(classes.by_id)
            _write_classes(self._out / objects_name(result_name(entry.output)), classes, is_new=is_new)
        return is_changed


def _placed_mask(path: Path, entry: Entry) -> Image | None:
    """The mask of a run, if it says where its voxels are."""
    with contextlib.suppress(ImageError):
        mask = read_image(path, labels=True)
        if mask.affine_trusted:
            return mask
    logger.warning(
        "%s: neither image nor mask says where its voxels lie: masks of other axes are taken as stored", entry.path
    )
    return None


def _write_classes(path: Path, classes: NamedClasses, *, is_new: bool) -> None:
    """Write the table of classes of a mask; that of a mask which is not new stays, as it may be corrected by hand."""
    is_there = path.exists()
    if is_there and not is_new:
        return
    if classes.by_id:
        write_cell_classes(path, classes.by_id)
    elif is_there and classes.named is not None:
        _keep_classes(path, classes.named, classes.kept_times)


def _keep_classes(path: Path, named: frozenset[int], times: frozenset[int | None]) -> None:
    """Remove classes of ids that annotations do not name: such a number now belongs to another cell, or to none."""
    before = read_cell_classes(path)
    kept = {
        t: {number: name for number, name in table.items() if t in times or number in named}
        for t, table in before.items()
    }
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


def _as_segmented(files: Sequence[Found]) -> list[Found]:
    """The images that files are: a field of a plate of several files, the fields of an OME-Zarr plate, or a file."""
    return [image for found in group_files(files, AUTO, names_option=False) for image in images_of(found)]


def _only_series(item: Found, axes: str | None) -> int:
    """Number of the image of a file, where nothing says which one was annotated.

    Raises
    ------
    ImageError
        ``several_images``.
    """
    listed = series_of(item, None, axes)
    if len(listed) == 1:
        return listed[0].number or 0
    names = [f"{stem(item.path)}_s{each.number or 0:02d} ({each.name or 'no name'})" for each in listed]
    # --series would not give the mask of a field the name that its results have.
    fields = [image.result.as_posix() for image in images_of(item) if image.plate and image.result]
    raise ImageError(
        "several_images",
        f"it holds {len(listed)} images, and nothing says which one was annotated: call the annotations "
        f"{', '.join((fields or names)[:SHOWN])}{' ...' if len(listed) > SHOWN else ''}"
        f"{'' if fields else ', or give --series'}; to train, name their masks in a table with the columns image, mask "
        "and series",
    )


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
    stored = plane_counts(image.axes, image.shape, image.dtype, image.channel_names)
    return Grid(image.size("Y"), image.size("X"), planes["T"], planes["Z"], stored)


def _write(path: Path, label_image: NDArray[Any], grid: Grid, image: Image, *, overwrite: bool) -> bool:
    if _is_there(path, label_image, overwrite=overwrite):
        return False
    trusted = image.pixel_size_um if image.pixel_size_trusted else {}
    sizes = {axis: size for axis, size in trusted.items() if axis in grid.axes}
    is_whole = label_image.shape == tuple(image.size(axis) for axis in grid.axes)
    affine = image.affine_from(grid.sections[0] or 0) if is_whole else None
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
