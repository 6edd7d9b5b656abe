"""The learning rate over a training, as a factor of the one in the settings."""

import bisect
import math

from unetbio.settings.training import TrainingConfig

__all__ = ["rate_factor"]

WARM_UP = 0.1
"""Share of a cycle over which the learning rate rises."""


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
