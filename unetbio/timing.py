"""Time that each stage of a run takes, for ``segment --profile``."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

__all__ = ["StageTimes", "record_stages", "stage"]


@dataclass
class StageTimes:
    """Seconds of each stage, added over images and threads, and of the whole record."""

    seconds: dict[str, float] = field(default_factory=dict)
    total: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, name: str, seconds: float) -> None:
        """Add to a stage."""
        with self._lock:
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds


# One for all threads of the process: stages run in several.
_recorded: list[StageTimes] = []
_running = threading.local()


@contextmanager
def record_stages() -> Iterator[StageTimes]:
    """Record the stages that run inside the block, in all threads."""
    times, started = StageTimes(), perf_counter()
    _recorded.append(times)
    try:
        yield times
    finally:
        _recorded.remove(times)
        times.total = perf_counter() - started


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Count the seconds of the block for a stage; inside another stage they count for that one."""
    if not _recorded or getattr(_running, "is_inside", False):
        yield
        return
    _running.is_inside, started = True, perf_counter()
    try:
        yield
    finally:
        _running.is_inside = False
        for times in _recorded:
            times.add(name, perf_counter() - started)
