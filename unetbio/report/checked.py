"""Findings of ``unetbio check`` for the page of a run."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetbio.errors import UsageError
from unetbio.files import read_bytes

__all__ = ["Checked", "FoundImage", "read_check"]


@dataclass(frozen=True)
class FoundImage:
    """An image with findings.

    Parameters
    ----------
    path, series : str
        As in the tables; the series is empty if none was selected.
    codes : tuple of str
        Codes of the findings.
    message : str
        The findings in words.
    """

    path: str
    series: str
    codes: tuple[str, ...]
    message: str

    @property
    def name(self) -> str:
        """Name of the image on the page."""
        return f"{self.path}, series {self.series}" if self.series else self.path


@dataclass(frozen=True)
class Checked:
    """Result of a check.

    Parameters
    ----------
    images : tuple of FoundImage
        Images with findings.
    failed : str
        Why the check failed; empty if it did not.
    """

    images: tuple[FoundImage, ...] = ()
    failed: str = ""

    @property
    def counts(self) -> list[tuple[str, int]]:
        """Codes and their number of images, the most frequent first."""
        return Counter(code for image in self.images for code in image.codes).most_common()


def read_check(path: Path) -> Checked:
    """Read the output of ``unetbio check --json``, or the note of a failed check in the workflow.

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
        When the file cannot be read or has another content.
    """
    try:
        found = json.loads(read_bytes(path))
        if "failed" in found:
            return Checked(failed=str(found["failed"]))
        return Checked(tuple(_found(row) for row in found["files"] if row["status"] != "ok"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"--check {path} is not what unetbio check prints with --json: "
            "make one with unetbio check INPUT --json > check.json"
        ) from error


def _found(row: dict[str, Any]) -> FoundImage:
    series = "" if row["series"] is None else str(row["series"])
    return FoundImage(row["path"], series, tuple(dict.fromkeys(row["code"].split(";"))), row["message"])
