"""Describe files: axes, sizes and metadata of each of their images, as text and numbers; no pixels are read."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unetbio.errors import ImageError
from unetbio.io.discover import find_inputs
from unetbio.io.image import Image
from unetbio.io.series import Series, list_series

__all__ = ["describe_files"]


def describe_files(
    inputs: Sequence[str | os.PathLike[str]], *, axes: str | None = None
) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Describe each file, or say why it cannot be opened.

    Parameters
    ----------
    inputs : sequence of path-like
        Files, folders and patterns.
    axes : str, optional
        As in `unetbio.io.read_image`.

    Yields
    ------
    description : dict
        ``path``, ``format``, ``variant``, ``files`` and ``series``; ``reason`` and ``error`` of a file that cannot be
        opened. Each series has ``series``, its number, and ``name``, ``axes``, ``shape``, ``levels`` (width and height
        of each resolution), ``dtype``, ``bytes``, ``pixel_size_um``, ``pixel_size_trusted`` and ``channels``; or
        ``reason`` and ``error``.
    errors : list of str
        A line for the file, or for each of its images, that cannot be opened.

    Raises
    ------
    UsageError
        When an input does not exist or no image is found.
    """
    for item in find_inputs(inputs, masks=True):
        try:
            found = list_series(item.path, axes=axes)
        except ImageError as error:
            known = {"path": str(item.path), "format": None, "variant": None, "files": [str(item.path)], "series": []}
            yield {**known, "reason": error.reason, "error": str(error)}, [f"{item.path}: {error} [{error.reason}]"]
            continue
        yield _describe(item.path, found), list(_errors(item.path, found))


def _errors(path: Path, found: Sequence[Series]) -> Iterator[str]:
    for series in found:
        if series.error is not None:
            yield f"{path}: series {series.number}: {series.error} [{series.error.reason}]"


def _describe(path: Path, found: Sequence[Series]) -> dict[str, Any]:
    images = [series.image for series in found if series.image is not None]
    parts = dict.fromkeys(str(part) for image in images for part in image.files)
    return {
        "path": str(path),
        "format": images[0].format if images else None,
        "variant": images[0].variant if images else None,
        "files": list(parts) or [str(path)],
        "series": [
            _describe_image(series.number, series.image)
            if series.image is not None
            else {"series": series.number, "reason": series.error and series.error.reason, "error": str(series.error)}
            for series in found
        ],
    }


def _describe_image(number: int, image: Image) -> dict[str, Any]:
    return {
        "series": number,
        "name": image.name,
        "axes": image.axes,
        "shape": list(image.shape),
        "levels": [[columns, rows] for rows, columns in image.levels],
        "dtype": str(image.dtype),
        "bytes": image.nbytes,
        "pixel_size_um": image.pixel_size_um,
        "pixel_size_trusted": image.pixel_size_trusted,
        "channels": list(image.channel_names),
    }
