"""Results of earlier checks, so that a check decodes only new and changed files."""

import dataclasses
import json
import math
import os
import threading
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from unetbio.checking.image_stats import ImageStats
from unetbio.errors import EnvironmentStoppedError, UsageError
from unetbio.files import Stamp, open_regular, stamp, stopping
from unetbio.io.image import AXES
from unetbio.preprocessing.grey_values import GreyLevels
from unetbio.results.items import Item

__all__ = ["CheckCache", "stamps_of"]

FORMAT = 4
"""Version of the lines. Lines of other versions are ignored, and their files decoded again."""

START = '{"format": '
"""Start of every line, of any version."""

MAX_LINE = 1 << 24
"""Longest line in characters, so that another file without line ends is not read into memory."""

HASH_DIGITS = 64
MAX_SIZE = 1 << 62

Stamps = dict[str, Stamp]


@dataclasses.dataclass(frozen=True)
class _Line:
    format: int
    input: str
    files: Stamps
    facts: ImageStats


_LINE = TypeAdapter(_Line)


class CheckCache:
    """A file with a line of JSON for each input that was read to its last pixel, and for the options of reading.

    Each line is appended as soon as its input is read, so that a killed check can continue. Unreadable inputs are not
    recorded and are tried again. An input counts as unchanged while size and times of all its files are the same.

    Parameters
    ----------
    path : pathlib.Path
        Made if missing. Damaged lines, such as an incomplete one of a killed check, are ignored.

    Raises
    ------
    UsageError
        When the file is not a cache, so that appending would damage it.
    EnvironmentStoppedError
        When it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._lines: dict[str, _Line] = {}
        if not path.is_file():
            return
        is_ours, is_blank = False, True
        try:
            for text in _lines_of(path):
                is_blank &= not text.strip()
                is_ours |= self._load(text) or _is_torn(text)
        except OSError as error:
            raise EnvironmentStoppedError(
                f"cannot read {path}: {error.strerror or error}; give another file to --cache"
            ) from error
        if not is_ours and not is_blank:
            raise UsageError(f"--cache {path} is not a cache of check: give a new file, or one that check has made")

    def find(self, item: Item) -> ImageStats | None:
        """Recorded statistics of an input; None if it is unknown or has changed."""
        line = self._lines.get(_question(item))
        # The files of an image always include the input; a line without it is wrong.
        if line is None or os.path.abspath(item.source) not in line.files:  # noqa: PTH100
            return None
        try:
            is_same = all(stamp(path) == then for path, then in line.files.items())
        except (OSError, ValueError):
            return None
        return line.facts if is_same else None

    def add(self, item: Item, stamps: Stamps, stats: ImageStats) -> None:
        """Record the statistics of an input.

        Parameters
        ----------
        item : Item
            The input.
        stamps : dict
            Stamps of its files, taken before they were read (`stamps_of`).
        stats : ImageStats
            Statistics of the input.

        Raises
        ------
        EnvironmentStoppedError
            When it cannot be written.
        """
        line = {"format": FORMAT, "input": _question(item), "files": stamps, "facts": dataclasses.asdict(stats)}
        with self._lock, stopping(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open_regular(self.path, "a", encoding="utf-8") as stream:
                # The newline before it ends an incomplete line of a killed check.
                stream.write(f"\n{json.dumps(line)}\n")

    def _load(self, text: str) -> bool:
        """Record a valid line; returns whether the text is a line of a cache, of any version."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return False
        if not isinstance(found, dict) or not {"format", "input", "files", "facts"} <= set(found):
            return False
        try:
            line = _LINE.validate_json(text, strict=True)
        except ValidationError:
            return True
        if line.format == FORMAT and _can_be(line.facts):
            self._lines[line.input] = line
        return True


def _lines_of(path: Path) -> Iterator[str]:
    with open_regular(path, "r", encoding="utf-8", errors="replace") as stream:
        while text := stream.readline(MAX_LINE):
            yield text


def _is_torn(text: str) -> bool:
    """Whether the text is an incomplete line of a killed check."""
    return not text.endswith("\n") and (text.startswith(START) or START.startswith(text))


def _can_be(stats: ImageStats) -> bool:
    """Whether the values can be those of an image."""
    try:
        kind = np.dtype(stats.dtype).kind
    except (TypeError, ValueError):
        return False
    axes, channels = stats.axes, 1
    if "C" in axes and len(axes) == len(stats.shape):
        channels = stats.shape[axes.index("C")]
    return (
        kind in "buif"
        and axes == "".join(axis for axis in AXES if axis in axes)
        and "YX" in axes
        and len(axes) == len(stats.shape)
        and all(1 <= size <= MAX_SIZE for size in chain(stats.shape, *stats.smaller))
        and stats.series_count >= 1
        and len(stats.levels) == channels
        and all(map(_can_be_counted, stats.levels))
        and len(stats.channel_names) == channels
        and all(axis in "ZYX" and 0 < size < math.inf for axis, size in stats.pixel_size_um.items())
        and len(stats.pixel_hash) == HASH_DIGITS
    )


def _can_be_counted(levels: GreyLevels) -> bool:
    return (
        not any(map(math.isinf, (levels.lowest, levels.low, levels.median, levels.high, levels.highest)))
        and levels.pixels >= 1
        and 0 <= levels.at_highest <= levels.pixels
        and 0 <= levels.not_finite <= levels.pixels
    )


def stamps_of(files: Iterable[Path]) -> Stamps:
    """Size and times of files, by their absolute paths."""
    return {os.path.abspath(path): stamp(path) for path in files}  # noqa: PTH100


def _question(item: Item) -> str:
    """The input, and all options that select the counted pixels."""
    asked = item.settings
    files = [] if item.image_set is None else [item.image_set.files]
    return json.dumps([os.path.abspath(item.source), item.series, asked.axes, asked.t, asked.z, *files])  # noqa: PTH100
