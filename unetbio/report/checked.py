"""What ``unetbio check`` found, for the page of a run."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetbio.errors import UsageError

__all__ = ["Checked", "FoundImage", "read_check"]


@dataclass(frozen=True)
class FoundImage:
    """An image with findings: its name in tables, the codes of what was found, and what they say in words."""

    name: str
    codes: tuple[str, ...]
    message: str


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Parameters
    ----------
    images : tuple of FoundImage
        Those that can be read and are odd; what cannot be read fails in the run.
    failed : str
        Why the check could not be made; empty where it was.
    """

    images: tuple[FoundImage, ...] = ()
    failed: str = ""

    @property
    def counts(self) -> list[tuple[str, int]]:
        """Codes and how many images have them, the most frequent first."""
        return Counter(code for image in self.images for code in image.codes).most_common()


def read_check(path: Path) -> Checked:
    """Read what ``unetbio check --json`` printed, or what the workflow wrote in its place.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    Checked

    Raises
    ------
    UsageError
        When the file cannot be read or is something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if "failed" in found:
            return Checked(failed=str(found["failed"]))
        return Checked(tuple(_found(row) for row in found["files"] if row["status"] == "found"))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"--check {path} is not what unetbio check --json prints ({type(error).__name__}: {error})"
        ) from error


def _found(row: dict[str, Any]) -> FoundImage:
    codes = tuple(dict.fromkeys(str(row["code"]).split(";")))
    return FoundImage(str(row["path"]), codes, str(row["message"]))
