"""Normalization of grey values to the range that a network was trained on, and its text form."""

import dataclasses
import math
from typing import Annotated, Literal

from unetbio.errors import UsageError
from unetbio.settings.options import Option

__all__ = ["Normalization", "parse"]

LARGEST, LEAST_SPAN = 1e30, 1e-30
"""Grey values are scaled in float32, which has room for their squares neither above nor below."""


@dataclasses.dataclass(frozen=True)
class Normalization:
    """Normalization of grey values."""

    kind: Annotated[
        Literal["percentile", "range", "none"],
        Option(
            "`percentile`: the percentiles `low` and `high` of each channel become 0 and 1; `range`: the grey values "
            "`low` and `high` do; `none`: grey values as they are. Nothing is clipped."
        ),
    ] = "percentile"
    low: Annotated[float, Option("Percentile (0 to 100) or grey value that becomes 0.")] = 1.0
    high: Annotated[float, Option("Percentile (0 to 100) or grey value that becomes 1.")] = 99.8

    def __post_init__(self) -> None:
        if self.kind not in ("percentile", "range", "none"):
            raise UsageError(f"unknown normalization {self.kind!r}: percentile, range or none is needed")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise UsageError(f"normalization from {self.low:g} to {self.high:g}: two rising numbers are needed")
        is_in_range = max(abs(self.low), abs(self.high)) <= LARGEST and self.high - self.low >= LEAST_SPAN
        if self.kind == "range" and not is_in_range:
            raise UsageError(
                f"normalization from {self.low:g} to {self.high:g}: numbers at most {LARGEST:g} from zero, and at "
                f"least {LEAST_SPAN:g} apart, are needed"
            )
        if self.kind == "percentile" and (self.low < 0 or self.high > 100):
            raise UsageError(f"percentiles {self.low:g} and {self.high:g}: numbers from 0 to 100 are needed")

    @property
    def limits(self) -> tuple[float, float]:
        """Grey values that become 0 and 1, where these are no percentiles."""
        return (self.low, self.high) if self.kind == "range" else (0.0, 1.0)


def parse(text: str) -> Normalization | None:
    """Read the command line's ``--normalize``; None for ``auto``, the model's own.

    Parameters
    ----------
    text : str
        ``auto``, ``none``, two percentiles ``p1,p99.8`` or two grey values ``0,4095``.

    Raises
    ------
    UsageError
        For anything else.
    """
    words = text.strip().lower().split(",")
    if words == ["auto"]:
        return None
    if words == ["none"]:
        return Normalization("none", 0.0, 1.0)
    marked = [word.strip().startswith("p") for word in words]
    try:
        numbers = [float(word.strip().removeprefix("p")) for word in words]
    except ValueError:
        numbers = []
    if len(numbers) != 2 or marked[0] != marked[1]:
        raise UsageError(
            f"--normalize {text!r}: auto, none, two percentiles such as p1,p99.8, or two grey values such as 0,4095 "
            "are needed"
        )
    return Normalization("percentile" if marked[0] else "range", *numbers)
