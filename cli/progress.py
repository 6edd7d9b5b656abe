"""Progress of a batch on stderr: a bar on a terminal, else a line every half minute."""

import logging
import shutil
import sys
import threading
from collections.abc import Callable
from time import monotonic
from types import TracebackType

import click

__all__ = ["Progress"]

SECONDS_BETWEEN_LINES = 30.0
BAR_WIDTH = 30

logger = logging.getLogger("unetbio.cli.progress")


class Progress:
    """Shows progress while its block runs.

    Parameters
    ----------
    total : int, optional
        Number of images, if known.
    """

    def __init__(self, total: int | None = None) -> None:
        self._total = total
        self._done = 0
        self._failed = 0
        self._share = 0.0
        self._start = monotonic()
        self._is_terminal = sys.stderr.isatty()
        self._quiet = not logger.isEnabledFor(logging.INFO)
        self._over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="unetbio-progress", daemon=True)

    def __enter__(self) -> "Progress":
        if not self._quiet:
            self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if not self._quiet:
            self._ticker.join()
            self.clear()

    def advance(self, *, failed: bool, total: int | None = None) -> None:
        """Count one more finished image; ``total`` sets the number of images if it was unknown."""
        self._total = total or self._total
        self._done += 1
        self._failed += failed
        self._draw()

    def begin(self, share: float) -> None:
        """Show how much of the image after the finished ones is done, from 0 to 1."""
        self._share = share if share < 1 else 0.0
        self._draw()

    def reporter(self, log: logging.Logger) -> Callable[[str, str], None]:
        """Return a function that counts an image by its name and message; a message is the reason of its failure."""

        def report(name: str, message: str) -> None:
            self.clear()
            if message:
                log.error("%s: %s", name, message)
            self.advance(failed=bool(message))

        return report

    def clear(self) -> None:
        """Make room for a line of text."""
        if self._is_terminal and not self._quiet:
            click.echo("\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r", nl=False, err=True)

    def text(self) -> str:
        """``12 of 300 images and 40 % of the next, 1 failed, 0:02:31 left``."""
        share = f" and {100 * self._share:.0f} % of the next" if self._share else ""
        failed = f", {self._failed} failed" if self._failed else ""
        of_all = f" of {self._total}" if self._total is not None else ""
        return f"{self._done}{of_all} images{share}{failed}{self._left()}"

    def _left(self) -> str:
        done = self._done + self._share
        if not done or self._total is None or self._done == self._total:
            return ""
        seconds = round((monotonic() - self._start) / done * (self._total - done))
        return f", {seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d} left"

    def _draw(self) -> None:
        if self._is_terminal and not self._quiet:
            filled = BAR_WIDTH * self._done // max(1, self._total or self._done)
            bar = f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] " if self._total else ""
            click.echo(f"\r{bar}{self.text()}   ", nl=False, err=True)

    def _tick(self) -> None:
        while not self._over.wait(SECONDS_BETWEEN_LINES):
            if not self._is_terminal:
                logger.info(self.text())
