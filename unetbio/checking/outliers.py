"""Find images unlike the others, or unlike the model's training images.

Grey values and sizes are compared on a logarithmic scale, as factors. A value is an outlier if it differs from the
median of at least five images of the same kind

- by more than five standard deviations, estimated as 1.4826 times the median absolute deviation, and
- by more than a factor (2 for grey values, 1.5 for sizes), so that small differences in similar images do not count.

Grey values first get 1 % of the usual brightness added, so that noise around black does not count.

Axes, channels and type of an image are outliers if they differ from at least four fifths of at least five images.

Kinds and sizes are those of the files. Grey values are those of the selected channels, in the order of the selection,
and pixel sizes those that were given, if they were.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from unetbio.checking.file_report import Channels, FileReport, Finding
from unetbio.checking.image_stats import ImageStats
from unetbio.preprocessing.grey_values import GreyFingerprint, GreyLevels
from unetbio.preprocessing.likeness import REASONS, Difference, compare
from unetbio.preprocessing.normalization import for_picture
from unetbio.preprocessing.prepare import complete_pixel_size

if TYPE_CHECKING:
    from unetbio.models.model_file import ModelInfo

__all__ = ["compare_with_model", "compare_with_others", "find_outliers"]

# Axes, number of channels, data type.
Kind = tuple[str, int, str]
Described = tuple[FileReport, ImageStats]

LEAST_IMAGES = 5
DEVIATIONS = 5.0
MAD_TO_SIGMA = 1.4826
GREY_FACTOR, SIZE_FACTOR = 2.0, 1.5
MOST = 0.8
OFFSET = 0.01


def find_outliers(values: Sequence[float], factor: float) -> list[int]:
    """Find outliers by the rule above.

    Parameters
    ----------
    values : sequence of float
        Above 0.
    factor : float
        Values within this factor of the median are never outliers.

    Returns
    -------
    list of int
        Indices of the outliers.

    Examples
    --------
    >>> find_outliers([10, 11, 9, 10, 10, 80], 2.0)
    [5]
    """
    if len(values) < LEAST_IMAGES:
        return []
    logs = np.log(values)
    away = np.abs(logs - np.median(logs))
    limit = max(DEVIATIONS * MAD_TO_SIGMA * float(np.median(away)), math.log(factor))
    return np.flatnonzero(away > limit * (1 + 1e-9)).tolist()


def compare_with_others(reports: Sequence[FileReport]) -> Iterator[Finding]:
    """Find files unlike the others."""
    readable = [(report, report.stats) for report in reports if report.stats is not None]
    kinds: dict[Kind, list[Described]] = defaultdict(list)
    for report, stats in readable:
        kinds[stats.axes, len(stats.levels), stats.dtype].append((report, stats))
    yield from _unusual_kinds(kinds, len(readable))
    for members in kinds.values():
        yield from _unusual_sizes(members)
        yield from _unusual_grey_values(members)


def compare_with_model(
    report: FileReport, channels: Channels, info: "ModelInfo", fingerprint: GreyFingerprint | None
) -> Iterator[tuple[str, str]]:
    """Find grey values of the model's channels unlike those of its training images; yields codes and messages."""
    if report.stats is None or fingerprint is None or len(channels.numbers) != len(fingerprint.channels):
        return
    automatic = for_picture(info.normalization, np.dtype(report.stats.dtype), channels.names)
    chosen = report.item.settings.normalization or automatic
    for channel, ranges in zip(channels.numbers, fingerprint.channels, strict=True):
        difference = compare(report.levels[channel], ranges, chosen, automatic)
        if difference is not None:
            yield "odd_intensity", channels.where(channel) + _describe_difference(difference)


def _describe_difference(difference: Difference) -> str:
    low, high = difference.usual
    if difference.reason in ("dim", "bright"):
        return (
            f"bright pixels have grey value {difference.value:g}, those of the training images {low:g} to {high:g}, "
            "and the model takes grey values as they are"
        )
    if difference.reason in ("made_dim", "made_bright"):
        return (
            f"bright pixels become {difference.value:.3g} with --normalize, and {_describe_range(low, high)} in the "
            "training images: leave out --normalize, or give other grey values"
        )
    return (
        f"half of its pixels are above {difference.value:.2f} of the way from dark to bright, in the training images "
        f"{low:.2f} to {high:.2f}: {REASONS[difference.reason]}?"
    )


def _describe_range(low: float, high: float) -> str:
    return f"about {high:g}" if low == high else f"{low:g} to {high:g}"


def _unusual_kinds(kinds: Mapping[Kind, Sequence[Described]], total: int) -> Iterator[Finding]:
    if total < LEAST_IMAGES:
        return
    usual = max(kinds, key=lambda kind: len(kinds[kind]))
    if len(kinds[usual]) < MOST * total:
        return
    for kind, members in kinds.items():
        if kind != usual:
            for report, _ in members:
                message = f"{_describe(kind)}, where most others are {_describe(usual)}"
                yield Finding(report.path, "odd_kind", message)


def _describe(kind: Kind) -> str:
    axes, channels, dtype = kind
    return f"{axes} {dtype}" + (f" with {channels} channels" if channels > 1 else "")


def _unusual_sizes(members: Sequence[Described]) -> Iterator[Finding]:
    axes = members[0][1].axes
    odd: dict[int, list[str]] = defaultdict(list)
    for number, axis in enumerate(axes):
        sizes = [stats.shape[number] for _, stats in members]
        if axis == "C":
            continue
        for index in find_outliers([max(1, size) for size in sizes], SIZE_FACTOR):
            odd[index].append(f"{axis}={sizes[index]} where most others have about {np.median(sizes):g}")
    for index, texts in odd.items():
        yield Finding(members[index][0].path, "odd_size", "; ".join(texts))
    sizes_um = ((report, _pixel_size(report, stats)) for report, stats in members)
    known = [(report, size) for report, size in sizes_um if size > 0]
    pixels = [size for _, size in known]
    for index in find_outliers(pixels, SIZE_FACTOR):
        message = f"{pixels[index]:.4g} um a pixel where most others have about {np.median(pixels):.4g}"
        yield Finding(known[index][0].path, "odd_pixel_size", message)


def _pixel_size(report: FileReport, stats: ImageStats) -> float:
    """Micrometres along X as they would be used; 0 where they are unknown."""
    given = report.item.settings.pixel_size_um
    if given is not None:
        return complete_pixel_size(given, {})["X"]
    return stats.pixel_size_um.get("X", 0.0) if stats.pixel_size_trusted else 0.0


def _unusual_grey_values(members: Sequence[Described]) -> Iterator[Finding]:
    seen: Counter[str] = Counter()
    for place in range(max(len(report.channels.numbers) for report, _ in members)):
        usable = list(_usable(members, place))
        if not usable:
            continue
        brightness = float(np.median([abs(levels.high) for _, _, levels in usable])) or 1.0
        for name, text in (("high", "bright pixels have"), ("median", "half of its pixels are above")):
            values = [getattr(levels, name) for _, _, levels in usable]
            for index in find_outliers([max(0.0, value) + OFFSET * brightness for value in values], GREY_FACTOR):
                report, channel, _ = usable[index]
                if seen[report.path]:
                    continue
                seen[report.path] += 1
                value = f"grey value {values[index]:g}, in most others about {np.median(values):g}"
                message = f"{report.channels.where(channel)}{text} {value}"
                yield Finding(report.path, "odd_intensity", message)


def _usable(members: Sequence[Described], place: int) -> Iterator[tuple[FileReport, int, GreyLevels]]:
    """The channel at this place among the selected ones of each image, where it has grey values to compare."""
    for report, _ in members:
        # Images may have fewer: some of them a transparent channel.
        for channel in report.channels.numbers[place : place + 1]:
            levels = report.levels[channel]
            if _is_usable(levels):
                yield report, channel, levels


def _is_usable(levels: GreyLevels) -> bool:
    return not levels.is_constant and math.isfinite(levels.median)
