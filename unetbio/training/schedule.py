"""The schedule of a training: how far it is, its learning rate, when it validates, and how long it takes."""

import bisect
import math
from dataclasses import dataclass

from unetbio.settings.training import TrainingConfig
from unetbio.training.history import History, duration

__all__ = ["VALIDATIONS", "Schedule", "rate_factor"]

WARM_UP = 0.1
"""Share of a cycle over which the learning rate rises."""

VALIDATIONS = 12
"""Validations of a training that does not state their distance."""

LEAST_PAUSE = 5.0
"""Between validations by time, as a multiple of what one takes: they take a sixth of the time at most."""


@dataclass(frozen=True)
class Schedule:
    """A training of so many steps, or of so many minutes.

    Its methods take the number of steps done, and the seconds that they and their validations have taken. Of a training
    by minutes, the learning rate is stretched to them.
    """

    config: TrainingConfig
    minutes: float | None

    def progress(self, step: int, seconds: float) -> float:
        """Share of the training that is done; 1 or more at its end."""
        return step / self.config.steps if self.minutes is None else seconds / (60 * self.minutes)

    def learning_rate(self, step: int, seconds: float) -> float:
        """Learning rate of the next step."""
        position = step if self.minutes is None else self.progress(step, seconds) * self.config.steps
        return self.config.learning_rate * rate_factor(self.config, position)

    def is_validation_due(self, step: int, pause: float, validation_seconds: float) -> bool:
        """Whether to validate after a step: by steps, or by the pause since the last validation and its own time."""
        every = self.config.validate_every
        if every is None and self.minutes is not None:
            return pause >= max(60 * self.minutes / VALIDATIONS, LEAST_PAUSE * validation_seconds)
        return step % (every or max(1, self.config.steps // VALIDATIONS)) == 0

    def forecast(self, step: int, seconds: float, step_seconds: float) -> str:
        """How far the training will come, from the time that a step takes."""
        takes = f"a step takes {step_seconds:.2f} s"
        if self.minutes is None:
            left = duration(step_seconds * (self.config.steps - step))
            return f"{takes}: {self.config.steps} steps take {left} more, and the validations"
        steps = step + round(max(0.0, 60 * self.minutes - seconds) / step_seconds)
        return f"{takes}: {self.minutes:.3g} minutes give about {steps} steps, less the validations"

    def line(self, step: int, history: History) -> str:
        """Steps, last loss, and the time spent and left."""
        progress = min(1.0, self.progress(step, history.seconds))
        left = history.seconds * (1 - progress) / progress if progress else float("nan")
        loss = f"loss {history.losses[-1]:.4f}, " if history.losses else ""
        total = f"/{self.config.steps}" if self.minutes is None else ""
        return f"step {step}{total}, {loss}{duration(history.seconds)} spent, {duration(left)} left"


def rate_factor(config: TrainingConfig, position: float) -> float:
    """Factor of ``config.learning_rate``: one cycle, or one between each two restarts; or constant with drops.

    Parameters
    ----------
    config : TrainingConfig
        Schedule, steps, restarts, drops and power.
    position : float
        Steps done, from 0 to ``config.steps``.
    """
    if config.schedule == "constant":
        return float(0.1 ** sum(position / config.steps >= drop for drop in config.rate_drops))
    edges = [0, *config.restarts, config.steps]
    cycle = min(bisect.bisect_right(edges, position), len(edges) - 1) - 1
    progress = min(1.0, (position - edges[cycle]) / (edges[cycle + 1] - edges[cycle]))
    return _one_cycle(progress) if config.schedule == "one_cycle" else (1 - progress) ** config.poly_power


def _one_cycle(progress: float) -> float:
    if progress < WARM_UP:
        return 0.05 + 0.95 * progress / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))
