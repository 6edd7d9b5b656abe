"""Inputs as the provenance records them: a file, or a set of files."""

import os
from pathlib import Path, PurePosixPath
from typing import Any

from unetbio.errors import EnvironmentStoppedError, ImageError
from unetbio.files import real_path
from unetbio.io import Image, read_image
from unetbio.io.image_set import ImageSet
from unetbio.io.remote import address_of
from unetbio.notes import warn_once
from unetbio.provenance import InputRecord, PartRecord, Provenance, SetRecord, is_as_written, write_provenance
from unetbio.results.items import Item

__all__ = [
    "follow_input",
    "input_under",
    "open_recorded",
    "place_of_input",
    "record_part",
    "record_set",
    "recorded_set",
]


def record_set(images: ImageSet | None) -> SetRecord | None:
    """Record of a set of files, whose names start from the folder of the first; None for a single file."""
    if images is None:
        return None
    return SetRecord(
        files=images.files,
        shape=images.shape,
        channel_names=images.channel_names,
        pixel_size_um=dict(images.pixel_size_um),
    )


def place_of_input(out: Path, item: Item) -> dict[str, Any]:
    """Where the input of an item lies, as the fields of an `InputRecord` say it."""
    absolute = real_path(item.source)
    return {
        "path": item.path,
        "absolute": str(absolute),
        "from_output": os.path.relpath(absolute, real_path(out / item.labels).parent),
        "address": address_of(absolute),
    }


def follow_input(out: Path, item: Item, provenance: Provenance) -> Provenance:
    """Let the provenance of a kept result name its input where it lies now, if it was moved or renamed.

    It is looked for there from now on, also where the first place still holds it: the original of a copy is often
    deleted later. A record that was changed by hand stays as it is, so that `verify` tells. One that cannot be written
    is that of this run alone.
    """
    path, found = out / item.provenance, provenance.input.find((out / item.labels).parent)
    if found is not None and real_path(found) == real_path(item.source):
        return provenance
    if not (item.source.exists() and is_as_written(path)):
        return provenance
    output = PurePosixPath(provenance.output.name).with_name(PurePosixPath(item.labels).name)
    changes = {
        "input": provenance.input.model_copy(update=place_of_input(out, item)),
        "output": provenance.output.model_copy(update={"name": str(output)}),
    }
    moved = provenance.model_copy(update=changes)
    try:
        write_provenance(path, moved)
    except EnvironmentStoppedError:
        warn_once(
            f"provenances in {out} cannot be written: this run finds the images of kept masks where they lie now, and "
            "measure, view and verify look for them where they were"
        )
    return moved


def recorded_set(record: InputRecord | None, path: Path) -> ImageSet | None:
    """The set of files that a record names, whose first file is ``path`` now; None for a single file."""
    if record is None or record.image_set is None:
        return None
    images = record.image_set
    return ImageSet(path.parent, images.files, images.shape, images.channel_names, images.pixel_size_um)


def record_part(image: Image) -> PartRecord | None:
    """Record of what an image shows of its file; None for all of it."""
    return None if image.part is None else PartRecord(**vars(image.part))


def open_recorded(
    record: InputRecord | None, path: Path, *, axes: str | None, series: int, whole: bool = False
) -> Image:
    """Open the input of a label image: the part of the file that was segmented.

    Parameters
    ----------
    record : InputRecord, optional
        Of the provenance; a single file without one.
    path : pathlib.Path
        The file, or the first of a set, where it lies now.
    axes, series : optional
        As for `unetbio.io.read_image`.
    whole : bool
        Open all of the file at full resolution.

    Raises
    ------
    ImageError
        As `unetbio.io.read_image`; ``no_such_level``: the file has no longer the resolution that was segmented.
    """
    image = _open(record, path, axes, series)
    if record is None or record.part is None or whole:
        return image
    part = record.part
    return image.at_level(part.level).crop(slice(*part.rows), slice(*part.columns))


def input_under(path: Path, provenance: Provenance) -> Image | None:
    """The part of the input that the label image at a path shows; None when it cannot be opened any more."""
    source, settings = provenance.input.find(path.parent), provenance.settings
    try:
        if source is None:
            return None
        image = open_recorded(provenance.input, source, axes=settings.get("axes"), series=settings.get("series") or 0)
    except ImageError:
        return None
    kept = provenance.run.get("partial")
    return image.crop_sections(*kept) if kept else image


def _open(record: InputRecord | None, path: Path, axes: str | None, series: int) -> Image:
    images = recorded_set(record, path)
    return read_image(path, axes=axes, series=series) if images is None else images.open(axes)
