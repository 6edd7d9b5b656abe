"""Export the cells of an output folder in one of the formats."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from unetbio.errors import ImageError
from unetbio.export.annotated_data import AnnDataWriter
from unetbio.export.cells import ExportImage, find_images, read_cells
from unetbio.export.coco import CocoWriter
from unetbio.export.geojson import GeoJsonWriter
from unetbio.export.imagej import RoiSetWriter
from unetbio.export.tracks import ChallengeWriter, TrackMateWriter
from unetbio.files import remove_stale
from unetbio.notes import say_without_effect
from unetbio.results.journal import Entry
from unetbio.results.tables.path_columns import add_path_columns

__all__ = ["FORMATS", "Exported", "export_folder"]


class Writer(Protocol):
    """Write cells within a ``with`` block."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Finish the files of all images."""

    def add(self, image: ExportImage) -> int:
        """Write the cells of one image; returns the number of outlines."""


FORMATS: dict[str, Callable[[Path], Writer]] = {
    "geojson": GeoJsonWriter,
    "imagej": RoiSetWriter,
    "coco": CocoWriter,
    "anndata": AnnDataWriter,
    "ctc": ChallengeWriter,
    "trackmate": TrackMateWriter,
}
"""Formats by their names on the command line."""


WITH_COLUMNS = ("geojson", "anndata")
"""Formats that hold the columns of the user's table and of ``--metadata-regex``."""


@dataclass(frozen=True)
class Exported:
    """Counts of an export."""

    images: int
    outlines: int
    failed: int


def export_folder(
    out: Path, target: str, folder: Path, report: Callable[[Entry], None], *, metadata_regex: str | None = None
) -> Exported:
    """Write the cells of all label images of an output folder, one image after another.

    Parameters
    ----------
    out : pathlib.Path
        Output folder of a run.
    target : str
        One of `FORMATS`.
    folder : pathlib.Path
        Folder of the files.
    report : callable
        Called with the entry of each image; that of a failed image has status, reason and message.
    metadata_regex : str, optional
        See `unetbio.results.tables.path_columns.add_path_columns`.

    Raises
    ------
    UsageError
        When there are no cells to export, or the regular expression cannot be used.
    EnvironmentStoppedError
        When the disk is full or the folder cannot be written.
    """
    if metadata_regex is not None and target not in WITH_COLUMNS:
        say_without_effect("--metadata-regex", f"files of {target} hold no further columns")
    entries = add_path_columns(find_images(out), metadata_regex)
    outlines, failed = 0, 0
    remove_stale(folder, below=True)
    with FORMATS[target](folder) as writer:
        for found in read_cells(out, entries):
            entry = found if isinstance(found, Entry) else found.entry
            if isinstance(found, ExportImage):
                try:
                    outlines += writer.add(found)
                except ImageError as error:
                    entry = replace(entry, status="failed", reason=error.reason, message=str(error))
            failed += entry.status == "failed"
            report(entry)
    return Exported(len(entries), outlines, failed)
