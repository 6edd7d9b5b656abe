"""Steps of a segmentation, which a batch runs in parallel.

`Segmenter.open` -> `Segmenter.read_frame` (reading, numpy) -> `Segmenter.decide_frame` (the network) ->
`Segmenter.finish` (numba). `segment` runs all of them in turn. The `unetbio.targets.Target` of a model interprets the
output of its network.
"""

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio import networks, targets
from unetbio.errors import UsageError
from unetbio.inference import prediction
from unetbio.inference.backends.base import AUTO, BFLOAT16, DEFAULT, FLOAT32, choose_device, packages
from unetbio.inference.executors import Progress, part_of, repeated
from unetbio.inference.sliding_window import OVERLAP, window_shape
from unetbio.inference.tiling import TilePlan
from unetbio.io.grey_pictures import COLOURS
from unetbio.io.image import Image
from unetbio.measurement.frame_summary import median_diameter_in_sections
from unetbio.models.model_file import Model, ModelInfo
from unetbio.models.precision import check_precision, device_for
from unetbio.postprocessing.bands import Allocate
from unetbio.postprocessing.objects import ObjectTable
from unetbio.preprocessing.areas import count_pixels
from unetbio.preprocessing.lazy import Streaming
from unetbio.preprocessing.normalization import Scaling, for_picture
from unetbio.preprocessing.prepare import can_stream, open_image, prepare_frame, read_frame
from unetbio.preprocessing.selection import Frame, ImageSelection
from unetbio.provenance import FrameRecord, versions
from unetbio.scale.search import Found, find_scale
from unetbio.segmentation.ensemble import check_ensemble, check_windows, describe_member
from unetbio.segmentation.frame_warnings import frame_warnings
from unetbio.segmentation.sections import stack_sections
from unetbio.segmentation.unknown_pixels import without_unknown
from unetbio.settings.segmentation import Settings
from unetbio.settings.values import Precision
from unetbio.targets.base import Decoder, Finished
from unetbio.targets.cells import CellDecoder
from unetbio.targets.pixels import PixelDecoder

__all__ = ["BYTES_IN_BAND", "DecidedFrame", "FrameResult", "Segmenter"]

logger = logging.getLogger("unetbio.segmentation")

BYTES_IN_BAND = 48
"""Memory of a pixel in a band of a streamed image, while cells are found and measured."""


@dataclass(frozen=True)
class DecidedFrame:
    """A frame with the decisions of the network, all at the scale of ``opened``.

    Where they were asked for, ``probabilities`` are ``(K, *grid)``.
    """

    opened: ImageSelection
    frame: Frame
    decided: Any
    probabilities: NDArray[np.float32] | None


@dataclass(frozen=True)
class FrameResult:
    """Cells or classes of one frame, at the image's own size, with their rows of the tables.

    Where the model finds objects, or the class of each cell, ``objects`` is their table.
    """

    label_image: NDArray[Any]
    record: FrameRecord
    scaling: Scaling
    objects: ObjectTable | None = None


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
        Most bytes of feature maps of a tile on the CPU; the backend's own limit counts where it is lower.
    exact : bool
        Tile exactly even if the context is above 256 pixels a side, which takes longer.
    backend : str
        Library that runs the network: auto, or a name of `unetbio.inference.backends.base.names`.
    augment : bool
        Average the probabilities over mirrored and turned images.
    ensemble : sequence of Model
        Models whose probabilities are averaged with those of ``model``.
    precision : {"float32", "int8", "bfloat16"}, optional
        Numbers that the network computes with; by default those of the model.

    Attributes
    ----------
    target : Target
        Target that the model learned.
    asked_precision : {"float32", "int8", "bfloat16"} or None
        The argument, which holds for each model of an ensemble; ``precision`` is that of ``model``.
    is_exact : bool
        Whether tiles see all that their pixels depend on; if not, windows overlap. In bfloat16 they may change
        decisions all the same.
    worker_devices : list of str
        Devices of the workers that compute the tiles, where it is not this process.

    Raises
    ------
    UsageError
        When ``exact`` is True for a network that cannot be tiled exactly, the backend cannot run it or not in this
        precision, or the models cannot be averaged.
    """

    def __init__(
        self,
        model: Model,
        device: str = "auto",
        *,
        tile: int | None = None,
        memory_budget: int | None = None,
        exact: bool = False,
        backend: str = AUTO,
        augment: bool = False,
        ensemble: Sequence[Model] = (),
        precision: Precision | None = None,
    ) -> None:
        check_ensemble(model, ensemble)
        infos = [each.info for each in (model, *ensemble)]
        for info in infos:
            check_precision(info, precision)
        self.model = model
        self.ensemble = tuple(ensemble)
        self.augment = augment
        self.info = model.info
        self.asked_precision = precision
        self.precision: Precision = "int8" if model.info.is_integer else precision or "float32"
        self.backend = _suited_backend(model.info) if backend == AUTO else backend
        self.device, self.device_reason = choose_device(device_for(infos, device), self.backend)
        self.is_exact = _is_tiled_exactly(model.info, requested=exact)
        self.target = targets.of_model(model.info)
        self.decoder = self._decoder(model)
        if augment or ensemble:
            self._average(augment=augment)
        self.worker_devices: list[str] = []
        self.tile = tile
        self.memory_budget = self._tile_budget(memory_budget)
        self.ndim = self.decoder.runner.geometry.ndim
        # A 2-D model of cells that knows their diameter can find the scale of an image.
        knows_size = self.ndim == 2 and model.info.cell_diameter_px is not None
        self.looker = self.decoder if knows_size and isinstance(self.decoder, CellDecoder) else None
        # Images of a batch often have one size, so its cheapest tiles are cached.
        self._plans: dict[tuple[int, ...], TilePlan] = {}

    def _decoder(self, model: Model) -> Decoder:
        # The network of a model in integers knows by itself what it computes with.
        precision = BFLOAT16 if self.precision == BFLOAT16 else FLOAT32
        return self.target.decoder(
            model.info, model.network, self.device, exact=self.is_exact, backend=self.backend, precision=precision
        )

    def _average(self, *, augment: bool) -> None:
        if not isinstance(self.decoder, PixelDecoder):
            raise UsageError(
                f"model {self.info.name} finds objects and has no probabilities to average: leave out --augment and "
                "--ensemble"
            )
        decoders = map(self._decoder, self.ensemble)
        others = [decoder.runner for decoder in decoders if isinstance(decoder, PixelDecoder)]
        check_windows(self.model, self.ensemble, [self.decoder.runner, *others])
        self.decoder.average(others, augment=augment)

    def _tile_budget(self, most: int | None) -> int | None:
        own = self.decoder.runner.memory_budget
        # Networks in which rounding decides compute on the CPU, whatever the device.
        on_cpu = any(networks.needs_float64(each.network) for each in (self.model, *self.ensemble))
        return min(most, own) if most is not None and (on_cpu or self.device.type == "cpu") else None

    def record(self, settings: Settings) -> dict[str, Any]:
        """Values that change the result, apart from image and weights; for the provenance and for resuming.

        Raises
        ------
        UsageError
            When settings and model do not go together.
        """
        count = len(self.info.channels)
        if settings.channel and len(settings.channel) != count:
            named = f" ({', '.join(self.info.channels)})" if all(self.info.channels) else ""
            raise UsageError(
                f"--channel is given {_times(len(settings.channel))}, model {self.info.name} takes "
                f"{count} channel{'s' if count > 1 else ''}{named}: give --channel {_times(count)}"
            )
        if settings.crf is not None and self.ndim != 2:
            raise UsageError(f"the CRF is for planes, and model {self.info.name} is 3-D: leave out --crf")
        if isinstance(settings.diameter_px, (int, float)) and self.info.cell_diameter_px is None:
            raise UsageError(f"model {self.info.name} does not say how large its cells are: leave out --diameter")
        # The size of blended windows changes the result; without a tile it is the model's.
        window = None if self.is_exact else self.tile
        if settings.link is not None and self.target.masks != "instances":
            raise UsageError(f"model {self.info.name} segments classes, which are not linked: leave out --link")
        if self.looker is None and settings.finds_scale:
            settings = replace(settings, diameter_px="model")
        ensemble = {"ensemble": [model.sha256 for model in self.ensemble]} if self.ensemble else {}
        return {
            **self.decoder.record(settings),
            **self._asked(settings),
            **ensemble,
            "exact_tiles": self.is_exact,
            "window": window,
        }

    def _asked(self, settings: Settings) -> dict[str, str]:
        """Whether the model's own normalization was asked for, where it is not that of a colour picture by default."""
        own = self.info.normalization
        # Not recorded elsewhere, where it changes nothing, so that earlier results are reused.
        differs = len(self.info.channels) == len(COLOURS) and for_picture(own, np.uint8, COLOURS) != own
        return {"normalize": f"p{own.low:g},p{own.high:g}"} if differs and settings.normalization == own else {}

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
        opened = open_image(source, settings, self.info, self.ndim)
        opened = replace(opened, finds_scale=opened.finds_scale and self.looker is not None)
        if not opened.finds_scale:
            # Before anything is read
            self.decoder.check_limits(opened)
        return opened

    def streamed(self, opened: ImageSelection, allocate: Allocate, memory: int) -> ImageSelection:
        """Segment an image in parts, of which each takes about so many bytes of ``memory``, where that is possible.

        The cells are the same. It is possible for models of cells with exact tiles, and some images:
        `unetbio.preprocessing.prepare.can_stream`.
        """
        decides_in_parts = isinstance(self.decoder, CellDecoder) and self.decoder.streams
        is_possible = decides_in_parts and self.is_exact and opened.settings.crf is None
        if not is_possible or not can_stream(opened, self.info.normalization):
            return opened
        return replace(opened, streaming=Streaming(memory // BYTES_IN_BAND, allocate))

    def read_frame(self, opened: ImageSelection, t: int | None) -> Frame:
        """Read, rescale and normalize one frame; see `unetbio.preprocessing.prepare.read_frame`."""
        return read_frame(opened, t, self.info.normalization)

    def decide_frame(
        self,
        opened: ImageSelection,
        frame: Frame,
        *,
        with_probabilities: bool = False,
        progress: Progress | None = None,
    ) -> DecidedFrame:
        """Run the network over a frame, at the scale of the image; it is found first where it is not known.

        Parameters
        ----------
        opened, frame
            As read; a frame that was read at another scale is rescaled again.
        with_probabilities : bool
            Keep the probabilities of all pixels.
        progress : callable, optional
            As for `decide`. Where another scale is found than that of ``opened``, all pixels count as done meanwhile.
        """
        probabilities = self._room(opened) if with_probabilities else None
        first = None
        if self.looker is not None and opened.finds_scale and not frame.is_constant:
            found = self._find_scale(self.looker, opened, frame, probabilities, progress)
            opened, first = found.opened, found.plane
            if first is None:
                probabilities = self._room(opened) if with_probabilities else None
                progress = progress and repeated(progress, math.prod(frame.image.shape[1:]))
        if frame.image.shape[1:] != opened.grid:
            automatic = self.info.normalization
            frame = prepare_frame(opened, frame.t, frame.raw, automatic, frame.unknown, frame.counted)
        decided = self.decide(opened, frame, probabilities_out=probabilities, progress=progress, first=first)
        return DecidedFrame(opened, frame, decided, probabilities)

    def decide(
        self,
        opened: ImageSelection,
        frame: Frame,
        *,
        probabilities_out: NDArray[np.float32] | None = None,
        progress: Progress | None = None,
        first: Any = None,
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
        first : optional
            Decisions that are made already: of the frame, or of the section in the middle of a stack.
        """
        if not opened.in_sections:
            return self._decide_plane(opened, frame, probabilities_out, progress) if first is None else first
        decided = [first if z == opened.middle else None for z in range(opened.sections)]
        left = [z for z, section in enumerate(decided) if section is None]
        for number, z in enumerate(left, start=opened.sections - len(left)):
            plane = None if probabilities_out is None else probabilities_out[:, z]
            part = progress and part_of(progress, number, opened.sections)
            decided[z] = self._decide_plane(opened.section, frame.section(z), plane, part)
        return decided

    def _find_scale(
        self,
        looker: CellDecoder,
        opened: ImageSelection,
        frame: Frame,
        probabilities_out: NDArray[np.float32] | None,
        progress: Progress | None,
    ) -> Found:
        """Look at the frame, or at the section in the middle of a stack."""
        if opened.in_sections:
            probabilities_out = None if probabilities_out is None else probabilities_out[:, opened.middle]
            progress = progress and part_of(progress, 0, opened.sections)
        return find_scale(
            looker,
            opened,
            frame,
            self.info.normalization,
            tile=self.tile,
            memory_budget=self.memory_budget,
            probabilities_out=probabilities_out,
            progress=progress,
        )

    def _room(self, opened: ImageSelection) -> NDArray[np.float32]:
        return np.empty((len(self.info.class_names), *opened.grid), np.float32)

    def finish(self, opened: ImageSelection, frame: Frame, decided: Any) -> FrameResult:
        """Turn decisions into cells or classes at the image's own size."""
        if opened.damage is not None:
            opened.damage.complete()
        unknown = None if frame.unknown is None else frame.unknown.mask
        if opened.in_sections:
            planes = unknown if unknown is not None else [None] * len(decided)
            finished = stack_sections(
                [self._finish_plane(opened.section, *section) for section in zip(decided, planes, strict=True)],
                opened.settings.link,
                are_cells=self.target.masks == "instances",
                first_section=opened.first_section,
            )
        else:
            finished = self._finish_plane(opened, decided, unknown)
        record = self._describe(opened, frame, finished)
        return FrameResult(finished.labels, record, frame.scaling, finished.table(self.info.class_names))

    def _finish_plane(self, opened: ImageSelection, decided: Any, unknown: NDArray[np.bool_] | None) -> Finished:
        """Cells or classes of one input of the model: an image, a section or a stack."""
        finished = self.decoder.finish(decided, opened)
        if unknown is None or not unknown.any():
            return finished
        return without_unknown(
            finished,
            unknown,
            are_cells=self.target.masks == "instances",
            smallest_area=self.decoder.smallest_area(opened),
        )

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
            **({"workers": self.worker_devices} if self.worker_devices else {}),
            **({} if self.backend == DEFAULT else {"backend": self.backend}),
            **({} if self.precision == FLOAT32 else {"precision": self.precision}),
            **({"ensemble": list(map(describe_member, self.ensemble))} if self.ensemble else {}),
            # The CRF links all pixels, so its decisions cannot be refined in float64; those in bfloat16 are not.
            "exact": self.is_exact and self.precision != BFLOAT16 and opened.settings.crf is None,
            "channels": list(opened.channels),
            "zoom": list(opened.zoom),
            "grid": list(opened.grid),
            **({} if opened.scale is None else {"scale": opened.scale.as_record()}),
            **self._area_record(opened),
            **({"damaged": list(map(list, damaged))} if (damaged := opened.damaged_boxes) else {}),
            **({} if (kept := opened.kept_sections) is None else {"partial": [kept.start, kept.stop]}),
            **self._tiling(opened.section.grid),
            **self.decoder.run_record(opened),
            "scaling": [scaling.as_record() for scaling in scalings],
        }

    @staticmethod
    def _area_record(opened: ImageSelection) -> dict[str, Any]:
        """Pixels of the plane that were segmented, and how many were left out."""
        area = opened.area or opened.tissue
        if area is None:
            return {}
        pixels = count_pixels(area, opened.shape)
        found = {} if opened.tissue is None else {"tissue_above": opened.tissue.threshold}
        return {"area": {"pixels": pixels, "left_out": math.prod(opened.shape[-2:]) - pixels, **found}}

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
        warnings = frame_warnings(opened, frame, record, self.info)
        zoom = round(opened.zoom[-1], 4)
        return record.model_copy(update={"zoom": zoom, "warnings": (*record.warnings, *warnings)})


def _suited_backend(info: ModelInfo) -> str:
    """ONNX Runtime for models in integers: it computes the same bits as PyTorch, faster."""
    if not info.is_integer:
        return DEFAULT
    if all(find_spec(package) for package in packages("onnx")):
        return "onnx"
    logger.warning('%s is in integers, which ONNX Runtime computes faster: pip install "unetbio[onnx]"', info.name)
    return DEFAULT


def _is_tiled_exactly(info: ModelInfo, *, requested: bool) -> bool:
    architecture = networks.find(info.architecture)
    parameters = info.network_parameters()
    if requested and not architecture.exact(parameters):
        raise UsageError(
            f"model {info.name} cannot be tiled exactly: the result of {info.architecture} depends on its windows; "
            "leave out --exact-tiles"
        )
    return requested or architecture.is_tiled_exactly(parameters)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
