"""An image to segment, and the paths of its results."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from unetbio.io.discover import stem
from unetbio.io.labels import label_suffix
from unetbio.output_layout import FORMATS, MaskKind, mask_name, objects_name, probabilities_name, provenance_name
from unetbio.settings.segmentation import Settings

__all__ = ["Format", "Item"]

Format = Literal["auto", "ome-tiff", "ome-zarr"]


@dataclass(frozen=True)
class Item:
    """One image to segment.

    Parameters
    ----------
    source : pathlib.Path
        The file.
    path : str
        Name in the tables: the path below the given folder, with forward slashes.
    settings : Settings
        Settings of the run, with the values that a table gives for this image.
    columns : dict
        Further columns of the user's table and of the path, which all written tables get.
    path_columns : sequence of str
        Names of the columns that come from the path; see `unetbio.results.path_columns`.
    masks : {"instances", "classes"}
        Label images or class masks.
    format : {"auto", "ome-tiff", "ome-zarr"}
        Format of the label image. Probabilities are NIfTI for NIfTI, OME-TIFF for all other formats.
    """

    source: Path
    path: str
    settings: Settings = field(default_factory=Settings)
    columns: dict[str, str] = field(default_factory=dict)
    path_columns: Sequence[str] = ()
    masks: MaskKind = "instances"
    format: Format = "auto"

    @property
    def result(self) -> str:
        """Path of the results below the output folder, without ending: ``a/b/x``, of a series ``a/b/x_s03``."""
        path = PurePosixPath(self.path)
        series = "" if self.settings.series is None else f"_s{self.settings.series:02d}"
        return str(path.with_name(stem(path) + series))

    @property
    def labels(self) -> str:
        """Label image, or class mask, below the output folder."""
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
        return label_suffix(self.path) if self.format == "auto" else ".ome.tif"
