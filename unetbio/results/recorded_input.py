"""Inputs as the provenance records them: a file, or a set of files."""

from pathlib import Path

from unetbio.errors import ImageError
from unetbio.io import Image, read_image
from unetbio.io.image_set import ImageSet
from unetbio.provenance import InputRecord, PartRecord, Provenance, SetRecord

__all__ = ["input_under", "open_recorded", "record_part", "record_set", "recorded_set"]


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
