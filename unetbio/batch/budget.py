"""How much memory threads may take together."""

import threading

__all__ = ["MemoryBudget"]


class MemoryBudget:
    """Bytes that frames on their way may take together; one frame is always let in, however large."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0
        self._closed = False
        self._changed = threading.Condition()

    def take(self, size: int) -> bool:
        """Wait until there is room; False when the budget was closed meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._used == 0 or self._used + size <= self.limit)
            self._used += size
            return not self._closed

    def give(self, size: int) -> None:
        """Give back what was taken."""
        with self._changed:
            self._used -= size
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
