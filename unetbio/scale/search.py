"""Look at an image at several zooms, and choose one (`unetbio.scale.choice`).

The first look is at the model's own zoom, and its decisions are the result where that zoom is right, so that nothing
is computed twice. Only doubtful images are looked at again: as a whole at coarser zooms, which cost 1/4, 1/16 and
1/64, as long as these get better, and in a piece when their cells are too small. Only decided pixels count, so that
the choice is the same for every tile size, backend and number of workers.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.inference.executors import repeated
from unetbio.measurement.frame_summary import describe_labels
from unetbio.postprocessing.bands import RowArray, bands_in_memory, bands_of, planes_of
from unetbio.preprocessing.normalization import apply
from unetbio.preprocessing.prepare import prepare_frame, rescale_frame
from unetbio.preprocessing.scale import Look, Scale
from unetbio.preprocessing.selection import Frame, ImageSelection
from unetbio.scale.choice import (
    COARSE,
    FINE,
    is_better,
    is_doubtful,
    is_last,
    needs_coarse,
    needs_fine,
    prefers_fine,
)
from unetbio.settings.normalization import Normalization
from unetbio.targets.cells import CellDecisions, CellDecoder
from unetbio.timing import stage

__all__ = ["Found", "find_scale"]

PIECE = 256
"""Side of the piece that is enlarged, in pixels of the image."""

CELLS_IN_SIGHT = 3
"""A coarser image with a shorter side than so many training cells shows too little."""

Box = tuple[slice, slice]


@dataclass(frozen=True)
class Found:
    """An image at the scale that was found.

    Parameters
    ----------
    opened : ImageSelection
        At the zoom that was chosen.
    plane : CellDecisions, optional
        Decisions of the plane that was looked at, where they are those of this zoom.
    """

    opened: ImageSelection
    plane: CellDecisions | None


def find_scale(
    decoder: CellDecoder,
    opened: ImageSelection,
    frame: Frame,
    automatic: Normalization,
    **options: Any,
) -> Found:
    """Find the zoom of an image by one plane of it, of a stack in sections the one in the middle.

    Parameters
    ----------
    decoder : CellDecoder
        Of a 2-D model that knows the diameter of its training cells.
    opened : ImageSelection
        At the model's own zoom.
    frame : Frame
        Of the image, as read.
    automatic : Normalization
        Default of the model.
    **options
        Of `Decoder.decide`: probabilities are those at the model's own zoom, and later looks count as done.
    """
    diameter = decoder.info.cell_diameter_px
    if diameter is None:
        raise ValueError("the model does not know the diameter of its cells")
    plane = _plane(opened, frame)
    search = _Search(decoder, opened, frame, automatic, diameter, _later(options, plane))
    decided, seen = decoder.look(plane.image, opened.section, **options)
    scale = search.run(seen)
    is_used = scale.zoom == 1 and opened.settings.crf is None
    found = opened.at_zoom(scale.zoom, scale)
    # A frame without cells says nothing about the next ones.
    nothing_seen = not any(look.cells for look in scale.looks)
    return Found(replace(found, finds_scale=nothing_seen), decided if is_used else None)


@dataclass(frozen=True)
class _Search:
    decoder: CellDecoder
    opened: ImageSelection
    frame: Frame
    automatic: Normalization
    diameter: float
    options: dict[str, Any]

    def run(self, seen: RowArray) -> Scale:
        """The scale, by the planes that were seen at the model's own zoom (`CellDecoder.look`)."""
        own = self._describe(1.0, seen)
        looks, best = self._coarse(own) if needs_coarse(own, self.diameter) else ([own], own)
        if best is own and needs_fine(own, self.diameter):
            piece, fine = self._fine(seen)
            looks.append(fine)
            best = fine if prefers_fine(piece, fine, self.diameter) else own
        return Scale(best.zoom, tuple(looks), is_doubtful(best))

    def _coarse(self, own: Look) -> tuple[list[Look], Look]:
        """Looks at coarser zooms, as long as they get better, and the best."""
        looks, best = [own], own
        for zoom in COARSE:
            if min(self.opened.at_zoom(zoom).section.grid) < CELLS_IN_SIGHT * self.diameter:
                break
            looks.append(self._look(zoom))
            if is_better(looks[-1], best, self.diameter):
                best = looks[-1]
            elif is_last(best):
                break
        return looks, best

    def _look(self, zoom: float) -> Look:
        opened = self.opened.at_zoom(zoom)
        # All sections, as they are segmented: reducing averages noise away, so that the limits lie elsewhere.
        frame = prepare_frame(opened, self.frame.t, self.frame.raw, self.automatic, counted=self.frame.counted)
        return self._look_at(zoom, opened.section, _plane(opened, frame).image)

    def _look_at(self, zoom: float, opened: ImageSelection, image: NDArray[np.float32]) -> Look:
        with stage("scale"):
            _, seen = self.decoder.look(image, opened, **self.options)
        return self._describe(zoom, seen)

    def _fine(self, seen: RowArray) -> tuple[Look, Look]:
        """Look at the piece with most cells: as it was decided at the model's own zoom, and enlarged."""
        box = _fullest(planes_of(seen, 0), PIECE)
        own = self._describe(1.0, seen[(slice(None), *box)])
        section = self.opened.section
        raw = _plane(self.opened, self.frame).raw[(slice(None), *box)]
        area = section.area and section.area.crop(*box)
        tissue = section.tissue and section.tissue.crop(*box)
        # Damaged parts are filled already, and their places count from the corner of the whole plane.
        piece = replace(section, shape=raw.shape[1:], area=area, tissue=tissue, streaming=None, damage=None)
        opened = piece.at_zoom(FINE)
        return own, self._look_at(FINE, opened, self._enlarged(opened, raw))

    def _enlarged(self, opened: ImageSelection, raw: Any) -> Any:
        """Grey values of a piece, enlarged; where it is the whole image, as the segmentation scales them.

        Others are scaled by the limits of the whole image at the model's own zoom: percentiles of the piece may lie
        elsewhere, and for those of the enlarged image all of it would have to be enlarged.
        """
        if raw.shape == self.frame.raw.shape:
            return prepare_frame(opened, self.frame.t, raw, self.automatic, counted=self.frame.counted).image
        return apply(rescale_frame(opened, raw), self.frame.scaling)

    def _describe(self, zoom: float, seen: RowArray) -> Look:
        with stage("scale"):
            labels = self.decoder.label_look(seen, self.opened.section)
            found = describe_labels(labels, None)
        certain = planes_of(seen, seen.shape[0] - 1)
        pixels = sure = 0
        for band in bands_in_memory(labels):
            cells = labels[band] > 0
            pixels += int(np.count_nonzero(cells))
            sure += int(np.count_nonzero(certain[band] & cells))
        return Look(zoom, found.n_cells or 0, found.median_diameter_px or 0.0, sure / max(1, pixels))


def _plane(opened: ImageSelection, frame: Frame) -> Frame:
    """What is looked at of a frame."""
    return frame.section(opened.middle) if opened.in_sections else frame


def _later(options: dict[str, Any], plane: Frame) -> dict[str, Any]:
    """Options of later looks: they keep no probabilities, and progress stays where the first look brought it."""
    progress, pixels = options["progress"], math.prod(plane.image.shape[1:])
    return {**options, "probabilities_out": None, "progress": progress and repeated(progress, pixels)}


def _fullest(foreground: RowArray, side: int) -> Box:
    """The square with most pixels of cells, on a grid of half its side; of equals the first."""
    half = side // 2
    columns = np.arange(0, foreground.shape[1], half)
    rows = [
        np.add.reduceat(np.count_nonzero(foreground[band], axis=0), columns)
        for band in bands_of(foreground.shape[0], half)
    ]
    counts = np.pad(rows, ((0, 1), (0, 1)))
    squares = counts[:-1, :-1] + counts[1:, :-1] + counts[:-1, 1:] + counts[1:, 1:]
    y, x = (half * int(place) for place in np.unravel_index(np.argmax(squares), squares.shape))
    return slice(y, y + side), slice(x, x + side)
