"""COCO: one JSON file for many images; polygons, and run lengths, compressed or not.

Source: the format at cocodataset.org and the run lengths of its C library (maskApi).
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.annotations.json_stream import ARRAY, members_of
from unetbio.annotations.outlines import Polygons, Runs, Shape, as_ring, count_of
from unetbio.annotations.regions import MAX_ID, Region, Sheet
from unetbio.errors import ImageError

__all__ = ["expand_counts", "read_coco"]

logger = logging.getLogger(__name__)

MAX_CODE_GROUPS = 13
"""Six-bit groups of the longest run length in 64 bits."""


def read_coco(path: Path) -> list[Sheet]:
    """Read the images of a file, each with its regions; images without annotations have none.

    Raises
    ------
    ImageError
        ``bad_json``, ``bad_outline``.
    """
    images: dict[str, Mapping[str, Any]] = {}
    found: dict[str, list[tuple[Shape, int | None, Any]]] = {}
    left_out: dict[str, list[str]] = {}
    crowds = 0
    classes: dict[str, str] = {}
    counts = {"images": 0, "annotations": 0, "categories": 0}
    for name, value in members_of(path):
        if value is ARRAY or name not in counts:
            continue
        counts[name] += 1
        what = f"{name} {counts[name]}"
        if not isinstance(value, Mapping):
            raise ImageError("bad_json", f"{what} is no object; export the file again")
        if name == "images":
            images[_key(value.get("id"), what)] = value
        elif name == "categories":
            classes[_key(value.get("id"), what)] = str(value.get("name", ""))
        else:
            key = _key(value.get("image_id"), what)
            crowds += bool(value.get("iscrowd"))
            shape = _shape(value.get("segmentation"), what)
            if isinstance(shape, str):
                left_out.setdefault(key, []).append(shape)
            else:
                label = value.get("label")
                number = label if isinstance(label, int) and 0 < label <= MAX_ID else None
                found.setdefault(key, []).append((shape, number, value.get("category_id")))
    _check_images({*found, *left_out}, images, path)
    if 0 < crowds < counts["annotations"]:
        logger.warning(
            "%s: %d annotations are marked as crowds (iscrowd), which may hold several cells: each is one cell here",
            path.name,
            crowds,
        )
    return _sheets(images, found, left_out, classes)


def _check_images(annotated: Set[str], images: Mapping[str, object], path: Path) -> None:
    """Say which annotations have no image, as in a file that was cut to some of its images; refuse it if none has."""
    without = sorted(annotated - set(images))
    if without and len(without) == len(annotated):
        raise ImageError(
            "bad_json", f"annotations of an image {without[0]} that the file does not list; export it again"
        )
    if without:
        logger.warning(
            "%s: the annotations of %d image%s that the file does not list are left out, such as image_id %s",
            path.name,
            len(without),
            "" if len(without) == 1 else "s",
            without[0],
        )


def _sheets(
    images: Mapping[str, Mapping[str, Any]],
    found: Mapping[str, list[tuple[Shape, int | None, Any]]],
    left_out: Mapping[str, list[str]],
    classes: Mapping[str, str],
) -> list[Sheet]:
    """One sheet a file and series, with the regions of all its planes; of several files of one name, one each."""
    sheets: dict[tuple[str, int | None, int], Sheet] = {}
    annotated: Counter[tuple[str, int | None, int | None, int | None]] = Counter()
    for key, image in images.items():
        what = f"image {key}"
        series, t, z = (_index(image, name, what) for name in ("series", "t", "z"))
        size = _size(image, [shape for shape, _, _ in found.get(key, ()) if isinstance(shape, Runs)], what)
        name = str(image.get("file_name", ""))
        # Two annotated entries of one plane are files of one name, such as of two folders.
        number = annotated[name, series, t, z] if key in found else 0
        annotated[name, series, t, z] += key in found
        sheet = sheets.setdefault((name, series, number), Sheet(name, size, series))
        sheet.left_out.update(left_out.get(key, ()))
        for shape, label, category in found.get(key, ()):
            if isinstance(shape, Runs) and shape.size != size:
                raise ImageError(
                    "bad_outline", f"{what}: run lengths of {shape.size}, an image of {size}; export it again"
                )
            kind = classes.get(str(category), "")
            sheet.regions.append(Region(shape, label, kind, t=t, z=z))
    return list(sheets.values())


def _size(image: Mapping[str, Any], runs: Sequence[Runs], what: str) -> tuple[int, int] | None:
    """Height and width of an image; where the file does not state them, of its run lengths, or None."""
    stated = [image.get(name) or None for name in ("height", "width")]
    if None in stated:
        return runs[0].size if runs else None
    return count_of(stated[0], f"{what}: height"), count_of(stated[1], f"{what}: width")


def _index(image: Mapping[str, Any], name: str, what: str) -> int | None:
    value = image.get(name)
    return None if value is None else count_of(value, f"{what}: {name}")


def _key(value: Any, what: str) -> str:
    """An id as text, since programs write the same one as a number and as a text."""
    if not isinstance(value, int | str):
        raise ImageError("bad_json", f"{what} has no id; export the file again")
    return str(value)


def _shape(segmentation: Any, what: str) -> Shape | str:
    if isinstance(segmentation, list) and segmentation:
        return Polygons([[_polygon(flat, what)] for flat in segmentation])
    if isinstance(segmentation, Mapping) and segmentation:
        return _runs(segmentation, what)
    return "box without outline"


def _polygon(flat: Any, what: str) -> Any:
    if not isinstance(flat, list) or len(flat) % 2:
        raise ImageError("bad_outline", f"{what}: a polygon is no list of x and y in turn; export the file again")
    return as_ring(list(zip(flat[0::2], flat[1::2], strict=True)), what)


def _runs(segmentation: Mapping[str, Any], what: str) -> Runs:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(size, list) or len(size) != 2:
        raise ImageError("bad_outline", f"{what}: run lengths without a size; export the file again")
    height, width = (count_of(length, f"{what}: size") for length in size)
    if isinstance(counts, str):
        lengths = expand_counts(counts, what)
    elif isinstance(counts, list):
        lengths = np.array([count_of(length, f"{what}: counts") for length in counts], np.int64)
    else:
        raise ImageError("bad_outline", f"{what}: run lengths without counts; export the file again")
    # Sums of numbers below 2**62 in whole numbers of any size, since those of a damaged file overflow.
    if (lengths < 0).any() or sum(lengths.tolist()) > height * width:
        raise ImageError("bad_outline", f"{what}: run lengths go beyond the {height} x {width} pixels; export it again")
    return Runs(lengths, (height, width))


def expand_counts(text: str, what: str = "counts") -> NDArray[np.int64]:
    """Run lengths of COCO's compressed text.

    Raises
    ------
    ImageError
        ``bad_outline``: the text holds other characters, or ends within a number.
    """
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 5 * MAX_CODE_GROUPS:
            raise ImageError("bad_outline", f"{what}: {character!r} in compressed run lengths; export the file again")
        value |= (code & 0x1F) << shift
        shift += 5
        if not code & 0x20:
            # The highest written bit is the sign.
            value -= (code & 0x10) << (shift - 4)
            value += lengths[-2] if len(lengths) > 2 else 0
            lengths.append(value)
            value = shift = 0
            if abs(lengths[-1]) > 1 << 60:
                raise ImageError("bad_outline", f"{what}: a run length of {lengths[-1]}; export the file again")
    if shift:
        raise ImageError("bad_outline", f"{what}: compressed run lengths are cut off; export the file again")
    return np.array(lengths, np.int64)
