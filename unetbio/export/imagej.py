"""Regions for ImageJ's ROI manager: a ``RoiSet.zip`` for each image.

Source of the layout: ij.io.RoiDecoder and RoiEncoder of ImageJ 1 (public domain). Whole numbers are big-endian.
"""

import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetbio.errors import ImageError
from unetbio.export.cells import ExportImage, Plane
from unetbio.export.shapes import CellShape, cell_shapes
from unetbio.files import atomic_path
from unetbio.output_layout import roi_set_name

__all__ = ["ANYWHERE", "MAX_COORDINATE", "Place", "RoiSetWriter", "encode_roi"]

VERSION = 228
RECTANGLE, TRACED = 1, 8
MOVE, LINE, CLOSE = 0.0, 1.0, 4.0
HEADER_BYTES = 64

MAX_COORDINATE = 60_535
"""ImageJ stores coordinates in 16 bits, and reads those from 60 536 on as negative numbers."""

# Offsets of corners are signed.
MAX_OFFSET = 32_767
MAX_CORNERS = 65_535

# A fixed time for files in the archive, so that equal cells give equal archives.
TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Place:
    """Position of a region in a stack, counted from 1; 0 means all planes.

    Parameters
    ----------
    plane : int
        Number of the plane, in stacks along one axis; 0 if ``z`` or ``t`` is given.
    z, t : int
        Section and time, in hyperstacks, which vary along more than one of channel, section and time.
    """

    plane: int = 0
    z: int = 0
    t: int = 0


ANYWHERE = Place()


class RoiSetWriter:
    """Write ``x_RoiSet.zip`` for each image.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the files, which have the paths of the label images.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> "RoiSetWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing to do: every file is complete."""

    def add(self, image: ExportImage) -> int:
        """Write the file of an image; returns the number of regions.

        Raises
        ------
        ImageError
            ``too_large``: the image is larger than ImageJ's regions can be.
        """
        count = 0
        path = self.folder / roi_set_name(image.name)
        if max(image.label_image.shape[-2:]) > MAX_COORDINATE:
            raise ImageError(
                "too_large",
                f"{image.entry.output} is {image.label_image.shape}, and ImageJ's regions end at pixel "
                f"{MAX_COORDINATE}: export it with --to geojson",
            )
        with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for plane in image.planes():
                for shape in cell_shapes(plane.label_image):
                    name = _name(plane, shape)
                    entry = zipfile.ZipInfo(f"{name}.roi", TIME)
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    archive.writestr(entry, encode_roi(shape, name, _place(plane, image.is_hyperstack)))
                    count += 1
        return count


def _name(plane: Plane, shape: CellShape) -> str:
    time = "" if plane.t is None else f"t{plane.t:03d}_"
    section = "" if plane.z is None else f"z{plane.z:03d}_"
    return f"{time}{section}{shape.label:04d}"


def _place(plane: Plane, is_hyperstack: bool) -> Place:
    t, z = (0 if index is None else index + 1 for index in (plane.t, plane.z))
    # In a stack along one axis ImageJ only reads the number of the plane.
    return Place(z=z, t=t) if is_hyperstack or (t and z) else Place(plane=t or z)


def encode_roi(shape: CellShape, name: str, place: Place = ANYWHERE) -> bytes:
    """A cell as the content of a ``.roi`` file.

    A cell of one part without holes is a traced region; any other is a composite one.

    Parameters
    ----------
    shape : CellShape
        The cell.
    name : str
        Name of the region.
    place : Place
        Position in the stack.
    """
    height, width = shape.mask.shape
    polygons = shape.polygons
    simple = len(polygons) == 1 and len(polygons[0]) == 1
    if simple and len(polygons[0][0]) <= MAX_CORNERS and max(height, width) <= MAX_OFFSET:
        kind, corners, floats = TRACED, len(polygons[0][0]), 0
        body = (polygons[0][0] - (shape.left, shape.top)).T.astype(">i2").tobytes()
    else:
        path = _path(shape)
        kind, corners, floats = RECTANGLE, 0, len(path)
        body = path.astype(">f4").tobytes()
    text = name.encode("utf-16-be")
    second = HEADER_BYTES + len(body)
    box = (shape.top, shape.left, shape.top + height, shape.left + width)
    header = struct.pack(">4shBx4HH16xhi4s4shhBBhii", b"Iout", VERSION, kind, *box, corners, 0, floats,
                         bytes(4), bytes(4), 0, 0, 0, 0, 0, place.plane, second)  # fmt: skip
    more = struct.pack(">4x3iii", 0, place.z, place.t, second + HEADER_BYTES, len(name)).ljust(HEADER_BYTES, b"\0")
    return header + body + more + text


def _path(shape: CellShape) -> np.ndarray:
    """Every ring as moves and lines, closed at its first corner."""
    pieces = []
    for ring in (ring for polygon in shape.polygons for ring in polygon):
        lines = np.column_stack((np.full(len(ring), LINE), ring)).astype(np.float32)
        lines[0, 0] = MOVE
        pieces += [lines.reshape(-1), np.array([CLOSE], np.float32)]
    return np.concatenate(pieces)
