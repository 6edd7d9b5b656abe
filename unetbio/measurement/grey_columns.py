"""Grey values of cells: means, summed band by band, and the further columns of each channel."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unetbio.compilation import compiled
from unetbio.errors import ImageError
from unetbio.labels import as_volume
from unetbio.measurement.columns import Columns, IndexArray, Table
from unetbio.measurement.features import grey_statistics, texture_features

__all__ = ["GreyValues", "MeanColumns", "mean_over_cells", "unique_names"]


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of all channels of an image in columns: one that occurs twice has the number of its channel behind it."""
    return tuple(f"{name}_{channel}" if names.count(name) > 1 else name for channel, name in enumerate(names))


class GreyValues(NamedTuple):
    """Raw grey values of an image that fits the label image, and how its channels are called in columns."""

    image: Any
    shape: tuple[int, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, image: Any, shape: tuple[int, ...], channel_names: Sequence[str] | None) -> "GreyValues":
        """Check an image and its channels' names against the shape of the label image.

        Raises
        ------
        ImageError
            ``wrong_shape`` when they do not fit.
        """
        if len(image.shape) != len(shape) + 1:
            raise ImageError(
                "wrong_shape",
                f"the image has shape {tuple(image.shape)} and the label image {shape}: "
                "needs one more axis, the channels, in front",
            )
        if tuple(image.shape[1:]) != shape:
            raise ImageError(
                "wrong_shape",
                f"the image has shape {tuple(image.shape[1:])} and the label image {shape}: both need the same size",
            )
        channels = int(image.shape[0])
        names = [str(channel) for channel in range(channels)] if channel_names is None else list(channel_names)
        if len(names) != channels:
            raise ImageError(
                "wrong_shape", f"{len(names)} channel names for {channels} channels: give one name a channel"
            )
        return cls(image, shape, unique_names(names))

    def statistics(self, volume: IndexArray, runs: Table, areas: Table) -> Columns:
        """Columns of grey values and texture of each channel."""
        columns: Columns = {}
        for channel, name in enumerate(self.names):
            values = _native(np.asarray(self.image[channel]), "image", self.shape)
            found = grey_statistics(values, volume, runs, areas)
            columns |= {f"intensity_{what}_{name}": column for what, column in found.items()}
            found = texture_features(values, volume, runs, len(areas))
            columns |= {f"texture_{what}_{name}": column for what, column in found.items()}
        return columns


def _native(values: NDArray[Any], name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Grey values as a compiled loop takes them."""
    if values.shape != shape:
        raise ImageError(
            "wrong_shape", f"the {name} has shape {values.shape} and the label image {shape}: both need the same size"
        )
    if values.dtype.kind not in "ui" and values.dtype != np.float32:
        values = values.astype(np.float64)
    return as_volume(values.astype(values.dtype.newbyteorder("="), copy=False))


class MeanColumns:
    """Mean grey values of cells or of their rings, summed band by band.

    Parameters
    ----------
    cells : int
        Number of cells.
    grey : GreyValues, optional
        The grey values.
    prefix : str
        Of the names of the columns.
    """

    def __init__(self, cells: int, grey: GreyValues | None, prefix: str = "") -> None:
        self._grey, self._prefix = grey, prefix
        self._sums = np.zeros((len(grey.names) if grey else 0, cells))

    def add(self, runs: Table, band: slice | None) -> None:
        """Add the grey values of the runs of a band, counted from its first row; None is the whole image."""
        if self._grey is None:
            return
        image, shape = self._grey.image, self._grey.shape
        shape = shape if band is None else (band.stop - band.start, *shape[1:])
        for channel, sums in enumerate(self._sums):
            values = np.asarray(image[channel] if band is None else image[channel, band])
            _sum_values(_native(values, "image", shape), runs, sums)

    def columns(self, areas: Table) -> Columns:
        """One column a channel; NaN for cells without pixels."""
        names = [f"{self._prefix}intensity_mean_{name}" for name in self._grey.names] if self._grey else []
        return {
            name: np.divide(sums, areas, out=np.full(len(areas), np.nan), where=areas > 0)
            for name, sums in zip(names, self._sums, strict=True)
        }


def mean_over_cells(
    values: NDArray[Any], name: str, shape: tuple[int, ...], runs: Table, areas: Table
) -> NDArray[np.float64]:
    """Mean of some values over each cell; NaN for cells without pixels.

    Parameters
    ----------
    values : ndarray
        Of the shape of the label image.
    name : str
        Of the values, in messages.
    shape : tuple of int
        Of the label image.
    runs, areas : ndarray of int64
        Runs of all cells, and pixels of each.

    Raises
    ------
    ImageError
        ``wrong_shape`` when the values have another shape.
    """
    sums = np.zeros(len(areas))
    _sum_values(_native(values, name, shape), runs, sums)
    means: NDArray[np.float64] = np.divide(sums, areas, out=np.full(len(areas), np.nan), where=areas > 0)
    return means


@compiled
def _sum_values(values: NDArray[Any], runs: Table, sums: NDArray[np.float64]) -> None:
    for run in range(len(runs)):
        cell, z, y, start, stop = runs[run]
        for x in range(start, stop):
            sums[cell - 1] += values[z, y, x]
