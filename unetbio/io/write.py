"""Write OME-TIFF atomically: tiled, deflate, equal bytes for equal arrays."""

import os
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
    image: NDArray[Any],
    *,
    axes: str,
    pixel_size_um: dict[str, float] | None = None,
    channel_names: tuple[str, ...] = (),
) -> None:
    """Write an array as OME-TIFF.

    Parameters
    ----------
    path : path-like
        The file.
    image : numpy.ndarray
        8, 16 or 32-bit integers, float32 or float64.
    axes : str
        One letter of ``TCZYX`` an axis, in that order.
    pixel_size_um : dict, optional
        Micrometres by axis letter; left out of the file when empty.
    channel_names : tuple of str, optional
        One a channel.

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
    )
    pages = np.ascontiguousarray(image, dtype).reshape(-1, *image.shape[-2:])
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary,
            pages,
            description=xml,
            metadata=None,
            software="unetbio",
            photometric="minisblack",
            tile=(TILE, TILE),
            compression="zlib",
            compressionargs={"level": DEFLATE_LEVEL},
            maxworkers=1,
            bigtiff=pages.nbytes >= BIGTIFF_BYTES,
        )


def check_axes(image: NDArray[Any], axes: str) -> None:
    """Raise ValueError unless `axes` names every axis of `image` in the order ``TCZYX``, ending in YX."""
    if len(axes) != image.ndim or [a for a in AXES if a in axes] != list(axes) or not axes.endswith("YX"):
        raise ValueError(f"axes {axes!r} for an array of shape {image.shape}: letters of TCZYX in that order")
