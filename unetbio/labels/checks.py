"""Whether an array is a label image, a mask of foreground, or an image by mistake."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unetbio.errors import ImageError
from unetbio.labels.arrays import IntArray
from unetbio.labels.components import connected_components

__all__ = ["check_label_image", "check_plausible", "is_binary_mask"]

MAX_LONELY_SHARE = 0.01
"""Share of the labelled pixels that are alone among other ids. Measured on the masks of five sets of real images, 774
files, it is at most .00012; in their images, blurred 8-bit ones included, at least .083."""

MIN_LONELY_PIXELS = 100
"""In fewer pixels a share says nothing."""


def check_label_image(label_image: ArrayLike, name: str = "the label image") -> IntArray:
    """Check ``label_image`` and return it as an array.

    Parameters
    ----------
    label_image : array-like
        Array to check.
    name : str
        Name in messages.

    Returns
    -------
    ndarray
        The same integer pixels, 2-D or 3-D, native byte order.

    Raises
    ------
    ImageError
        ``not_labels`` when the pixels are not integers or are negative; ``wrong_ndim`` when it is neither 2-D nor 3-D.
    """
    array = np.asarray(label_image)
    if array.ndim not in (2, 3):
        raise ImageError(
            "wrong_ndim",
            f"{name} has shape {array.shape}: needs the axes (Y, X) or (Z, Y, X); select one plane or channel",
        )
    if array.dtype.kind not in "ui":
        raise ImageError(
            "not_labels",
            f"{name} holds {array.dtype} pixels: needs integer ids, 0 for background; "
            "turn a mask into ids with --split-components",
        )
    if array.dtype.kind == "i" and array.size and int(array.min()) < 0:
        raise ImageError(
            "not_labels", f"{name} holds the negative value {int(array.min())}: needs ids from 1, 0 for background"
        )
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def check_plausible(label_image: NDArray[Any], name: str = "the label image") -> None:
    """Refuse whole numbers that are grey values: an image that was given in place of its label image.

    Pixels of a cell agree with a neighbour; in an image, noise makes most of them differ from all of theirs.
    A pixel is lonely when its four neighbours in the plane are all labelled, and all differ from it. Points on a
    background of zeros are not lonely by this, nor are cells of one pixel that lie apart.

    Parameters
    ----------
    label_image : ndarray of int
        ``(..., Y, X)``.
    name : str
        Name in messages.

    Raises
    ------
    ImageError
        ``not_labels`` when more than one in a hundred labelled pixels are lonely, and there are at least a hundred of
        them.

    Examples
    --------
    >>> check_plausible(np.repeat(np.repeat(np.arange(25).reshape(5, 5), 9, axis=0), 9, axis=1))
    """
    lonely = labelled = 0
    for index in np.ndindex(label_image.shape[:-2]):
        plane = label_image[index]
        lonely += _count_lonely(plane)
        labelled += int(np.count_nonzero(plane))
    if lonely >= MIN_LONELY_PIXELS and lonely > MAX_LONELY_SHARE * labelled:
        raise ImageError(
            "not_labels",
            f"{name} looks like an image, not like labels: {round(100 * lonely / labelled)} % of its pixels above 0 "
            "differ from all their neighbours; are image and mask swapped? Was the mask saved as JPEG, or resized "
            "with interpolation? Give each cell one number",
        )


def _count_lonely(plane: NDArray[Any]) -> int:
    is_labelled = plane != 0
    lonely = is_labelled.copy()
    for axis in (0, 1):
        ids, labelled = np.moveaxis(plane, axis, 0), np.moveaxis(is_labelled, axis, 0)
        view = np.moveaxis(lonely, axis, 0)
        differs = ids[1:] != ids[:-1]
        view[1:] &= differs & labelled[:-1]
        view[:-1] &= differs & labelled[1:]
    return int(np.count_nonzero(lonely))


def is_binary_mask(image: ArrayLike) -> bool:
    """Whether an image is a mask of foreground and background rather than a label image.

    True for booleans, for 0 and the largest value of a type (0/255, 0/65535), and for 0/1 where the ones form more than
    one component: a label image with one cell holds 0 and 1 too, and is no mask. 0/255 is a mask in any type.

    Examples
    --------
    >>> is_binary_mask(np.array([[255, 0, 255]], dtype=np.uint8)), is_binary_mask(np.array([[1, 1, 0]]))
    (True, False)
    """
    array = np.asarray(image)
    if array.dtype == np.bool_:
        return True
    if array.dtype.kind not in "ui" or not array.any():
        return False
    value = int(array.max())
    if not ((array == 0) | (array == value)).all():
        return False
    if value == 1:
        # Full connectivity: a single cell may hang together over corners.
        return array.ndim in (2, 3) and connected_components(array, array.ndim)[1] > 1
    return value in (255, int(np.iinfo(array.dtype).max))
