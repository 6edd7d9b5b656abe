"""An image to segment, and the paths of its results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from unetbio.errors import ImageError
from unetbio.files import utf8_text
from unetbio.io import Image, read_image
from unetbio.io.discover import Found
from unetbio.io.image_set import ImageSet
from unetbio.io.labels import label_suffix
from unetbio.io.mask_names import stem
from unetbio.output_layout import (
    FORMATS,
    MaskKind,
    mask_name,
    objects_name,
    plate_mask_name,
    probabilities_name,
    provenance_name,
)
from unetbio.settings.regions import Region, parse_region
from unetbio.settings.segmentation import Settings

__all__ = ["Format", "Item"]

Format = Literal["auto", "ome-tiff", "ome-zarr"]


@dataclass(frozen=True)
class Item:
    """One image to segment.

    Parameters
    ----------
    source : pathlib.Path
        The file; of a set the first.
    path : str
        Name in the tables: the path below the given folder, with forward slashes, and the region if it is one.
    settings : Settings
        Settings of the run, with the values that a table gives for this image.
    columns : dict
        Further columns of the user's table and of the path, which all written tables get.
    path_columns : sequence of str
        Names of the columns that come from the path; see `unetbio.results.tables.path_columns`.
    masks : {"instances", "classes"}
        Label images or class masks.
    format : {"auto", "ome-tiff", "ome-zarr"}
        Format of the label image. Probabilities are NIfTI for NIfTI, OME-TIFF for all other formats.
    image_set : ImageSet, optional
        The files, if the image consists of several.
    place : dict
        Plate, well, row, column and field, or the position in the file: further columns.
    named : str
        Path of the results below the output folder, if it is not that of ``path``.
    plate : str
        Path of the results of the plate, for a field of an OME-Zarr plate.
    error : ImageError, optional
        Why the image cannot be opened, if that was seen when it was listed.
    """

    source: Path
    path: str
    settings: Settings = field(default_factory=Settings)
    columns: dict[str, str] = field(default_factory=dict)
    path_columns: Sequence[str] = ()
    masks: MaskKind = "instances"
    format: Format = "auto"
    image_set: ImageSet | None = None
    place: Mapping[str, str] = field(default_factory=dict)
    named: str = ""
    plate: str = ""
    error: ImageError | None = None

    @classmethod
    def of(cls, found: Found, settings: Settings, **others: Any) -> "Item":
        """The item of an input."""
        named = "" if found.result is None else found.result.as_posix()
        plate = "" if found.plate is None else found.plate.as_posix()
        region = _region_of(settings)
        return cls(
            found.path,
            utf8_text(found.relative.as_posix()) + (region.fragment if region else ""),
            settings,
            image_set=found.image_set,
            place={**found.place, **({"image_region": region.title} if region else {})},
            named=named,
            plate=plate,
            error=found.error,
            **others,
        )

    def read(self) -> Image:
        """Open the image.

        Raises
        ------
        ImageError
            As `unetbio.io.read_image`.
        """
        if self.error is not None:
            raise self.error
        if self.image_set is not None:
            return self.image_set.open(self.settings.axes)
        return read_image(self.source, axes=self.settings.axes, series=self.series or 0)

    @property
    def title(self) -> str:
        """The image for messages: its file, or the name of the set beside its first file; its region and series."""
        file = self.source if self.image_set is None else self.source.with_name(PurePosixPath(self.file).name)
        region = _region_of(self.settings)
        series = "" if self.series is None else f" (series {self.series})"
        return f"{file}{region.fragment if region else ''}{series}"

    @property
    def series(self) -> int | None:
        """Number of the image in its file; None for a file with one image."""
        return self.settings.series if isinstance(self.settings.series, int) else None

    @cached_property
    def result(self) -> str:
        """Path of the results below the output folder, without ending: ``a/b/x``, of a series ``a/b/x_s03``."""
        path = PurePosixPath(self.file)
        base = PurePosixPath(self.named) if self.named else path.with_name(stem(path))
        region = _region_of(self.settings)
        series = "" if self.series is None else f"_s{self.series:02d}"
        return str(base.with_name(f"{base.name}{series}{f'_{region.name}' if region else ''}"))

    @property
    def file(self) -> str:
        """The path of the file: ``path`` without the region."""
        region = _region_of(self.settings)
        return self.path.removesuffix(region.fragment) if region else self.path

    @property
    def in_plate(self) -> bool:
        """Whether the label image is a field of a plate of label images."""
        return bool(self.plate) and self.format == "ome-zarr"

    @cached_property
    def labels(self) -> str:
        """Label image, or class mask, below the output folder."""
        if self.in_plate:
            return plate_mask_name(self.plate, self.result, self.masks)
        return mask_name(self.result, self.masks, FORMATS.get(self.format, self._suffix))

    @property
    def provenance(self) -> str:
        """Provenance below the output folder."""
        return provenance_name(self.labels)

    @property
    def objects(self) -> str:
        """Table of objects below the output folder, for models that find objects."""
        return objects_name(self.result)

    def probabilities_of(self, t: int | None) -> str:
        """Probabilities below the output folder; of a time-lapse each time is a file."""
        return probabilities_name(self.result, t, self._suffix)

    def probabilities_names(self, times: Sequence[int | None]) -> tuple[str, ...]:
        """Probabilities of an image with these frames, below the output folder."""
        return tuple(self.probabilities_of(t if len(times) > 1 else None) for t in times)

    @property
    def _suffix(self) -> str:
        return label_suffix(self.file) if self.format == "auto" else ".ome.tif"


def _region_of(settings: Settings) -> Region | None:
    """The region of an item; None for a whole image."""
    return parse_region(settings.region[0]) if settings.region else None
