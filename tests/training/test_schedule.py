"""The learning rate over a training."""

import pytest

from unetbio.settings.training import TrainingConfig
from unetbio.training.schedule import rate_factor


def test_the_learning_rate_rises_falls_and_begins_anew_at_restarts() -> None:
    config = TrainingConfig(steps=30, restarts=(20,))
    factors = [rate_factor(config, step) for step in range(30)]
    assert factors[0] == factors[20] == pytest.approx(0.05)
    assert factors[2] == factors[21] == 1.0  # the end of each warm-up: a tenth of 20 steps and of 10
    assert factors[2:20] == sorted(factors[2:20], reverse=True)
    assert factors[19] < 0.02 > factors[29] - 0.03


def test_the_learning_rate_falls_as_a_power_of_what_is_left() -> None:
    config = TrainingConfig(steps=30, schedule="poly", poly_power=0.9)
    factors = [rate_factor(config, step) for step in (0, 15, 29)]
    assert factors == pytest.approx([1.0, 0.5**0.9, (1 / 30) ** 0.9])


def test_the_learning_rate_drops_to_a_tenth() -> None:
    config = TrainingConfig(steps=30, schedule="constant", rate_drops=(0.5, 0.8))
    factors = [rate_factor(config, step) for step in (0, 14, 15, 23, 24)]
    assert factors == pytest.approx([1.0, 1.0, 0.1, 0.1, 0.01])
