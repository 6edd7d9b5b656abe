"""List the images of a file without reading pixels."""

import dataclasses
import os
from pathlib import Path

from unetbio.errors import ImageError
from unetbio.io.formats import load
from unetbio.io.image import Image
from unetbio.io.read import find_format, read_image

__all__ = ["Series", "is_seen_to_hold_one", "list_series"]

MISSING_SERIES = 1 << 30
"""Number of a series that no file has: a readable file raises ``no_such_series`` for it."""


@dataclasses.dataclass(frozen=True)
class Series:
    """One image of a file, or the error of opening it."""

    number: int
    image: Image | None = None
    error: ImageError | None = None


def list_series(path: str | os.PathLike[str], *, axes: str | None = None) -> list[Series]:
    """Open every image of a file.

    Parameters
    ----------
    path : path-like
        The file.
    axes : str, optional
        As in `unetbio.io.read_image`, for all series.

    Returns
    -------
    list of Series
        In the order of the file; a series with unknown axes is listed with its error.

    Raises
    ------
    ImageError
        The file cannot be read at all.
    """
    found: list[Series] = []
    count: int | None = None
    while count is None or len(found) < count:
        number = len(found)
        try:
            image = read_image(path, axes=axes, series=number)
        except ImageError as error:
            if error.reason == "no_such_series" and found:
                break
            if not found and not _can_be_read(path, axes):
                raise
            found.append(Series(number, error=error))
        else:
            count = image.series_count
            found.append(Series(number, image=image))
    if len(found) == 1 and found[0].error is not None:
        raise found[0].error
    return found


def is_seen_to_hold_one(path: Path) -> bool:
    """Whether the beginning of a file, or the metadata of a folder, shows that it holds one image.

    Others may hold one, too, which is seen when they are opened.

    Raises
    ------
    ImageError, OSError
        The file cannot be read.
    """
    kind = find_format(path)
    return kind.holds_one or bool(kind.is_one_image and load(kind.is_one_image)(path))


def _can_be_read(path: str | os.PathLike[str], axes: str | None) -> bool:
    """Whether the file is readable although one of its images is not."""
    try:
        read_image(path, axes=axes, series=MISSING_SERIES)
    except ImageError as error:
        return error.reason == "no_such_series"
    return False
