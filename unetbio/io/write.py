"""Write OME-TIFF atomically: tiled, deflate, equal bytes for equal arrays."""

import os
from collections.abc import Iterator, Mapping
from math import ceil, log2, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.files import atomic_path
from unetbio.io.image import AXES

__all__ = ["check_axes", "plain_sizes", "write_image"]

TILE = 256
DEFLATE_LEVEL = 6
BIGTIFF_BYTES = 1 << 31
"""Size from which files have 64-bit offsets, with room for pixels that grow under compression."""

LARGE_SIDE = 4096
"""Longest side of a plane that programs open well as it is; larger label images get smaller copies."""

SMALLEST_SIDE = 512
"""Copies are halved until neither side is longer."""

_OME_TYPES = {"float32": "float", "float64": "double"}


def write_image(
    path: str | os.PathLike[str],
    image: Any,
    *,
    axes: str,
    pixel_size_um: dict[str, float] | None = None,
    channel_names: tuple[str, ...] = (),
    start: tuple[int, int] = (0, 0),
    pyramid: bool = False,
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
    pyramid : bool, optional
        Write smaller copies of planes with a side above `LARGE_SIDE`, of every second pixel of the copy before along y
        and x, as labels must not be averaged. They are SubIFDs, which OME-TIFF has for them.

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
        pixel_size_um={axis: size for axis, size in plain_sizes(pixel_size_um).items() if axis in "ZYX"},
        channel_names=channel_names,
        start=start,
    )
    copies = _copies(image.shape[-2:]) if pyramid else 0
    pixels = prod(image.shape) * dtype.itemsize
    with atomic_path(path) as temporary, tifffile.TiffWriter(temporary, bigtiff=pixels >= BIGTIFF_BYTES) as file:
        for number in range(copies + 1):
            height, width = (-(-size // 2**number) for size in image.shape[-2:])
            shape = (prod(image.shape[:-2]), height, width)
            file.write(
                _pages(image, shape, dtype, 2**number),
                shape=shape,
                dtype=dtype,
                description=None if number else xml,
                metadata=None,
                software="unetbio",
                photometric="minisblack",
                tile=(TILE, TILE),
                compression="zlib",
                compressionargs={"level": DEFLATE_LEVEL},
                maxworkers=1,
                subifds=None if number else copies or None,
                subfiletype=1 if number else None,
            )


def _copies(plane: tuple[int, ...]) -> int:
    """Number of smaller copies of a plane."""
    return 0 if max(plane) <= LARGE_SIDE else ceil(log2(max(plane) / SMALLEST_SIDE))


def _pages(image: Any, shape: tuple[int, ...], dtype: np.dtype[Any], step: int) -> Any:
    """Every ``step``-th pixel of all pages: as they are in memory, or the tiles of an array on disk."""
    if isinstance(image, np.ndarray):
        return np.ascontiguousarray(image[..., ::step, ::step], dtype).reshape(shape)
    return _tiles(image, step)


def _tiles(image: Any, step: int) -> Iterator[NDArray[Any]]:
    """Tiles of all pages in the order of a TIFF file, those at the border filled up with zeros."""
    height, width = (-(-size // step) for size in image.shape[-2:])
    for page in np.ndindex(*image.shape[:-2]):
        for y in range(0, height, TILE):
            rows = image[(*page, slice(y * step, (y + TILE) * step, step), slice(None, None, step))]
            padded = np.pad(rows, ((0, TILE - len(rows)), (0, -width % TILE)))
            for x in range(0, width, TILE):
                yield np.ascontiguousarray(padded[:, x : x + TILE])


def plain_sizes(pixel_size_um: Mapping[str, float] | None) -> dict[str, float]:
    """Pixel sizes as Python's own numbers: metadata would hold the type of those of numpy, or not take them."""
    return {axis: float(size) for axis, size in (pixel_size_um or {}).items()}


def check_axes(image: Any, axes: str) -> None:
    """Raise ValueError unless `axes` names every axis of `image` in the order ``TCZYX``, ending in YX."""
    if len(axes) != image.ndim or [a for a in AXES if a in axes] != list(axes) or not axes.endswith("YX"):
        raise ValueError(f"axes {axes!r} for an array of shape {image.shape}: letters of TCZYX in that order")
