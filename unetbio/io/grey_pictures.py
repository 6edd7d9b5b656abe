"""Grey pictures that are stored as colours: red, green and blue equal, nothing transparent."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from unetbio.io.image import Image

__all__ = [
    "ALPHA",
    "COLOURS",
    "PICTURES",
    "as_grey",
    "grey_view",
    "is_grey_window",
    "is_opaque_picture",
    "is_opaque_window",
    "picture_names",
    "plane_counts",
]

COLOURS = ("red", "green", "blue")
ALPHA = "alpha"
PICTURES = (COLOURS, (*COLOURS, ALPHA), ("", ALPHA))
"""Names of the channels of pictures, as all readers give them."""

BAND_BYTES = 1 << 26


def picture_names(image: Image) -> tuple[str, ...]:
    """Names of the channels that tell a picture: those of the file where these do, whatever names were given."""
    return image.stored_names if image.stored_names in PICTURES else image.channel_names


def as_grey(image: Image) -> Image | None:
    """The image with one channel, if it is grey and stored as a picture; None otherwise.

    Pixels are read up to the first that has a colour, or is transparent.
    """
    names = picture_names(image)
    if names not in PICTURES:
        return None
    known: bool | None = getattr(image.pixels, "is_grey", None)
    is_grey = all(is_grey_window(window, names) for window in _bands(image)) if known is None else known
    return grey_view(image) if is_grey else None


def grey_view(image: Image) -> Image:
    """The first channel of an image as an image of its own, without a name."""
    kept = [(axis, size) for axis, size in zip(image.axes, image.shape, strict=True) if axis != "C"]
    axes, shape = "".join(axis for axis, _ in kept), tuple(size for _, size in kept)
    return replace(image, axes=axes, shape=shape, channel_names=("",), stored_names=())


def is_grey_window(window: NDArray[Any], names: tuple[str, ...]) -> bool:
    """Whether pixels ``(C, Y, X)`` with channels of these names are grey and opaque."""
    if not is_opaque_window(window, names):
        return False
    colours = window[:-1] if names[-1] == ALPHA else window
    return all(np.array_equal(colours[0], other) for other in colours[1:])


def is_opaque_window(window: NDArray[Any], names: tuple[str, ...]) -> bool:
    """Whether pixels ``(C, Y, X)`` with channels of these names are of a picture, and opaque."""
    return names in PICTURES and _is_opaque(window, names)


def is_opaque_picture(image: Image) -> bool:
    """Whether an image is a picture of red, green, blue and alpha in which nothing is transparent."""
    names = picture_names(image)
    if names != (*COLOURS, ALPHA):
        return False
    known: bool | None = getattr(image.pixels, "is_opaque", None)
    return all(_is_opaque(window, names) for window in _bands(image)) if known is None else known


def plane_counts(axes: str, shape: Sequence[int], dtype: DTypeLike, channel_names: tuple[str, ...]) -> dict[str, int]:
    """Lengths of the axes C, Z and T as ImageJ counts planes: the colours of a picture of 8 bits are one channel.

    Parameters
    ----------
    axes, shape, dtype, channel_names
        Of an image; axes that it does not have count as one.
    """
    sizes = dict(zip(axes, shape, strict=True))
    counts = {axis: sizes.get(axis, 1) for axis in "CZT"}
    return counts | {"C": 1} if channel_names in PICTURES and np.dtype(dtype) == np.uint8 else counts


def _is_opaque(window: NDArray[Any], names: tuple[str, ...]) -> bool:
    full = np.iinfo(window.dtype).max if window.dtype.kind in "ui" else 1
    return names[-1] != ALPHA or bool((window[-1] == full).all())


def _bands(image: Image) -> Iterator[NDArray[Any]]:
    """All planes that are there, in parts."""
    height = image.size("Y")
    rows = max(1, BAND_BYTES // max(1, image.size("C") * image.size("X") * image.dtype.itemsize))
    channels = range(image.size("C"))
    for t in range(image.size("T")):
        for z in range(image.size("Z")):
            if image.missing and not image.missing.holds([t], channels, [z]):
                continue
            for start in range(0, height, rows):
                yield image.read(t=t, z=z, y=slice(start, start + rows))
