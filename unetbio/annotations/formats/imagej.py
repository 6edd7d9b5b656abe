"""Regions of ImageJ and Fiji: ``.roi`` files and archives of them.

Source of the layout: ij.io.RoiDecoder and RoiEncoder of ImageJ 1 (public domain). Whole numbers are big-endian. Masks
are those of ``Roi.getMask``, so that ImageJ measures the same areas.
"""

import itertools
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
from numpy.typing import NDArray

from unetbio.annotations.outlines import FARTHEST, Ellipse, Polygons, Ring, Shape
from unetbio.annotations.regions import Region, Sheet, as_id
from unetbio.errors import ImageError
from unetbio.files import open_regular

__all__ = ["MAX_ARCHIVE_BYTES", "MAX_ROI_BYTES", "decode_roi", "is_archive", "read_rois"]

MAX_ROI_BYTES = 1 << 26
MAX_ARCHIVE_BYTES = 1 << 30
MAX_ENTRIES = 1_000_000
"""Limits of one region and of an archive, unpacked: more is no set of regions."""

POLYGON, RECTANGLE, OVAL, LINE, FREELINE, POLYLINE, NO_ROI, FREEHAND, TRACED, ANGLE, POINT = range(11)
NAMES = {LINE: "line", FREELINE: "line", POLYLINE: "line", NO_ROI: "empty region", ANGLE: "angle", POINT: "point"}
TEXT, IMAGE = 1, 4
SPLINE, SUB_PIXEL = 1, 128
MOVE, LINE_TO, QUADRATIC, CUBIC, CLOSE = range(5)
HEADER_BYTES = 64

_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError, struct.error)

_PLANES = re.compile(r"^(t\d{3,}_)?(z\d{3,}_)?")
"""What precedes the id in the names that ``unetbio export`` gives."""

CURVE_STEPS = 32
"""Lines that a curve of a composite region is drawn with."""


def is_archive(path: Path) -> bool:
    """Whether a file is an archive that holds regions."""
    try:
        with open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
            return any(_is_roi(entry) for entry in archive.infolist())
    except _DAMAGED:
        return False


def read_rois(paths: Iterable[Path]) -> Sheet:
    """Read ``.roi`` files, or an archive of them.

    Raises
    ------
    ImageError
        ``unreadable``, ``too_large``, ``bad_outline``.
    """
    sheet = Sheet()
    for name, content in _contents(paths):
        region = decode_roi(content, name)
        if isinstance(region, str):
            sheet.left_out[region] += 1
        else:
            sheet.regions.append(region)
    return sheet


def _contents(paths: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    for path in paths:
        with open_regular(path) as stream:
            if stream.read(2) == b"PK":
                stream.seek(0)
                yield from _unpacked(stream)
            else:
                stream.seek(0)
                yield path.stem, _limited(stream.read(MAX_ROI_BYTES + 1), path.name)


def _unpacked(stream: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    total = 0
    try:
        with zipfile.ZipFile(stream) as archive:
            entries = [entry for entry in archive.infolist() if _is_roi(entry)]
            if len(entries) > MAX_ENTRIES:
                raise ImageError("too_large", f"an archive of {len(entries)} regions; at most {MAX_ENTRIES} are read")
            for entry in entries:
                with archive.open(entry) as packed:
                    content = _limited(packed.read(MAX_ROI_BYTES + 1), entry.filename)
                total += len(content)
                if total > MAX_ARCHIVE_BYTES:
                    raise ImageError(
                        "too_large",
                        f"unpacks to more than {MAX_ARCHIVE_BYTES >> 30} GiB; save the regions again",
                    )
                # Names of entries are names of regions, and never paths.
                yield PurePosixPath(entry.filename).stem, content
    except _DAMAGED as error:
        raise ImageError("unreadable", f"a damaged or encrypted archive ({error}); save the regions again") from error


def _limited(content: bytes, name: str) -> bytes:
    if len(content) > MAX_ROI_BYTES:
        raise ImageError("too_large", f"{name} unpacks to more than {MAX_ROI_BYTES >> 20} MiB; save it again")
    return content


def _is_roi(entry: zipfile.ZipInfo) -> bool:
    path = PurePosixPath(entry.filename)
    # macOS adds files of its own.
    return path.suffix.lower() == ".roi" and not path.name.startswith("._")


def decode_roi(content: bytes, name: str) -> Region | str:
    """The content of a ``.roi`` file as a region, or in words what has no area.

    Parameters
    ----------
    content : bytes
        The file.
    name : str
        Name of the file, for messages and for regions that hold no name.

    Raises
    ------
    ImageError
        ``unreadable``, ``bad_outline``: this is no region, or a damaged one.
    """
    try:
        return _decode(content, name)
    except struct.error as error:
        raise ImageError("unreadable", f"the region {name} is cut off; save it again") from error


def _decode(content: bytes, name: str) -> Region | str:
    if content[:4] != b"Iout":
        raise ImageError("unreadable", f"{name} is no region of ImageJ; save it with the ROI manager")
    kind = content[6]
    top, left, bottom, right = (_short(content, offset) for offset in (8, 10, 12, 14))
    subtype, options = struct.unpack_from(">hh", content, 48)
    (floats,) = struct.unpack_from(">i", content, 36)
    if subtype in (TEXT, IMAGE) or kind in NAMES:
        return {TEXT: "text", IMAGE: "picture"}.get(subtype) or NAMES[kind]
    shape: Shape
    if floats > 0:
        shape = Polygons([_path(_floats(content, HEADER_BYTES, floats, name), name)])
    elif kind == OVAL:
        shape = Ellipse((left + right) / 2, (top + bottom) / 2, (right - left) / 2, (bottom - top) / 2)
    elif kind == RECTANGLE:
        (diameter,) = struct.unpack_from(">h", content, 54)
        shape = Polygons([[_rectangle(left, top, right, bottom, diameter)]])
    elif kind in (POLYGON, FREEHAND, TRACED):
        ring = _corners(content, left, top, name, is_exact=bool(options & SUB_PIXEL))
        shape = Polygons([[_fit_spline(ring) if options & SPLINE else ring]])
    else:
        raise ImageError("unreadable", f"the region {name} is of the unknown type {kind}; save it again")
    plane, t, z, own_name = _place(content)
    return Region(shape, as_id(_PLANES.sub("", own_name or name)), t=t, z=z, plane=plane)


def _short(content: bytes, offset: int) -> int:
    (value,) = struct.unpack_from(">h", content, offset)
    # As ImageJ: numbers above 60 535 are negative ones.
    return int(value) + (1 << 16 if value < -5000 else 0)


def _floats(content: bytes, start: int, count: int, name: str) -> NDArray[np.float64]:
    if start + 4 * count > len(content):
        raise ImageError("unreadable", f"the region {name} is cut off; save it again")
    values = np.frombuffer(content, ">f4", count, start).astype(np.float64)
    # Written so that NaN is refused too.
    if not (np.abs(values) <= FARTHEST).all():
        raise ImageError(
            "bad_outline", f"the region {name} has a corner that is infinite, NaN or far away; draw it again"
        )
    return values


def _corners(content: bytes, left: int, top: int, name: str, *, is_exact: bool) -> Ring:
    (count,) = struct.unpack_from(">H", content, 16)
    if not count:
        # From 65 536 corners on, their number stands elsewhere.
        (count,) = struct.unpack_from(">i", content, 18)
    if count < 0 or HEADER_BYTES + 4 * count > len(content):
        raise ImageError("unreadable", f"the region {name} is cut off; save it again")
    if is_exact:
        exact = _floats(content, HEADER_BYTES + 4 * count, 2 * count, name)
        return np.column_stack((exact[:count], exact[count:]))
    offsets = np.frombuffer(content, ">i2", 2 * count, HEADER_BYTES).astype(np.float64)
    x, y = np.maximum(offsets[:count], 0), np.maximum(offsets[count:], 0)
    return np.column_stack((x + left, y + top))


def _path(values: NDArray[np.float64], name: str) -> list[Ring]:
    """Rings of a composite region, whose curves become lines."""
    rings: list[list[tuple[float, float]]] = []
    numbers, at = values.tolist(), 0
    lengths = {MOVE: 2, LINE_TO: 2, QUADRATIC: 4, CUBIC: 6, CLOSE: 0}
    while at < len(numbers):
        step = numbers[at]
        length = lengths.get(step)
        given = numbers[at + 1 : at + 1 + (length or 0)]
        if length is None or len(given) < length or (step != MOVE and not rings):
            raise ImageError("unreadable", f"the region {name} is a damaged composite; save it again")
        points = list(zip(given[0::2], given[1::2], strict=True))
        if step == MOVE:
            rings.append(points)
        elif step == LINE_TO:
            rings[-1] += points
        elif points:
            rings[-1] += _curve([rings[-1][-1], *points])
        at += 1 + length
    return [np.array(ring, np.float64).reshape(-1, 2) for ring in rings]


def _curve(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points along a Bezier curve, without its start."""
    steps = np.linspace(0, 1, CURVE_STEPS + 1)[1:, np.newaxis]
    levels = [np.broadcast_to(np.array(point), (CURVE_STEPS, 2)) for point in points]
    while len(levels) > 1:
        levels = [one + (other - one) * steps for one, other in itertools.pairwise(levels)]
    return [(x, y) for x, y in levels[0].tolist()]


def _fit_spline(ring: Ring) -> Ring:
    """Points on the closed cubic spline through the corners, which ImageJ fits when it opens a region."""
    # Its first corner may be stored once more, at the end.
    ring = ring[:-1] if len(ring) > 1 and (ring[0] == ring[-1]).all() else ring
    if len(ring) < 3:
        return ring
    from scipy.interpolate import CubicSpline

    spline = CubicSpline(np.arange(len(ring) + 1), np.vstack((ring, ring[:1])), bc_type="periodic")
    return np.asarray(spline(np.arange(len(ring) * CURVE_STEPS) / CURVE_STEPS), np.float64)


def _rectangle(left: int, top: int, right: int, bottom: int, diameter: int) -> Ring:
    if diameter <= 0:
        return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    half = (min(diameter, right - left) / 2, min(diameter, bottom - top) / 2)
    turns = np.linspace(0, np.pi / 2, CURVE_STEPS + 1)
    pieces = []
    for quarter, (x, y) in enumerate(((right, bottom), (left, bottom), (left, top), (right, top))):
        sign_x, sign_y = (1 if x == right else -1), (1 if y == bottom else -1)
        angle = turns + quarter * np.pi / 2
        centre = x - sign_x * half[0], y - sign_y * half[1]
        pieces.append(np.column_stack((centre[0] + half[0] * np.cos(angle), centre[1] + half[1] * np.sin(angle))))
    return np.concatenate(pieces)


def _place(content: bytes) -> tuple[int | None, int | None, int | None, str]:
    """Plane, time and section, from 0, and the name of a region."""
    plane, second = struct.unpack_from(">ii", content, 56)
    z = t = start = length = 0
    if 0 < second <= len(content) - 24:
        z, t, start, length = struct.unpack_from(">8xiiii", content, second)
    name = ""
    if start > 0 and length > 0 and start + 2 * length <= len(content):
        name = content[start : start + 2 * length].decode("utf-16-be", "replace")
    number = plane - 1 if plane > 0 and not (z or t) else None
    return number, (t - 1 if t > 0 else None), (z - 1 if z > 0 else None), name
