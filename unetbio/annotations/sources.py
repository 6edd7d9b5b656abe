"""Annotation files: which there are, and of which format each is."""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetbio.annotations.challenge import is_of_challenge
from unetbio.annotations.formats import coco, cvat, geojson, imagej, imagescope, labelme, labkit, lists, via
from unetbio.annotations.json_stream import members_of
from unetbio.annotations.regions import Sheet
from unetbio.annotations.xml_files import root_of
from unetbio.errors import ImageError
from unetbio.files import open_regular
from unetbio.io.formats import SUFFIXES, find_folder

__all__ = [
    "CHALLENGE",
    "COCO",
    "FORMATS",
    "GEOJSON",
    "IMAGESCOPE",
    "MASKS",
    "Source",
    "find_sources",
    "without_repeats",
]

logger = logging.getLogger(__name__)

MASKS = "masks"
"""Label images, colour masks, and folders with a picture for each object."""

CHALLENGE = "ctc"
"""Folders with a label image for each time."""

GEOJSON = "geojson"

COCO = "coco"

IMAGESCOPE = "imagescope"

GEOJSON_TYPES = ("FeatureCollection", *geojson.GEOMETRIES)

COCO_RESULTS = (
    "a list of COCO results, which does not name the images: put it as annotations beside images and categories"
)

FORMATS: dict[str, str] = {
    "imagej": "regions of ImageJ and Fiji (.roi, .zip)",
    GEOJSON: "objects of QuPath (.geojson)",
    COCO: "COCO (.json)",
    "labelme": "labelme (.json)",
    "via": "VGG Image Annotator (.json)",
    "cvat": "CVAT for images (.xml)",
    IMAGESCOPE: "Aperio ImageScope (.xml)",
    "labkit": "Labkit (.labeling)",
    "napari": "shapes of napari (.csv)",
    "cellpose": "outlines of Cellpose (_cp_outlines.txt)",
    MASKS: "label images, colour masks, a picture a cell",
    CHALLENGE: "results of the Cell Tracking Challenge (x_RES/mask000.tif)",
}
"""Formats by name, with the programs that write them."""

_OF_ONE_IMAGE: dict[str, Callable[[Path], Sheet]] = {
    GEOJSON: geojson.read_geojson,
    "labelme": labelme.read_labelme,
    IMAGESCOPE: imagescope.read_imagescope,
    "labkit": labkit.read_labkit,
    "napari": lists.read_napari,
    "cellpose": lists.read_outlines,
}
_OF_MANY_IMAGES: dict[str, Callable[[Path], list[Sheet]]] = {
    "coco": coco.read_coco,
    "via": via.read_via,
    "cvat": cvat.read_cvat,
}

_CELLPOSE_MASKS = re.compile(r"(?:.*/)?(.+)_cp_masks\.[^.]+$", re.IGNORECASE)
_CELLPOSE_REPEATS = re.compile(
    r"(.+?)_(?:seg\.npy|cp_outlines\.txt|cp_output\.\w+|outlines\.\w+|flows\.\w+|dP\.\w+)$", re.IGNORECASE
)

_ROOTS = {"annotations": "cvat", "Annotations": IMAGESCOPE}
"""Formats by the first element of an XML file."""

_OTHER_XML = "XML of another program than CVAT and ImageScope: export COCO instead"

_REFUSED = {
    "_seg.npy": (
        "pickled Python objects, which run code when they are opened: in Cellpose choose File > Save masks as PNG/tif, "
        "and give the _cp_masks file"
    ),
    ".npy": "a numpy array without axes: save it as TIFF, such as with tifffile.imwrite",
    ".npz": "a numpy archive: save each label image as TIFF, such as with tifffile.imwrite",
    ".pkl": "pickled Python objects, which run code when they are opened: export COCO or masks instead",
    ".ims": "an Imaris file: export its labels as TIFF (File > Export)",
    ".h5ad": "an AnnData table of measurements, without pixels: give label images, or unetbio export --to coco",
    ".h5": "an HDF5 file: export the labels as TIFF",
    ".hdf5": "an HDF5 file: export the labels as TIFF",
    "trackmate.xml": (
        "spots and links of TrackMate, without the pixels of cells: choose Export label image in TrackMate, or unetbio "
        "export --to ctc"
    ),
    ".qpdata": "a data file of QuPath: choose File > Export objects as GeoJSON",
}


@dataclass(frozen=True)
class Source:
    """Annotations of one image, or a file of many.

    Parameters
    ----------
    paths : tuple of path
        The file; several ``.roi`` files of one folder, or the label images of all times.
    name : str
        From the searched folder, with forward slashes.
    format : str
        One of `FORMATS`.
    """

    paths: tuple[Path, ...]
    name: str
    format: str

    @property
    def is_of_many(self) -> bool:
        """Whether the file names its images."""
        return self.format in _OF_MANY_IMAGES

    def read(self) -> list[Sheet]:
        """Regions by image; masks have none.

        Raises
        ------
        ImageError
            When the file is damaged.
        """
        if self.format == "imagej":
            return [imagej.read_rois(self.paths)]
        if self.is_of_many:
            return _OF_MANY_IMAGES[self.format](self.paths[0])
        return [_OF_ONE_IMAGE[self.format](self.paths[0])]


VIA_TABLE = "filename,file_size,file_attributes"
"""Start of the table that the VGG Image Annotator writes beside its JSON."""


def find_sources(
    given: Path, *, only: str | None = None
) -> tuple[list[Source], list[tuple[Path, ImageError]], list[Path]]:
    """List the annotations in a file or folder.

    Parameters
    ----------
    given : path
        File, or folder, searched with those below it; hidden files are left out.
    only : str, optional
        Take this format alone.

    Returns
    -------
    sources : list of Source
        Sorted by name.
    refused : list of (path, ImageError)
        Annotations that cannot be read, and why.
    others : list of path
        Other files.
    """
    sources: list[Source] = []
    refused: list[tuple[Path, ImageError]] = []
    folders: dict[tuple[str, Path], list[Path]] = {}
    others: list[Path] = []
    for path in _files(given):
        try:
            kind = _format_of(path)
        except ImageError as error:
            refused.append((path, error))
            continue
        except OSError as error:
            refused.append((path, ImageError("unreadable", f"cannot be read: {error.strerror or error}")))
            continue
        if kind is None or only not in (None, kind):
            others.append(path)
        elif kind == CHALLENGE or (kind == "imagej" and path.suffix.lower() == ".roi"):
            folders.setdefault((kind, path.parent), []).append(path)
        else:
            sources.append(Source((path,), _relative(path, given), kind))
    for (kind, folder), paths in folders.items():
        is_below = folder != given.parent and (folder != given or kind != CHALLENGE)
        alone = folder.name if kind == CHALLENGE else paths[0].name
        name = _relative(folder, given) if is_below else alone
        sources.append(Source(tuple(paths), name, kind))
    return sorted(sources, key=lambda source: source.name), refused, others


def without_repeats(
    sources: Sequence[Source], refused: Sequence[tuple[Path, ImageError]]
) -> tuple[list[Source], list[tuple[Path, ImageError]]]:
    """Leave out what Cellpose writes beside ``x_cp_masks``: the same cells in other forms, and pictures of its steps.

    Parameters
    ----------
    sources, refused
        As of `find_sources`.
    """
    there = {(source.paths[0].parent, found[1]) for source in sources if (found := _CELLPOSE_MASKS.match(source.name))}

    def is_repeat(path: Path) -> bool:
        found = _CELLPOSE_REPEATS.match(path.name)
        return found is not None and (path.parent, found[1]) in there

    left = [source.paths[0] for source in sources if is_repeat(source.paths[0])]
    left += [path for path, _ in refused if is_repeat(path)]
    if left:
        logger.info("%d other files of Cellpose left out, such as %s: the _cp_masks files count", len(left), left[0])
    kept = [source for source in sources if source.paths[0] not in left]
    return kept, [(path, error) for path, error in refused if path not in left]


def _relative(path: Path, given: Path) -> str:
    if path == given:
        return path.name
    return path.relative_to(given).as_posix()


def _files(given: Path) -> Iterator[Path]:
    if not given.is_dir() or find_folder(given):
        yield given
        return
    for path in sorted(given.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _files(path)
        elif not path.is_dir():
            yield path


def _format_of(path: Path) -> str | None:
    """Format of a file; None for files that are no annotations."""
    name = path.name.lower()
    refusal = next((text for ending, text in _REFUSED.items() if name.endswith(ending)), None)
    if refusal:
        raise ImageError("unsupported_format", refusal)
    if name.endswith(".roi"):
        return "imagej"
    if name.endswith(".zip"):
        if imagej.is_archive(path):
            return "imagej"
        raise ImageError("unsupported_format", "an archive without regions of ImageJ: unpack it, and give the folder")
    if name.endswith(".labeling"):
        return "labkit"
    if name.endswith((".json", ".geojson")):
        return _format_of_json(path)
    if name.endswith(".xml"):
        return _format_of_xml(path)
    if name.endswith(".csv"):
        with open_regular(path, "r", encoding="utf-8-sig", errors="replace") as stream:
            header = stream.readline(200)
        if header.lstrip("#").startswith(VIA_TABLE):
            raise ImageError("unsupported_format", "a table of the VGG Image Annotator: export the annotations as JSON")
        return "napari" if header.startswith(lists.NAPARI_HEADER) else None
    if name.endswith("_outlines.txt"):
        return "cellpose"
    if is_of_challenge(path):
        return CHALLENGE
    return MASKS if name.endswith(SUFFIXES) or path.is_dir() else None


def _format_of_xml(path: Path) -> str:
    kind = _ROOTS.get(root_of(path))
    if kind is None:
        raise ImageError("unsupported_format", _OTHER_XML)
    return kind


def _format_of_json(path: Path) -> str | None:
    names: dict[str, Any] = {}
    for name, value in members_of(path):
        names.setdefault(name, value)
        if name in ("features", "geometry") or (name == "" and isinstance(value, dict) and "geometry" in value):
            return GEOJSON
        if name in ("annotations", "images", "categories"):
            return COCO
        if name == "shapes":
            return "labelme"
        if name == "labels" and "interval" in names:
            return "labkit"
        if name == via.PROJECT or (isinstance(value, dict) and "filename" in value and "regions" in value):
            return "via"
        if name == "" and isinstance(value, dict) and "image_id" in value:
            raise ImageError("unsupported_format", COCO_RESULTS)
    if set(names) >= via.PROJECT_3:
        return "via"
    # A list without elements, as QuPath writes it; other programs write objects.
    return GEOJSON if list(names) == [""] or names.get("type") in GEOJSON_TYPES else None
