"""Write OME-TIFF atomically: tiled, deflate, equal bytes for equal arrays."""

import os
from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.files import atomic_path
from unetbio.io.image import AXES

__all__ = ["check_axes", "write_image"]

TILE = 256
DEFLATE_LEVEL = 6
BIGTIFF_BYTES = 1 << 31
"""Size from which files have 64-bit offsets, with room for pixels that grow under compression."""

_OME_TYPES = {"float32": "float", "float64": "double"}


def write_image(
    path: str | os.PathLike[str],
    image: Any,
    *,
    axes: str,
    pixel_size_um: dict[str, float] | None = None,
    channel_names: tuple[str, ...] = (),
    start: tuple[int, int] = (0, 0),
) -> None:
    """Write an array as OME-TIFF.

    Parameters
    ----------
    path : path-like
        The file.
    image : array
        8, 16 or 32-bit integers, float32 or float64; in memory, or on disk and read row by row of tiles.
    axes : str
        One letter of ``TCZYX`` an axis, in that order.
    pixel_size_um : dict, optional
        Micrometres by axis letter; left out of the file when empty.
    channel_names : tuple of str, optional
        One a channel.
    start : (int, int), optional
        Row and column of the upper left corner in the image that it is a part of.

    Raises
    ------
    ValueError
        `axes` does not fit the array.
    EnvironmentStoppedError
        The disk is full or the folder cannot be written to.

    Notes
    -----
    Equal arrays make equal files, byte for byte: no UUID, no date.
    """
    # Imported here, so that listing files stays fast.
    import tifffile

    from unetbio.io.formats.ome import ome_xml

    check_axes(image, axes)
    dtype = image.dtype.newbyteorder("=")
    xml = ome_xml(
        dict(zip(axes, image.shape, strict=True)),
        _OME_TYPES.get(dtype.name, dtype.name),
        pixel_size_um={axis: size for axis, size in (pixel_size_um or {}).items() if axis in "ZYX"},
        channel_names=channel_names,
        start=start,
    )
    shape = (prod(image.shape[:-2]), *image.shape[-2:])
    in_memory = isinstance(image, np.ndarray)
    pages = np.ascontiguousarray(image, dtype).reshape(shape) if in_memory else _tiles(image)
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary,
            pages,
            shape=shape,
            dtype=dtype,
            description=xml,
            metadata=None,
            software="unetbio",
            photometric="minisblack",
            tile=(TILE, TILE),
            compression="zlib",
            compressionargs={"level": DEFLATE_LEVEL},
            maxworkers=1,
            bigtiff=prod(shape) * dtype.itemsize >= BIGTIFF_BYTES,
        )


def _tiles(image: Any) -> Iterator[NDArray[Any]]:
    """Tiles of all pages in the order of a TIFF file, those at the border filled up with zeros."""
    height, width = image.shape[-2:]
    for page in np.ndindex(*image.shape[:-2]):
        for y in range(0, height, TILE):
            rows = image[(*page, slice(y, y + TILE))]
            padded = np.pad(rows, ((0, TILE - len(rows)), (0, -width % TILE)))
            for x in range(0, width, TILE):
                yield np.ascontiguousarray(padded[:, x : x + TILE])


def check_axes(image: Any, axes: str) -> None:
    """Raise ValueError unless `axes` names every axis of `image` in the order ``TCZYX``, ending in YX."""
    if len(axes) != image.ndim or [a for a in AXES if a in axes] != list(axes) or not axes.endswith("YX"):
        raise ValueError(f"axes {axes!r} for an array of shape {image.shape}: letters of TCZYX in that order")
