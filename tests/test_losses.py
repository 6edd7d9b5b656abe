import math

import pytest
import torch

from unetbio.losses import weighted_cross_entropy

# Two pixels: probabilities of the true class are 1/2 and 3/4.
LOGITS = torch.tensor([[[[0.0, 0.0]], [[0.0, math.log(3.0)]]]])
TARGET = torch.tensor([[[0, 1]]])


def test_weights_multiply_the_loss_of_their_pixel() -> None:
    loss = weighted_cross_entropy(LOGITS, TARGET, torch.tensor([[[1.0, 11.0]]]))
    assert loss.item() == pytest.approx((math.log(2) + 11 * math.log(4 / 3)) / 2, rel=1e-6)


def test_pixels_without_weight_count_neither_above_nor_below_the_line() -> None:
    loss = weighted_cross_entropy(LOGITS, TARGET, torch.tensor([[[0.0, 2.0]]]))
    assert loss.item() == pytest.approx(2 * math.log(4 / 3), rel=1e-6)


def test_nothing_annotated_is_no_loss_and_no_nan() -> None:
    assert weighted_cross_entropy(LOGITS, TARGET, torch.zeros(1, 1, 2)).item() == 0.0
