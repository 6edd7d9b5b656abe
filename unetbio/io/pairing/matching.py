"""Read a mask as that of its image: the image's axes and order of voxels, or a refusal."""

import contextlib
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.io.image import Image
from unetbio.io.labels import labels_of
from unetbio.io.read import read_image
from unetbio.notes import say_once

__all__ = [
    "PIXEL_SIZE_TOLERANCE",
    "affine_over",
    "check_pixel_size",
    "open_mask",
    "put_over",
    "read_mask",
    "spatial_axes",
]

logger = logging.getLogger(__name__)

PIXEL_SIZE_TOLERANCE = 0.02
"""Programs round pixel sizes; the same share is too small for a rescaling."""

VOXEL_TOLERANCE = 0.05
"""Voxels that the corners of two volumes may lie apart, since headers hold rounded numbers."""


def spatial_axes(axes: str) -> str:
    """Axes of the label image of an image: all but the channels."""
    return axes.replace("C", "")


def read_mask(
    path: str | os.PathLike[str],
    image: Image,
    *,
    axes: str | None = None,
    allow_binary: bool = False,
    ignore_label: int | None = None,
    compare_pixel_sizes: bool = True,
) -> tuple[NDArray[Any], str]:
    """Read the mask of an image.

    Parameters
    ----------
    path : path-like
        The mask; see `unetbio.io.read_labels`. Of a file with several images the one with the number of the image.
    image : Image
        Its image.
    axes : str, optional
        As for `open_mask`.
    allow_binary, ignore_label
        As in `unetbio.io.read_labels`.
    compare_pixel_sizes : bool
        Refuse a mask with another pixel size than the image.

    Returns
    -------
    mask : ndarray of unsigned int
        Numbers as stored.
    axes : str
        Its axes. Where the file does not name them, or names others, and the shape is that of the image, they are those
        of the image.

    Raises
    ------
    ImageError
        As `unetbio.io.read_labels`; ``geometry_differs``, ``pixel_size_differs``: the mask does
        not lie over its image.
    """
    mask = open_mask(path, image, axes)
    own = spatial_axes(image.axes)
    shape = tuple(image.size(axis) for axis in own)
    found = mask.axes
    if found != own and mask.shape == shape and not any(mask.channel_names):
        logger.info("%s: its axes %s are taken as %s, those of its image", path, found, own)
        found = own
    values = labels_of(mask, found, allow_binary=allow_binary, ignore_label=ignore_label)
    if compare_pixel_sizes:
        _check_pixel_sizes(mask, image)
    return _put_over(image, mask, values), found


def put_over(image: Image, path: str | os.PathLike[str], values: NDArray[Any]) -> NDArray[Any]:
    """Pixels of a mask that were read from ``path`` before, in the order of those of the image.

    Raises
    ------
    ImageError
        ``geometry_differs``.
    """
    mask = _open_again(path)
    return values if mask is None else _put_over(image, mask, values)


def affine_over(image: Image, path: str | os.PathLike[str]) -> NDArray[np.float64] | None:
    """Matrix of what `put_over` gives; None where the file of the mask holds none."""
    mask = _open_again(path)
    return None if mask is None else image.affine if _is_placed(image, mask) else mask.affine


def check_pixel_size(image: Image, path: str | os.PathLike[str]) -> None:
    """Refuse a mask with another pixel size than the image, as `read_mask` does."""
    mask = _open_again(path)
    if mask is not None:
        _check_pixel_sizes(mask, image)


def _open_again(path: str | os.PathLike[str]) -> Image | None:
    """Open a mask that was read before; None if it needed axes, which place it nowhere."""
    try:
        return read_image(path, labels=True)
    except ImageError as error:
        if error.reason == "unknown_axes":
            return None
        raise


def open_mask(path: str | os.PathLike[str], image: Image, axes: str | None = None) -> Image:
    """Open the mask of an image.

    Parameters
    ----------
    path : path-like
        The mask.
    image : Image
        Its image.
    axes : str, optional
        Axes of a mask whose file does not name them; those of the image unless given.

    Raises
    ------
    ImageError
        As `unetbio.io.read_image`.
    """
    try:
        return _open_with(Path(path), image, None)
    except ImageError as error:
        if error.reason != "unknown_axes":
            raise
        own = axes or spatial_axes(image.axes)
        # Masks of sections that were projected, or of one of them, have no axis Z.
        for tried in dict.fromkeys([own, own.replace("Z", "")]):
            with contextlib.suppress(ImageError):
                return _open_with(Path(path), image, tried)
        raise ImageError(error.reason, f"{error}; the axes {own} of its image do not fit") from error


def _put_over(image: Image, mask: Image, values: NDArray[Any]) -> NDArray[Any]:
    return _in_order_of(image, mask, values) if _is_placed(image, mask) else values


def _is_placed(image: Image, mask: Image) -> bool:
    """Whether both files say where their voxels are.

    A plane of a stack, or a mask of another size, is not placed: the second is refused for its size.
    """
    is_whole = sorted(mask.size(axis) for axis in "ZYX") == sorted(image.size(axis) for axis in "ZYX")
    return mask.affine_trusted and image.affine_trusted and is_whole


def _in_order_of(image: Image, mask: Image, values: NDArray[Any]) -> NDArray[Any]:
    """Pixels ``(..., Y, X)`` of a mask in the order in which its image stores the same places.

    NIfTI files say where in space a voxel lies. Axes that run the other way or stand in another order are turned;
    nothing is interpolated.

    Raises
    ------
    ImageError
        ``geometry_differs``: the voxels of the mask are not those of the image.
    """
    moved = _voxel_map(mask, image)
    sources = np.abs(moved[:3, :3]).argmax(axis=1)
    signs = moved[np.arange(3), sources]
    if np.array_equal(sources, range(3)) and (signs > 0).all():
        return values
    # A command may read a mask several times.
    say_once(f"{mask.source}: its voxels are turned into the order of {image.source.name}")
    has_z = "Z" in mask.axes
    volume = values if has_z else np.expand_dims(values, -3)
    lead = volume.ndim - 3
    # Arrays have the axes Z, Y, X, matrices X, Y, Z.
    order = [lead + 2 - int(sources[2 - axis]) for axis in range(3)]
    turned = volume.transpose([*range(lead), *order])
    flipped = np.flip(turned, tuple(lead + 2 - axis for axis in range(3) if signs[axis] < 0))
    return np.ascontiguousarray(flipped if "Z" in image.axes else flipped.squeeze(lead))


def _open_with(path: Path, image: Image, axes: str | None) -> Image:
    mask = read_image(path, axes=axes, labels=True)
    if mask.series_count > 1 and image.series:
        return read_image(path, axes=axes, series=image.series, labels=True)
    return mask


def _check_pixel_sizes(mask: Image, image: Image) -> None:
    if _is_placed(image, mask) or not (mask.pixel_size_trusted and image.pixel_size_trusted):
        return
    common = [
        axis for axis in "ZYX" if axis in mask.pixel_size_um and axis in image.pixel_size_um and axis in mask.axes
    ]
    ratios = [mask.pixel_size_um[axis] / image.pixel_size_um[axis] for axis in common]
    if any(abs(np.log(ratio)) > PIXEL_SIZE_TOLERANCE for ratio in ratios):
        raise ImageError(
            "pixel_size_differs",
            f"its pixel size is {_listed(mask, common)}, that of the image {_listed(image, common)}: they do not lie "
            "over each other; correct the pixel size of the file where it is wrong, or resample the mask to the image",
        )


def _listed(image: Image, axes: list[str]) -> str:
    return " x ".join(f"{image.pixel_size_um[axis]:.4g}" for axis in axes) + " um"


def _voxel_map(mask: Image, image: Image) -> NDArray[np.float64]:
    """Matrix ``(4, 4)`` of -1, 0, 1 and whole shifts from voxels (x, y, z) of the mask to those of the image."""
    try:
        found = _grid_map(image, mask)
    except np.linalg.LinAlgError:
        return np.eye(4)
    sizes = np.array([mask.size(axis) for axis in "XYZ"])
    # (4, 8): the corners of the mask
    corners = np.stack([*np.meshgrid(*[(0, size - 1) for size in sizes], indexing="ij"), np.ones((2, 2, 2))])
    corners = corners.reshape(4, -1)
    whole = np.rint(found)
    there = (whole @ corners)[:3]
    is_exact = np.isfinite(found).all() and np.abs((found - whole) @ corners).max() <= VOXEL_TOLERANCE
    turns = np.abs(whole[:3, :3])
    ends = [image.size(axis) - 1 for axis in "XYZ"]
    is_permutation = (turns.sum(axis=0) == 1).all() and (turns.sum(axis=1) == 1).all()
    if is_exact and is_permutation and not there.min(axis=1).any() and there.max(axis=1).tolist() == ends:
        return whole
    raise ImageError(
        "geometry_differs",
        f"its voxels are not those of the image: {_difference(found, whole, bool(is_permutation), corners)}; resample "
        "the mask to the image (nibabel.processing.resample_from_to with order 0), or correct its header",
    )


def _grid_map(image: Image, mask: Image) -> NDArray[np.float64]:
    """Matrix from voxels of the mask to those of the image.

    Where the numbers of the two files do not agree as they are, and their units differ, they are converted.
    """
    assert mask.affine is not None and image.affine is not None  # noqa: PT018 -- both are trusted
    found = np.linalg.inv(image.affine) @ mask.affine
    units = mask.affine_unit_um, image.affine_unit_um
    if units[0] is None or units[1] is None or np.allclose(_lengths(found), 1, atol=PIXEL_SIZE_TOLERANCE):
        return found
    factor = units[0] / units[1]
    return np.linalg.inv(image.affine) @ np.diag([factor, factor, factor, 1.0]) @ mask.affine


def _lengths(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.linalg.norm(matrix[:3, :3], axis=0)
    return lengths


def _difference(found: NDArray[np.float64], whole: NDArray[np.float64], is_permutation: bool, corners: Any) -> str:
    """How the space of a mask differs from that of its image, in words."""
    lengths = _lengths(found)
    if not np.allclose(lengths, 1, atol=PIXEL_SIZE_TOLERANCE):
        return f"they are {' x '.join(f'{length:.3g}' for length in lengths)} voxels of the image large (X x Y x Z)"
    if not is_permutation or np.abs((found - whole)[:3, :3] @ corners[:3]).max() > VOXEL_TOLERANCE:
        return "the volumes are turned against each other"
    start = (found @ corners)[:3].min(axis=1)
    return f"they begin at voxel {', '.join(f'{place:.4g}' for place in start)} of the image (X, Y, Z)"
