"""Numbers of a label image whose pixels do not hang together."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure

from unetbio.errors import ImageError

__all__ = ["Parts", "find_numbered_background", "find_parts"]

# Parts of a number, as a share of its largest part; smaller ones are stray pixels of a brush.
SIZABLE = 0.25
# Parts with a gap of more than so many typical diameters belong to two cells. The distance of their centres would say
# the same of a long cell that is torn.
FAR = 2.0
# Share of the numbers of a mask that stand in far parts. In 49 644 cells of eight sets of real masks (856 files) no
# number does, and one has two parts that are near.
MANY = 0.05
# Largest numbers of a mask whose numbers may have started anew after 255 or 65 535. Masks of classes hold fewer numbers
# than FEWEST_WRAPPED.
WRAPPED = (range(250, 256), range(65_530, 65_536))
FEWEST_WRAPPED = 64
# A number on more of the pixels, with so many separate things or more around it, is the background.
MOST_OF_ONE_CELL = 0.5
FEWEST_SURROUNDED = 3


@dataclass(frozen=True)
class Parts:
    """Numbers of a label image that stand in several parts.

    Parameters
    ----------
    ids : int
        Numbers in the label image.
    parts : int
        Sizable connected parts of all numbers.
    near, far : tuple of int
        Numbers whose parts lie near each other, as of one cell in pieces, and far apart, as of several cells.
    largest_id : int
        Largest number.
    largest_area : int
        Pixels of the largest part.
    """

    ids: int
    parts: int
    near: tuple[int, ...]
    far: tuple[int, ...]
    largest_id: int
    largest_area: int

    @property
    def is_reused(self) -> bool:
        """Whether numbers stand for several cells each, as by rule and not by a slip of the hand."""
        is_all = len(self.far) == self.ids and self.parts > 2 * self.ids
        return is_all or len(self.far) >= max(2, MANY * self.ids) or self.wrapped_after is not None

    @property
    def wrapped_after(self) -> int | None:
        """Number after which numbers started anew, 255 or 65 535; None if they did not."""
        # 1 is the first number that is given again.
        if self.ids < FEWEST_WRAPPED or (len(self.far) < 2 and 1 not in self.far):
            return None
        return next((values[-1] for values in WRAPPED if self.largest_id in values), None)


def find_parts(label_image: NDArray[np.integer], ignored: NDArray[np.bool_] | None = None) -> Parts:
    """Find the numbers that stand in several sizable parts.

    Parameters
    ----------
    label_image : ndarray of int
        ``(*spatial)``, 0 = background.
    ignored : ndarray of bool, optional
        Pixels that are not annotated, 0 in the label image. Sections of a stack that they fill part no cell.

    Examples
    --------
    >>> find_parts(np.array([[1, 1, 0, 2, 2, 0, 0, 1, 1]] * 2)).far
    (1,)
    """
    whole = label_image if ignored is None else _bridged(label_image, ignored)
    components = measure.label(whole, background=0, connectivity=label_image.ndim)
    areas = np.bincount(components.ravel())[1:]
    if not len(areas):
        return Parts(0, 0, (), (), 0, 0)
    is_labelled = label_image > 0
    numbers = np.empty(len(areas), np.int64)
    numbers[components[is_labelled] - 1] = label_image[is_labelled]
    ids, owners = np.unique(numbers, return_inverse=True)
    largest = np.zeros(len(ids), np.int64)
    np.maximum.at(largest, owners, areas)
    is_sizable = areas >= SIZABLE * largest[owners]
    in_parts = np.flatnonzero(np.bincount(owners[is_sizable], minlength=len(ids)) > 1)
    boxes = _boxes(components) if len(in_parts) else np.zeros((0, label_image.ndim, 2), int)
    limit = FAR * _diameter(float(np.median(areas[is_sizable])), label_image.ndim)
    spread = {int(ids[one]): _spread(boxes[is_sizable & (owners == one)]) for one in in_parts}
    return Parts(
        ids=len(ids),
        parts=int(is_sizable.sum()),
        near=tuple(number for number, distance in spread.items() if distance <= limit),
        far=tuple(number for number, distance in spread.items() if distance > limit),
        largest_id=int(ids[-1]),
        largest_area=int(np.bincount(components[is_labelled]).max()),
    )


def _bridged(label_image: NDArray[np.integer], ignored: NDArray[np.bool_]) -> NDArray[np.integer]:
    """Labels of a stack, also between annotated sections that agree; planes as they are."""
    if label_image.ndim < 3 or not ignored.any():
        return label_image
    below, above = label_image.copy(), label_image.copy()
    for labels, sections in ((below, ignored), (above[::-1], ignored[::-1])):
        for number in range(1, len(labels)):
            np.copyto(labels[number], labels[number - 1], where=sections[number])
    return np.where(ignored & (below == above), below, label_image)


def _boxes(components: NDArray[np.integer]) -> NDArray[np.integer]:
    """First pixel of each part along each axis, and the one after its last, ``(parts, ndim, 2)``."""
    return np.array([[(side.start, side.stop) for side in box] for box in ndimage.find_objects(components)])


def _spread(boxes: NDArray[np.integer]) -> float:
    """Widest gap between the first part and another one; 0 where their boxes overlap or touch."""
    starts, stops = boxes[..., 0], boxes[..., 1]
    gaps = np.maximum(0, np.maximum(starts - stops[0], starts[0] - stops))
    return float(np.sqrt((gaps**2).sum(axis=1)).max())


def _diameter(area: float, ndim: int) -> float:
    """Side of a square, or a cube, of this many pixels."""
    return float(area ** (1 / ndim))


def find_numbered_background(label_image: NDArray[np.integer]) -> ImageError | None:
    """The error of labels whose background has a number, as of ilastik and Weka, which count it as a class.

    Cells may fill an image; a background is larger than all of them, reaches all sides of the plane and surrounds them.

    Parameters
    ----------
    label_image : ndarray of int
        ``(*spatial)``, or ``(T, *spatial)``.

    Examples
    --------
    >>> labels = np.full((9, 9), 1)
    >>> labels[1:3, 1:3], labels[6:8, 1:3], labels[5:8, 5:8] = 2, 3, 4
    >>> find_numbered_background(labels).reason
    'no_background'
    """
    if not label_image.size or not int(label_image.min()):
        return None
    numbers, counts = np.unique(label_image, return_counts=True)
    number, share = int(numbers[counts.argmax()]), counts.max() / label_image.size
    # A time of a time-lapse stands for all.
    ground = (label_image[0] if label_image.ndim > 3 else label_image) == number
    sides = (ground[..., 0, :], ground[..., -1, :], ground[..., 0], ground[..., -1])
    if share <= MOST_OF_ONE_CELL or not all(side.any() for side in sides):
        return None
    if int(measure.label(~ground, connectivity=ground.ndim).max()) < FEWEST_SURROUNDED:
        return None
    return ImageError(
        "no_background",
        f"no pixel is 0, and number {number} covers {share:.0%} of the mask, around all others: set the background to "
        f"0, labels[labels == {number}] = 0",
    )
