"""Overlays of a run: drawn beside the segmentation, and shown when the label image is written."""

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.classes import number_classes
from unetbio.errors import ImageError
from unetbio.files import TEMPORARY, stamp, stopping
from unetbio.output_layout import overlay_name
from unetbio.postprocessing.bands import RowArray, bands_in_memory, planes_of
from unetbio.preprocessing.selection import ImageSelection
from unetbio.results.items import Item
from unetbio.results.reuse import KeptResult, labels_in_parts, read_label_file
from unetbio.results.tables.confidences import read_classes
from unetbio.timing import stage

__all__ = ["Draw", "Overlays"]

logger = logging.getLogger(__name__)

Draw = Callable[[Path, NDArray[Any], NDArray[Any], Mapping[int, int] | None], None]

PICTURE_SIDE = 2048
"""Longest side of the picture of an image that is not in memory."""


class Overlays:
    """Overlays of the images of a run.

    Parameters
    ----------
    out : path
        The output folder.
    class_names : sequence of str
        Of the model; cells of a class have its colour.
    paths : mapping
        Paths of the overlays to draw, by the name of the result.
    draw : callable, optional
        Draws an overlay; without it there are none.
    """

    def __init__(self, out: Path, class_names: Sequence[str], paths: Mapping[str, Path], draw: Draw | None) -> None:
        self._out, self._class_names, self._paths, self._draw_overlay = out, class_names, paths, draw

    def draw(self, item: Item, image: Any, label_image: Any, classes: Mapping[int, str] | None) -> None:
        """Draw the overlay of an image whose label image is not written yet, if it gets one."""
        if item.result in self._paths:
            with stage("overlays"):
                self._draw(self._pending(item.result), image, label_image, classes)

    def _draw(self, path: Path, image: Any, label_image: Any, classes: Mapping[int, str] | None) -> None:
        """Draw the first channel and, of a stack, the section in the middle; cells of a class have its colour."""
        if self._draw_overlay is None:
            return
        numbers = None if classes is None else number_classes(classes, self._class_names[1:])
        if len(label_image.shape) == 3:
            middle = label_image.shape[0] // 2
            plane, label_image = (part[middle : middle + 1][0] for part in (planes_of(image, 0), label_image))
        elif isinstance(label_image, np.ndarray):
            plane = image[0]
        else:
            plane, label_image = _thinned(image, label_image)
        self._draw_overlay(path, plane, label_image, numbers)

    def _pending(self, result: str) -> Path:
        path = self._paths[result]
        return path.with_name(f"{TEMPORARY}{path.name}")

    def show(self, item: Item) -> None:
        """Give the overlay its name after the label image is written, or remove that of an older label image."""
        path = self._paths.get(item.result)
        if path is None or self._draw_overlay is None:
            self._remove_overlay(item)
            return
        pending = self._pending(item.result)
        with stopping(path):
            # Newer than the label image from now on, as `draw_kept` expects.
            os.utime(pending)
            pending.replace(path)

    def _remove_overlay(self, item: Item) -> None:
        path = self._paths.get(item.result) or self._out / overlay_name(item.labels)
        with stopping(path):
            path.unlink(missing_ok=True)

    def discard(self, result: str) -> None:
        """Remove an overlay that was drawn and is not shown."""
        if result in self._paths:
            self._pending(result).unlink(missing_ok=True)

    def discard_all(self) -> None:
        """Remove all overlays that were drawn and are not shown."""
        for result in self._paths:
            self.discard(result)

    def draw_kept(self, item: Item, kept: KeptResult, open_image: Callable[[Item], ImageSelection]) -> None:
        """Draw the overlay of a kept label image if it is missing or older.

        That of an edited one is drawn again although this run draws those of other images.
        """
        path = self._paths.get(item.result)
        if path is None and kept.edited:
            earlier = self._out / overlay_name(item.labels)
            path = earlier if earlier.is_file() else None
        labels, objects = self._out / item.labels, self._out / item.objects
        if path is None or (_is_newer(path, labels) and not _is_newer(objects, path)):
            return
        try:
            self._draw_again(path, item, kept, open_image(item))
        except ImageError as error:
            logger.debug("%s: no overlay: %s", item.path, error)

    def _draw_again(self, path: Path, item: Item, kept: KeptResult, opened: ImageSelection) -> None:
        """Draw an overlay from the files: in parts, where the image was segmented in parts."""
        labels = self._out / item.labels
        image: Any
        frame: Any = None if opened.streaming is None else labels_in_parts(labels, kept.provenance)
        if frame is not None:
            image = opened.lazy_channels(opened.times[0], opened.channels)
        else:
            image = opened.read_channels(opened.times[0], opened.channels)
            frames = read_label_file(labels, kept.provenance)
            frame = frames[0] if len(opened.times) > 1 else frames
        if frame.shape == opened.shape:
            self._draw(path, image, frame, read_classes(self._out / item.objects, kept.provenance, opened.times[0]))


def _thinned(image: Any, label_image: RowArray) -> tuple[NDArray[Any], NDArray[Any]]:
    """First channel and cells of a plane that is not in memory: every n-th pixel, as many as a picture has."""
    step = math.ceil(max(label_image.shape) / PICTURE_SIDE)
    planes, cells = [], []
    for band in bands_in_memory(label_image):
        chosen = (slice(-band.start % step, None, step), slice(None, None, step))
        # Copies: a part keeps all that was read.
        planes.append(image[0, band][chosen].copy())
        cells.append(label_image[band][chosen].copy())
    return np.concatenate(planes), np.concatenate(cells)


def _is_newer(path: Path, other: Path) -> bool:
    return path.is_file() and path.stat().st_mtime_ns >= stamp(other).mtime_ns
