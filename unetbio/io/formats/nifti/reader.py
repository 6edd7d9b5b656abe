"""NIfTI volumes: axes in ZYX order, voxel size from the header, the affine kept.

nibabel reads the header. The voxels are read here, since nibabel ends before a gzip stream's checksum and
unpacks a compressed file anew for every slice.
"""

import functools
import gzip
import io
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.files import open_regular
from unetbio.io.formats.refusals import broken, check_series, refuse_broken
from unetbio.io.formats.units import MICROMETRES
from unetbio.io.image import AXES, Image

__all__ = ["STORED_AXES", "UNITS_UM", "read_nifti"]

UNITS_UM = {name: MICROMETRES[name] for name in ("meter", "mm", "micron")}
"""Micrometres in each unit of length of a header."""
STORED_AXES = "XYZTC"
GZIP_RATIO = 1100
"""No gzip stream unpacks to more than about 1032 times its size."""
CHUNK = 1 << 24
VOXELS_START = 348
"""Bytes of the shorter header: voxels begin behind it."""
MAX_OFFSET = 1 << 40


def read_nifti(path: Path, *, axes: str | None = None, series: int = 0) -> Image:
    """Open a NIfTI file (``.nii``, ``.nii.gz``).

    Parameters
    ----------
    path : pathlib.Path
        The file.
    axes : str, optional
        Letters for the axes that are longer than one, slowest first, ending in YX; T, Z, Y, X are the fourth to the
        first stored axis by default, C the fifth.
    series : int, optional
        0.

    Returns
    -------
    Image
        The pixel size is in micrometres; it is empty when the header names no unit of length. Grey values are
        scaled as the header says (slope and intercept).

    Raises
    ------
    ImageError
        ``unreadable``, ``truncated``, ``bad_metadata``, ``inconsistent``, ``unsupported_type``, ``unknown_axes``,
        ``no_such_series``.
    """
    check_series(series, 1)
    header = _header(path)
    with refuse_broken("NIfTI"):
        shape = tuple(int(n) for n in header.get_data_shape())
        stored = np.dtype(header.get_data_dtype())
        offset = int(header.get_data_offset()) or (544 if header["sizeof_hdr"] == 540 else 352)
        slope, intercept = header.get_slope_inter()
        zooms = [float(zoom) for zoom in header.get_zooms()]
        unit = header.get_xyzt_units()[0]
        affine = np.asarray(header.get_best_affine(), np.float64)
        is_stated = bool(header["sform_code"] > 0 or header["qform_code"] > 0) and bool(np.isfinite(affine).all())
    if stored.kind not in "buif" or not shape or min(shape) < 1:
        raise ImageError("unsupported_type", f"voxels of shape {shape} and type {stored}: grey values are needed")
    if not VOXELS_START <= offset <= MAX_OFFSET:
        raise ImageError("bad_metadata", f"the voxels are claimed at byte {offset}: write the volume again")
    if not np.isfinite(affine).all() or not affine[:3, :3].any(axis=0).all():
        raise ImageError(
            "bad_metadata", "the affine has values that are not finite, or an axis of length zero: write it again"
        )
    if not all(math.isfinite(value or 0.0) for value in (slope, intercept)):
        raise ImageError("bad_metadata", f"grey values times {slope} plus {intercept}: write the volume again")
    _check_size(path, offset + math.prod(shape) * stored.itemsize)
    letters = _letters(shape, axes)
    sizes = {"Y": 1, "X": 1} | {letter: shape[i] for letter, i in letters.items()}
    kept = [axis for axis in AXES if axis in sizes]
    scale = (1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept))
    dtype = stored.newbyteorder("=") if scale == (1.0, 0.0) else _scaled_type(stored)
    pixel_size = _pixel_size(zooms, unit, letters)
    return Image(
        axes="".join(kept),
        shape=tuple(sizes[axis] for axis in kept),
        dtype=dtype,
        pixel_size_um=pixel_size,
        pixel_size_trusted=bool(pixel_size),
        channel_names=("",) * sizes.get("C", 1),
        source=path,
        pixels=_NiftiPixels(path, offset, shape, stored, dtype, scale, letters),
        format="nifti",
        affine=affine,
        # Under other names, the axes are not those of the affine.
        affine_trusted=is_stated and letters.get("Z", 2) == 2,
        affine_unit_um=UNITS_UM.get(unit),
    )


def _is_gzip(path: Path) -> bool:
    with open_regular(path) as stream:
        return stream.read(2) == b"\x1f\x8b"


def _open(path: Path) -> Any:
    return gzip.open(path, "rb") if _is_gzip(path) else open_regular(path)


def _header(path: Path) -> Any:
    try:
        with _open(path) as stream:
            start = stream.read(540)
        second = start[4:8] in (b"n+2\0", b"ni2\0")
        if len(start) < (540 if second else 348):
            raise ImageError("truncated", f"the header ends after {len(start)} bytes: copy the file again")
        if not second and start[344:348] != b"n+1\0":
            raise ImageError("unreadable", "not a NIfTI volume in one file (.nii or .nii.gz): convert it")
        kind = nibabel.Nifti2Header if second else nibabel.Nifti1Header
        # Unchecked: nibabel's check repairs silently, and prints.
        header = kind.from_fileobj(io.BytesIO(start), check=False)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ImageError("truncated", f"the gzip stream is broken ({error}): copy the file again") from error
    except (ImageError, OSError):
        raise
    except Exception as error:  # nibabel raises many kinds of exceptions for a broken header
        raise broken("NIfTI", error) from error
    return header


def _check_size(path: Path, needed: int) -> None:
    size = path.stat().st_size
    packed = _is_gzip(path)
    if needed > (size * GZIP_RATIO if packed else size):
        raise ImageError(
            "truncated", f"{needed} bytes are claimed by a file of {size}{' (gzip)' if packed else ''}: copy it again"
        )


def _letters(shape: tuple[int, ...], axes: str | None) -> dict[str, int]:
    """Stored axis of each letter; axes of length one are left out, except X and Y."""
    letters = {"X": 0} | ({"Y": 1} if len(shape) > 1 else {})
    others = [i for i in range(2, len(shape)) if shape[i] > 1]
    stored = " x ".join(str(n) for n in shape)
    if axes is None:
        if any(i >= len(STORED_AXES) for i in others):
            raise ImageError("unknown_axes", f"a volume of {stored}: more than five axes; say --axes")
        return letters | {STORED_AXES[i]: i for i in others}
    rest = axes.upper()[:-2]
    if len(rest) != len(others) or set(rest) - set("TCZ") or len(set(rest)) < len(rest) or axes.upper()[-2:] != "YX":
        raise ImageError(
            "unknown_axes", f"--axes {axes} does not fit a volume of {stored}: slowest first, ending in YX"
        )
    return letters | dict(zip(rest, reversed(others), strict=True))


def _scaled_type(stored: np.dtype[Any]) -> np.dtype[Any]:
    if stored.kind == "f":
        return stored.newbyteorder("=")
    return np.dtype(np.float32 if stored.itemsize <= 2 else np.float64)


def _pixel_size(zooms: list[float], unit: str, letters: dict[str, int]) -> dict[str, float]:
    factor = UNITS_UM.get(unit)
    if factor is None:
        return {}
    # The zoom of the fourth stored axis is a time, whatever letter the axis was given.
    sizes = {axis: abs(zooms[i]) * factor for axis, i in letters.items() if axis in "ZYX" and i < 3}
    return sizes if all(math.isfinite(size) and size > 0 for size in sizes.values()) and len(sizes) > 1 else {}


class _NiftiPixels:
    """Voxels of one file: mapped where they are stored plainly, unpacked once where they are compressed."""

    def __init__(
        self,
        path: Path,
        offset: int,
        shape: tuple[int, ...],
        stored: np.dtype[Any],
        dtype: np.dtype[Any],
        scale: tuple[float, float],
        letters: dict[str, int],
    ) -> None:
        self.path, self.offset, self.shape, self.stored = path, offset, shape, stored
        self.dtype, self.scale, self.letters = dtype, scale, letters

    @functools.cached_property
    def _voxels(self) -> NDArray[Any]:
        """``(T, Z, C, Y, X)``, as stored."""
        if _is_gzip(self.path):
            flat = np.frombuffer(self._unpacked(), self.stored)
        else:
            flat = np.memmap(self.path, self.stored, "r", self.offset, (math.prod(self.shape),))
        volume = flat.reshape(self.shape, order="F")
        order = [self.letters[letter] for letter in "TZCYX" if letter in self.letters]
        singles = [i for i in range(len(self.shape)) if i not in order]
        volume = volume.transpose([*singles, *order])
        sizes = [self.shape[self.letters[a]] if a in self.letters else 1 for a in "TZCYX"]
        return volume.reshape(sizes)

    def _unpacked(self) -> bytearray:
        needed = math.prod(self.shape) * self.stored.itemsize
        content = bytearray()
        try:
            with gzip.open(self.path, "rb") as stream:
                stream.seek(self.offset)
                while len(content) < needed and (chunk := stream.read(min(CHUNK, needed - len(content)))):
                    content += chunk
                while stream.read(CHUNK):  # to the end, where the checksum is
                    pass
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ImageError("truncated", f"the gzip stream is broken ({error}): copy the file again") from error
        if len(content) < needed:
            raise ImageError(
                "truncated", f"{needed} bytes of voxels are claimed, {len(content)} are there: copy it again"
            )
        return content

    def read(self, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        """Return a window ``(len(channels), Y, X)``, scaled."""
        window = self._voxels[t, z, list(channels), y, x]
        if self.scale == (1.0, 0.0):
            return np.asarray(window, self.dtype)
        return (window.astype(np.float64) * self.scale[0] + self.scale[1]).astype(self.dtype)
