"""What Mask R-CNN learns from: annotations, boxes matched with objects, and losses by hand."""

import math

import pytest
import torch

from unetbio.networks.mask_rcnn.network import Regions, mask_loss, mask_targets, region_losses, sample_regions
from unetbio.networks.mask_rcnn.proposals import (
    GROUND,
    IGNORED,
    Annotation,
    RegionProposals,
    annotations_of,
    match_boxes,
    sample_matches,
    smooth_l1,
)


def test_annotations_of_a_label_image_by_hand() -> None:
    label_image = torch.tensor([[7, 7, 0, 0], [7, 2, 2, 0], [0, 2, 2, 2]])
    classes = torch.tensor([[1, 3, 0, 0], [3, 0, 2, 0], [0, 1, 2, 0]])
    unknown_weights = torch.ones(3, 4)
    unknown_weights[0, 2:] = 0
    (known,) = annotations_of(label_image[None], classes[None], unknown_weights[None])
    assert known.ids.tolist() == [2, 7]
    assert known.boxes.tolist() == [[1, 1, 3, 4], [0, 0, 2, 2]]
    # Object 2 has two pixels of class 2, one of class 1 and two that say background.
    assert known.classes.tolist() == [2, 3]
    assert known.unknown.tolist() == [[0] * 5, [0, 0, 0, 1, 2], [0, 0, 0, 1, 2], [0, 0, 0, 1, 2]]
    (plain,) = annotations_of(label_image[None])
    assert plain.classes.tolist() == [1, 1]
    (empty,) = annotations_of(torch.zeros(1, 3, 4, dtype=torch.int64), torch.zeros(1, 3, 4, dtype=torch.int64))
    assert empty.boxes.shape == (0, 4)


def annotation(boxes: list[list[float]], classes: list[int] | None = None, side: int = 100) -> Annotation:
    count = len(boxes)
    return Annotation(
        torch.arange(1, count + 1),
        torch.tensor(boxes).reshape(-1, 4),
        torch.tensor(classes or [1] * count, dtype=torch.int64),
        torch.zeros(side + 1, side + 1, dtype=torch.int64),
    )


def test_boxes_are_matched_with_the_object_they_overlap_most() -> None:
    known = annotation([[0, 0, 10, 10], [20, 20, 30, 30], [60, 60, 64, 64]])
    boxes = torch.tensor(
        [
            [0.0, 0.0, 10.0, 8.0],  # .8 of the first
            [20.0, 20.0, 30.0, 25.0],  # .5 of the second
            [0.0, 0.0, 2.0, 10.0],  # .2 of the first
            [60.0, 60.0, 72.0, 72.0],  # 1/9 of the third, and nothing overlaps that more
            [80.0, 80.0, 90.0, 90.0],
        ]
    )
    matches = match_boxes(boxes, known, object_overlap=0.7, ground_overlap=0.3)
    assert matches.tolist() == [0, IGNORED, GROUND, GROUND, GROUND]
    matches = match_boxes(boxes, known, object_overlap=0.7, ground_overlap=0.3, best_too=True)
    assert matches.tolist() == [0, 1, GROUND, 2, GROUND]
    assert match_boxes(boxes, annotation([]), object_overlap=0.7, ground_overlap=0.3).tolist() == [GROUND] * 5


def test_background_that_was_mostly_not_annotated_teaches_nothing() -> None:
    weight_map = torch.ones(1, 20, 20)
    weight_map[0, :, 10:] = 0
    (known,) = annotations_of(torch.zeros(1, 20, 20, dtype=torch.int64), weight_map=weight_map)
    boxes = torch.tensor(
        [[0.0, 0.0, 10.0, 10.0], [0.0, 4.0, 10.0, 14.0], [0.0, 6.0, 10.0, 16.0], [5.0, 9.0, 15.0, 99.0]]
    )
    matches = match_boxes(boxes, known, object_overlap=0.5, ground_overlap=0.5)
    assert matches.tolist() == [GROUND, GROUND, IGNORED, IGNORED]


def test_no_more_boxes_are_drawn_than_asked_for_and_at_most_a_share_of_objects() -> None:
    torch.manual_seed(0)
    matches = torch.tensor([GROUND] * 50 + [3] * 30 + [IGNORED] * 20)
    objects, ground = sample_matches(matches, 16, 0.25)
    assert len(objects) == 4
    assert len(ground) == 12
    assert (matches[objects] == 3).all()
    assert (matches[ground] == GROUND).all()
    assert len(set(ground.tolist())) == 12
    objects, ground = sample_matches(matches[:52], 100, 0.25)
    assert (len(objects), len(ground)) == (2, 50)


def test_annotated_boxes_are_among_the_regions_that_teach() -> None:
    known = annotation([[0, 0, 10, 10], [20, 20, 40, 40]], classes=[2, 1])
    regions = sample_regions(torch.tensor([[50.0, 50.0, 60.0, 60.0]]), known)
    assert sorted(regions.numbers.tolist()) == [0, 1]
    assert regions.classes.tolist() == [known.classes[number] for number in regions.numbers] + [0]
    assert torch.equal(regions.boxes[:2], known.boxes[regions.numbers])


def test_smooth_l1_is_a_square_near_zero_and_a_line_beyond_a_ninth() -> None:
    # 9 / 2 * .1 ** 2 and .5 - 1 / 18
    assert smooth_l1(torch.tensor([0.1, -0.5]), torch.zeros(2)).item() == pytest.approx(0.045 + 0.5 - 1 / 18)


def test_losses_of_proposals_by_hand() -> None:
    proposals = RegionProposals(1, (16,) * 5)
    anchors = [torch.tensor([[0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]])]
    # The object is the first anchor moved by a pixel, so that its target is (.1, 0, 0, 0).
    known = [annotation([[1, 0, 11, 10]])]
    logits = [torch.tensor([[2.0, -1.0]])]
    deltas = [torch.tensor([[[0.6, 0.0, 0.0, 0.0], [9.0, 9.0, 9.0, 9.0]]])]
    objectness, boxes = proposals.losses(logits, deltas, anchors, known)
    assert objectness.item() == pytest.approx((math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2)
    assert boxes.item() == pytest.approx((0.5 - 1 / 18) / 2)


def test_losses_of_regions_by_hand() -> None:
    known = [annotation([[0, 0, 10, 10]], classes=[2])]
    boxes = torch.tensor([[0.0, 1.0, 10.0, 11.0], [50.0, 50.0, 60.0, 60.0]])
    regions = [Regions(boxes, torch.tensor([2, 0]), torch.tensor([0]))]
    logits = torch.tensor([[0.0, 0.0, math.log(2)], [math.log(3), 0.0, 0.0]])
    # The target of the first: a tenth of the width to the left, times 10. Boxes of other classes do not count.
    deltas = torch.full((2, 3, 4), 7.0)
    deltas[0, 2] = torch.tensor([0.0, -0.5, 0.0, 0.0])
    classification, box = region_losses(logits, deltas, regions, known)
    assert classification.item() == pytest.approx((math.log(4 / 2) + math.log(5 / 3)) / 2)
    assert box.item() == pytest.approx((0.5 - 1 / 18) / 2)


def test_only_the_true_classes_mask_is_learned() -> None:
    logits = torch.full((2, 3, 1, 2), 50.0)
    logits[0, 1] = torch.tensor([[0.0, math.log(3)]])
    logits[1, 2] = torch.tensor([[-math.log(3), 0.0]])
    targets = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    loss = mask_loss(logits, targets, torch.tensor([1, 2]))
    assert loss.item() == pytest.approx((math.log(2) + math.log(4) + math.log(4 / 3) + math.log(2)) / 4)


def test_masks_of_boxes_of_28_pixels_are_the_pixels() -> None:
    label_images = torch.randint(0, 3, (2, 40, 40), generator=torch.Generator().manual_seed(0))
    known = annotations_of(label_images)
    boxes = torch.tensor([[5.0, 7.0, 33.0, 35.0]])
    regions = [Regions(boxes, torch.tensor([1]), torch.tensor([number])) for number in (0, 1)]
    targets = mask_targets(label_images, regions, known)
    assert torch.equal(targets[0], (label_images[0, 5:33, 7:35] == 1).float())
    assert torch.equal(targets[1], (label_images[1, 5:33, 7:35] == 2).float())
