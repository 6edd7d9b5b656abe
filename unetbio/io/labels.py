"""Read and write label images and probabilities: OME-TIFF, NIfTI and OME-Zarr."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.io.formats import find_by_name, load
from unetbio.io.grey_pictures import as_grey
from unetbio.io.image import AXES, Image
from unetbio.io.read import read_image
from unetbio.io.write import check_axes, plain_sizes, write_image
from unetbio.labels import is_binary_mask, without_label

__all__ = ["label_suffix", "labels_of", "read_labels", "write_labels", "write_probabilities"]


WITHOUT_SIGN = (255, 65_535, 4_294_967_295)
"""What -1 becomes in types without a sign, also if the numbers were stored in a wider type afterwards."""


def label_suffix(path: str | os.PathLike[str]) -> str:
    """Ending of the label image and the probabilities of an image: ``.nii.gz`` beside NIfTI, else ``.ome.tif``."""
    kind = find_by_name(Path(path).name)
    return kind.label_suffix if kind else ".ome.tif"


def write_labels(
    path: str | os.PathLike[str],
    label_image: NDArray[Any],
    *,
    axes: str | None = None,
    pixel_size_um: dict[str, float] | None = None,
    affine: NDArray[np.float64] | None = None,
    name: str = "cells",
    start: tuple[int, int] = (0, 0),
) -> None:
    """Write a label image as OME-TIFF (256-pixel tiles, deflate) or, by the file's name, NIfTI or OME-Zarr.

    Those with a side above 4096 pixels get smaller copies in OME-TIFF, and all in OME-Zarr. The file is written
    atomically.

    Parameters
    ----------
    path : path-like
        ``.nii`` and ``.nii.gz`` make NIfTI, ``.zarr`` a folder (`unetbio.io.formats.zarr.writer`), everything else
        TIFF.
    label_image : array
        Integers from 0, of 2 to 4 axes; uint8, uint16 and uint32 are written as they are, other types as the smaller of
        uint16 and uint32 that holds them. An array on disk is written in parts, except as NIfTI.
    axes : str, optional
        One letter of ``TCZYX`` an axis, in that order; YX, ZYX or TZYX by the number of axes by default.
    pixel_size_um : dict, optional
        Micrometres by axis letter; left out of the file when empty.
    affine : numpy.ndarray, optional
        NIfTI: the input's matrix, ``(4, 4)``; by default one of the pixel size.
    name : str, optional
        OME-Zarr: of the label image in the group ``labels``.
    start : (int, int), optional
        OME-TIFF and OME-Zarr: row and column of the upper left corner in the image that the label image is a part of,
        in its own pixels. NIfTI has the place in its matrix.

    Raises
    ------
    ImageError
        ``not_integer``, ``negative_labels`` or ``too_many_labels`` (above 4 294 967 295).
    EnvironmentStoppedError
        The disk is full or the folder cannot be written to.

    Notes
    -----
    Equal label images make equal files, byte for byte: no UUID, no date.
    """
    label_image = _unsigned(np.asarray(label_image)) if not _is_on_disk(label_image) else label_image
    axes = axes or _default_axes(label_image.ndim)
    sizes = plain_sizes(pixel_size_um)
    if writer := _writer(path, "labels"):
        check_axes(label_image, axes)
        writer(path, label_image, axes=axes, pixel_size_um=sizes, affine=affine, name=name, start=start)
    else:
        write_image(path, label_image, axes=axes, pixel_size_um=sizes, start=start, pyramid=True)


def write_probabilities(
    path: str | os.PathLike[str],
    probabilities: NDArray[Any],
    class_names: tuple[str, ...],
    *,
    pixel_size_um: dict[str, float] | None = None,
    affine: NDArray[np.float64] | None = None,
) -> None:
    """Write probabilities ``(K, *spatial)`` as float32, one channel a class; parameters as `write_labels`."""
    values = np.ascontiguousarray(probabilities, np.float32)
    if len(class_names) != len(values):
        raise ValueError(f"{len(values)} classes, but {len(class_names)} names")
    axes = "CYX" if values.ndim == 3 else "CZYX"
    if writer := _writer(path, "probabilities"):
        writer(path, values, axes=axes, pixel_size_um=plain_sizes(pixel_size_um), affine=affine)
    else:
        write_image(path, values, axes=axes, pixel_size_um=pixel_size_um, channel_names=class_names)


def _writer(path: str | os.PathLike[str], what: str) -> Callable[..., None] | None:
    """Writer of the format that the ending selects; None for OME-TIFF."""
    kind = find_by_name(Path(path).name)
    return load(kind.writers[what]) if kind and what in kind.writers else None


def read_labels(
    path: str | os.PathLike[str],
    *,
    allow_binary: bool = False,
    axes: str | None = None,
    series: int | None = None,
    ignore_label: int | None = None,
) -> NDArray[Any]:
    """Read a label image.

    Parameters
    ----------
    path : path-like
        Any format of `read_image`; in an OME-Zarr image, the only label image of its ``labels`` group.
    allow_binary : bool, optional
        Accept masks of 0 and 1 or 0 and 255, which hold no instances: for classes and ``--split-components``.
    axes : str, optional
        As in `read_image`.
    series : int, optional
        Which image of a file that holds several.
    ignore_label : int, optional
        Value of pixels that are not annotated: they say nothing about whether a mask is binary.

    Returns
    -------
    numpy.ndarray
        Unsigned integers, 0 = background; the axes of the file without channels.

    Raises
    ------
    ImageError
        ``not_integer``, ``negative_labels``, ``wrong_channels`` (colour masks), ``binary_mask``, ``several_images``
        (the file holds several, and ``series`` chooses none), and those of `read_image`. A mask of 0 and 1 with one
        component counts as a label image with one cell.
    """
    image = read_image(path, axes=axes, series=series or 0, labels=True)
    if series is None and image.series_count > 1:
        raise ImageError(
            "several_images",
            f"it holds {image.series_count} images, and a mask is one: choose its series, or save each as a file",
        )
    return labels_of(image, allow_binary=allow_binary, ignore_label=ignore_label)


def labels_of(
    image: Image, axes: str | None = None, *, allow_binary: bool = False, ignore_label: int | None = None
) -> NDArray[Any]:
    """Pixels of an image that holds labels; as `read_labels`, whose image is open.

    Parameters
    ----------
    image : Image
        The label image.
    axes : str, optional
        Names of its axes instead of its own: channels may be sections.
    allow_binary, ignore_label
        As in `read_labels`.
    """
    if "C" in (axes or image.axes):
        image, axes = as_grey(image) or image, None
    if "C" in (axes or image.axes):
        raise ImageError(
            "wrong_channels",
            f"the mask has {image.size('C')} channels (colours?), {image.describe()}: a label image has one number a "
            "pixel, 0 for background; unetbio import makes one of a mask with one colour for each cell",
        )
    stored = image.read()
    label_image = _unsigned(_whole(stored) if stored.dtype.kind == "f" else stored)
    if not allow_binary:
        annotated = "the mask" if ignore_label is None else "the annotated part of the mask"
        _refuse_binary(
            without_label(label_image, ignore_label),
            annotated,
            has_time=(axes or image.axes).startswith("T") and label_image.ndim > 2,
        )
    return label_image


def _is_on_disk(array: Any) -> bool:
    """Whether an array is read where it is sliced; lists and arrays of other libraries are not."""
    return hasattr(array, "shape") and not hasattr(array, "__array__")


def _refuse_wrapped(label_image: NDArray[Any]) -> None:
    """Refuse -1 that was stored without its sign: the largest number of a type, where no pixel is background."""
    if not label_image.size or not int(label_image.min()):
        return
    largest = int(label_image.max())
    if largest not in WITHOUT_SIGN:
        return
    # A tissue without background may have 255 cells, of which the last is hardly the largest.
    counts = np.unique(label_image, return_counts=True)[1]
    if largest == WITHOUT_SIGN[0] and counts[-1] < counts.max():
        return
    raise ImageError(
        "negative_labels",
        f"no pixel is 0, and the largest number is {largest}, which is -1 stored without its sign: set it to 0 "
        f"(background), labels[labels == {largest}] = 0",
    )


def _unsigned(label_image: NDArray[Any]) -> NDArray[Any]:
    kind = label_image.dtype.kind
    if kind not in "bui":
        raise ImageError(
            "not_integer",
            f"the mask's pixels are {label_image.dtype}: a label image holds whole numbers, 0 for background; "
            "convert it to uint16",
        )
    if kind == "u" and label_image.dtype.itemsize <= 4:
        _refuse_wrapped(label_image)
        return label_image
    if kind == "b":
        return label_image.astype(np.uint8)
    low, high = (int(label_image.min()), int(label_image.max())) if label_image.size else (0, 0)
    if low < 0:
        raise ImageError(
            "negative_labels",
            f"labels down to {low}: a label image holds numbers from 0 (background); set negative numbers to 0, "
            "labels[labels < 0] = 0, since programs write -1 where nothing was annotated",
        )
    if high > np.iinfo(np.uint32).max:
        raise ImageError("too_many_labels", f"labels up to {high}: at most 4294967295 can be stored; relabel the image")
    unsigned = label_image.astype(np.uint16 if high <= np.iinfo(np.uint16).max else np.uint32)
    _refuse_wrapped(unsigned)
    return unsigned


def _whole(label_image: NDArray[Any]) -> NDArray[Any]:
    """Labels that a program saved as floating-point numbers, as Fiji does with 32 bits.

    Raises
    ------
    ImageError
        ``not_integer``: a number is not whole, or not finite.
    """
    unknown = np.isnan(label_image)
    if unknown.any() and not unknown.all():
        raise ImageError(
            "not_integer",
            f"{int(unknown.sum())} of {label_image.size} pixels of the mask are NaN: a label image holds whole numbers "
            "from 0 (background); where NaN is the background, set it to 0, labels[np.isnan(labels)] = 0",
        )
    # Written so that NaN and infinity are refused too.
    is_whole = np.floor(label_image) == label_image
    if not (is_whole & np.isfinite(label_image)).all():
        raise ImageError(
            "not_integer",
            f"the mask's pixels are {label_image.dtype} with fractions, NaN or infinity: a label image holds whole "
            "numbers, 0 for background; was it smoothed or resized? Save the labels themselves",
        )
    if label_image.size and np.abs(label_image).max() > np.iinfo(np.int64).max // 2:
        raise ImageError("too_many_labels", f"labels up to {label_image.max():g}: at most 4294967295 can be stored")
    return label_image.astype(np.int64)


def _refuse_binary(label_image: NDArray[Any], name: str, *, has_time: bool) -> None:
    # Each time is an image of its own: one cell that moves is no mask of several. Nor are masks of several numbers.
    has_one = has_time and bool(((label_image == 0) | (label_image == label_image.max(initial=0))).all())
    if any(map(is_binary_mask, label_image)) if has_one else is_binary_mask(label_image):
        raise ImageError(
            "binary_mask",
            f"{name} holds only 0 and {label_image.max()}: touching cells cannot be separated; give each cell its "
            "own number, or say --split-components (each connected part is a cell); for "
            "classes instead of cells, use train --target classes or evaluate --classes",
        )


def _default_axes(dimensions: int) -> str:
    return {2: "YX", 3: "ZYX", 4: "TZYX"}.get(dimensions, AXES)
