"""Image sets: several files that together are one image, such as a file for each channel."""

import dataclasses
import functools
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.io.image import AXES, Image
from unetbio.io.missing import MissingPlanes
from unetbio.io.read import read_image
from unetbio.io.series import list_series

__all__ = ["ImageSet"]

OPENED = 32
"""Number of files of which the tags are kept."""


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Files that are one image.

    Parameters
    ----------
    folder : pathlib.Path
        Folder that the names of the files start from.
    files : tuple of str
        Name of the file of each time, channel and section, the section fastest; empty where there is none.
    shape : tuple of int
        Number of times, channels and sections that the files tell apart; a file may hold the axes of which this is 1.
    channel_names : tuple of str
        One a channel of `shape`.
    pixel_size_um : dict
        Micrometres by axis letter, as a file beside the images says; empty if none does.
    missing_files : tuple of str
        Names that the missing files would have, as far as they are known.
    """

    folder: Path
    files: tuple[str, ...]
    shape: tuple[int, int, int]
    channel_names: tuple[str, ...]
    pixel_size_um: Mapping[str, float] = dataclasses.field(default_factory=dict, hash=False)
    missing_files: tuple[str, ...] = ()

    @property
    def source(self) -> Path:
        """The first file, which stands for the set in messages and journals."""
        return self.folder / next(filter(None, self.files))

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files that are there."""
        return tuple(self.folder / name for name in self.files if name)

    def open(self, axes: str | None = None) -> Image:
        """Open the image.

        Parameters
        ----------
        axes : str, optional
            Axes of each file, where it does not say.

        Raises
        ------
        ImageError
            That of the first file of a channel; ``inconsistent``: the files differ, or hold several images, or an axis
            that their names also have.
        """
        pixels = _SetPixels(self, axes)
        first = pixels.heads[0]
        _refuse_several(first, axes)
        sizes = dict(zip("TCZ", self.shape, strict=True))
        for axis in "TCZ":
            if sizes[axis] > 1 and first.size(axis) > 1:
                raise ImageError(
                    "inconsistent",
                    f"{first.source.name} holds {first.describe()}, and the names of the files tell {sizes[axis]} "
                    f"{_NAMES[axis]} apart: {_REMEDY}",
                )
        lengths = {axis: sizes.get(axis, 1) * first.size(axis) for axis in AXES}
        kept = [axis for axis in AXES if axis in "YX" or lengths[axis] > 1]
        known = first.pixel_size_um if first.pixel_size_trusted else dict(self.pixel_size_um) or first.pixel_size_um
        return dataclasses.replace(
            first,
            axes="".join(kept),
            shape=tuple(lengths[axis] for axis in kept),
            dtype=pixels.dtype,
            pixel_size_um=known,
            pixel_size_trusted=first.pixel_size_trusted or bool(self.pixel_size_um),
            channel_names=first.channel_names if first.size("C") > 1 else self._channel_names(),
            source=self.source,
            pixels=pixels,
            series=0,
            series_count=1,
            variant=f"{math.prod(self.shape)} files",
        )

    def _channel_names(self) -> tuple[str, ...]:
        return self.channel_names or ("",) * self.shape[1]


_NAMES = {"T": "times", "C": "channels", "Z": "sections"}
_REMEDY = "take each file as an image with --group none"


def _refuse_several(first: Image, axes: str | None) -> None:
    """Refuse files of several images, of which a set has the first alone; smaller ones, as thumbnails, may follow."""
    if first.series_count == 1:
        return
    others = (each.image for each in list_series(first.source, axes=axes)[1:])
    if any(other and math.prod(other.shape[-2:]) >= math.prod(first.shape[-2:]) for other in others):
        raise ImageError(
            "inconsistent",
            f"{first.source.name} holds {first.series_count} images, and joined files hold one each: {_REMEDY}",
        )


def _common_type(heads: Sequence[Image]) -> np.dtype[Any]:
    """Type that holds the grey values of all channels."""
    kinds = {head.dtype for head in heads}
    if len({kind.kind for kind in kinds}) > 1:
        listed = ", ".join(f"{head.source.name}: {head.dtype}" for head in heads)
        raise ImageError("inconsistent", f"the files of one image differ in type ({listed}): save them alike")
    return np.result_type(*kinds)


class _SetPixels:
    """Pixels of a set; each file is opened when a plane of it is read."""

    def __init__(self, images: ImageSet, axes: str | None) -> None:
        self._set, self._axes = images, axes
        self._open = functools.lru_cache(maxsize=OPENED)(self._open_file)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that are there."""
        return self._set.paths

    @functools.cached_property
    def missing(self) -> MissingPlanes | None:
        """Planes of files that are not there."""
        present = np.array([bool(name) for name in self._set.files]).reshape(self._set.shape)
        if present.all():
            return None
        first = self._first
        for axis, letter in enumerate("TCZ"):
            present = present.repeat(first.size(letter), axis=axis)
        return MissingPlanes.of(present, self._set.missing_files)

    @functools.cached_property
    def heads(self) -> list[Image]:
        """The first file of each channel that has one, opened."""
        grid = np.array(self._set.files, dtype=object).reshape(self._set.shape)
        channels = (list(filter(None, grid[:, channel].ravel())) for channel in range(self._set.shape[1]))
        return [self._open(names[0]) for names in channels if names]

    @functools.cached_property
    def dtype(self) -> np.dtype[Any]:
        """Type of the grey values of all files."""
        return _common_type(self.heads)

    def read(self, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        """Return a window ``(len(channels), Y, X)``."""
        return np.stack([self._plane(t, z, channel, y, x) for channel in channels])

    @property
    def _first(self) -> Image:
        return self._open(next(filter(None, self._set.files)))

    def _plane(self, t: int, z: int, channel: int, y: slice, x: slice) -> NDArray[Any]:
        place = {"T": t, "C": channel, "Z": z}
        outer = [place[axis] if size > 1 else 0 for axis, size in zip("TCZ", self._set.shape, strict=True)]
        inner = {axis: 0 if size > 1 else place[axis] for axis, size in zip("TCZ", self._set.shape, strict=True)}
        image = self._open(self._set.files[int(np.ravel_multi_index(outer, self._set.shape))])
        if not np.can_cast(image.dtype, self.dtype):
            # The first file of each channel gave the type, and numbers that it cannot hold would wrap.
            raise _differ(image, self._first)
        return image.read(t=inner["T"], c=inner["C"], z=inner["Z"], y=y, x=x)

    def _open_file(self, name: str) -> Image:
        try:
            image = read_image(self._set.folder / name, axes=self._axes)
        except ImageError as error:
            raise ImageError(error.reason, f"{os.path.basename(name)}: {error}") from error  # noqa: PTH119
        first = image if name == next(filter(None, self._set.files)) else self._first
        if (image.axes, image.shape) != (first.axes, first.shape):
            raise _differ(image, first)
        return image


def _differ(image: Image, first: Image) -> ImageError:
    return ImageError(
        "inconsistent",
        f"the files of one image differ: {image.source.name} is {image.describe()}, {first.source.name} is "
        f"{first.describe()}; {_REMEDY}",
    )
