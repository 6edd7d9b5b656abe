"""Keyword arguments of the public functions, for type checkers: options by their names on the command line."""

from typing import Literal, TypedDict

from unetbio.settings.values import Diameter, PixelSize, Precision

__all__ = ["ReadingOptions", "SegmentOptions"]


class ReadingOptions(TypedDict, total=False):
    """Keyword arguments of `unetbio.train` that say how images are read, named as on the command line."""

    channel: tuple[str | int, ...]
    channel_names: tuple[str, ...]
    series: int | str | None
    t: int | None
    z: int | Literal["max", "each"] | None
    axes: str | None
    pixel_size: PixelSize | None
    diameter: float | None


class SegmentOptions(TypedDict, total=False):
    """Keyword arguments of `unetbio.segment`, named as on the command line, for type checkers."""

    channel_names: tuple[str, ...]
    series: int | str | None
    t: int | None
    z: int | Literal["max", "each"] | None
    link: float | None
    axes: str | None
    partial: bool
    level: int | Literal["auto"] | None
    region: tuple[str, ...]
    tissue: Literal["auto", "none"]
    pixel_size: PixelSize | None
    diameter: Diameter | None
    threshold: float | None
    min_area: float | None
    max_area: float | None
    min_certain: float | None
    exclude_border: bool
    classes: tuple[str, ...]
    crf: str | None
    crf_settings: str | None
    augment: bool
    ensemble: tuple[str, ...]
    precision: Precision | None
    nan: Literal["refuse", "fill"]
