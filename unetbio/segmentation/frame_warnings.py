"""Warnings of a frame: why its result may not be right. ``docs/scale.md`` says what to do about each."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from unetbio.preprocessing.areas import count_pixels
from unetbio.preprocessing.grey_values import FULL_SCALE, GreyFingerprint, is_saturated
from unetbio.preprocessing.likeness import Difference, compare, has_bright_ground
from unetbio.preprocessing.normalization import Scaling, for_picture
from unetbio.preprocessing.prepare import automatic_scaling
from unetbio.preprocessing.selection import Frame, ImageSelection
from unetbio.provenance import NOT_EXACT, FrameRecord
from unetbio.settings.normalization import Normalization

if TYPE_CHECKING:
    from unetbio.models.model_file import ModelInfo

__all__ = ["frame_warnings"]

# Cells half or twice as wide as those in training are new to the network.
TRAINED_DIAMETERS = (0.5, 2.0)


def frame_warnings(opened: ImageSelection, frame: Frame, record: FrameRecord, info: "ModelInfo") -> tuple[str, ...]:
    """Codes of the warnings; numbers and reasons follow a colon."""
    return (
        *_of_precision(opened),
        *_of_file(opened),
        *_of_grey_values(opened, frame, info),
        *_of_scale(opened, record, info),
    )


def _of_precision(opened: ImageSelection) -> Iterator[str]:
    if opened.settings.precision == "bfloat16":
        yield f"{NOT_EXACT}:bfloat16"


def _of_file(opened: ImageSelection) -> Iterator[str]:
    if opened.image.series_count > 1 and opened.settings.series is None:
        yield "more_series"
    if lost := opened.image.not_stored:
        yield f"not_stored:{lost.chunks}/{lost.total}"
    if (missing := opened.image.missing) and missing.count:
        yield f"missing_planes:{missing.count}/{missing.total}"
    if missing and missing.cut:
        yield "cut_file"
    if opened.damage is not None and (damaged := opened.damaged_boxes):
        yield f"damaged:{len(damaged)}/{opened.damage.total}"
    if opened.tissue is not None and opened.tissue.threshold is None:
        yield "no_glass"
    elif opened.tissue is not None:
        pixels = math.prod(opened.shape[-2:])
        if left_out := pixels - count_pixels(opened.tissue, opened.shape):
            yield f"glass_left_out:{left_out / pixels:.0%}"


def _of_grey_values(opened: ImageSelection, frame: Frame, info: "ModelInfo") -> Iterator[str]:
    if frame.is_constant:
        yield "constant"
    else:
        for channel in frame.constant_channels:
            yield f"constant_channel:{opened.channels[channel]}"
    if frame.unknown is not None and frame.unknown.filled:
        yield f"filled:{frame.unknown.filled}"
    if frame.unknown is not None and frame.unknown.unknown:
        yield f"unknown:{frame.unknown.unknown}"
    if frame.is_constant:
        return
    if _is_saturated(frame) and not has_bright_ground(frame.levels, opened.picture_names):
        yield "saturated"
    asked = opened.settings.normalization
    if asked is not None and asked.kind == "range":
        yield from _outside_limits(frame, asked)
    reasons = [difference.reason for difference in _differences(opened, frame, info)]
    if reasons:
        yield f"unlike_training:{reasons[0]}"


def _outside_limits(frame: Frame, limits: Normalization) -> Iterator[str]:
    """Grey values that are asked for, and beyond which the image lies, as where percentiles were meant."""
    if any(levels.low > limits.high for levels in frame.levels):
        yield f"above_limits:{limits.high:g}"
    elif any(levels.high < limits.low for levels in frame.levels):
        yield f"below_limits:{limits.low:g}"


def _differences(opened: ImageSelection, frame: Frame, info: "ModelInfo") -> Iterator[Difference]:
    fingerprint = GreyFingerprint.from_record(info.training.get("grey_values"))
    if fingerprint is None or len(fingerprint.channels) != len(frame.levels):
        return
    automatic = for_picture(info.normalization, opened.image.dtype, opened.picture_names)
    chosen = opened.settings.normalization or automatic
    measured: Scaling | None = None
    for channel, (levels, ranges) in enumerate(zip(frame.levels, fingerprint.channels, strict=True)):
        high = levels.high
        # On an even ground percentiles are one grey value, and something else scales the channel.
        if chosen.kind == "percentile" and not (frame.scaling.is_percentile(channel) and levels.high > levels.low):
            high = frame.scaling.high[channel]
        difference = compare(levels, ranges, chosen, automatic, high)
        if difference is not None and difference.reason == "made_bright" and automatic.kind == "percentile":
            # The percentile may lie in something that outshines the cells, which the automatic scaling leaves out.
            measured = measured or automatic_scaling(frame.raw, automatic)
            difference = compare(levels, ranges, chosen, automatic, measured.high[channel])
        if difference is not None:
            yield difference


def _of_scale(opened: ImageSelection, record: FrameRecord, info: "ModelInfo") -> Iterator[str]:
    if opened.scale is not None and opened.scale.is_doubtful:
        yield "unsure_scale"
    if record.median_diameter_px is None or info.cell_diameter_px is None:
        return
    zooms = opened.section.zoom
    ratio = record.median_diameter_px * math.prod(zooms) ** (1 / len(zooms)) / info.cell_diameter_px
    if not TRAINED_DIAMETERS[0] <= ratio <= TRAINED_DIAMETERS[1]:
        yield "outside_training_range"


def _is_saturated(frame: Frame) -> bool:
    if frame.raw.dtype.kind not in "ui":
        return False
    if not isinstance(frame.raw, np.ndarray):
        return any(levels.is_saturated for levels in frame.levels)
    for channel in frame.raw:
        highest = int(channel.max())
        # Counting takes longer than looking at the highest value, which is rarely one of these.
        if highest in FULL_SCALE and is_saturated(highest, int(np.count_nonzero(channel == highest)), channel.size):
            return True
    return False
