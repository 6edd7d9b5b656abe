"""Memory of a run: how it is divided, and a limit shared by threads."""

import threading
from dataclasses import dataclass

__all__ = ["DEFAULT_MEMORY", "PROGRAM_BYTES", "MemoryBudget", "MemoryShares"]

PROGRAM_BYTES = 700 << 20
"""Memory of a run without its images: libraries, compiled loops, and the processes that decode."""

DEFAULT_MEMORY = 1 << 30
"""Most bytes of frames in progress: more would only read further ahead."""

LEAST_SHARE = 64 << 20
"""Of tiles, and of frames, where hardly any memory is left for them."""


@dataclass(frozen=True)
class MemoryShares:
    """Bytes that a run may use for one part of its work each.

    Parameters
    ----------
    tile : int, optional
        Feature maps of a tile; None for what the network's backend proposes.
    frames : int
        Frames in progress.
    """

    tile: int | None
    frames: int

    @classmethod
    def of(cls, memory: int | None, workers: int = 0) -> "MemoryShares":
        """Divide what this process and its worker processes may use.

        A third stays for what is not counted, such as rows of the tables.
        """
        if memory is None:
            return cls(None, DEFAULT_MEMORY)
        share = max(LEAST_SHARE, (memory - (1 + workers) * PROGRAM_BYTES) // 3)
        return cls(max(LEAST_SHARE, share // max(1, workers)), min(DEFAULT_MEMORY, share))


class MemoryBudget:
    """Limit of the bytes that frames in progress take together; a single frame may exceed it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0
        self._closed = False
        self._changed = threading.Condition()

    def acquire(self, size: int) -> bool:
        """Wait until there is room; False if the budget was closed meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._used == 0 or self._used + size <= self.limit)
            self._used += size
            return not self._closed

    def resize(self, size: int, needed: int) -> int:
        """Change what was acquired to what is needed, at once; later frames wait for the difference."""
        self.release(size - needed)
        return needed

    def release(self, size: int) -> None:
        """Free what was acquired."""
        with self._changed:
            self._used -= size
            self._changed.notify_all()

    def close(self) -> None:
        """End all waiting."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
