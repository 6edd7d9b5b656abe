"""What ``segment --profile`` says: where the time of a run went, as a bar chart in text."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from unetbio.timing import StageTimes, record_stages

__all__ = ["BESIDE", "IN_TURN", "RunProfile", "profiled"]

IN_TURN = ("start-up", "waiting for images", "scale", "network", "exact decisions", "waiting for results", "tables")
"""Stages of the main thread, one after another: together they are the time of the run."""

BESIDE = ("reading", "postprocessing", "measuring", "overlays", "writing")
"""Stages of other threads, which run beside the network."""

BAR = 30
"""Characters of the longest bar."""

SHOWN_SECONDS = 0.05
"""Stages that took less are left out."""

LEAST = 1e-9
"""Seconds to divide by instead of 0."""

_ADVICE: Mapping[str, str] = {
    "start-up": "one run over many images starts once",
    "waiting for images": "reading is slower than the network; a faster disk or other compression helps",
    "scale": "--diameter, or a pixel size, says the scale at once",
    "network": "another --device or --backend may be faster",
    "exact decisions": "many pixels lie near a threshold, as in images without contrast",
    "waiting for results": "postprocessing and measuring are slower than the network; more --workers help",
    "tables": "--overlays none, and --no-tables in jobs, leave work out",
}


@dataclass(frozen=True)
class RunProfile:
    """Where the time of a run went.

    Parameters
    ----------
    startup : float
        Seconds before the first image.
    times : StageTimes
        Of the stages after it.
    """

    startup: float
    times: StageTimes

    @property
    def total(self) -> float:
        """Seconds of the run."""
        return self.startup + self.times.total

    @property
    def stages(self) -> dict[str, float]:
        """Seconds of each stage."""
        seconds = {"start-up": self.startup, **self.times.seconds}
        return {name: round(seconds.get(name, 0.0), 3) for name in (*IN_TURN, *BESIDE)}

    def values(self) -> dict[str, Any]:
        """For programs."""
        return {"total": round(self.total, 3), "stages": self.stages}

    def lines(self) -> list[str]:
        """For people: a line for each stage that took time, with its share of the whole."""
        stages = self.stages
        slowest = max(IN_TURN, key=lambda name: stages[name])
        shown = [name for name, seconds in stages.items() if seconds >= SHOWN_SECONDS or name == slowest]
        return [
            f"time of the run: {self.total:.1f} s",
            *(self._line(name, stages[name], max(stages.values())) for name in shown),
            f"most of it: {slowest} ({_ADVICE[slowest]})",
        ]

    def _line(self, name: str, seconds: float, longest: float) -> str:
        share = f"{seconds / max(self.total, LEAST):4.0%}" if name in IN_TURN else "beside"
        bar = "#" * round(BAR * seconds / max(longest, LEAST))
        return f"  {name:<20}{seconds:9.1f} s  {share:>6}  {bar}".rstrip()


@contextmanager
def profiled(startup: float) -> Iterator[RunProfile]:
    """Record the stages of the block."""
    with record_stages() as times:
        yield RunProfile(startup, times)
