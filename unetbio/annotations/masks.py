"""Masks of other programs: label images, one colour a cell, one picture a cell."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio import labels
from unetbio.annotations.outlines import Pixels
from unetbio.annotations.painting import Painting, paint
from unetbio.annotations.parts import find_numbered_background
from unetbio.annotations.regions import Grid, Region, as_id
from unetbio.errors import ImageError
from unetbio.io import read_image, read_labels
from unetbio.io.formats import SUFFIXES, find_folder
from unetbio.io.image import Image
from unetbio.io.pairing.matching import put_over

__all__ = ["VOID", "has_colours", "is_mask_folder", "read_mask", "read_mask_folder"]

logger = logging.getLogger(__name__)

VOID = 255
"""Number of pixels of no object in masks of Pascal VOC."""

LAST_CLASS = 20
"""Largest number of a class in masks of Pascal VOC. Numbers that are spread over the grey values, as 127 and 255, are
all classes."""

MAX_COLOURS = 65_535
RGB = 3


def read_mask(
    path: Path, grid: Grid, *, split_components: bool = False, series: int | None = None, image: Image | None = None
) -> NDArray[Any]:
    """Read a label image, or a picture with one colour for each cell.

    Parameters
    ----------
    path : path
        The mask.
    grid : Grid
        Of the image.
    split_components : bool
        Connected parts of one value, or of one colour, are cells, in each time by itself.
    series : int, optional
        Number of the image in a file that holds several; of a mask with one, that one is taken.
    image : Image, optional
        The image of the grid: voxels of NIfTI masks are put into its order.

    Returns
    -------
    ndarray of int
        With the shape of the grid; 0 = background.

    Raises
    ------
    ImageError
        When the mask cannot be read, has another size, does not lie over the image, looks like an image, or holds 0 and
        1 alone.
    """
    try:
        label_image = _read(path, grid, split_components, series)
    except ImageError as error:
        if error.reason not in ("unknown_axes", "wrong_channels"):
            raise
        # Programs that edit masks often do not write the axes, and three frames look like colours.
        number = _number(_open_as(path, grid), series)
        label_image = read_labels(path, allow_binary=split_components, axes=grid.axes, series=number)
    if image is not None and image.affine_trusted:
        label_image = put_over(image, path, label_image)
    if background := find_numbered_background(label_image):
        raise background
    if label_image.shape != grid.shape:
        raise ImageError(
            "size_differs",
            f"the mask is {label_image.shape}, its image {grid.shape} ({grid.axes}): both need the same size",
        )
    labels.check_plausible(label_image, "the mask")
    if split_components:
        return labels.each_time(_by_components, _without_rims(label_image, path.name), grid.axes)
    return label_image.astype(labels.label_dtype(int(label_image.max(initial=0))), copy=False)


def _open_as(path: Path, grid: Grid) -> Image:
    """Open a mask with the axes of its image."""
    try:
        return read_image(path, axes=grid.axes, labels=True)
    except ImageError as error:
        if error.reason != "unknown_axes":
            raise
        raise ImageError(
            "size_differs",
            f"the mask has other axes than its image, which is {grid.shape} ({grid.axes}): give a mask of this size "
            "with a number for each cell, or a folder with a picture for each cell",
        ) from error


def _read(path: Path, grid: Grid, split_components: bool, series: int | None) -> NDArray[Any]:
    image = read_image(path, labels=True)
    if _has_colours(image, grid):
        label_image = _number_colours(image.read()[:RGB])
        if not split_components and labels.is_binary_mask(label_image):
            raise ImageError(
                "binary_mask",
                "the mask has one colour on its background: touching cells cannot be separated; give each cell its own "
                "colour, or say --split-components (each connected part is a cell)",
            )
        return label_image
    return read_labels(path, allow_binary=split_components, series=_number(image, series))


def has_colours(path: Path, grid: Grid) -> bool:
    """Whether `read_mask` numbers the colours of a picture."""
    try:
        return _has_colours(read_image(path, labels=True), grid)
    except ImageError:
        return False


def _has_colours(mask: Image, grid: Grid) -> bool:
    return mask.axes == "CYX" and mask.shape[0] in (RGB, RGB + 1) and grid.axes == "YX"


def _number(mask: Image, series: int | None) -> int | None:
    """Number of the image in the file of a mask, which may hold that of one image alone."""
    return series if mask.series_count > 1 else 0


def _number_colours(picture: NDArray[Any]) -> NDArray[np.int64]:
    """Number the colours of a picture ``(3, Y, X)``; black, or else the most frequent one, is the background."""
    if picture.dtype.kind != "u" or picture.dtype.itemsize > 2:
        raise ImageError("not_integer", f"the mask has colours of {picture.dtype}: save it as PNG with 8 bits a colour")
    red, green, blue = picture.astype(np.int64)
    codes, inverse, counts = np.unique((red << 32) | (green << 16) | blue, return_inverse=True, return_counts=True)
    if len(codes) > MAX_COLOURS:
        raise ImageError("not_labels", f"the mask has {len(codes)} colours: a picture, not one colour a cell")
    background = 0 if codes[0] == 0 else int(counts.argmax())
    numbers = np.zeros(len(codes), np.int64)
    numbers[np.arange(len(codes)) != background] = np.arange(1, len(codes))
    return numbers[inverse].reshape(red.shape)


def _without_rims(label_image: NDArray[Any], name: str) -> NDArray[Any]:
    """A mask of classes in which the rims of objects, as in Pascal VOC, are background."""
    is_void = label_image == VOID
    if not is_void.any() or not 0 < label_image.max(initial=0, where=~is_void) <= LAST_CLASS:
        return label_image
    logger.warning("%s: %d beside numbers of classes is that of rims, as in Pascal VOC: background here", name, VOID)
    return np.where(is_void, 0, label_image)


def _by_components(label_image: NDArray[Any]) -> NDArray[Any]:
    """Number the connected parts of each value in a plane or stack."""
    parts = np.zeros(label_image.shape, np.int64)
    for value in np.unique(label_image[label_image > 0]).tolist():
        found = labels.split_components(label_image == value).astype(np.int64)
        parts[found > 0] = found[found > 0] + parts.max()
    return labels.relabel_raster(parts)


def is_mask_folder(path: Path) -> bool:
    """Whether a path is a folder of pictures, not an image that is a folder."""
    return path.is_dir() and not find_folder(path)


def read_mask_folder(folder: Path, grid: Grid | None = None) -> Painting:
    """Read a folder with a picture for each object, as of the Data Science Bowl 2018.

    What is not black in a picture is its object; where white is zero, see `_object_in`. Overlaps are decided as
    `unetbio.annotations.painting` says.

    Raises
    ------
    ImageError
        When a picture cannot be read, has another size, or does not show which of its pixels are the object.
    """
    # macOS adds hidden files of its own.
    paths = sorted(
        path for path in folder.iterdir() if path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")
    )
    if not paths:
        raise ImageError("unreadable", f"no pictures in {folder}: one for each object is needed")
    regions = []
    for path in paths:
        image = read_image(path, labels=True)
        picture = image.read()
        if image.axes == "CYX":
            picture = picture[: 1 if image.shape[0] <= 2 else RGB].max(axis=0)
        if picture.ndim != 2:
            raise ImageError("wrong_axes", f"{path.name} is {image.describe()}: a plane for each object is needed")
        grid = grid or Grid(*picture.shape)
        if picture.shape != (grid.height, grid.width):
            raise ImageError("size_differs", f"{path.name} is {picture.shape}, its image {(grid.height, grid.width)}")
        y, x = np.nonzero(_object_in(picture, path))
        regions.append(Region(Pixels.at(x, y, path.name), as_id(path.stem)))
    return paint(regions, grid or Grid(0, 0))


def _object_in(picture: NDArray[Any], path: Path) -> NDArray[np.bool_]:
    """Pixels ``(Y, X)`` of the object of a picture: those that are not stored as 0.

    In a TIFF file where white is zero, Fiji's inverting lookup table stores objects as 255, other programs as 0. The
    ground is what fills most of the picture and of its corners.

    Raises
    ------
    ImageError
        ``not_labels``: white is zero, and neither is the ground.
    """
    is_object: NDArray[np.bool_] = picture != 0
    fills_corners = np.count_nonzero(is_object[[0, 0, -1, -1], [0, -1, 0, -1]]) > 2
    fills_most = np.count_nonzero(is_object) > is_object.size / 2
    if not (fills_corners or fills_most) or not _is_inverted(picture, path):
        return is_object
    if fills_corners and fills_most:
        return ~is_object
    raise ImageError(
        "not_labels",
        f"{path.name}: white is zero in this file, and it cannot be told whether the object is stored as 0: save it as "
        "PNG, white on black",
    )


def _is_inverted(picture: NDArray[Any], path: Path) -> bool:
    """Whether grey values differ from the stored numbers, as where white is zero."""
    grey = read_image(path).read()
    return grey.shape == picture.shape and not np.array_equal(grey, picture)
