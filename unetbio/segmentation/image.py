"""One image from its pixels to its label image or class mask."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import CancelledError, ImageError, UsageError
from unetbio.inference.backends.base import AUTO
from unetbio.inference.executors import Progress, part_of
from unetbio.io.arrays import image_of_array
from unetbio.io.image import Image
from unetbio.io.remote import is_address, name_of
from unetbio.labels import Mask, label_hash
from unetbio.models import DEFAULT_MODEL
from unetbio.models.model_file import Model, load_model
from unetbio.models.precision import find_model
from unetbio.postprocessing.objects import ObjectTable
from unetbio.preprocessing.drawn_regions import read_regions
from unetbio.preprocessing.selection import ImageSelection
from unetbio.provenance import count_cells
from unetbio.segmentation.segmenter import Segmenter
from unetbio.settings.keywords import SegmentOptions
from unetbio.settings.normalization import Normalization, parse
from unetbio.settings.options import from_keywords
from unetbio.settings.segmentation import Settings
from unetbio.settings.values import Precision

__all__ = ["ModelName", "Segmentation", "open_to_segment", "segment", "segment_opened", "stack_frames"]


class ModelName(TypedDict):
    """Model of a segmentation: its name, and the SHA-256 of its file."""

    name: str
    sha256: str


class Segmentation(TypedDict):
    """Provenance and tables of a label image from `segment`.

    ``settings`` and ``run`` are those of the provenance (docs/results.md), ``frames`` the rows of ``summary.csv``,
    ``objects`` the tables of a model that finds objects or classes of cells: columns by name, one table a frame.
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


def segment(
    image: str | os.PathLike[str] | NDArray[np.generic] | Image,
    model: str | os.PathLike[str] | Model = DEFAULT_MODEL,
    *,
    channel: str | int | Sequence[str | int] = (),
    normalize: str | Normalization = "auto",
    device: str = "auto",
    tile: int | None = None,
    exact_tiles: bool = False,
    backend: str = AUTO,
    progress: Progress | None = None,
    cancel: Callable[[], bool] | None = None,
    **options: Unpack[SegmentOptions],
) -> tuple[Mask, Segmentation]:
    """Segment one image, as the command ``unetbio segment`` does.

    Parameters
    ----------
    image : path, array or Image
        A file, an opened image, or grey values: ``(Y, X)``, or with more axes and ``axes="CYX"`` or the like. A
        ``(Z, Y, X)`` array needs no ``axes`` if the model is 3-D.
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
        Library that runs the network: auto, or a name of `unetbio.inference.backends.base.names`.
    progress : callable, optional
        Called in this thread with the pixels done and the pixels in all, after each tile and window: pixels that the
        network sees, of all sections and time points.
    cancel : callable, optional
        Called at the start and after each tile and window; True stops the work. Example: ``threading.Event().is_set``.
    **options
        Options of the command by their names: ``channel_names, series, t, z, axes, partial, level, region, tissue,
        pixel_size, diameter, threshold, min_area, max_area, min_certain, exclude_border, crf, crf_settings, link,
        augment, ensemble, precision, nan``, and for a model of classes ``classes``.

    Returns
    -------
    labels : ndarray of uint16 or uint32, for a model of classes of uint8
        ``(Y, X)``, or ``(Z, Y, X)`` of a 3-D model and with ``z="each"``; of a time-lapse with a first axis T; 0 is
        background, ids rise in raster order.
        Classes have the numbers of ``info["run"]["class_names"]``.
    info : Segmentation
        Model, settings, frames (cells, diameter, warnings a frame; ``confidences``: the mean probability of each cell),
        ``n_cells`` (None for classes), ``label_hash``, versions. Of a model that finds objects, or classes of cells,
        ``objects``: the table of each frame, columns by name.

    Raises
    ------
    UsageError, ImageError
        When the options or the image do not fit the model.
    TypeError
        When an option is unknown.
    CancelledError
        When ``cancel`` returns True; no file is left behind.
    """
    _refuse_choices_of_a_file(image, options)
    with _named(image):
        segmenter, opened = open_to_segment(
            image,
            model,
            channel=channel,
            normalize=normalize,
            device=device,
            tile=tile,
            exact_tiles=exact_tiles,
            backend=backend,
            **options,
        )
        return segment_opened(segmenter, opened, progress=progress, cancel=cancel)


@contextlib.contextmanager
def _named(image: Any) -> Iterator[None]:
    """Put its path in front of what is wrong with an image, as the commands do: a loop has many."""
    try:
        yield
    except ImageError as error:
        if not isinstance(image, (str, os.PathLike)):
            raise
        # An address may hold a password.
        name = name_of(os.fspath(image)) if is_address(image) else os.fspath(image)
        raise ImageError(error.reason, f"{name}: {error}") from error


def _refuse_choices_of_a_file(image: Any, options: SegmentOptions) -> None:
    """Refuse to choose what was chosen when the image was opened: it would be recorded, and change nothing."""
    if isinstance(image, Image) and (options.get("series") is not None or options.get("axes") is not None):
        raise UsageError("the image is open already: give series and axes to read_image")
    if not isinstance(image, (str, os.PathLike)) and options.get("series") is not None:
        raise UsageError("an array is one image: leave out series")


def open_to_segment(
    image: str | os.PathLike[str] | NDArray[np.generic] | Image,
    model: str | os.PathLike[str] | Model,
    *,
    channel: str | int | Sequence[str | int] = (),
    normalize: str | Normalization = "auto",
    device: str = "auto",
    tile: int | None = None,
    exact_tiles: bool = False,
    backend: str = AUTO,
    **options: Unpack[SegmentOptions],
) -> tuple[Segmenter, ImageSelection]:
    """The model on its device, and the image, whose pixels are not read; arguments and errors as of `segment`."""
    chosen = normalize if isinstance(normalize, Normalization) else parse(normalize)
    settings = _with_regions(from_keywords("segment", Settings, options, channel=channel, normalization=chosen))
    segmenter = _segmenter_of(model, device, tile, exact_tiles, backend, settings)
    segmenter.record(settings)
    return segmenter, segmenter.open(_as_source(image, settings, segmenter.ndim), settings)


def segment_opened(
    segmenter: Segmenter,
    opened: ImageSelection,
    *,
    progress: Progress | None = None,
    cancel: Callable[[], bool] | None = None,
) -> tuple[Any, Segmentation]:
    """Segment what `open_to_segment` opened; the label image of one that is streamed is on disk."""
    record = segmenter.record(opened.settings)
    report = _cancellable(progress, cancel)
    results = []
    for number, t in enumerate(opened.times):
        frame = segmenter.read_frame(opened, t)
        made = segmenter.decide_frame(opened, frame, progress=part_of(report, number, len(opened.times)))
        # The scale of the first frame is that of all.
        opened = made.opened
        results.append(segmenter.finish(opened, made.frame, made.decided))
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
    if any(result.objects is not None for result in results):
        info["objects"] = [result.objects for result in results]
    return labels, info


def _with_regions(settings: Settings) -> Settings:
    """Settings that hold the regions of files, as the provenance needs them."""
    return replace(settings, region=tuple(str(given.region) for given in read_regions(settings.region)))


def stack_frames(frames: Sequence[NDArray[Any]], opened: ImageSelection) -> NDArray[Any]:
    """One label image of all frames: the frame itself, or ``(T, *spatial)`` in the widest dtype among them."""
    return np.stack(frames) if len(opened.times) > 1 else frames[0]


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
    if isinstance(image, (str, os.PathLike, Image)):
        return image
    array = np.asarray(image)
    axes = settings.axes or {2: "YX", 3: "ZYX" if ndim == 3 else None}.get(array.ndim)
    if axes is None:
        raise ImageError("unknown_axes", f"an array of shape {array.shape}: say what its axes are, such as axes='CYX'")
    return image_of_array(array, axes)


_File = tuple[Path, int, int]
"""A model file, its size and the time of its last change: a file that was replaced is another one."""


def _segmenter_of(
    model: str | os.PathLike[str] | Model, device: str, tile: int | None, exact: bool, backend: str, settings: Settings
) -> Segmenter:
    precision = settings.precision
    others = tuple(_file(other, precision) for other in settings.ensemble)
    chosen = model if isinstance(model, Model) else _file(model, precision)
    make = _segmenter if isinstance(chosen, Model) else _cached_segmenter
    return make(chosen, others, device, tile, exact, backend, settings.augment, precision)


def _file(model: str | os.PathLike[str], precision: Precision | None) -> _File:
    path = find_model(model, precision)
    stat = path.stat()
    return path, stat.st_size, stat.st_mtime_ns


def _segmenter(
    model: Model | _File,
    others: tuple[_File, ...],
    device: str,
    tile: int | None,
    exact: bool,
    backend: str,
    augment: bool,
    precision: Precision | None,
) -> Segmenter:
    return Segmenter(
        model if isinstance(model, Model) else load_model(model[0]),
        device,
        tile=tile,
        exact=exact,
        backend=backend,
        augment=augment,
        ensemble=[load_model(path) for path, *_ in others],
        precision=precision,
    )


_cached_segmenter = functools.lru_cache(maxsize=2)(_segmenter)
"""In a loop over images the models are read once."""
