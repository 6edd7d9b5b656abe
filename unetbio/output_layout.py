"""Names of all files in an output folder.

``x_labels.ome.tif`` is an *output*; ``x``, its path below the output folder without ending, is the *result* that all
files of one image share.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path, PurePosixPath
from typing import Literal

__all__ = [
    "ANNDATA",
    "CELLS",
    "CELLS_TEXT",
    "CHECK",
    "CLASSES",
    "COCO",
    "CORRECTIONS",
    "CYTOPLASM",
    "EVERY_JOB_CELLS",
    "FORMATS",
    "JOURNAL",
    "LINEAGES",
    "LINKED_FILES",
    "LOCK",
    "MANIFEST",
    "MASKS",
    "NIFTI",
    "OVERLAYS",
    "OVERLAYS_LINK",
    "OVERLAY_SUFFIX",
    "PAGE",
    "PARENTS",
    "PARENTS_RECORD",
    "SIGNATURE",
    "SUMMARY",
    "TABLES_AND_PAGE",
    "TABLE_HASHES",
    "TRACKS",
    "WRITTEN",
    "WRITTEN_MASKS",
    "MaskKind",
    "challenge_folder",
    "cytoplasm_name",
    "described_mask",
    "fields_of_plate",
    "find_masks",
    "find_output_folders",
    "find_plates",
    "find_provenances",
    "geojson_name",
    "holds_classes",
    "is_journal",
    "is_lock",
    "is_output_folder",
    "is_own_file",
    "job_cells_name",
    "job_journal_name",
    "job_lock_name",
    "mask_name",
    "objects_name",
    "overlay_name",
    "part_count",
    "plate_mask_name",
    "probabilities_name",
    "provenance_name",
    "result_name",
    "review_name",
    "roi_set_name",
    "split_time",
    "time_lapse_name",
    "track_picture_name",
    "tracked_name",
    "trackmate_name",
    "tracks_name",
]

SUMMARY, CELLS, CELLS_TEXT, CLASSES = "summary.csv", "cells.parquet", "cells.csv", "classes.csv"
PAGE, CHECK, COCO, ANNDATA = "index.html", "check.csv", "coco.json", "cells.h5ad"
TRACKS, LINEAGES = "tracks.csv", "lineages.csv"
PARENTS, CYTOPLASM = "parents.csv", "cytoplasm.csv"
CORRECTIONS = "corrections.csv"
PARENTS_RECORD = ".parents.parquet"
"""Parents of the nuclei of an output folder, for its tables."""

JOURNAL, LOCK = "run.jsonl", ".run.lock"
LINKED_FILES = (SUMMARY, CLASSES, CELLS_TEXT, CELLS, JOURNAL)
"""Files that the report page links to."""

TABLES_AND_PAGE = (*LINKED_FILES, PAGE)
"""Files of a whole run."""

TABLE_HASHES = ".tables.sha256"
"""Hashes of the tables, as ``sha256sum`` prints them."""

MANIFEST, SIGNATURE = "manifest.sha256", "manifest.sha256.sig"
"""Hashes of all files, as ``sha256sum`` prints them, and their signature, as ``ssh-keygen -Y sign`` writes it."""

OVERLAYS = "overlays"
"""Folder of pictures."""

OVERLAYS_LINK = f"{OVERLAYS}-for-report"
"""Link of the workflow to the pictures, for the report of Snakemake."""

OVERLAY_SUFFIX = ".jpg"

MaskKind = Literal["instances", "classes"]
"""Label images of cells, or class masks."""

MASKS: Mapping[MaskKind, str] = {"instances": "_labels", "classes": "_classes"}
"""Endings of the stems of masks, by kind of mask."""

WRITTEN_MASKS = tuple(MASKS.values())
WRITTEN = (*WRITTEN_MASKS, "_probabilities", "_tracks", "_cytoplasm")
"""Endings of the stems of outputs; a search of a folder leaves such files out."""

FORMATS: Mapping[str, str] = {"ome-tiff": ".ome.tif", "ome-zarr": ".ome.zarr"}
"""Endings of masks by format; ``auto`` chooses NIfTI for NIfTI inputs, and OME-TIFF for all others."""

NIFTI = (".nii", ".nii.gz")
"""Endings of NIfTI files."""

MASK_FORMATS = (*FORMATS.values(), ".nii.gz")

_JOURNAL = re.compile(r"run(\.\d+-of-\d+)?\.jsonl")
_LOCK = re.compile(r"\.run\..*lock")
_PART = re.compile(r"\.?run\.\d+-of-(\d+)\.(?:jsonl|lock)")
_TIME = re.compile(r"_t(\d{3,})$")
_SEPARATORS = "_. -"
_TIME_MARK = re.compile(r"(^|[_. -]+)(t|time|timepoint|frame)?[_. -]*$", re.IGNORECASE)
"""What stands before the number of a time in the name of a file."""

_JOB_CELLS = ".cells.{label}.{number}.parquet"
EVERY_JOB_CELLS = _JOB_CELLS.format(label="*", number="*")


def job_journal_name(label: str) -> str:
    """Journal of a job with a label such as ``1-of-8``."""
    return f"run.{label}.jsonl"


def job_lock_name(label: str) -> str:
    """Lock of a job with a label such as ``1-of-8``."""
    return f".run.{label}.lock"


def job_cells_name(label: str, number: int) -> str:
    """File in which a job stores its rows of the table of cells."""
    return _JOB_CELLS.format(label=label, number=number)


def is_journal(name: str) -> bool:
    """Whether a file is the journal of a run or of a job, by its name."""
    return _JOURNAL.fullmatch(name) is not None


def part_count(name: str) -> int | None:
    """Number of jobs in the name of a journal or lock of one job; None for other files."""
    match = _PART.fullmatch(name)
    return int(match[1]) if match else None


def is_output_folder(names: Iterable[str]) -> bool:
    """Whether a folder with files of these names is an output folder."""
    return any(is_journal(name) or is_lock(name) for name in names)


def is_lock(name: str) -> bool:
    """Whether a file is the lock of a run or of a job, by its name."""
    return _LOCK.fullmatch(name) is not None


def mask_name(result: str, masks: MaskKind, suffix: str) -> str:
    """Label image, or class mask, of a result."""
    return f"{result}{MASKS[masks]}{suffix}"


def plate_mask_name(plate: str, result: str, masks: MaskKind) -> str:
    """Label image of a field in a plate of OME-Zarr: ``p_labels.ome.zarr/A/1/0`` for the result ``p/A/1/0``."""
    return f"{plate}{MASKS[masks]}{FORMATS['ome-zarr']}{result.removeprefix(plate)}"


def objects_name(result: str) -> str:
    """Table of detected objects of a result."""
    return f"{result}_objects.csv"


def probabilities_name(result: str, t: int | None, suffix: str) -> str:
    """Probabilities of a result; of a time-lapse, each time ``t`` is a file."""
    time = "" if t is None else f"_t{t:03d}"
    return f"{result}{time}_probabilities{suffix}"


def split_time(result: str) -> tuple[str, int] | None:
    """The result and the time for which `probabilities_name` writes a file called as that of this result, if any."""
    match = _TIME.search(result)
    return (result[: match.start()], int(match[1])) if match else None


def tracks_name(result: str) -> str:
    """Record of the tracks of a time-lapse."""
    return f"{result}_tracks.json"


def tracked_name(result: str) -> str:
    """Label image of a time-lapse in which a cell has the number of its track at all times."""
    return f"{result}_tracks.ome.tif"


def cytoplasm_name(result: str) -> str:
    """Label image of cells without their nuclei."""
    return f"{result}_cytoplasm.ome.tif"


def track_picture_name(result: str) -> str:
    """Picture of the tracks of a time-lapse, which the page shows."""
    return f"{OVERLAYS}/{result}.tracks{OVERLAY_SUFFIX}"


def trackmate_name(result: str) -> str:
    """Tracks of a time-lapse for TrackMate."""
    return f"{result}_TrackMate.xml"


def time_lapse_name(result: str, start: int, end: int) -> str:
    """Name of a time-lapse whose times are files, from the name of one and the place of the time in it.

    ``a/x`` for ``a/x_t007``, ``a`` for ``a/t007``, and an empty name for ``t007``.
    """
    folder, _, first = result[:start].rpartition("/")
    last, slash, below = result[end:].partition("/")
    part = (_TIME_MARK.sub("", first) + last).strip(_SEPARATORS)
    return "/".join(filter(None, (folder, part, below if slash else "")))


def challenge_folder(result: str) -> str:
    """Tracks of a time-lapse as the Cell Tracking Challenge has them."""
    return f"{result}_RES"


def review_name(result: str) -> str:
    """Cells of a result that were accepted or corrected by hand."""
    return f"{result}_review.json"


def geojson_name(result: str) -> str:
    """Outlines of a result for QuPath."""
    return f"{result}_cells.geojson"


def roi_set_name(result: str) -> str:
    """Outlines of a result for ImageJ."""
    return f"{result}_RoiSet.zip"


def result_name(output: str) -> str:
    """``a/b/x`` of ``a/b/x_labels.ome.tif`` and of ``a/b/x_classes.ome.tif``; ``p/A/1/0`` of a field of a plate."""
    base, _, rest = output.rpartition(_ending(output))
    return base + rest.removeprefix(FORMATS["ome-zarr"]) if "/" in rest else base


def provenance_name(output: str) -> str:
    """Provenance of a label image or class mask; masks of two formats share it."""
    return f"{result_name(output)}{_ending(output)}.json"


def overlay_name(output: str) -> str:
    """``overlays/a/b/x.labels.jpg`` for ``a/b/x_labels.ome.tif``; class masks have their own."""
    return f"{OVERLAYS}/{result_name(output)}{_ending(output).replace('_', '.')}{OVERLAY_SUFFIX}"


def holds_classes(output: str) -> bool:
    """Whether an output is a class mask, by its name."""
    return _ending(output) == MASKS["classes"]


def is_own_file(stem: str, names: Set[str]) -> bool:
    """Whether this program wrote the file of a stem: the ``names`` in its folder include the provenance."""
    ending = next((one for one in WRITTEN if stem.endswith(one) and len(stem) > len(one)), None)
    if ending is None:
        return False
    result = stem.removesuffix(ending)
    return any(f"{one}{mask}.json" in names for one in {result, _TIME.sub("", result)} for mask in WRITTEN_MASKS)


def find_masks(out: Path) -> Iterator[Path]:
    """All masks in an output folder, without temporary files."""
    patterns = (f"*{ending}{suffix}" for ending in WRITTEN_MASKS for suffix in MASK_FORMATS)
    found = (path for pattern in patterns for path in out.rglob(pattern) if not path.name.startswith("."))
    return (mask for path in found for mask in (fields_of_plate(path) or [path]))


def described_mask(provenance: Path, name: str) -> Path:
    """The mask that a provenance describes: beside it, or in a plate (``../../../p.zarr/A/1/0``).

    Both may have been renamed since they were written: of the name in the provenance the ending alone counts, but for
    a plate.
    """
    folder, parts = provenance.parent, PurePosixPath(name).parts
    if parts[:1] != ("..",):
        stem = provenance.name.removesuffix(".json")
        return folder / f"{stem}{name.rpartition(_ending(stem))[2]}"
    while parts[:1] == ("..",):
        folder, parts = folder.parent, parts[1:]
    return folder.joinpath(*parts)


def find_plates(out: Path) -> Iterator[Path]:
    """Plates of masks in an output folder."""
    patterns = (f"*{ending}{FORMATS['ome-zarr']}" for ending in WRITTEN_MASKS)
    return (path for pattern in patterns for path in out.rglob(pattern) if fields_of_plate(path))


def fields_of_plate(folder: Path) -> list[Path]:
    """Fields of a plate of masks, by row, column and field; empty for a mask and for files."""
    if not folder.is_dir() or (folder / "labels").is_dir():
        return []
    return sorted(path.parent for path in folder.glob("*/*/*/labels") if not path.parent.name.startswith("."))


def find_provenances(out: Path, *, nested: bool = True) -> Iterator[Path]:
    """All provenances in an output folder; none lies within a mask, which may be a folder of many chunks.

    With ``nested``, also those in output folders of other runs below it.
    """
    provenances = tuple(f"{ending}.json" for ending in WRITTEN_MASKS)
    for parent, folders, names in _walk_outside_masks(out):
        if not nested and parent != os.fspath(out) and any(map(is_journal, names)):
            folders.clear()
            continue
        yield from (Path(parent, name) for name in names if name.endswith(provenances))


def find_output_folders(out: Path) -> Iterator[Path]:
    """An output folder, and those of other runs below it, as of two models."""
    for parent, _, names in _walk_outside_masks(out):
        if parent == os.fspath(out) or any(map(is_journal, names)):
            yield Path(parent)


def _walk_outside_masks(out: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`, without what lies in masks that are folders."""
    masks = tuple(f"{ending}{FORMATS['ome-zarr']}" for ending in WRITTEN_MASKS)
    for parent, folders, names in os.walk(out):
        folders[:] = [name for name in folders if not name.endswith(masks)]
        yield parent, folders, names


def _ending(output: str) -> str:
    return max(WRITTEN_MASKS, key=output.rfind)
