"""What a training run has done so far."""

import math
from dataclasses import dataclass, field

__all__ = ["History", "duration"]


@dataclass
class History:
    """Losses and validation scores of a training run.

    Parameters
    ----------
    steps, losses : list
        Step numbers and the mean loss since the one before.
    validation_steps, validation_scores : list
        Steps of the validations and their scores.
    seconds : float
        Time spent in steps and validations, over all sessions of the run.
    """

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    validation_steps: list[int] = field(default_factory=list)
    validation_scores: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0


def duration(seconds: float) -> str:
    """Hours, minutes and seconds; a question mark where they are unknown."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
