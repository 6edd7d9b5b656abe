"""Notes for users that a command shows once a run, however many images they hold for."""

import logging

__all__ = ["ONCE", "say_once", "say_without_effect", "warn_once", "without_effect"]

logger = logging.getLogger(__name__)

ONCE = "once"
"""Attribute of the log records of notes."""


def say_once(line: str) -> None:
    """Log a line that the command line shows once a run."""
    logger.info("%s", line, extra={ONCE: True})


def warn_once(line: str) -> None:
    """Log a warning that the command line shows once a run."""
    logger.warning("%s", line, extra={ONCE: True})


def say_without_effect(option: str, reason: str) -> None:
    """Log that an option, setting or column was given and changes nothing.

    Parameters
    ----------
    option : str
        As the user has written it, such as ``--z max``.
    reason : str
        Why it has no meaning for this input or model.
    """
    say_once(without_effect(option, reason))


def without_effect(option: str, reason: str) -> str:
    """Text of `say_without_effect`."""
    return f"{option} changes nothing here: {reason}"
