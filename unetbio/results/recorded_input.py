"""Inputs as the provenance records them: a file, or a set of files."""

from pathlib import Path

from unetbio.io import Image, read_image
from unetbio.io.image_set import ImageSet
from unetbio.provenance import InputRecord, SetRecord

__all__ = ["open_recorded", "record_set"]


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


def open_recorded(record: InputRecord | None, path: Path, *, axes: str | None, series: int) -> Image:
    """Open the input of a label image.

    Parameters
    ----------
    record : InputRecord, optional
        Of the provenance; a single file without one.
    path : pathlib.Path
        The file, or the first of a set, where it lies now.
    axes, series : optional
        As for `unetbio.io.read_image`.

    Raises
    ------
    ImageError
        As `unetbio.io.read_image`.
    """
    if record is None or record.image_set is None:
        return read_image(path, axes=axes, series=series)
    images = record.image_set
    found = ImageSet(path.parent, images.files, images.shape, images.channel_names, images.pixel_size_um)
    return found.open(axes)
