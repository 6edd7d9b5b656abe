"""COCO: one JSON file for all images, with the pixels of each cell as run lengths.

Source: the format at cocodataset.org and the run lengths of its C library (maskApi: column by column, differences to
the count before the last, six bits a character). A polygon in COCO knows no holes and is drawn with rounding, so
``segmentation`` is run lengths; outer outlines stand beside it as ``polygons``.
"""

import json
import tempfile
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from unetbio.export.cells import ExportImage, Plane
from unetbio.export.shapes import CellShape, cell_shapes
from unetbio.files import atomic_path
from unetbio.output_layout import COCO

__all__ = ["CocoWriter", "compress_counts", "run_lengths"]

IN_MEMORY = 1 << 20
CELL = "cell"
"""Name of the category of cells without a class."""


class CocoWriter:
    """Write ``coco.json``; planes of a file are images of one name with different ``series``, ``t`` and ``z``.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self._images = 0
        self._annotations = 0
        # Ids of the categories by name, in the order in which cells have them.
        self._categories: dict[str, int] = {}

    def __enter__(self) -> "CocoWriter":
        with self._stack:
            temporary = self._stack.enter_context(atomic_path(self.folder / COCO))
            self._stream = self._stack.enter_context(open(temporary, "w", encoding="utf-8"))
            # Annotations are written first, one by one, so that they need no memory.
            self._list: IO[str] = self._stack.enter_context(
                tempfile.SpooledTemporaryFile(IN_MEMORY, "w+", encoding="utf-8")
            )
            info = {"description": "cells", "generator": f"unetbio {version('unetbio')}"}
            self._stream.write(f'{{"info":{json.dumps(info)},\n"licenses":[],\n"annotations":[')
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if kind is None:
            self._stream.write('\n],\n"images":[')
            self._list.seek(0)
            while text := self._list.read(IN_MEMORY):
                self._stream.write(text)
            self._stream.write(f'\n],\n"categories":{json.dumps(self._listed_categories())}}}\n')
        self._stack.__exit__(kind, error, trace)

    def add(self, image: ExportImage) -> int:
        """Add the cells of an image; returns their number."""
        before = self._annotations
        for plane in image.planes():
            self._images += 1
            _write(self._list, self._image(image, plane), first=self._images == 1)
            for shape in cell_shapes(plane.label_image):
                self._annotations += 1
                _write(self._stream, self._annotation(plane, shape), first=self._annotations == 1)
        return self._annotations - before

    def _image(self, image: ExportImage, plane: Plane) -> dict[str, Any]:
        height, width = plane.label_image.shape
        place = {"series": image.entry.series, "t": plane.t, "z": plane.z}
        return {
            "id": self._images,
            "file_name": image.entry.path,
            "height": height,
            "width": width,
            **{name: index for name, index in place.items() if index is not None},
        }

    def _annotation(self, plane: Plane, shape: CellShape) -> dict[str, Any]:
        size = plane.label_image.shape
        height, width = shape.mask.shape
        measured = plane.measurements.get(shape.label, {})
        confidence = measured.get("confidence")
        return {
            "id": self._annotations,
            "image_id": self._images,
            "category_id": self._category(measured.get("class", CELL)),
            "label": shape.label,
            "area": shape.area,
            "bbox": [shape.left, shape.top, width, height],
            "iscrowd": 0,
            "segmentation": {"size": list(size), "counts": compress_counts(run_lengths(shape, size))},
            "polygons": [polygon[0].reshape(-1).tolist() for polygon in shape.polygons],
            **({} if confidence is None else {"score": confidence}),
        }

    def _category(self, name: str) -> int:
        return self._categories.setdefault(name, len(self._categories) + 1)

    def _listed_categories(self) -> list[dict[str, Any]]:
        known = self._categories or {CELL: 1}
        return [{"id": number, "name": name, "supercategory": CELL} for name, number in known.items()]


def _write(stream: IO[str], item: dict[str, Any], *, first: bool) -> None:
    stream.write("\n" if first else ",\n")
    stream.write(json.dumps(item, separators=(",", ":"), ensure_ascii=False, allow_nan=False))


def run_lengths(shape: CellShape, size: tuple[int, ...]) -> NDArray[np.int64]:
    """Lengths of runs, alternately outside and inside a cell, outside first, column by column."""
    height, width = size
    columns = np.zeros((shape.mask.shape[1], shape.mask.shape[0] + 2), np.int8)
    columns[:, 1:-1] = shape.mask.T
    column, row = np.nonzero(np.diff(columns, axis=1))
    edges = (shape.left + column) * height + shape.top + row
    # A run at the end of a column and one at the start of the next are joined.
    joined = np.flatnonzero(edges[1:-1:2] == edges[2::2])
    edges = np.delete(edges, np.concatenate((2 * joined + 1, 2 * joined + 2)))
    lengths = np.diff(np.concatenate(([0], edges, [height * width])))
    # A cell in the last pixel ends with its own run.
    return lengths[:-1] if lengths[-1] == 0 else lengths


def compress_counts(lengths: NDArray[np.int64]) -> str:
    """Run lengths in COCO's compressed text."""
    text = []
    for index, length in enumerate(lengths.tolist()):
        # From the fourth on, the difference to the count before the last: it is small for compact cells.
        value = length - int(lengths[index - 2]) if index > 2 else length
        more = True
        while more:
            bits = value & 0x1F
            value >>= 5
            # Done when the remaining bits only repeat the sign of the highest written bit.
            more = value != (-1 if bits & 0x10 else 0)
            text.append(chr(48 + (bits | 0x20 if more else bits)))
    return "".join(text)
