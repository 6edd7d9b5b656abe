"""Label images larger than memory: numbers that are read where they are asked for."""

from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from unetbio.io.image import Image

__all__ = ["LabelFile"]


class LabelFile:
    """The pixels of a label image, as an array of which parts are read.

    Parameters
    ----------
    image : Image
        The label image, opened as one; of one channel.

    Attributes
    ----------
    axes : str
        Those of ``TZYX`` that it has.
    shape : tuple of int
        Length of each.
    """

    def __init__(self, image: Image) -> None:
        self._image = image
        self.axes = image.axes.replace("C", "")
        self.shape = tuple(image.size(axis) for axis in self.axes)
        self.dtype = image.dtype.newbyteorder("=")

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @cached_property
    def copies(self) -> "tuple[LabelFile, ...]":
        """Smaller copies in the file that have every second row and column of the one before."""
        found: list[LabelFile] = []
        height, width = self.shape[-2:]
        for number, size in enumerate(self._image.levels[1:], 1):
            height, width = -(-height // 2), -(-width // 2)
            if size != (height, width):
                break
            found.append(LabelFile(self._image.at_level(number)))
        return tuple(found)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Read a part: numbers of times and sections, and slices of step 1."""
        parts = index if isinstance(index, tuple) else (index,)
        chosen: dict[str, Any] = dict(zip(self.axes.lower(), parts, strict=False))
        if "C" in self._image.axes:
            chosen["c"] = 0
        values: NDArray[Any] = self._image.read(**chosen)
        return values.astype(self.dtype, copy=False)
