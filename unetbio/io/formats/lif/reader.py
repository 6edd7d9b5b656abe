"""Leica LIF: images stored plainly in blocks of memory, with the step of each axis in bytes.

liffile finds the blocks and reads the XML. The steps are followed here, so that each order of axes that a scanner can
have (rows along Z, channels between rows) is read in place, and no block is read for one plane of it.
"""

import dataclasses
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.files import open_regular
from unetbio.io.formats.axes import COLOURS, Layout, name_axes
from unetbio.io.formats.refusals import broken, check_series, refuse_broken
from unetbio.io.formats.units import size_in_um
from unetbio.io.image import Image

__all__ = ["read_lif"]

# liffile logs warnings, which would be printed unless logging is configured.
logging.getLogger("liffile").addHandler(logging.NullHandler())

LETTERS = {1: "X", 2: "Y", 3: "Z", 4: "T", 5: "λ", 6: "A", 7: "N", 8: "Q", 9: "Λ", 10: "M", 11: "L"}
"""Leica's numbers of axes; λ and Λ are wavelengths of emission and excitation, M the tiles of a mosaic."""

TAGS = {1: "red", 2: "green", 3: "blue"}
DESCRIPTION = "./Data/Image/ImageDescription/"


@dataclasses.dataclass(frozen=True)
class _Axis:
    """A stored axis: Leica's letter, how many elements, the step in bytes and the step in the file's unit."""

    letter: str
    length: int
    step: int
    spacing: float = 0.0
    unit: str = ""


@dataclasses.dataclass(frozen=True)
class _Stored:
    """One image of the file: its block, and its axes, slowest first, C among them where there are channels."""

    name: str
    offset: int
    held: int
    dtype: np.dtype[Any]
    axes: tuple[_Axis, ...]
    channel_offsets: tuple[int, ...]
    channel_names: tuple[str, ...]

    @property
    def tiles(self) -> int:
        """How many tiles of a mosaic, each of which is a series."""
        return math.prod(axis.length for axis in self.axes if axis.letter == "M")


def read_lif(path: Path, *, axes: str | None = None, series: int = 0) -> Image:
    """Open a Leica LIF file.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    axes : str, optional
        Names of the stored axes that are longer than one, slowest first; for scans without rows along Y, and for
        wavelengths and rotations.
    series : int, optional
        Which image, counted through the file; each tile of a mosaic counts as one.

    Returns
    -------
    Image
        Colours stored as blue, green, red become red, green, blue.

    Raises
    ------
    ImageError
        ``unreadable``, ``truncated``, ``inconsistent``, ``unsupported_type``,
        ``unsupported_format``, ``unknown_axes``, ``no_such_series``.
    """
    import liffile

    size = path.stat().st_size
    _check_header(path, size)
    with refuse_broken("LIF"):
        with liffile.LifFile(path) as lif:
            elements = [(image.path, image.xml_element) for image in lif.images]
            blocks = {name: (block.offset, block.size) for name, block in lif.memory_blocks.items()}
        places = [_place(element, number) for number, (_, element) in enumerate(elements)]
        total = sum(places)
        check_series(series, total)
        number, tile = _find(places, series)
        stored = _stored(*elements[number], blocks, size)
        return dataclasses.replace(_image(path, stored, tile, axes), series=series, series_count=total)


def _check_header(path: Path, size: int) -> None:
    """Whether the XML, for which memory is taken, lies in the file."""
    with open_regular(path) as stream:
        head = stream.read(13)
    characters = int.from_bytes(head[9:13], "little")
    if len(head) < 13 or head[8] != 0x2A:
        raise broken("LIF", "no header")
    if 13 + 2 * characters > size:
        raise ImageError("truncated", f"metadata of {2 * characters} bytes in a file of {size}: copy it again")


def _place(element: ElementTree.Element, number: int) -> int:
    """Number of series in an image."""
    sizes = [_Axis(*_axis(item)) for item in element.iterfind(DESCRIPTION + "Dimensions/DimensionDescription")]
    tiles = math.prod(axis.length for axis in sizes if axis.letter == "M")
    if tiles > 1_000_000:
        raise ImageError("inconsistent", f"image {number} claims {tiles} tiles, which no file holds")
    return tiles


def _find(places: Sequence[int], series: int) -> tuple[int, int]:
    for number, count in enumerate(places):
        if series < count:
            return number, series
        series -= count
    raise IndexError(series)


def _axis(item: ElementTree.Element) -> tuple[str, int, int, float, str]:
    length = int(item.attrib["NumberOfElements"])
    if length < 1:
        raise ValueError(f"an axis of {length} elements")
    # The length is that from the first to the last element.
    spacing = abs(float(item.get("Length", "0"))) / (length - 1) if length > 1 else 0.0
    letter = LETTERS.get(int(item.attrib["DimID"]), "?")
    return letter, length, int(item.attrib["BytesInc"]), spacing, item.get("Unit", "")


def _stored(name: str, element: ElementTree.Element, blocks: dict[str, tuple[int, int]], size: int) -> _Stored:
    axes = [_Axis(*_axis(item)) for item in element.iterfind(DESCRIPTION + "Dimensions/DimensionDescription")]
    channels = list(element.iterfind(DESCRIPTION + "Channels/ChannelDescription"))
    if not axes or not channels:
        raise ImageError("unsupported_format", f"{name!r} is no image of grey values (a lifetime or single molecules)")
    kinds = {(int(channel.attrib["DataType"]), _item_bytes(channel)) for channel in channels}
    if len(kinds) > 1 or not kinds <= {(0, 1), (0, 2), (0, 4), (1, 4), (1, 8)}:
        raise ImageError("unsupported_type", f"channels of types {sorted(kinds)}: one type of grey values is needed")
    kind, item_bytes = kinds.pop()
    memory = element.find("./Memory")
    block = blocks.get(memory.get("MemoryBlockID", "") if memory is not None else "")
    if block is None:
        raise ImageError("truncated", f"the pixels of {name!r} are not in the file: copy it again")
    tags = [TAGS.get(int(channel.get("ChannelTag", "0")), "") for channel in channels]
    colour = sorted(tags) == sorted(TAGS.values())
    order = sorted(range(len(channels)), key=lambda i: COLOURS.index(tags[i])) if colour else range(len(channels))
    offsets = tuple(int(channels[i].attrib["BytesInc"]) for i in order)
    stored = _Stored(
        name,
        block[0],
        min(block[1], size - block[0]),
        np.dtype(f"<{'f' if kind else 'u'}{item_bytes}"),
        tuple(sorted(axes, key=lambda axis: axis.step, reverse=True)),
        offsets,
        tuple(tags[i] if colour else _channel_name(channels[i]) for i in order),
    )
    _check_extent(stored)
    return stored


def _item_bytes(channel: ElementTree.Element) -> int:
    bits = int(channel.attrib["Resolution"])
    return next((n for n in (1, 2, 4, 8) if 0 < bits <= 8 * n), 0)


def _channel_name(channel: ElementTree.Element) -> str:
    """Name of the dye, or of the display colour where the file names no dye."""
    for item in channel.iterfind("./ChannelProperty"):
        if item.findtext("Key") == "DyeName" and item.findtext("Value"):
            return item.findtext("Value", "")
    return channel.get("LUTName", "")


def _check_extent(stored: _Stored) -> None:
    steps = [axis.step for axis in stored.axes if axis.length > 1]
    if min((*steps, *stored.channel_offsets)) < 0 or len(set(steps)) < len(steps) or 0 in steps:
        raise broken("LIF", f"the steps of {stored.name!r} do not make sense")
    last = sum((axis.length - 1) * axis.step for axis in stored.axes) + max(stored.channel_offsets)
    needed = last + stored.dtype.itemsize
    if needed > stored.held:
        raise ImageError(
            "truncated", f"{stored.name!r} needs {needed} bytes, the file holds {max(stored.held, 0)}: copy it again"
        )


def _image(path: Path, stored: _Stored, tile: int, axes: str | None) -> Image:
    offset = stored.offset
    dims: list[_Axis] = []
    for axis in stored.axes:
        if axis.letter == "M":
            offset += tile * axis.step
        else:
            dims.append(axis)
    channels = len(stored.channel_offsets)
    if channels > 1:
        # Channels stand where their own step puts them among the axes, slowest first.
        step = max(stored.channel_offsets) // (channels - 1)
        place = next((i for i, axis in enumerate(dims) if axis.step < step), len(dims))
        dims.insert(place, _Axis("C", channels, step))
    layout = name_axes([(axis.letter, axis.length) for axis in dims], axes)
    longer = [axis for axis in dims if axis.length > 1]
    sizes = {
        letter: size_in_um(axis.spacing, axis.unit) for (letter, _), axis in zip(layout.dims, longer, strict=False)
    }
    pixel_size = {axis: size for axis in "ZYX" if (size := sizes.get(axis)) is not None}
    pixel_size = pixel_size if {"Y", "X"} <= pixel_size.keys() else {}
    named = layout.size("C") == channels and (
        channels == 1 or layout.dims[longer.index(_channel_axis(longer))][0] == "C"
    )
    tiles = stored.tiles
    return Image(
        axes=layout.axes,
        shape=layout.shape,
        dtype=stored.dtype.newbyteorder("="),
        pixel_size_um=pixel_size,
        pixel_size_trusted=bool(pixel_size),
        channel_names=stored.channel_names if named else ("",) * layout.size("C"),
        source=path,
        pixels=_LifPixels(path, layout, tuple(longer), offset, stored.dtype, stored.channel_offsets),
        name=stored.name if tiles == 1 else f"{stored.name} tile {tile}",
        format="lif",
    )


def _channel_axis(axes: Sequence[_Axis]) -> _Axis:
    return next(axis for axis in axes if axis.letter == "C")


@dataclasses.dataclass(frozen=True)
class _LifPixels:
    """Pixels of one block, mapped when they are read; holds no open file.

    ``stored``: the axes longer than one, in the order of the layout's letters.
    """

    path: Path
    layout: Layout
    stored: tuple[_Axis, ...]
    offset: int
    dtype: np.dtype[Any]
    channel_offsets: tuple[int, ...]

    def read(self, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        """Return a window ``(len(channels), Y, X)``."""
        steps = {letter: axis.step for (letter, _), axis in zip(self.layout.dims, self.stored, strict=False)}
        rows, columns = y.stop - y.start, x.stop - x.start
        out = np.empty((len(channels), rows, columns), self.dtype.newbyteorder("="))
        if not out.size:
            return out
        with open_regular(self.path) as stream:
            for i, channel in enumerate(channels):
                start = self.offset + y.start * steps.get("Y", 0) + x.start * steps.get("X", 0)
                for axis, index in zip(self.stored, self.layout.indices(t, z, channel), strict=False):
                    start += self.channel_offsets[index] if axis.letter == "C" else index * axis.step
                if len(self.channel_offsets) == 1:
                    start += self.channel_offsets[0]
                out[i] = self._window(stream, start, (rows, columns), (steps.get("Y", 0), steps.get("X", 0)))
        return out

    def _window(self, stream: Any, start: int, shape: tuple[int, int], steps: tuple[int, int]) -> NDArray[Any]:
        length = sum((n - 1) * step for n, step in zip(shape, steps, strict=True)) + self.dtype.itemsize
        held = np.memmap(stream, np.uint8, "r", start, (length,))
        return np.ndarray(shape, self.dtype, held, strides=steps)
