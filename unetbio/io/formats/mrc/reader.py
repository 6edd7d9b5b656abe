"""MRC2014: a header of 1024 bytes, an extended header, and the pixels as they lie in memory, which are mapped.

Source: A. Cheng et al., MRC2014: Extensions to the MRC format header for electron cryo-microscopy and tomography,
J. Struct. Biol. 192 (2015) 146-150; https://www.ccpem.ac.uk/mrc_format/mrc2014.php. Unsigned bytes as IMOD marks them
(https://bio3d.colorado.edu/imod/doc/mrc_format.txt).
"""

import dataclasses
import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.files import open_regular
from unetbio.io.formats.axes import Layout, name_axes
from unetbio.io.formats.refusals import broken, check_series
from unetbio.io.image import Image

__all__ = ["read_mrc"]

HEADER_BYTES = 1024
# Sizes, mode, starts, sampling, cell, angles, order of the axes, statistics, space group, bytes of extended header.
HEADER = "4i3i3i3f3f3i3f2i"
TYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
OTHER_MODES = {3: "complex numbers", 4: "complex numbers", 101: "4 bits a pixel"}
BIG_ENDIAN = b"\x11\x11"
IMOD_STAMP = 1146047817
SIGNED_BYTES = 1
"""Bit of IMOD's flags; without it, bytes of a file with IMOD's stamp are unsigned."""

VOLUME_STACKS = range(401, 631)
"""Space groups that say that the sections are those of several volumes."""

ANGSTROM_UM = 1e-4
UNSET_UM = ANGSTROM_UM
"""Programs write 1 Å when they know no pixel size."""

PIXEL_SIZES_UM = (1e-6, 1e3)
"""Range of pixel sizes that an electron microscope can have."""


@dataclasses.dataclass(frozen=True)
class _Header:
    """Fields of the header; ``letters`` of the stored axes, slowest first, and triples in the order X, Y, Z."""

    sizes: tuple[int, int, int]
    letters: str
    dtype: np.dtype[Any]
    sampling: tuple[int, int, int]
    cell: tuple[float, float, float]
    space_group: int
    offset: int

    @property
    def stored(self) -> list[tuple[str, int]]:
        """Letter and length of each stored axis, slowest first."""
        sections, mz = self.sizes[2], self.sampling[2]
        rest = list(zip(self.letters[1:], self.sizes[1::-1], strict=True))
        if self.space_group in VOLUME_STACKS:
            if mz < 1 or sections % mz:
                raise ImageError(
                    "inconsistent", f"{sections} sections are no whole number of volumes of {mz}: write the file again"
                )
            return [("T", sections // mz), (self.letters[0], mz), *rest]
        if self.space_group == 0 and mz == 1:
            return [("T", sections), *rest]
        return [(self.letters[0], sections), *rest]

    @property
    def pixel_size_um(self) -> dict[str, float]:
        """Micrometres by axis letter; empty unless rows and columns have sizes that can be."""
        pairs = zip("XYZ", self.cell, self.sampling, strict=True)
        sizes = {axis: cell / n * ANGSTROM_UM for axis, cell, n in pairs if n > 0}
        low, high = PIXEL_SIZES_UM
        known = {axis: size for axis, size in sizes.items() if low <= size <= high}
        return known if {"X", "Y"} <= known.keys() else {}


def read_mrc(path: Path, *, axes: str | None = None, series: int = 0) -> Image:
    """Open an MRC file.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    axes : str, optional
        Names of the stored axes that are longer than one, slowest first, instead of what the header says.
    series : int, optional
        0.

    Returns
    -------
    Image
        Sections are T in a stack of images, and Z in a volume. Reals of 16 bits become float32.

    Raises
    ------
    ImageError
        ``unreadable``, ``truncated``, ``inconsistent``, ``unsupported_type``, ``unknown_axes``, ``no_such_series``.
    """
    check_series(series, 1)
    header = _read_header(path)
    _check_size(path, header)
    layout = name_axes(header.stored, axes)
    known = header.pixel_size_um
    longer = (letter for letter, n in header.stored if n > 1)
    stored_as = dict(zip((letter for letter, _ in layout.dims), longer, strict=False))
    sizes = {axis: known[stored] for axis in layout.axes if (stored := stored_as.get(axis, axis)) in known}
    pixel_size = {axis: size for axis, size in sizes.items() if axis in "ZYX"} if {"Y", "X"} <= sizes.keys() else {}
    dtype = np.dtype(np.float32) if header.dtype.kind == "f" else header.dtype.newbyteorder("=")
    return Image(
        axes=layout.axes,
        shape=layout.shape,
        dtype=dtype,
        pixel_size_um=pixel_size,
        pixel_size_trusted=bool(pixel_size) and not math.isclose(known["X"], UNSET_UM, rel_tol=1e-6),
        channel_names=("",) * layout.size("C"),
        source=path,
        pixels=_MrcPixels(path, layout, header.dtype, header.offset, dtype),
        format="mrc",
    )


def _read_header(path: Path) -> _Header:
    with open_regular(path) as stream:
        content = stream.read(HEADER_BYTES)
    if len(content) < HEADER_BYTES:
        raise ImageError("truncated", f"the header ends after {len(content)} bytes: copy the file again")
    # Some programs leave the byte order out, or write the wrong one.
    orders = "><" if content[212:214] == BIG_ENDIAN else "<>"
    order = next((order for order in orders if _is_order(content, order)), None)
    if order is None:
        raise broken("MRC", "the mode or the order of the axes makes no sense in either byte order")
    values = struct.unpack_from(f"{order}{HEADER}", content)
    sizes, mode, sampling, cell, mapped = values[:3], values[3], values[7:10], values[10:13], values[16:19]
    space_group, extended = values[22:24]
    if min(sizes) < 1:
        raise broken("MRC", f"{' x '.join(map(str, sizes))} pixels")
    if extended < 0:
        raise broken("MRC", f"an extended header of {extended} bytes")
    if mode not in TYPES:
        raise ImageError("unsupported_type", f"{OTHER_MODES.get(mode, f'mode {mode}')}: grey values are needed")
    stamp, flags = struct.unpack_from(f"{order}2i", content, 152)
    kind = "u1" if mode == 0 and stamp == IMOD_STAMP and not flags & SIGNED_BYTES else TYPES[mode]
    return _Header(
        sizes=sizes,
        letters="".join("XYZ"[axis - 1] for axis in reversed(mapped)) if any(mapped) else "ZYX",
        dtype=np.dtype(f"{order}{kind}"),
        sampling=sampling,
        cell=cell,
        space_group=space_group,
        offset=HEADER_BYTES + extended,
    )


def _is_order(content: bytes, order: str) -> bool:
    """Whether mode and order of the axes make sense in a byte order; old files leave the axes out."""
    (mode,) = struct.unpack_from(f"{order}i", content, 12)
    mapped = struct.unpack_from(f"{order}3i", content, 64)
    return 0 <= mode < 256 and (sorted(mapped) == [1, 2, 3] or not any(mapped))


def _check_size(path: Path, header: _Header) -> None:
    size = path.stat().st_size
    section = header.sizes[0] * header.sizes[1] * header.dtype.itemsize
    spare = size - header.offset - section * header.sizes[2]
    if spare < 0:
        raise ImageError(
            "truncated", f"{size - spare} bytes are claimed by a file of {size}: write the file or copy it again"
        )
    if spare >= section:
        held = header.sizes[2] + spare // section
        raise ImageError(
            "inconsistent",
            f"the header claims {header.sizes[2]} sections, the file has room for {held}: write the file again",
        )


@dataclasses.dataclass(frozen=True)
class _MrcPixels:
    """Maps the file for each window; holds no open file."""

    path: Path
    layout: Layout
    stored: np.dtype[Any]
    offset: int
    dtype: np.dtype[Any]

    def read(self, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        """Return a window ``(len(channels), Y, X)``."""
        letters, shape = zip(*self.layout.dims, strict=True)
        volume = np.memmap(self.path, self.stored, "r", self.offset, shape)
        places: dict[str, Any] = {"T": t, "Z": z, "Y": y, "X": x}
        windows = [volume[tuple(places.get(letter, channel) for letter in letters)] for channel in channels]
        planes = np.stack(windows, dtype=self.dtype)
        return planes if letters.index("Y") < letters.index("X") else planes.transpose(0, 2, 1)
