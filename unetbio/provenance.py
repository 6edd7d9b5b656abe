"""Provenance of a mask: input, model, settings and versions.

``x_labels.json`` beside ``x_labels.ome.tif`` is one `Provenance`. The hash of the
input, the hash of the model and ``settings`` determine the pixels; the other fields are for readers.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from unetbio.files import read_bytes, real_path, sha256_path, stamp, write_text

__all__ = [
    "CELL_CLASSES",
    "CONFIDENCE_DECIMALS",
    "MOST",
    "NOT_EXACT",
    "PROBABILITIES",
    "Fingerprint",
    "FrameRecord",
    "InputRecord",
    "ModelRecord",
    "OutputRecord",
    "PartRecord",
    "Provenance",
    "SetRecord",
    "count_cells",
    "fingerprint",
    "installed_version",
    "is_as_written",
    "read_provenance",
    "versions",
    "write_provenance",
]

# Packages whose versions can change a pixel of every mask.
PACKAGES = ("unetbio", "torch", "numpy", "scipy", "scikit-image", "numba", "tifffile", "imagecodecs", "nibabel", "zarr")

CHECKSUM = "checksum"
_LAST_LINE = re.compile(rb',\n  "checksum": "([0-9a-f]{64})"\n}\n\Z')

CELL_CLASSES = "cell_classes"
"""Setting of a result whose cells have classes: their names."""

NOT_EXACT = "not_exact"
"""Warning of a frame whose mask tiles, processors and devices may change; the reason follows a colon."""

PROBABILITIES = "probabilities"
"""Fact of a run: whether it wrote probabilities, which earlier versions did not record."""

CONFIDENCE_DECIMALS = 3
"""Probabilities are stored in one byte a pixel; more decimals would mean nothing."""


MOST = (1 << 63) - 1
"""Tables hold numbers of 64 bits."""

Count = Annotated[int, Field(ge=0, le=MOST)]
Size = Annotated[int, Field(ge=1, le=MOST)]
Micrometres = Annotated[float, Field(gt=0)]


class _Record(BaseModel):
    # Keep fields that a newer version wrote.
    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


class Fingerprint(_Record):
    """Size, times and hash by which a file, or the folder of an image, is recognized.

    Parameters
    ----------
    size : int
        Bytes.
    mtime_ns, ctime_ns : int
        Times of the last change of the content and of the inode, in nanoseconds.
    sha256 : str
        Of the bytes; of a folder as `unetbio.files.sha256_path` says.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    sha256: str

    def matches(self, path: str | os.PathLike[str], *, rehash: bool = False) -> bool:
        """Whether ``path`` holds the same bytes.

        Equal size and times count as the same bytes, unless ``rehash``. When they differ, the bytes are hashed, so that
        a copy of a file matches. A missing file does not match.
        """
        try:
            now = stamp(path)
            if now.size != self.size:
                return False
            if not rehash and (now.mtime_ns, now.ctime_ns) == (self.mtime_ns, self.ctime_ns):
                return True
            return sha256_path(path) == self.sha256
        except OSError:
            return False


class SetRecord(_Record):
    """Files that are one image; see `unetbio.io.image_set.ImageSet`.

    Parameters
    ----------
    files : tuple of str
        From the folder of the input.
    shape : tuple of int
        Number of times, channels and sections.
    channel_names, pixel_size_um
        As the names of the files, and a file beside them, say.
    """

    files: Annotated[tuple[str, ...], Field(min_length=1)]
    shape: tuple[Size, Size, Size]
    channel_names: tuple[str, ...]
    pixel_size_um: dict[str, Micrometres] = {}


class PartRecord(_Record):
    """What was segmented of a file, if not all of it at full resolution; see `unetbio.io.image.Part`."""

    level: Count
    scale: tuple[Micrometres, Micrometres]
    rows: tuple[Count, Count]
    columns: tuple[Count, Count]


class InputRecord(_Record):
    """The image that was segmented.

    Parameters
    ----------
    path : str
        Path in tables, relative to the given folder.
    absolute : str
        Absolute path at the time of the run.
    from_output : str
        The same, relative to the folder of the label image, for projects that move as a whole.
    fingerprint : Fingerprint
        Of the file.
    companions : dict of Fingerprint
        Of the other files of the image, by their path from the folder of the input.
    image_set : SetRecord, optional
        The files, if the image consists of several by their names.
    missing_files : tuple of str
        Names of files of the image that were not in the folder of the input.
    address : str
        Where the file was copied from; empty for files of this machine.
    part : PartRecord, optional
        What was segmented of the file, if not all of it at full resolution.
    axes, shape, dtype, pixel_size_um, pixel_size_trusted, channel_names
        As read from the file, or as overridden by ``settings``; of the part. Pictures keep their names of channels.
    """

    path: str
    absolute: str
    from_output: str
    fingerprint: Fingerprint
    companions: dict[str, Fingerprint] = {}
    image_set: SetRecord | None = None
    missing_files: tuple[str, ...] = ()
    address: str = ""
    part: PartRecord | None = None
    axes: Annotated[str, Field(pattern="^T?C?Z?YX$")]
    shape: tuple[Size, ...]
    dtype: str
    pixel_size_um: dict[str, Micrometres]
    pixel_size_trusted: bool
    channel_names: tuple[str, ...]

    @model_validator(mode="after")
    def _has_one_length_an_axis(self) -> "InputRecord":
        if len(self.axes) != len(self.shape):
            raise ValueError(f"axes {self.axes} need one length each, not {self.shape}")
        return self

    def matches(self, source: Path, *, rehash: bool = False) -> bool:
        """Whether ``source`` and its companions hold the same bytes, and missing files are still missing.

        See `Fingerprint.matches`.
        """
        return self.agrees(source, lambda known, path: known.matches(path, rehash=rehash))

    def agrees(self, source: Path, is_same: Callable[[Fingerprint, Path], bool]) -> bool:
        """Whether ``source`` and its companions are the same by ``is_same``, and missing files are still missing."""
        folder = real_path(source).parent
        if any((folder / name).exists() for name in self.missing_files):
            return False
        files = {source: self.fingerprint}
        files |= {folder / name: companion for name, companion in self.companions.items()}
        return all(is_same(known, path) for path, known in files.items())

    def find(self, folder: Path) -> Path | None:
        """The input file, searched from the folder of the label image; None when it is missing."""
        for path in (folder / self.from_output, Path(self.absolute)):
            with contextlib.suppress(OSError):
                if path.exists():
                    return path
        return None


class ModelRecord(_Record):
    """The model file; ``path`` is its place at the time of the run."""

    name: str
    sha256: str
    path: str
    architecture: str


class OutputRecord(_Record):
    """The label image as it was written.

    Parameters
    ----------
    name : str
        File name, from the folder of the provenance.
    label_hash : str
        SHA-256 of shape, dtype and little-endian pixels.
    size, mtime_ns : int
        Of the file, or of all files of a folder: a change means that the mask was edited.
    """

    name: str
    label_hash: str
    size: int
    mtime_ns: int
    sha256: str = ""

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        parts = list(PurePosixPath(name).parts)
        while parts[:1] == [".."]:
            # Out of a plate, to the folder that it lies in.
            parts.pop(0)
        if not parts or parts[0] == "/" or ".." in parts or "\0" in name:
            raise ValueError("a name of a file is needed")
        return name


class FrameRecord(_Record):
    """One row of ``summary.csv``: an image, or one time of a time-lapse.

    Parameters
    ----------
    t : int, optional
        Index of the time, when the image has a time axis.
    n_cells : int, optional
        Number of labels; None for class masks.
    median_diameter_px : float, optional
        Of discs or balls as large as the cells, in pixels of the input; None without cells.
    area_fraction : float
        Share of the pixels that belong to a cell, or to a class other than the background.
    zoom : float, optional
        Factor from pixels of the image to pixels of the model, in the plane; None in records of earlier versions.
    class_fractions : dict
        Of class masks: the share of the pixels of each class, by its name.
    class_counts : dict
        Of cells with classes: how many cells have each class, by its name.
    warnings : tuple of str
        Codes, which docs/scale.md explains; numbers and reasons follow a colon.
    confidences : tuple of float
        Mean probability over the pixels of each cell, in the order of the ids from 1; empty for models without pixel
        probabilities. Written as one line of text, so that the file stays readable.
    """

    t: Count | None = None
    n_cells: Count | None
    median_diameter_px: float | None
    area_fraction: float
    zoom: float | None = None
    class_fractions: dict[str, float] = {}
    class_counts: dict[str, int] = {}
    warnings: tuple[str, ...] = ()
    confidences: tuple[float, ...] = ()

    @property
    def doubtful(self) -> float:
        """How many of the cells with confidences the model expects to be wrong."""
        return sum(1 - confidence for confidence in self.confidences)

    @field_validator("confidences", mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return value.split() if isinstance(value, str) else value

    @field_serializer("confidences", when_used="json")
    def _as_text(self, value: tuple[float, ...]) -> str:
        return " ".join(f"{confidence:.{CONFIDENCE_DECIMALS}f}" for confidence in value)


_READING: dict[str, Any] = {
    "channel_names": (list, tuple),
    "series": (int, str),
    "z": (int, str),
    "axes": str,
    "link": (int, float),
    "nan": str,
}


class Provenance(_Record):
    """Provenance of one label image.

    Parameters
    ----------
    input, model, output
        The files.
    settings : dict
        All options that change pixels, with the defaults of the model filled in.
    frames : tuple of FrameRecord
        Results by frame.
    columns : dict
        Further columns, from the input table and from the path of the image.
    path_columns : tuple of str
        Names of the columns from the path.
    place : dict
        Plate, well, row, column and field, or the position in the file: further columns.
    run : dict
        Facts that do not change pixels: device, tile plan, scale, grey values mapped to 0 and 1, times.
    versions : dict
        Of the packages of the run.
    """

    format_version: int = 1
    input: InputRecord
    model: ModelRecord
    output: OutputRecord
    settings: dict[str, Any]
    frames: Annotated[tuple[FrameRecord, ...], Field(min_length=1)]
    columns: dict[str, str] = {}
    path_columns: tuple[str, ...] = ()
    place: dict[str, str] = {}
    run: dict[str, Any] = {}
    versions: dict[str, str] = {}

    @field_validator("settings")
    @classmethod
    def _can_be_used(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Refuse other types of those by which an input is read again."""
        for name, kinds in _READING.items():
            value = settings.get(name)
            if value is not None and not isinstance(value, kinds):
                raise ValueError(f"{name} is {type(value).__name__}")
        if not all(isinstance(name, str) for name in settings.get("channel_names") or ()):
            raise ValueError("channel_names are no texts")
        return settings

    @property
    def n_cells(self) -> int | None:
        """Cells in all frames; None for class masks."""
        return count_cells(self.frames)

    @property
    def first_section(self) -> int:
        """Number in the file of the first section of the label image; ``--partial`` may leave out those before it."""
        return int(self.run.get("partial", (0,))[0])

    @property
    def single_section(self) -> int | None:
        """Number in the file of the only section that was segmented: that of ``--z``, or all that ``--partial`` kept.

        None for stacks, projections and images without sections.
        """
        chosen = self.settings.get("z")
        if isinstance(chosen, int):
            return chosen
        if chosen not in (None, "each"):
            return None
        first, stop = self.run.get("partial", (0, 0))
        # Images without sections that lack channels or times have 0 and 1 here, too.
        return int(first) if first and stop - first == 1 else None


def count_cells(frames: Iterable[FrameRecord]) -> int | None:
    """Cells in these frames; None when any of them is a class mask."""
    total = 0
    for frame in frames:
        if frame.n_cells is None:
            return None
        total += frame.n_cells
    return total


def fingerprint(path: str | os.PathLike[str]) -> Fingerprint:
    """Size, times and hash of a file or folder; raises OSError when it cannot be read.

    Read the times before hashing, so that a change during hashing is noticed later.
    """
    now = stamp(path)
    return Fingerprint(size=now.size, mtime_ns=now.mtime_ns, ctime_ns=now.ctime_ns, sha256=sha256_path(path))


def versions(more: Iterable[str] = ()) -> dict[str, str]:
    """Versions of Python and of the installed packages that can change a mask, and of ``more`` packages."""
    found = {name: installed_version(name) for name in (*PACKAGES, *more)}
    return {"python": platform.python_version(), **{name: version for name, version in found.items() if version}}


@functools.cache
def installed_version(package: str) -> str | None:
    """Version of an installed package; None without it. It is read from a file of the package, once a process."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def write_provenance(path: str | os.PathLike[str], provenance: Provenance) -> None:
    """Write a provenance atomically as JSON, with the SHA-256 of all the rest in its last line."""
    values = provenance.model_dump(mode="json", exclude={CHECKSUM})
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False).removesuffix("\n}")
    digest = hashlib.sha256(text.encode()).hexdigest()
    write_text(path, f'{text},\n  "{CHECKSUM}": "{digest}"\n}}\n')


def is_as_written(path: str | os.PathLike[str]) -> bool:
    """Whether a provenance is the one that was written, byte for byte; true of those without a checksum (0.1).

    Raises
    ------
    OSError
        When it cannot be read.
    """
    content = read_bytes(path)
    if match := _LAST_LINE.search(content):
        return hashlib.sha256(content[: match.start()]).hexdigest().encode() == match[1]
    # Without one, the versions of packages came last.
    return content.endswith((b"\n  }\n}\n", b"{}\n}\n"))


def read_provenance(path: str | os.PathLike[str]) -> Provenance | None:
    """Read a provenance; None when the file is missing or invalid."""
    try:
        return Provenance.model_validate_json(_LAST_LINE.sub(b"\n}\n", read_bytes(path)))
    except (OSError, ValidationError):
        return None
