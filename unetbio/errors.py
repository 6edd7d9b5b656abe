"""Errors shown to users, each with its exit code.

Every message is one line that names what was given, what is needed and what to do about it.
"""

__all__ = [
    "CancelledError",
    "EnvironmentStoppedError",
    "GeometryError",
    "ImageError",
    "ModelError",
    "UnetbioError",
    "UsageError",
]


class UnetbioError(Exception):
    """Base of every error that is shown to a user as one line, without a traceback."""

    exit_code = 1


class UsageError(UnetbioError):
    """An option, a folder or a table cannot be used as given."""

    exit_code = 2


class ModelError(UsageError):
    """A model file is missing, is invalid, or does not fit the request."""


class GeometryError(UsageError):
    """A size that a network cannot take."""


class ImageError(UnetbioError):
    """One image cannot be processed; the rest of a batch goes on.

    Parameters
    ----------
    reason : str
        Short code for tables, in snake case: ``unreadable``, ``unknown_axes``, ``wrong_channels``, ``not_finite`` ...
    message : str
        One line: what was found and what to do. The caller that reports it adds the path.
    """

    exit_code = 3

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class CancelledError(UnetbioError):
    """A program cancelled a segmentation that it had started."""


class EnvironmentStoppedError(UnetbioError):
    """The machine cannot go on: disk full, output folder not writable, output locked by another run."""

    exit_code = 4
