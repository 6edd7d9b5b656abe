"""Segment one image into a label image or class mask, in steps that a batch runs in parallel.

`Segmenter.open` -> `Segmenter.read_frame` (reading, numpy) -> `Segmenter.decide` (the network) -> `Segmenter.finish`
(numba). `segment` runs all of them in turn. The `unetbio.targets.Target` of a model interprets the output of its
network.
"""

import functools
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from unetbio import networks, targets
from unetbio.errors import CancelledError, ImageError, UsageError
from unetbio.inference import prediction
from unetbio.inference.backends.base import DEFAULT, choose_device, packages
from unetbio.inference.executors import Progress
from unetbio.inference.sliding_window import OVERLAP, window_shape
from unetbio.inference.tiling import TilePlan
from unetbio.io.image import Image
from unetbio.labels import Mask, label_hash
from unetbio.measurement.frame_summary import median_diameter_in_sections
from unetbio.models import model_path
from unetbio.models.model_file import Model, ModelInfo, load_model
from unetbio.postprocessing.objects import ObjectTable
from unetbio.preprocessing.grey_values import FULL_SCALE, is_saturated
from unetbio.preprocessing.normalization import Scaling
from unetbio.preprocessing.prepare import Frame, ImageSelection, image_of_array, open_image, read_frame
from unetbio.provenance import FrameRecord, count_cells, versions
from unetbio.settings.normalization import Normalization, parse
from unetbio.settings.options import from_keywords
from unetbio.settings.segmentation import SegmentOptions, Settings
from unetbio.targets.base import Finished
from unetbio.targets.sections import stack_sections
from unetbio.targets.unknown_pixels import without_unknown

__all__ = ["FrameResult", "ModelName", "Segmentation", "Segmenter", "segment", "stack_frames"]

# Cells half or twice as wide as those in training are new to the network.
TRAINED_DIAMETERS = (0.5, 2.0)


@dataclass(frozen=True)
class FrameResult:
    """Cells or classes of one frame, at the image's own size, with their rows of the tables.

    Where the model finds objects, ``objects`` is their table.
    """

    label_image: NDArray[Any]
    record: FrameRecord
    scaling: Scaling
    objects: ObjectTable | None = None


class ModelName(TypedDict):
    """Model of a segmentation: its name, and the SHA-256 of its file."""

    name: str
    sha256: str


class Segmentation(TypedDict):
    """Provenance and tables of a label image from `segment`.

    ``settings`` and ``run`` are those of the provenance (docs/results.md), ``frames`` the rows of ``summary.csv``,
    ``objects`` the tables of a model that finds objects: columns by name, one table a frame.
    """

    model: ModelName
    settings: dict[str, object]
    frames: list[dict[str, object]]
    n_cells: int | None
    label_hash: str
    axes: str
    run: dict[str, object]
    versions: dict[str, str]
    objects: NotRequired[list[ObjectTable | None]]


class Segmenter:
    """A model on a device.

    Parameters
    ----------
    model : Model
        Of cells, of objects or of classes.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    tile : int, optional
        Output pixels of a tile; by default the cheapest that fits the memory.
    memory_budget : int, optional
        Bytes that one pass of the network may take.
    exact : bool
        Tile exactly even if the context is above 256 pixels a side, which takes longer.
    backend : str
        Name of the library that runs the network: `unetbio.inference.backends.base.names`.

    Attributes
    ----------
    target : Target
        Target that the model learned.
    is_exact : bool
        Whether the result is the same for every tile size; if not, windows overlap.

    Raises
    ------
    UsageError
        When ``exact`` is True for a network that cannot be tiled exactly, or the backend cannot run it.
    """

    def __init__(
        self,
        model: Model,
        device: str = "auto",
        *,
        tile: int | None = None,
        memory_budget: int | None = None,
        exact: bool = False,
        backend: str = DEFAULT,
    ) -> None:
        self.model = model
        self.info = model.info
        self.backend = backend
        self.device, self.device_reason = choose_device(device, backend)
        self.is_exact = _is_tiled_exactly(model.info, requested=exact)
        self.target = targets.of_model(model.info)
        self.decoder = self.target.decoder(model.info, model.network, self.device, exact=self.is_exact, backend=backend)
        self.tile = tile
        self.memory_budget = memory_budget
        self.ndim = self.decoder.runner.geometry.ndim
        # Images of a batch often have one size, so its cheapest tiles are cached.
        self._plans: dict[tuple[int, ...], TilePlan] = {}

    def record(self, settings: Settings) -> dict[str, Any]:
        """Values that change the result, apart from image and weights; for the provenance and for resuming.

        Raises
        ------
        UsageError
            When settings and model do not go together.
        """
        count = len(self.info.channels)
        if settings.channel and len(settings.channel) != count:
            raise UsageError(
                f"{len(settings.channel)} channels are given, model {self.info.name} takes {count} "
                f"({', '.join(self.info.channels)}): give --channel {count} time{'s' if count > 1 else ''}"
            )
        if settings.crf is not None and self.ndim != 2:
            raise UsageError(f"the CRF is for planes, and model {self.info.name} is 3-D: leave out --crf")
        if settings.diameter_px is not None and self.info.cell_diameter_px is None:
            raise UsageError(f"model {self.info.name} does not say how large its cells are: leave out --diameter")
        # The size of blended windows changes the result; without a tile it is the model's.
        window = None if self.is_exact else self.tile
        if settings.link is not None and self.target.masks != "instances":
            raise UsageError(f"model {self.info.name} segments classes, which are not linked: leave out --link")
        return {**self.decoder.record(settings), "exact_tiles": self.is_exact, "window": window}

    def check_probabilities(self) -> None:
        """Refuse to save probabilities of a model that gives none.

        Raises
        ------
        UsageError
            When the model finds objects.
        """
        if not self.decoder.has_probabilities:
            raise UsageError(
                f"model {self.info.name} finds objects and has no probabilities of pixels: leave out "
                "--save-probabilities"
            )

    def open(self, source: str | os.PathLike[str] | Image, settings: Settings) -> ImageSelection:
        """Read the head of an image and choose what to segment: `unetbio.preprocessing.prepare.open_image`."""
        return open_image(source, settings, self.info, self.ndim)

    def read_frame(self, opened: ImageSelection, t: int | None) -> Frame:
        """Read, rescale and normalize one frame; see `unetbio.preprocessing.prepare.read_frame`."""
        return read_frame(opened, t, self.info.normalization)

    def decide(
        self,
        opened: ImageSelection,
        frame: Frame,
        *,
        probabilities_out: NDArray[np.float32] | None = None,
        progress: Progress | None = None,
    ) -> Any:
        """Run the network over the grid and make the decisions of the model's target.

        Parameters
        ----------
        opened, frame
            As read.
        probabilities_out : ndarray, optional
            ``(K, *grid)`` float32, filled with the probabilities; after the CRF, if there is one.
        progress : callable, optional
            Called with the pixels of the grid that are done and all of them after each tile; an error that it raises
            ends the work.
        """
        if not opened.in_sections:
            return self._decide_plane(opened, frame, probabilities_out, progress)
        decided = []
        for z in range(opened.sections):
            plane = None if probabilities_out is None else probabilities_out[:, z]
            part = progress and _part_of(progress, z, opened.sections)
            decided.append(self._decide_plane(opened.section, frame.section(z), plane, part))
        return decided

    def finish(self, opened: ImageSelection, frame: Frame, decided: Any) -> FrameResult:
        """Turn decisions into cells or classes at the image's own size."""
        if not opened.in_sections:
            finished = self._without_unknown(self.decoder.finish(decided, opened), frame)
            record = self._describe(opened, frame, finished)
            return FrameResult(finished.labels, record, frame.scaling, finished.objects)
        finished = stack_sections(
            [self.decoder.finish(section, opened.section) for section in decided],
            opened.settings.link,
            are_cells=self.target.masks == "instances",
        )
        finished = self._without_unknown(finished, frame)
        record = self._describe(opened, frame, finished)
        return FrameResult(finished.labels, record, frame.scaling, finished.objects)

    def _without_unknown(self, finished: Finished, frame: Frame) -> Finished:
        if frame.unknown is None or not frame.unknown.unknown:
            return finished
        return without_unknown(finished, frame.unknown.mask, are_cells=self.target.masks == "instances")

    def _decide_plane(
        self,
        opened: ImageSelection,
        frame: Frame,
        probabilities_out: NDArray[np.float32] | None,
        progress: Progress | None,
    ) -> Any:
        """Decisions for one input of the model: an image, a section or a stack."""
        if frame.is_constant:
            if progress is not None:
                progress(math.prod(opened.grid), math.prod(opened.grid))
            if probabilities_out is not None:
                probabilities_out[...] = 0
                probabilities_out[0] = 1
            return self.decoder.decide_constant(opened)
        return self.decoder.decide(
            frame.image,
            opened,
            tile=self.tile,
            memory_budget=self.memory_budget,
            probabilities_out=probabilities_out,
            progress=progress,
        )

    def versions(self) -> dict[str, str]:
        """Versions of the packages that can change a mask."""
        return versions(packages(self.backend))

    def run_record(self, opened: ImageSelection, scalings: Sequence[Scaling]) -> dict[str, Any]:
        """Entries of the provenance for a run, apart from the settings."""
        return {
            "device": str(self.device),
            **({} if self.backend == DEFAULT else {"backend": self.backend}),
            # The CRF links all pixels, so its decisions cannot be refined in float64.
            "exact": self.is_exact and opened.settings.crf is None,
            "channels": list(opened.channels),
            "zoom": list(opened.zoom),
            "grid": list(opened.grid),
            **self._tiling(opened.section.grid),
            **self.decoder.run_record(opened),
            "scaling": [{"low": list(scaling.low), "high": list(scaling.high)} for scaling in scalings],
        }

    def plan(self, grid: tuple[int, ...]) -> TilePlan:
        """Tiles of an image of this size, or of a section of it."""
        if grid not in self._plans:
            plan = prediction.plan(grid, self.decoder.runner, tile=self.tile, memory_budget=self.memory_budget)
            self._plans[grid] = plan
        return self._plans[grid]

    def _tiling(self, grid: tuple[int, ...]) -> dict[str, Any]:
        if self.is_exact:
            return {"tile": list(self.plan(grid).tile_shape)}
        return {"window": list(window_shape(self.decoder.runner, grid, self.tile)), "overlap": OVERLAP}

    def _describe(self, opened: ImageSelection, frame: Frame, finished: Finished) -> FrameRecord:
        record = self.decoder.describe(finished, frame.t)
        if opened.in_sections and record.median_diameter_px is not None:
            record = record.model_copy(update={"median_diameter_px": median_diameter_in_sections(finished.labels)})
        warnings = ["constant"] if frame.is_constant else []
        if opened.image.series_count > 1 and opened.settings.series is None:
            warnings.append("more_series")
        if lost := opened.image.not_stored:
            warnings.append(f"not_stored:{lost.chunks}/{lost.total}")
        if frame.unknown is not None:
            warnings += [f"filled:{frame.unknown.filled}"] if frame.unknown.filled else []
            warnings += [f"unknown:{frame.unknown.unknown}"] if frame.unknown.unknown else []
        if _is_saturated(frame.raw) and not frame.is_constant:
            warnings.append("saturated")
        if record.median_diameter_px is not None and self.info.cell_diameter_px is not None:
            zoom = math.prod(opened.section.zoom) ** (1 / self.ndim)
            ratio = record.median_diameter_px * zoom / self.info.cell_diameter_px
            if not TRAINED_DIAMETERS[0] <= ratio <= TRAINED_DIAMETERS[1]:
                warnings.append("outside_training_range")
        return record.model_copy(update={"warnings": (*record.warnings, *warnings)})


def segment(
    image: str | os.PathLike[str] | NDArray[np.generic],
    model: str | os.PathLike[str] | Model = "nuclei",
    *,
    channel: str | int | Sequence[str | int] = (),
    normalize: str | Normalization = "auto",
    device: str = "auto",
    tile: int | None = None,
    exact_tiles: bool = False,
    backend: str = DEFAULT,
    progress: Progress | None = None,
    cancel: Callable[[], bool] | None = None,
    **options: Unpack[SegmentOptions],
) -> tuple[Mask, Segmentation]:
    """Segment one image, as the command ``unetbio segment`` does.

    Parameters
    ----------
    image : path or array
        A file, or grey values: ``(Y, X)``, or with more axes and ``axes="CYX"`` or the like. A ``(Z, Y, X)`` array
        needs no ``axes`` if the model is 3-D.
    model : str, path or Model
        Name of a shipped model, model file, or a loaded model.
    channel : str, int or sequence of them
        Name or number (from 0) of the channel, or of each if the model takes several.
    normalize : str or Normalization
        ``auto`` (the model's), ``p1,p99.8`` (percentiles), ``0,4095`` (grey values), ``none``.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    tile : int, optional
        Output pixels of a tile; the result does not depend on it, unless ``info["run"]["exact"]`` is False.
    exact_tiles : bool
        Tile exactly even if the context is above 256 pixels a side, which takes longer.
    backend : str
        Name of the library that runs the network: `unetbio.inference.backends.base.names`.
    progress : callable, optional
        Called in this thread with the pixels done and the pixels in all, after each tile and window: pixels that the
        network sees, of all sections and time points.
    cancel : callable, optional
        Called at the start and after each tile and window; True stops the work. Example: ``threading.Event().is_set``.
    **options
        Options of the command by their names: ``series, t, z, axes, pixel_size, diameter, threshold, min_area,
        max_area, exclude_border, crf, link``, and for a model of classes ``classes``.

    Returns
    -------
    labels : ndarray of uint16 or uint32, for a model of classes of uint8
        ``(Y, X)``, or ``(Z, Y, X)`` of a 3-D model and with ``z="each"``; of a time-lapse with a first axis T; 0 is
        background, ids rise in raster order.
        Classes have the numbers of ``info["run"]["class_names"]``.
    info : Segmentation
        Model, settings, frames (cells, diameter, warnings a frame; ``confidences``: the mean probability of each cell),
        ``n_cells`` (None for classes), ``label_hash``, versions. Of a model that finds objects ``objects``: the table
        of each frame, columns by name.

    Raises
    ------
    UsageError, ImageError
        When the options or the image do not fit the model.
    TypeError
        When an option is unknown.
    CancelledError
        When ``cancel`` returns True; no file is left behind.
    """
    segmenter = _segmenter_of(model, device, tile, exact_tiles, backend)
    channels = (channel,) if isinstance(channel, (str, int)) else tuple(channel)
    chosen = normalize if isinstance(normalize, Normalization) else parse(normalize, None)
    automatic = normalize == "auto"
    named = {"channel": channels, "normalization": None if automatic else chosen}
    settings = from_keywords("segment", Settings, options, **named)
    record = segmenter.record(settings)
    opened = segmenter.open(_as_source(image, settings, segmenter.ndim), settings)
    report = _cancellable(progress, cancel)
    results = []
    for number, t in enumerate(opened.times):
        frame = segmenter.read_frame(opened, t)
        decided = segmenter.decide(opened, frame, progress=_part_of(report, number, len(opened.times)))
        results.append(segmenter.finish(opened, frame, decided))
    labels = stack_frames([result.label_image for result in results], opened)
    info: Segmentation = {
        "model": {"name": segmenter.info.name, "sha256": segmenter.model.sha256},
        "settings": record,
        "frames": [result.record.model_dump() for result in results],
        "n_cells": count_cells(result.record for result in results),
        "label_hash": label_hash(labels),
        "axes": opened.label_axes,
        "run": segmenter.run_record(opened, [result.scaling for result in results]),
        "versions": segmenter.versions(),
    }
    if not segmenter.decoder.has_probabilities:
        info["objects"] = [result.objects for result in results]
    return labels, info


def stack_frames(frames: Sequence[NDArray[Any]], opened: ImageSelection) -> NDArray[Any]:
    """One label image of all frames: the frame itself, or ``(T, *spatial)`` in the widest dtype among them."""
    return np.stack(frames) if len(opened.times) > 1 else frames[0]


def _part_of(progress: Progress, number: int, count: int) -> Progress:
    """Progress of one of ``count`` equal parts, the ``number``-th from 0."""
    return lambda done, total: progress(number * total + done, count * total)


def _cancellable(progress: Progress | None, cancel: Callable[[], bool] | None) -> Progress:
    """Progress that ends the work when ``cancel`` returns True; it is called once at the start."""

    def check() -> None:
        if cancel is not None and cancel():
            raise CancelledError("the segmentation was cancelled")

    def report(done: int, total: int) -> None:
        check()
        if progress is not None:
            progress(done, total)

    check()
    return report


def _as_source(image: Any, settings: Settings, ndim: int) -> Any:
    if isinstance(image, (str, os.PathLike)):
        return image
    array = np.asarray(image)
    axes = settings.axes or {2: "YX", 3: "ZYX" if ndim == 3 else None}.get(array.ndim)
    if axes is None:
        raise ImageError("unknown_axes", f"an array of shape {array.shape}: say what its axes are, such as axes='CYX'")
    return image_of_array(array, axes)


def _is_tiled_exactly(info: ModelInfo, *, requested: bool) -> bool:
    architecture = networks.find(info.architecture)
    parameters = info.network_parameters()
    if requested and not architecture.exact(parameters):
        raise UsageError(
            f"model {info.name} cannot be tiled exactly: the result of {info.architecture} depends on its windows; "
            "leave out --exact-tiles"
        )
    return requested or architecture.is_tiled_exactly(parameters)


def _segmenter_of(
    model: str | os.PathLike[str] | Model, device: str, tile: int | None, exact: bool, backend: str
) -> Segmenter:
    if isinstance(model, Model):
        return Segmenter(model, device, tile=tile, exact=exact, backend=backend)
    path = model_path(model)
    stat = path.stat()
    return _cached_segmenter(path, (stat.st_size, stat.st_mtime_ns), device, tile, exact, backend)


@functools.lru_cache(maxsize=2)
def _cached_segmenter(
    path: Path, stamp: tuple[int, int], device: str, tile: int | None, exact: bool, backend: str
) -> Segmenter:
    # In a loop over images the model is read once; a file that was replaced has another stamp.
    return Segmenter(load_model(path), device, tile=tile, exact=exact, backend=backend)


def _is_saturated(raw: NDArray[Any]) -> bool:
    if raw.dtype.kind not in "ui":
        return False
    for channel in raw:
        highest = int(channel.max())
        # Counting takes longer than looking at the highest value, which is rarely one of these.
        if highest in FULL_SCALE and is_saturated(highest, int(np.count_nonzero(channel == highest)), channel.size):
            return True
    return False
