import math

import pytest
import torch

from unetbio.supervision.losses import (
    LOSSES,
    cross_entropy_dice,
    dice,
    nested_cross_entropy,
    weighted_cross_entropy,
)

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


def test_dice_of_one_class_by_hand() -> None:
    # Probabilities of class 1 are 1/2 and 3/4, the second pixel is of class 1: 2 * 3/4 over 5/4 + 1.
    assert dice(LOGITS, TARGET, torch.ones(1, 1, 2)).item() == pytest.approx(1 - 1.5 / 2.25, abs=1e-5)


def test_dice_does_not_see_what_is_left_out_nor_how_much_a_pixel_weighs() -> None:
    # The second pixel alone: 2 * 3/4 over 3/4 + 1.
    assert dice(LOGITS, TARGET, torch.tensor([[[0.0, 7.0]]])).item() == pytest.approx(1 - 1.5 / 1.75, abs=1e-5)
    assert dice(LOGITS, TARGET, torch.zeros(1, 1, 2)).item() == pytest.approx(0.0)


def test_dice_is_the_mean_over_classes_and_its_sums_run_over_the_batch() -> None:
    # Two images of one pixel, three classes, each with a third of the probability; the truth is classes 1 and 2.
    loss = dice(torch.zeros(2, 3, 1, 1), torch.tensor([[[1]], [[2]]]), torch.ones(2, 1, 1))
    # Each class: 2 * 1/3 over 2/3 + 1.
    assert loss.item() == pytest.approx(1 - (2 / 3) / (5 / 3), abs=1e-5)


def test_the_sum_is_the_sum() -> None:
    weight_map = torch.tensor([[[1.0, 11.0]]])
    parts = weighted_cross_entropy(LOGITS, TARGET, weight_map) + dice(LOGITS, TARGET, weight_map)
    assert cross_entropy_dice(LOGITS, TARGET, weight_map).item() == parts.item()


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_falls_along_its_gradient(name: str) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 5, 6, 7, requires_grad=True)
    target = torch.randint(4, (2, 5, 6, 7))
    weight_map = (torch.rand(2, 5, 6, 7) > 0.2).float()
    loss = LOSSES[name](logits, target, weight_map)
    loss.backward()
    assert logits.grad is not None
    assert LOSSES[name](logits - logits.grad, target, weight_map) < loss
    # Unannotated pixels contribute nothing to the loss.
    assert not logits.grad.movedim(1, -1)[weight_map == 0].any()


def nested(weights: list[float], target: int) -> float:
    """Loss of one pixel with probabilities 1/8, 1/8, 1/4, 1/2."""
    logits = torch.tensor([1.0, 1.0, 2.0, 4.0]).log().view(1, 4, 1, 1)
    return nested_cross_entropy(logits, torch.tensor([[[target]]]), torch.tensor(weights).view(1, 2, 1, 1)).item()


@pytest.mark.parametrize(
    ("target", "terms"), [(0, [8]), (1, [8 / 7, 7]), (2, [8 / 7, 7 / 6, 3]), (3, [8 / 7, 7 / 6, 1.5])]
)
def test_the_outline_and_the_inner_parts_of_nested_classes_have_weights_of_their_own(
    target: int, terms: list[float]
) -> None:
    outline, *inner = (math.log(term) for term in terms)
    assert nested([3.0, 5.0], target) == pytest.approx(3 * outline + 5 * sum(inner), rel=1e-5)


def test_nested_classes_without_weights_have_the_plain_cross_entropy() -> None:
    logits = torch.randn(2, 5, 7, 6, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 5, (2, 7, 6), generator=torch.Generator().manual_seed(1))
    weight_map = torch.ones(2, 2, 7, 6)
    weight_map[:, :, :3] = 0  # not annotated
    expected = weighted_cross_entropy(logits, target, weight_map[:, 0])
    torch.testing.assert_close(nested_cross_entropy(logits, target, weight_map), expected)
