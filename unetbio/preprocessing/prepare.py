"""Prepare an image for a network: pick axes and channels, rescale, normalize."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.io import read_image
from unetbio.io.grey_pictures import as_grey, is_opaque_picture
from unetbio.io.image import Image, list_channels, select_channel, with_channel_names
from unetbio.io.list_images import find_series
from unetbio.io.tolerant import without_damage
from unetbio.notes import say_once, say_without_effect
from unetbio.preprocessing import normalization
from unetbio.preprocessing.areas import CELL_REACH
from unetbio.preprocessing.grey_values import GreyLevels, LevelCounter, count_channels, is_counted
from unetbio.preprocessing.lazy import LazyInput, LazyPixels
from unetbio.preprocessing.parts import area_of, full_pixels, select_part
from unetbio.preprocessing.rescaling import RescaledPixels, rescale
from unetbio.preprocessing.selection import Frame, ImageSelection
from unetbio.preprocessing.tissue import TissueArea, find_tissue
from unetbio.preprocessing.unknown_pixels import UnknownPixels
from unetbio.preprocessing.whole_part import whole_part
from unetbio.settings.normalization import Normalization
from unetbio.settings.segmentation import Settings
from unetbio.settings.values import PixelSize

if TYPE_CHECKING:
    from unetbio.models.model_file import ModelInfo

__all__ = [
    "at_scale_of",
    "automatic_scaling",
    "can_stream",
    "chosen_normalization",
    "complete_pixel_size",
    "open_annotated",
    "open_image",
    "prepare_frame",
    "read_frame",
    "rescale_frame",
    "series_number",
    "with_pixel_size",
]

# Smaller zooms are skipped: interpolation would cost more sharpness than the scale gains.
ZOOM_TOLERANCE = 0.02
COLOUR_CHANNELS = 3

# Beyond these, a pixel size or a diameter is a mistake (metres for micrometres, a radius in another unit).
ZOOM_LIMITS = (1 / 32, 32.0)


def open_image(
    source: str | os.PathLike[str] | Image, settings: Settings, info: "ModelInfo", ndim: int
) -> ImageSelection:
    """Read the metadata of an image and select frames, axes and channels.

    Parameters
    ----------
    source : path or Image
        The image.
    settings : Settings
        Of this image.
    info : ModelInfo
        Of the model: its channels, pixel size and cell diameter.
    ndim : {2, 3}
        Spatial axes of the model.

    Raises
    ------
    ImageError
        When the file is not an image, or when its axes, channels or scale do not fit the model and the settings.
    """
    whole = _opened(source, settings)
    image = select_part(whole, settings, info)
    damage = None
    # Frames of a time-lapse would lack other parts, and one that lacks a frame is no better.
    if settings.partial and (image.size("T") == 1 or settings.t is not None):
        image, damage = without_damage(image)
    chosen = _select(image, settings, ndim, len(info.channels))
    area, tissue = area_of(image, settings), _tissue_of(whole, image, settings)
    selection = replace(chosen, area=area, tissue=tissue, damage=damage)
    known = at_scale_of(selection, info, ndim)
    if known is not None:
        return known
    return replace(selection, finds_scale=settings.finds_scale and info.cell_diameter_px is not None and ndim == 2)


def at_scale_of(selection: ImageSelection, info: "ModelInfo", ndim: int) -> ImageSelection | None:
    """The selection at the scale of a model of ``ndim`` spatial axes; None where no pixel size or diameter gives it.

    Raises
    ------
    ImageError
        ``wrong_scale``: the factor is out of all proportion.
    """
    # Sections segmented one by one are not rescaled along Z.
    unscaled = len(selection.axes) - ndim
    given = _given_zoom(selection.image, selection.settings, info, selection.axes[unscaled:])
    return None if given is None else replace(selection, zoom=(1.0,) * unscaled + given)


def _tissue_of(whole: Image, image: Image, settings: Settings) -> TissueArea | None:
    """The tissue in the image that shows a resolution of the whole slide, where it is asked for."""
    if settings.tissue == "none":
        return None
    # Damaged parts of the image itself are known as such already.
    scale, slide = (1.0, 1.0), image
    if image.part is not None:
        scale, slide = image.part.scale, without_damage(whole)[0] if settings.partial else whole
    return find_tissue(slide).area((image.size("Y"), image.size("X")), scale, CELL_REACH)


def open_annotated(
    source: str | os.PathLike[str] | Image, settings: Settings, channels: int | None = None
) -> ImageSelection:
    """Read the metadata of an image to train on, and select all that the settings do not leave out, unscaled.

    A stack stays a stack, unless ``settings.z`` chooses sections. With ``channels``, that many are selected as for a
    model that takes them.

    Raises
    ------
    ImageError
        When the file is not an image, does not have what the settings choose, or these have an outline.
    """
    image = select_part(_opened(source, settings), settings)
    if area_of(image, settings) is not None:
        raise ImageError(
            "no_such_region",
            "a region with an outline, outside of which nothing is annotated, and a training would learn background "
            "there: give a box, X,Y,W,H",
        )
    ndim = 3 if image.size("Z") > 1 and settings.z is None else 2
    return _select(image, settings, ndim, channels)


def _opened(source: str | os.PathLike[str] | Image, settings: Settings) -> Image:
    if not isinstance(source, Image):
        source = read_image(source, axes=settings.axes, series=series_number(source, settings))
    return with_channel_names(with_pixel_size(source, settings.pixel_size_um), settings.channel_names)


def series_number(source: str | os.PathLike[str], settings: Settings) -> int:
    """Number of the one image of a file to open: the first, unless a number or a name was given."""
    if settings.series is None or isinstance(settings.series, int):
        return settings.series or 0
    return find_series(source, settings.series, axes=settings.axes)


def _select(image: Image, settings: Settings, ndim: int, channels: int | None = None) -> ImageSelection:
    """The frames, sections and channels of an image, at its own scale; ``channels`` is how many are needed."""
    if channels == 1 and not settings.channel:
        image = as_grey(image) or image
    chosen = _pick_channels(image, settings, channels)
    times = _pick_times(image, settings)
    whole = whole_part(image.missing, settings, times, chosen) if image.missing else None
    if whole is not None:
        times, sections = whole
        image = image.crop_sections(sections.start, sections.stop)
    axes = _pick_axes(image, settings, ndim)
    if isinstance(settings.z, str) and image.size("Z") == 1:
        say_without_effect(f"--z {settings.z}", "images without sections are taken as they are")
    shape = tuple(image.size(axis) for axis in axes)
    if 0 in shape:
        raise ImageError("empty", f"the image has no pixels: {image.describe()}")
    return ImageSelection(
        image, settings, chosen, times, axes, shape, (1.0,) * len(axes), kept_sections=whole and whole[1]
    )


def read_frame(opened: ImageSelection, t: int | None, automatic: Normalization) -> Frame:
    """Read, rescale and normalize one frame.

    Parameters
    ----------
    opened : ImageSelection
        The image.
    t : int, optional
        One of its times.
    automatic : Normalization
        Default of the model. Colour pictures of 8 bits are scaled by their range instead.

    Raises
    ------
    ImageError
        When pixels cannot be decoded, or are not finite.
    """
    if opened.streaming is not None:
        return prepare_frame(opened, t, opened.lazy_channels(t, opened.channels), automatic)
    raw, unknown = opened.read_known(t, opened.channels)
    return prepare_frame(opened, t, raw, automatic, unknown)


def prepare_frame(
    opened: ImageSelection,
    t: int | None,
    raw: NDArray[Any] | LazyPixels,
    automatic: Normalization,
    unknown: UnknownPixels | None = None,
    counted: tuple[GreyLevels, ...] = (),
) -> Frame:
    """Rescale and normalize the grey values ``raw`` of one frame; see `read_frame`.

    ``unknown`` are the pixels of them that were filled, and ``counted`` their statistics, if they were counted before.
    """
    if isinstance(raw, LazyPixels):
        return _lazy_frame(opened, t, raw, automatic, counted)
    scaled = rescale_frame(opened, raw)
    chosen = chosen_normalization(opened, automatic)
    # The record does not tell the model's own percentiles from equal ones that were asked for.
    is_automatic = chosen == automatic
    counters = _counters(raw, chosen, is_automatic=is_automatic) if scaled.shape == raw.shape else []
    try:
        scaling = normalization.measure(scaled, chosen, is_automatic=is_automatic, counters=counters)
    except ImageError as error:
        if error.reason == "not_finite":
            raise ImageError(error.reason, f"{error}, or give --nan fill") from error
        raise
    return Frame(t, raw, normalization.apply(scaled, scaling), scaling, unknown, _levels(counters) or counted)


def automatic_scaling(raw: NDArray[Any] | LazyPixels, automatic: Normalization) -> normalization.Scaling:
    """What would scale the grey values ``raw`` of a frame without a choice (`chosen_normalization`)."""
    counters = _counters(raw, automatic, is_automatic=True)
    return normalization.measure(raw, automatic, is_automatic=True, counters=counters)


def _counters(raw: Any, chosen: Normalization, *, is_automatic: bool) -> list[LevelCounter]:
    """Grey values of each channel, for percentiles and for warnings; none of those that cannot be counted."""
    is_measured = is_counted(raw.dtype) and chosen.kind == "percentile"
    return count_channels(raw, with_differences=is_automatic) if is_measured else []


def _levels(counters: Sequence[LevelCounter]) -> tuple[GreyLevels, ...]:
    return tuple(counter.result() for counter in counters)


def rescale_frame(opened: ImageSelection, raw: NDArray[Any]) -> NDArray[Any]:
    """Grey values ``(C, *shape)`` of a frame at the zoom of the selection; as they are where this is 1."""
    if opened.in_sections:
        # Each section like an image of its own.
        return np.stack([rescale(raw[:, z], opened.section.grid) for z in range(opened.sections)], axis=1)
    return rescale(raw, opened.grid)


def can_stream(opened: ImageSelection, automatic: Normalization) -> bool:
    """Whether a frame can be read and normalized in parts: one plane or stack of whole numbers.

    Percentiles are counted, so that their numbers have at most 16 bits.
    """
    dtype, settings = opened.image.dtype, opened.settings
    needs_counts = chosen_normalization(opened, automatic).kind == "percentile"
    is_whole = len(opened.times) == 1 and not opened.in_sections and settings.z != "max"
    return dtype.kind in "bui" and (is_counted(dtype) or not needs_counts) and is_whole


def _lazy_frame(
    opened: ImageSelection,
    t: int | None,
    raw: LazyPixels,
    automatic: Normalization,
    counted: tuple[GreyLevels, ...],
) -> Frame:
    chosen = chosen_normalization(opened, automatic)
    is_automatic = chosen == automatic
    # All is counted in one pass, before any part is taken: reading takes longer than counting, and damaged parts are
    # known from then on.
    if opened.grid != opened.shape:
        counted = counted or _levels(count_channels(raw))
        rescaled = RescaledPixels(raw, opened.grid, opened.allocate)
        scaling = normalization.measure(rescaled, chosen, is_automatic=is_automatic)
        return Frame(t, raw, LazyInput(rescaled, scaling), scaling, counted=counted)
    counters = count_channels(raw, with_differences=is_automatic and chosen.kind == "percentile")
    counted = _levels(counters)
    scaling = normalization.measure(raw, chosen, is_automatic=is_automatic, counters=counters)
    extremes = [(levels.lowest, levels.highest) for levels in counted]
    return Frame(t, raw, LazyInput(raw, scaling, extremes), scaling, counted=counted)


def chosen_normalization(opened: ImageSelection, automatic: Normalization) -> Normalization:
    """What was asked for, or the model's (``automatic``), as it is for such pictures (`normalization.for_picture`)."""
    automatic = normalization.for_picture(automatic, opened.image.dtype, opened.picture_names)
    return opened.settings.normalization or automatic


def _pick_axes(image: Image, settings: Settings, ndim: int) -> str:
    sections = image.size("Z")
    if ndim == 2 and sections > 1 and settings.z is None:
        raise ImageError(
            "wrong_axes",
            f"a stack of {sections} sections, but the model is 2-D: give --z INDEX (from 0), --z max or --z each",
        )
    if isinstance(settings.z, int) and settings.z >= sections:
        raise ImageError("no_such_index", f"no z {settings.z}: the image has {image.describe()}, counted from 0")
    if ndim == 3 and (sections == 1 or settings.z is not None):
        raise ImageError(
            "wrong_axes", f"one section ({image.describe()}), but the model is 3-D: give a stack and no --z"
        )
    return "ZYX" if ndim == 3 or (settings.z == "each" and sections > 1) else "YX"


def _pick_times(image: Image, settings: Settings) -> tuple[int | None, ...]:
    count = image.size("T")
    if settings.t is None:
        return tuple(range(count)) if count > 1 else (None,)
    if settings.t >= count:
        raise ImageError("no_such_index", f"no t {settings.t}: the image has {image.describe()}, counted from 0")
    return (settings.t,)


def _pick_channels(image: Image, settings: Settings, needed: int | None) -> tuple[int, ...]:
    if settings.channel:
        return tuple(select_channel(image, channel) for channel in settings.channel)
    count = image.size("C")
    if needed == COLOUR_CHANNELS and is_opaque_picture(image):
        return tuple(range(COLOUR_CHANNELS))
    if needed not in (None, count) and image.missing is not None and settings.partial:
        held = image.missing.held_channels()
        if len(held) == needed:
            return held
    if needed not in (None, count):
        raise ImageError(
            "wrong_channels",
            f"{count} channel{'s' if count > 1 else ''} ({list_channels(image)}), but the model takes {needed}: "
            "choose with --channel NAME or INDEX, or take another model (unetbio models)",
        )
    return tuple(range(count))


def _given_zoom(image: Image, settings: Settings, info: "ModelInfo", axes: str) -> tuple[float, ...] | None:
    """Zoom by the diameter or the pixel size; None where neither is known."""
    if isinstance(settings.diameter_px, (int, float)) and info.cell_diameter_px is not None:
        zoom = [info.cell_diameter_px / (settings.diameter_px / full_pixels(image))] * len(axes)
    elif info.pixel_size_um is not None and image.pixel_size_trusted:
        trained = dict(zip(axes, info.pixel_size_um, strict=True))
        if "Z" in trained and "Z" not in image.pixel_size_um:
            say_once(
                f"images that do not state the distance of their sections are taken to have the model's, "
                f"{trained['Z']:g} um: give --pixel-size Z,YX"
            )
        zoom = [image.pixel_size_um.get(axis, size) / size for axis, size in trained.items()]
    else:
        return None
    if not all(ZOOM_LIMITS[0] <= factor <= ZOOM_LIMITS[1] for factor in zoom):
        raise ImageError(
            "wrong_scale",
            f"it would be rescaled by {max(zoom, key=lambda factor: abs(math.log(factor))):.3g}: "
            "check its pixel size (give --pixel-size UM) or --diameter PX",
        )
    if all(abs(factor - 1) < ZOOM_TOLERANCE for factor in zoom):
        return (1.0,) * len(axes)
    return tuple(zoom)


def with_pixel_size(image: Image, pixel_size_um: PixelSize | None) -> Image:
    """Set the pixel size of an image; None keeps the size in the file."""
    if pixel_size_um is None:
        return image
    if isinstance(pixel_size_um, tuple) and image.size("Z") == 1:
        say_once("--pixel-size Z,YX: images without sections have the second of them alone")
    sizes = complete_pixel_size(pixel_size_um, image.pixel_size_um if image.pixel_size_trusted else {})
    return replace(image, pixel_size_um=sizes, pixel_size_trusted=True)


def complete_pixel_size(pixel_size_um: PixelSize, known: Mapping[str, float]) -> dict[str, float]:
    """Micrometres by axis; a size in the plane alone keeps a known distance of sections, which has to be trusted."""
    if isinstance(pixel_size_um, tuple):
        distance, size = pixel_size_um
        return {**known, "Z": distance, "Y": size, "X": size}
    return {**known, "Y": pixel_size_um, "X": pixel_size_um}
