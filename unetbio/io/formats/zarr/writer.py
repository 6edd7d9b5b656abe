"""Label images to OME-Zarr 0.5 folders: chunks, smaller sizes, and the metadata that viewers look for.

OME-NGFF 0.5, https://ngff.openmicroscopy.org/0.5/. For ``x_labels.ome.zarr``::

    x_labels.ome.zarr/             multiscales: the arrays of labels/cells, so that any program can open the folder
    x_labels.ome.zarr/labels/      lists the label images: cells (or classes)
    x_labels.ome.zarr/labels/cells multiscales and image-label
    x_labels.ome.zarr/labels/cells/0, 1, 2 ...    the pixels, and every second, fourth ... row and column of them
"""

import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError, UsageError
from unetbio.files import atomic_folder
from unetbio.io.formats.zarr.chunks import EVERY_CHUNK
from unetbio.io.formats.zarr.format import ZARR

__all__ = ["VERSION", "check_zarr", "group_text", "write_zarr_labels"]

VERSION = "0.5"
CHUNK = 1024
SMALLEST = 256
"""Sizes are halved until neither side is longer."""

MAX_LEVELS = 12
_TYPES = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}


def check_zarr() -> None:
    """Refuse to write OME-Zarr where the package is missing.

    Raises
    ------
    UsageError
        Naming what to install.
    """
    try:
        ZARR.check_libraries()
    except ImageError as error:
        raise UsageError(str(error)) from error


def write_zarr_labels(
    path: str | os.PathLike[str],
    label_image: Any,
    *,
    axes: str,
    pixel_size_um: dict[str, float],
    affine: object = None,
    name: str = "cells",
    start: tuple[int, int] = (0, 0),
) -> None:
    """Write a label image as an OME-Zarr folder, whole or not at all; every chunk is written, also empty ones.

    The arrays say so: there, a chunk that is missing is lost, and never taken for an empty one.

    Smaller sizes hold every second pixel of the size before along y and x: labels are never averaged.

    Parameters
    ----------
    path : path-like
        The folder; one that has the name is replaced.
    label_image : array
        Unsigned integers, in memory or on disk.
    axes : str
        One letter of ``TCZYX`` an axis, in that order.
    pixel_size_um : dict
        Micrometres by axis letter; axes that are not in it have no unit.
    affine : optional
        Of an input in NIfTI, for which OME-Zarr has no place.
    name : str
        Of the label image in the group ``labels``.
    start : (int, int)
        Row and column of its upper left corner in the image that it is a part of.

    Raises
    ------
    UsageError
        When the package zarr is missing.
    EnvironmentStoppedError
        The disk is full or the folder cannot be written to.

    Notes
    -----
    Equal label images make equal folders, byte for byte.
    """
    check_zarr()
    import zarr

    shapes = _level_shapes(tuple(label_image.shape))
    dtype = np.dtype(label_image.dtype)
    with atomic_folder(path) as temporary:
        arrays = [
            zarr.create_array(
                temporary / "labels" / name / str(index),
                shape=shape,
                dtype=dtype,
                chunks=(1,) * (len(shape) - 2) + tuple(min(CHUNK, max(1, size)) for size in shape[-2:]),
                # In the core of the format, which all programs know.
                compressors=zarr.codecs.BloscCodec(cname="zstd", clevel=5, shuffle="shuffle", typesize=dtype.itemsize),
                fill_value=0,
                dimension_names=list(axes.lower()),
                attributes=EVERY_CHUNK,
                config={"write_empty_chunks": True},
            )
            for index, shape in enumerate(shapes)
        ]
        for page, rows, pixels in _parts(label_image):
            for level, array in enumerate(arrays):
                step = 2**level
                first = -(-rows.start // step)
                part = pixels[..., first * step - rows.start :: step, ::step]
                array[(*page, slice(first, first + part.shape[-2]))] = part
        for folder, attributes in _groups(axes, pixel_size_um, len(shapes), name, start).items():
            zarr.create_group(temporary / folder, attributes={"ome": {"version": VERSION, **attributes}})


def group_text(attributes: dict[str, Any]) -> str:
    """Metadata file of a group."""
    return json.dumps({"attributes": attributes, "zarr_format": 3, "node_type": "group"}, indent=2)


def _groups(
    axes: str, pixel_size_um: dict[str, float], count: int, name: str, start: tuple[int, int]
) -> dict[str, dict[str, Any]]:
    """Metadata of the groups, by their paths."""
    below = f"labels/{name}"
    return {
        "": {"multiscales": [_multiscale(axes, pixel_size_um, count, name, f"{below}/", start)]},
        "labels": {"labels": [name]},
        below: {
            "multiscales": [_multiscale(axes, pixel_size_um, count, name, "", start)],
            "image-label": {"source": {"image": "../../"}},
        },
    }


def _level_shapes(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    shapes = [shape]
    while max(shapes[-1][-2:]) > SMALLEST and len(shapes) < MAX_LEVELS:
        shapes.append((*shape[:-2], *(-(-size // 2) for size in shapes[-1][-2:])))
    return shapes


def _parts(label_image: Any) -> Iterator[tuple[tuple[Any, ...], slice, NDArray[Any]]]:
    """The page, rows and pixels of each part: all of an array in memory, rows of chunks of one on disk."""
    height = label_image.shape[-2]
    if isinstance(label_image, np.ndarray):
        yield (slice(None),) * (label_image.ndim - 2), slice(0, height), label_image
        return
    for page in np.ndindex(*label_image.shape[:-2]):
        for start in range(0, height, CHUNK):
            rows = slice(start, min(start + CHUNK, height))
            yield page, rows, label_image[(*page, rows)]


def _multiscale(
    axes: str, pixel_size_um: dict[str, float], count: int, name: str, prefix: str, start: tuple[int, int]
) -> dict[str, Any]:
    firsts = dict(zip("YX", start, strict=True))
    places = [firsts.get(axis, 0) * pixel_size_um.get(axis, 1.0) for axis in axes]
    units = {axis: {"unit": "micrometer"} for axis in pixel_size_um}
    return {
        "name": name,
        "axes": [{"name": axis.lower(), "type": _TYPES[axis], **units.get(axis, {})} for axis in axes],
        "datasets": [
            {
                "path": f"{prefix}{level}",
                # Pixel (i, j) of a level lies where pixel (2i, 2j) of the one before does.
                "coordinateTransformations": [
                    {
                        "type": "scale",
                        "scale": [
                            pixel_size_um.get(axis, 1.0) * (2.0**level if axis in "YX" else 1.0) for axis in axes
                        ],
                    },
                    *([{"type": "translation", "translation": places}] if any(places) else []),
                ],
            }
            for level in range(count)
        ],
        "type": "every second pixel",
    }
