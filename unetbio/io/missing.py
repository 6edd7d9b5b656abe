"""Planes that metadata name and that are not there: a stopped acquisition, a file that was not copied."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError

__all__ = ["MISSING_POSITION", "MissingPlanes", "longest_run", "missing_position"]

MISSING_POSITION = "missing_position"
"""Reason of an image of a file of several that has none of its planes."""

SHOWN = 3
"""Number of missing files that a message names."""


@dataclasses.dataclass(frozen=True, eq=False)
class MissingPlanes:
    """Planes that an image lacks.

    Parameters
    ----------
    present : ndarray of bool
        ``(T, C, Z)``: planes that can be read.
    files : tuple of str
        Names of missing files, if the planes lie in files of their own.
    count, total : int
        Missing planes of the whole image, and all of its planes.
    cut : str
        What happened to the file, such as that it was cut; empty if nothing did.
    """

    present: NDArray[np.bool_]
    files: tuple[str, ...]
    count: int
    total: int
    cut: str = ""

    @staticmethod
    def of(present: NDArray[np.bool_], files: Iterable[str] = (), cut: str = "") -> "MissingPlanes | None":
        """Missing planes of an image; None if all are present and the file is whole."""
        if present.all() and not cut:
            return None
        return MissingPlanes(present, tuple(dict.fromkeys(files)), int((~present).sum()), present.size, cut)

    def record(self) -> dict[str, Any]:
        """The same as JSON values, for `of_record`."""
        absent = np.flatnonzero(~self.present).tolist()
        return {"shape": self.present.shape, "absent": absent, "files": self.files, "cut": self.cut}

    @staticmethod
    def of_record(record: Mapping[str, Any]) -> "MissingPlanes | None":
        """Missing planes as `record` gives them."""
        present = np.ones(record["shape"], bool)
        present.ravel()[record["absent"]] = False
        return MissingPlanes.of(present, record["files"], record["cut"])

    def sections(self, start: int, stop: int) -> "MissingPlanes":
        """The same for a range of sections; the counts stay those of the whole image."""
        return dataclasses.replace(self, present=self.present[:, :, start:stop])

    def holds(self, times: Sequence[int], channels: Sequence[int], sections: Sequence[int]) -> bool:
        """Whether all of these planes are present."""
        return bool(self.present[np.ix_(times, channels, sections)].all())

    def held_channels(self) -> tuple[int, ...]:
        """Channels of which at least one plane is present."""
        return tuple(channel for channel in range(self.present.shape[1]) if self.present[:, channel].any())

    def error(self) -> ImageError:
        """The error of reading a missing plane."""
        text = f"{self}: --partial of segment and suggest takes what is there; --t, --z or --channel choose a part"
        if self.cut:
            return ImageError("truncated", f"{text}; or copy it again")
        if self.files:
            return ImageError("missing_companion", text)
        return ImageError("missing_plane", text)

    def __str__(self) -> str:
        """Summary in one line for users: ``8 of 24 planes are missing (t 16 to 23)``."""
        verb = "is" if self.count == 1 else "are"
        places = ", ".join(
            filter(None, (self._place(axis, letter) for axis, letter in enumerate(("t", "channel", "z"))))
        )
        named = f"; not in the folder: {', '.join(self.files[:SHOWN])}" if self.files else ""
        more = f" and {len(self.files) - SHOWN} more" if len(self.files) > SHOWN else ""
        cut = f"{self.cut}: " if self.cut else ""
        return f"{cut}{self.count} of {self.total} planes {verb} missing ({places}{named}{more})"

    def _place(self, axis: int, letter: str) -> str:
        """Indices along an axis at which planes are missing; empty for an axis of length one."""
        others = tuple(other for other in range(3) if other != axis)
        lacking = np.flatnonzero(~self.present.all(axis=others))
        if self.present.shape[axis] == 1 or not len(lacking):
            return ""
        first, last = int(lacking[0]), int(lacking[-1])
        if first == last:
            return f"{letter} {first}"
        return f"{letter} {first} to {last}" if len(lacking) == last - first + 1 else f"{letter} {first} ... {last}"


def missing_position(name: str, planes: int) -> ImageError:
    """The error of an image of a file of several that has none of its planes."""
    return ImageError(
        MISSING_POSITION,
        f"position {name or '(no name)'}: none of its {planes} planes is there, as when an acquisition stopped or a "
        "file was cut: all others are there, and --partial of segment and suggest does without it",
    )


def longest_run(flags: Sequence[bool] | NDArray[np.bool_]) -> range:
    """Indices of the longest run of True, the first of equals; empty if there is none."""
    best, start = range(0), 0
    for index, flag in enumerate([*flags, False]):
        if flag:
            continue
        if index - start > len(best):
            best = range(start, index)
        start = index + 1
    return best
