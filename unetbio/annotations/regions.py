"""Regions of annotation files, and the grid of pixels that they are painted into."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from unetbio.annotations.outlines import Shape
from unetbio.errors import ImageError

__all__ = ["MAX_ID", "Grid", "Region", "Sheet", "as_id"]

MAX_ID = 2**32 - 1
"""Largest id of a cell."""

MAX_DIGITS = 10


@dataclass(frozen=True)
class Region:
    """One outlined object in one plane.

    Parameters
    ----------
    shape : Shape
        Its pixels.
    number : int, optional
        Id of the cell, where the file names one; regions of one id in several planes are one object.
    kind : str
        Class, if the file names one.
    t, z : int, optional
        Time and section, from 0; None for all.
    plane : int, optional
        Number of the plane, from 0, counted over channels, then sections, then times, as in ImageJ.
    index : int, optional
        Index, from 0, along an axis that the file does not name: that of the times or of the sections, whichever the
        image has.
    is_first : bool
        Lies in the first plane, or in the only one there is.
    """

    shape: Shape
    number: int | None = None
    kind: str = ""
    t: int | None = None
    z: int | None = None
    plane: int | None = None
    index: int | None = None
    is_first: bool = False


@dataclass
class Sheet:
    """Regions of one image in an annotation file.

    Parameters
    ----------
    image : str
        Name of the image as the file has it; empty if it has none.
    size : tuple of int, optional
        Height and width that the file states.
    series : int, optional
        Index of the image in its file.
    regions : list of Region
        In the order of the file.
    left_out : Counter
        Numbers of entries without pixels, by what they are: points, lines ...
    """

    image: str = ""
    size: tuple[int, int] | None = None
    series: int | None = None
    regions: list[Region] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Grid:
    """Pixels of a label image.

    Parameters
    ----------
    height, width : int
        Of a plane.
    times, sections : tuple
        Time and section of each plane along the axes T and Z; ``(None,)`` if the image has no such axis.
    stored : mapping
        Lengths of the axes C, Z and T in the file of the image, over which ImageJ counts planes
        (`unetbio.io.grey_pictures.plane_counts`).
    """

    height: int
    width: int
    times: tuple[int | None, ...] = (None,)
    sections: tuple[int | None, ...] = (None,)
    stored: Mapping[str, int] = field(default_factory=dict)

    @property
    def axes(self) -> str:
        """Letters of ``TZYX``."""
        return ("T" if len(self.times) > 1 else "") + ("Z" if len(self.sections) > 1 else "") + "YX"

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of `axes`."""
        lengths = {"T": len(self.times), "Z": len(self.sections), "Y": self.height, "X": self.width}
        return tuple(lengths[axis] for axis in self.axes)

    def planes_of(self, region: Region) -> list[tuple[int, int]]:
        """Indices ``(t, z)`` of the planes that a region lies in; none if it lies in planes that are left out."""
        t, z = self.place_of(region)
        return [(i, j) for i in _matching(t, self.times) for j in _matching(z, self.sections)]

    def place_of(self, region: Region) -> tuple[int | None, int | None]:
        """Time and section of the image that a region lies in; None for all."""
        if region.plane is not None:
            return self._split(region.plane)
        if region.index is not None:
            return (region.index, None) if self.is_along_time else (None, region.index)
        if region.is_first:
            return 0 if len(self.times) > 1 else None, 0 if len(self.sections) > 1 else None
        return region.t, region.z

    @property
    def is_along_time(self) -> bool:
        """Whether a single axis is that of the times; of an image with both, napari's shapes leave out the times."""
        return len(self.sections) == 1 and (len(self.times) > 1 or self.sections == (None,))

    def _split(self, plane: int) -> tuple[int | None, int | None]:
        """Time and section of a plane as ImageJ counts them."""
        channels, sections, times = (self.stored.get(axis, 1) for axis in "CZT")
        if channels * sections * times == 1:
            return None, None
        plane //= channels
        t, z = plane // sections, plane % sections
        return (t if times > 1 or t else None), (z if sections > 1 else None)

    def check(self, sheet: Sheet) -> None:
        """Refuse regions of another image size, or of more planes than there are.

        Raises
        ------
        ImageError
            ``size_differs``, ``wrong_planes``.
        """
        if sheet.size and sheet.size != (self.height, self.width):
            raise ImageError(
                "size_differs",
                f"drawn on {sheet.size[1]} x {sheet.size[0]} pixels, the image has {self.width} x {self.height}: "
                "give the images that were annotated",
            )
        unnamed = self.times if self.is_along_time else self.sections
        for name, axes, there, values in (
            ("times", "T", self.times, {region.t for region in sheet.regions}),
            ("sections", "Z", self.sections, {region.z for region in sheet.regions}),
            ("planes", "TZ", unnamed, {region.index for region in sheet.regions}),
        ):
            # Sections that a run projected lie on its one plane.
            is_projected = any(self.stored.get(axis, 1) > 1 for axis in axes)
            if there == (None,) and not is_projected and len(values - {None}) > 1:
                raise ImageError(
                    "wrong_planes",
                    f"drawn on {len(values - {None})} {name}, the image has none; say --axes, such as TYX, with "
                    "--images",
                )


def _matching(value: int | None, there: tuple[int | None, ...]) -> list[int]:
    return [index for index, known in enumerate(there) if value is None or known in (None, value)]


def as_id(text: str) -> int | None:
    """The id of a cell that a name states: ``0007`` is 7; None for other names, and for 0."""
    if not text.isascii() or not text.isdecimal() or len(text) > MAX_DIGITS:
        return None
    return int(text) if 0 < int(text) <= MAX_ID else None
