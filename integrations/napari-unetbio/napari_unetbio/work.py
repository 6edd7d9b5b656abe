"""Run a function in a thread beside the window: its progress, and how to stop it."""

import contextlib
import logging
import threading
from collections.abc import Callable
from functools import partial

from qtpy.QtCore import QObject, Signal

from unetbio.errors import CancelledError, UnetbioError

__all__ = ["FULL", "Task"]

logger = logging.getLogger(__name__)

FULL = 1000
"""Progress of finished work."""

Progress = Callable[[int, int], None]
Work = Callable[[Progress, Callable[[], bool]], object]
"""Called with `unetbio.segment`'s ``progress`` and ``cancel``."""


class Task(QObject):
    """One function at a time in a thread.

    Signals reach slots of widgets in the thread of the window.
    """

    progressed = Signal(int)
    """Finished part of the work, up to `FULL`."""
    done = Signal(object)
    """The result."""
    failed = Signal(str)
    """Message for the user."""
    stopped = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._stop = threading.Event()
        self.is_running = False
        parent.destroyed.connect(self._stop.set)

    def start(self, work: Work) -> None:
        """Start a function; one that runs must have ended."""
        if self.is_running:
            raise RuntimeError("a task is running")
        self._stop.clear()
        self.is_running = True
        threading.Thread(target=self._run, args=(work,), daemon=True).start()

    def stop(self) -> None:
        """Ask the function to end; `stopped` says when it has."""
        self._stop.set()

    def _run(self, work: Work) -> None:
        # The window may be closed meanwhile, and its objects deleted.
        with contextlib.suppress(RuntimeError):
            report = self._outcome(work)
            self.is_running = False
            report()

    def _outcome(self, work: Work) -> Callable[[], object]:
        """Run a function; returns the signal to give."""
        try:
            result = work(self._report, self._stop.is_set)
        except CancelledError:
            return self.stopped.emit
        except UnetbioError as error:
            return partial(self.failed.emit, str(error))
        except Exception as error:
            logger.exception("internal error")
            return partial(self.failed.emit, f"internal error ({type(error).__name__}: {error})")
        return partial(self.done.emit, result)

    def _report(self, finished: int, total: int) -> None:
        self.progressed.emit(FULL * finished // max(total, 1))
