"""Write the label images of annotated images."""

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetbio.annotations.sources import FORMATS
from unetbio.errors import ImageError, UsageError
from unetbio.files import remove_stale
from unetbio.imports.label_images import read_label_image
from unetbio.imports.places import ImagePlaces, Places, RunPlaces
from unetbio.imports.plan import Job, assign_annotations
from unetbio.results.journal import hold_output
from unetbio.settings.runs import ImportRun
from unetbio.settings.segmentation import Settings

__all__ = ["Imported", "import_annotations"]

logger = logging.getLogger(__name__)

Report = Callable[[str, str], None]


@dataclass(frozen=True)
class Imported:
    """Counts of an import; ``unchanged`` masks of a run were as they are now."""

    images: int
    cells: int
    failed: int
    unchanged: int


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
    places: Places = RunPlaces(run.into, output, run) if run.into else ImagePlaces(annotations, output, run, reading)
    with hold_output(run.into, None) if run.into else nullcontext():
        for folder in filter(None, (run.into, output)):
            remove_stale(folder, below=True)
        return _import(annotations, places, run, report)


def _import(annotations: Sequence[Path], places: Places, run: ImportRun, report: Report) -> Imported:
    jobs, failures = assign_annotations(annotations, places, run)
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


def _say_without(places: Places, jobs: Sequence[Job]) -> None:
    without, total = places.without({job.names.path for job in jobs})
    if without:
        logger.info(
            "%d of %d images have no annotations, such as %s: nothing is written for them",
            len(without),
            total,
            without[0],
        )


def _import_one(job: Job, places: Places, run: ImportRun) -> tuple[int, bool]:
    """Write the mask of an image; returns its cells, and whether it is new."""
    # First, since the annotations of several images of a file may seem to be those of one.
    place = places.open(job.names)
    source, sheet = job.annotation()
    label_image, classes = read_label_image(source, sheet, place, job.names.path, run)
    return len(np.unique(label_image[label_image > 0])), place.store(label_image, classes)
