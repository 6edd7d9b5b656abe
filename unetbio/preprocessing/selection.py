"""The frames and channels of an image that are segmented, and each frame as the network gets it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.io.grey_pictures import picture_names
from unetbio.io.image import Image
from unetbio.io.tolerant import Box, Damage
from unetbio.postprocessing.bands import Allocate, Area, FinishedBands
from unetbio.preprocessing.areas import CELL_REACH, OutlinedArea, SurroundedArea, UndamagedArea
from unetbio.preprocessing.grey_values import GreyLevels, levels_of_channels
from unetbio.preprocessing.lazy import LazyPixels, Streaming
from unetbio.preprocessing.normalization import Scaling
from unetbio.preprocessing.scale import Scale
from unetbio.preprocessing.tissue import TissueArea
from unetbio.preprocessing.unknown_pixels import UnknownPixels, fill
from unetbio.preprocessing.whole_part import sections_of
from unetbio.settings.segmentation import Settings

__all__ = ["Frame", "ImageSelection"]


@dataclass(frozen=True)
class ImageSelection:
    """The frames and channels of an image to segment.

    Parameters
    ----------
    image : Image
        The image; pixels are read later.
    settings : Settings
        Of this image.
    channels : tuple of int
        Input channels of the model.
    times : tuple of int or None
        The frames, each segmented on its own; ``(None,)`` without a time axis.
    axes : str
        Of one frame's label image: ``YX`` or ``ZYX``.
    shape : tuple of int
        Of one frame's label image.
    zoom : tuple of float
        Factor by axis from pixels of the image to pixels of the model.
    scale : Scale, optional
        How the zoom was found; None where it is given.
    finds_scale : bool
        Whether the zoom is still to be found, as neither pixel size nor diameter gives it.
    kept_sections : range, optional
        Sections of the file that ``image`` has, if planes were left out because others are missing.
    streaming : Streaming, optional
        How it is segmented in parts, where it does not fit into memory.
    area : OutlinedArea, optional
        Pixels of the plane that are segmented, where these are not all. Cells in it are whole; classes end with it.
    tissue : TissueArea, optional
        Pixels of a slide that are in tissue or near it, where it was looked for; all others are background.
    damage : Damage, optional
        Parts that cannot be decoded, where these are left out; they are known once the frame was read.
    """

    image: Image
    settings: Settings
    channels: tuple[int, ...]
    times: tuple[int | None, ...]
    axes: str
    shape: tuple[int, ...]
    zoom: tuple[float, ...]
    scale: Scale | None = None
    finds_scale: bool = False
    kept_sections: range | None = None
    streaming: Streaming | None = None
    area: OutlinedArea | None = None
    tissue: TissueArea | None = None
    damage: Damage | None = None

    @property
    def rows(self) -> int | None:
        """Rows, of the image or of the grid, that are worked on at once; None where all are."""
        if self.streaming is None:
            return None
        return max(1, self.streaming.pixels // max(math.prod(self.shape[1:]), math.prod(self.grid[1:])))

    @property
    def allocate(self) -> Allocate:
        """Makes arrays of the size of the image: in memory, or on disk."""
        return np.zeros if self.streaming is None else self.streaming.allocate

    @property
    def finished(self) -> FinishedBands | None:
        """Bands of a streamed image that the network has decided."""
        return None if self.streaming is None else self.streaming.finished

    @property
    def selected_channel_names(self) -> tuple[str, ...]:
        """Names of the model's input channels in the file."""
        return tuple(self.image.channel_names[channel] for channel in self.channels)

    @property
    def picture_names(self) -> tuple[str, ...]:
        """Names of the model's input channels that tell a picture (`unetbio.io.grey_pictures.picture_names`)."""
        names = picture_names(self.image)
        return tuple(names[channel] for channel in self.channels)

    @property
    def in_sections(self) -> bool:
        """Whether the model segments each section of a stack on its own."""
        return self.settings.z == "each" and self.axes == "ZYX"

    @property
    def sections_unlinked(self) -> bool:
        """Whether each section of the stack has its own cells, without objects in three dimensions."""
        return self.in_sections and self.settings.link is None

    @property
    def sections(self) -> int:
        """Number of sections of a frame that the model segments one by one."""
        return self.shape[0] if self.in_sections else 1

    @property
    def middle(self) -> int:
        """Section in the middle, which stands for the stack."""
        return self.sections // 2

    @property
    def section(self) -> "ImageSelection":
        """Selection of one section where sections are segmented one by one, and of the whole frame elsewhere."""
        if not self.in_sections:
            return self
        return replace(self, axes=self.axes[1:], shape=self.shape[1:], zoom=self.zoom[1:])

    @property
    def first_section(self) -> int:
        """Number in the file of the first section of ``image``."""
        return 0 if self.kept_sections is None else self.kept_sections.start

    def at_zoom(self, zoom: float, scale: Scale | None = None) -> "ImageSelection":
        """The same frames at another zoom in the plane; that of `scale`, where it was found."""
        zooms = (1.0,) * (len(self.axes) - 2) + (zoom, zoom)
        return replace(self, zoom=zooms, scale=scale, finds_scale=False)

    @property
    def label_axes(self) -> str:
        """Axes of the label image of all frames."""
        return ("T" if len(self.times) > 1 else "") + self.axes

    @property
    def trusted_pixel_size_um(self) -> dict[str, float]:
        """Pixel size by axis of a frame; empty when it is unknown or only a printing resolution."""
        if not self.image.pixel_size_trusted:
            return {}
        return {axis: size for axis, size in self.image.pixel_size_um.items() if axis in self.axes}

    @property
    def start(self) -> tuple[int, int]:
        """Row and column of the upper left corner in the file, in pixels of the resolution that is segmented."""
        return self.image.start

    @property
    def affine(self) -> NDArray[np.float64] | None:
        """Voxel indices (x, y, z) of the label image to world coordinates, where the file has such a matrix."""
        return self.image.affine_from(self.settings.z if isinstance(self.settings.z, int) else 0)

    @property
    def grid(self) -> tuple[int, ...]:
        """Spatial shape after rescaling: the input of the model."""
        return tuple(max(1, round(size * zoom)) for size, zoom in zip(self.shape, self.zoom, strict=True))

    @cached_property
    def grid_area(self) -> OutlinedArea | None:
        """The area after rescaling."""
        return None if self.area is None else self.area.scaled(self.grid)

    @cached_property
    def wanted(self) -> Area | None:
        """Pixels of the grid that cells can lie in: the area with what cells can reach beyond it, or the tissue."""
        if self.grid_area is not None:
            return self._undamaged(SurroundedArea(self.grid_area, CELL_REACH))
        return self._undamaged(None if self.tissue is None else self.tissue.scaled(self.grid))

    @cached_property
    def within(self) -> Area | None:
        """Pixels of the grid that classes end with, and that objects lie in: the area, or the tissue."""
        return self.wanted if self.grid_area is None else self._undamaged(self.grid_area)

    @property
    def damaged_boxes(self) -> list[Box]:
        """Parts of the plane that were left out since they cannot be decoded."""
        return [] if self.damage is None else self.damage.boxes(self.channels)

    def _undamaged(self, area: Area | None) -> Area | None:
        if self.damage is None:
            return area
        planes = (self.shape[-2], self.shape[-1]), (self.grid[-2], self.grid[-1])
        return UndamagedArea(area, lambda: self.damaged_boxes, *planes)

    def present_channels(self, t: int | None) -> tuple[int, ...]:
        """Channels of which no plane of a frame is missing: those that can be measured."""
        channels, missing = range(self.image.size("C")), self.image.missing
        if missing is None:
            return tuple(channels)
        sections = sections_of(missing, self.settings)
        return tuple(channel for channel in channels if missing.holds([t or 0], [channel], sections))

    def read_channels(self, t: int | None, channels: Sequence[int]) -> NDArray[Any]:
        """Grey values ``(len(channels), *spatial)`` of one frame, with sections picked or projected."""
        return self.read_known(t, channels)[0]

    def lazy_channels(self, t: int | None, channels: Sequence[int]) -> LazyPixels:
        """As `read_channels`, read where they are asked for; unknown grey values stay unknown."""
        z = None if self.settings.z == "each" else self.settings.z
        return LazyPixels(self.image, t, z, channels, self.shape)

    def read_known(self, t: int | None, channels: Sequence[int]) -> tuple[NDArray[Any], UnknownPixels | None]:
        """As `read_channels`, with the pixels that had no grey value if the settings fill them."""
        if not channels:
            return np.empty((0, *self.shape), self.image.dtype), None
        raw = np.stack([self._read_channel(t, channel) for channel in channels])
        return fill(raw, in_sections=self.in_sections) if self.settings.nan == "fill" else (raw, None)

    def _read_channel(self, t: int | None, channel: int) -> NDArray[Any]:
        z = self.settings.z
        if z != "max":
            return self.image.read(t=t or 0, c=channel, z=None if z == "each" else z)
        # One section after another: a projection needs no whole stack in memory.
        brightest = self.image.read(t=t or 0, c=channel, z=0)
        for section in range(1, self.image.size("Z")):
            np.maximum(brightest, self.image.read(t=t or 0, c=channel, z=section), out=brightest)
        return brightest


@dataclass(frozen=True)
class Frame:
    """One frame, ready for the network.

    Parameters
    ----------
    t : int, optional
        Its time.
    raw : array
        ``(C, *spatial)`` grey values of the channels that the model gets, at the image's own size.
    image : array
        ``(C, *grid)`` float32, rescaled and normalized. Both are read on demand where the image is streamed.
    scaling : Scaling
        Grey values that became 0 and 1.
    unknown : UnknownPixels, optional
        Pixels that had no grey value and were filled.
    counted : tuple of GreyLevels
        Of each channel of ``raw``, where they were counted when it was read.
    """

    t: int | None
    raw: Any
    image: Any
    scaling: Scaling
    unknown: UnknownPixels | None = None
    counted: tuple[GreyLevels, ...] = ()

    @cached_property
    def levels(self) -> tuple[GreyLevels, ...]:
        """Statistics of the grey values of each channel."""
        return self.counted or levels_of_channels(self.raw)

    @cached_property
    def constant_channels(self) -> tuple[int, ...]:
        """Those of the channels that have one grey value, as numbers from 0."""
        if isinstance(self.raw, LazyPixels):
            are_constant = [levels.is_constant for levels in self.levels]
        else:
            are_constant = [channel.min() == channel.max() for channel in self.raw]
        return tuple(number for number, is_constant in enumerate(are_constant) if is_constant)

    @property
    def is_constant(self) -> bool:
        """Whether every channel has one grey value: there is nothing to see, and no network is asked."""
        return bool(len(self.constant_channels) == self.raw.shape[0])

    def section(self, z: int) -> "Frame":
        """One section of a stack; its grey values are scaled as those of the whole stack."""
        return replace(self, raw=self.raw[:, z], image=np.ascontiguousarray(self.image[:, z]), counted=())
