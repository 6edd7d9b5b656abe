"""Arrays to NIfTI volumes."""

import gzip
import math
import os
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from unetbio.files import write_bytes
from unetbio.io.formats.nifti.reader import STORED_AXES, UNITS_UM

__all__ = ["write_nifti"]

NIFTI1_LIMIT = 32767
"""Longest axis of the first version of the format."""

ROUNDING = 0.01
"""Share by which sizes differ that were rounded."""


def write_nifti(
    path: str | os.PathLike[str],
    values: NDArray[Any],
    *,
    axes: str,
    pixel_size_um: dict[str, float],
    affine: NDArray[np.float64] | None = None,
    name: str = "",
    start: tuple[int, int] = (0, 0),
) -> None:
    """Write an array as NIfTI.

    Parameters
    ----------
    path : path-like
        The file; with the ending ``.gz`` it is packed (without a date, so that equal volumes give equal files).
    values : numpy.ndarray
        One axis for each letter of `axes`.
    axes : str
        Letters of ``TCZYX`` in that order.
    pixel_size_um : dict
        Micrometres by axis letter; may be empty.
    affine : numpy.ndarray, optional
        ``(4, 4)``, of the input; by default one of the pixel size.
    name, start : optional
        Of a label image; NIfTI has no name, and its place is in the matrix.

    Raises
    ------
    EnvironmentStoppedError
        The disk is full or the folder cannot be written to.
    """
    present = [letter for letter in STORED_AXES if letter in axes]
    volume = values.transpose([axes.index(letter) for letter in present])
    last = max(STORED_AXES.index(letter) for letter in present)
    volume = volume.reshape([values.shape[axes.index(a)] if a in axes else 1 for a in STORED_AXES[: max(last, 2) + 1]])
    if affine is None:
        unit = "mm" if pixel_size_um else "unknown"
        affine = np.diag([*(pixel_size_um.get(axis, 1000.0) / 1000 for axis in "XYZ"), 1.0])
    else:
        unit = _unit_of(affine, {axis: pixel_size_um[axis] for axis in "XYZ" if axis in axes and axis in pixel_size_um})
    kind = nibabel.Nifti1Image if max(volume.shape) <= NIFTI1_LIMIT else nibabel.Nifti2Image
    made = kind(volume, affine, dtype=volume.dtype)
    made.header.set_xyzt_units(xyz=unit)
    content: bytes = made.to_bytes()
    write_bytes(path, gzip.compress(content, 6, mtime=0) if os.fspath(path).lower().endswith(".gz") else content)


def _unit_of(affine: NDArray[np.float64], pixel_size_um: dict[str, float]) -> str:
    """Unit of the file that an affine came from, which the pixel size tells.

    Another pixel size was given than that file states where no unit fits. The affine stays, by which the labels lie
    over the image; without a unit it states no size.
    """
    lengths = {axis: float(np.linalg.norm(affine[:3, "XYZ".index(axis)])) for axis in pixel_size_um}

    def fits(unit: str) -> bool:
        pairs = [(lengths[axis] * UNITS_UM[unit], size) for axis, size in pixel_size_um.items()]
        return bool(pairs) and all(math.isclose(stated, size, rel_tol=ROUNDING) for stated, size in pairs)

    return next(filter(fits, UNITS_UM), "unknown")
