"""A memory limit shared by threads."""

import threading

__all__ = ["MemoryBudget"]


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
