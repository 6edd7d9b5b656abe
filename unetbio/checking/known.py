"""What earlier checks have found in files, so that a check decodes what is new alone."""

import dataclasses
import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unetbio.batch.plan import Item
from unetbio.checking.facts import Facts
from unetbio.files import Stamp, stamp, stopping
from unetbio.grey_values import GreyLevels

__all__ = ["KnownFiles", "stamps_of"]

FORMAT = 1
"""Of the lines; those of another are passed over, and their files decoded again."""

Stamps = dict[str, Stamp]


class KnownFiles:
    """A file with one line of JSON for each input that was read to its last pixel, and what was asked of it.

    Lines are appended as they become known, so that a check that was killed goes on where it was. What could not be
    read is not in it and is tried again. An input is believed to be the same while size and times of all its files are.

    Parameters
    ----------
    path : pathlib.Path
        Made when it is missing; lines that cannot be understood, such as one that a kill has torn, are passed over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._lines: dict[str, dict[str, Any]] = {}
        if path.is_file():
            with open(path, encoding="utf-8", errors="replace") as stream:
                for text in stream:
                    self._load(text)

    def find(self, item: Item) -> Facts | None:
        """What is in an input; None where that is not known, or not any more."""
        line = self._lines.get(_question(item))
        try:
            if line is None or any(stamp(path) != Stamp(*then) for path, then in line["files"].items()):
                return None
            facts = line["facts"]
            levels = tuple(GreyLevels(**values) for values in facts["levels"])
            names = tuple(facts["channel_names"])
            return Facts(**{**facts, "shape": tuple(facts["shape"]), "levels": levels, "channel_names": names})
        except (OSError, TypeError, KeyError, AttributeError):
            return None

    def add(self, item: Item, stamps: Stamps, facts: Facts) -> None:
        """Remember what is in an input.

        Parameters
        ----------
        item : Item
            The input.
        stamps : dict
            Of its files, from before they were read (`stamps_of`).
        facts : Facts
            What was found.

        Raises
        ------
        EnvironmentStoppedError
            When it cannot be written.
        """
        line = {"format": FORMAT, "input": _question(item), "files": stamps, "facts": dataclasses.asdict(facts)}
        with self._lock, stopping(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8") as stream:
                # The newline before it closes a line that a kill has torn.
                stream.write(f"\n{json.dumps(line)}\n")

    def _load(self, text: str) -> None:
        try:
            line = json.loads(text)
            if line["format"] == FORMAT:
                self._lines[line["input"]] = line
        except (ValueError, TypeError, KeyError):
            return


def stamps_of(files: Iterable[Path]) -> Stamps:
    """Size and times of files, by their absolute paths."""
    return {os.path.abspath(path): stamp(path) for path in files}  # noqa: PTH100


def _question(item: Item) -> str:
    """The input, and everything that decides which of its pixels are counted."""
    asked = item.settings
    return json.dumps([os.path.abspath(item.source), asked.series, asked.axes, asked.t, asked.z])  # noqa: PTH100
