"""Lists of corners: shapes of napari (csv), and outlines of Cellpose (``_cp_outlines.txt``)."""

import csv
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unetbio.annotations.outlines import Ellipse, Pixels, Polygons, Several, Shape, as_ring
from unetbio.annotations.regions import Region, Sheet
from unetbio.errors import ImageError
from unetbio.files import open_regular

__all__ = ["NAPARI_HEADER", "read_napari", "read_outlines"]

NAPARI_HEADER = "index,shape-type,vertex-index"
MAX_LINE = 1 << 24


def read_outlines(path: Path) -> Sheet:
    """Read Cellpose's outlines: a line for each cell, x and y in turn.

    Raises
    ------
    ImageError
        ``bad_outline``.
    """
    sheet = Sheet()
    for number, line in enumerate(_lines(path), start=1):
        values = [_float(word, f"line {number}") for word in line.split(",") if word.strip()]
        if len(values) % 2:
            raise ImageError("bad_outline", f"line {number} has {len(values)} numbers: x and y in turn are needed")
        ring = as_ring(list(zip(values[0::2], values[1::2], strict=True)), f"line {number}")
        # Corners are the centres of pixels on the rim, which belong to the cell.
        x, y = np.round(ring).astype(np.int64).T
        rim = Pixels.at(x, y, f"line {number}")
        sheet.regions.append(Region(Several([Polygons([[ring + 0.5]]), rim])))
    return sheet


def read_napari(path: Path) -> Sheet:
    """Read the shapes of a napari layer: a row for each corner.

    Coordinates of napari count from the centre of the first pixel.

    Raises
    ------
    ImageError
        ``bad_outline``.
    """
    sheet = Sheet()
    corners: dict[str, list[list[float]]] = {}
    kinds: dict[str, str] = {}
    lines = csv.reader(_lines(path))
    header = next(lines)
    axes = [index for index, name in enumerate(header) if name.startswith("axis-")]
    if len(axes) < 2:
        raise ImageError("bad_outline", "has no columns axis-0 and axis-1; save the shapes again")
    for number, row in enumerate(lines, start=2):
        if len(row) != len(header):
            raise ImageError("bad_outline", f"line {number} has {len(row)} columns, not {len(header)}; save it again")
        kinds[row[0]] = row[1]
        corners.setdefault(row[0], []).append([_float(row[index], f"line {number}") for index in axes])
    for key, points in corners.items():
        shape = _shape(kinds[key], points, key)
        if isinstance(shape, str):
            sheet.left_out[shape] += 1
        else:
            planes = [round(value) for value in points[0][:-2]]
            if len(planes) > 1:
                sheet.regions.append(Region(shape, t=planes[0], z=planes[-1]))
            else:
                sheet.regions.append(Region(shape, index=planes[0] if planes else None))
    return sheet


def _shape(kind: str, points: list[list[float]], key: str) -> Shape | str:
    if kind in ("path", "line"):
        return "line"
    ring = as_ring([(point[-1] + 0.5, point[-2] + 0.5) for point in points], f"shape {key}")
    if kind in ("polygon", "rectangle"):
        return Polygons([[ring]])
    if kind != "ellipse" or len(ring) != 4:
        raise ImageError("bad_outline", f"shape {key} is of the unknown type {kind[:40]!r}; save the shapes again")
    # The corners of the box around it.
    centre, along, across = ring.mean(axis=0), ring[1] - ring[0], ring[2] - ring[1]
    width, height = float(np.hypot(*along)), float(np.hypot(*across))
    return Ellipse(float(centre[0]), float(centre[1]), width / 2, height / 2, math.atan2(along[1], along[0]))


def _lines(path: Path) -> Iterator[str]:
    with open_regular(path, "r", encoding="utf-8-sig", errors="replace") as stream:
        while line := stream.readline(MAX_LINE + 1):
            if len(line) > MAX_LINE:
                raise ImageError("bad_outline", f"a line of more than {MAX_LINE >> 20} MiB; save the outlines again")
            if line.strip():
                yield line.strip()


def _float(word: str, what: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ImageError("bad_outline", f"{what}: {word[:40]!r} is no number; save the outlines again") from None
