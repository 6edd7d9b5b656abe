"""Boxes of Mask R-CNN: their arithmetic against MONAI and brute force, anchors, and proposals."""

import math

import pytest
import torch
from monai.apps.detection.utils.box_coder import BoxCoder
from monai.data.box_utils import box_iou
from torch import Tensor

from unetbio.networks.mask_rcnn import boxes as box_code
from unetbio.networks.mask_rcnn.proposals import (
    RegionProposals,
    make_anchors,
)


def random_boxes(count: int, size: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * size
    return torch.cat([corner, corner + 1 + torch.rand(count, 2, generator=generator) * size / 4], dim=1)


def test_overlaps_and_codes_agree_with_monai() -> None:
    first, second = random_boxes(40, 50, seed=1), random_boxes(40, 50, seed=2)
    assert torch.allclose(box_code.box_overlaps(first, second), box_iou(first, second), atol=1e-6)
    coder = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))
    deltas = box_code.encode_boxes(first, second, (10.0, 5.0))
    assert torch.allclose(deltas, coder.encode_single(first, second), atol=1e-4)


def test_codes_by_hand_and_back() -> None:
    reference = torch.tensor([[10.0, 20.0, 20.0, 40.0]])
    box = torch.tensor([[12.0, 20.0, 32.0, 40.0]])
    # The centre moves from 15 to 22 and the height doubles; along x all stays.
    deltas = box_code.encode_boxes(box, reference, (10.0, 5.0))
    assert torch.allclose(deltas, torch.tensor([[7.0, 0.0, 5 * math.log(2), 0.0]]))
    boxes, references = random_boxes(100, 300, seed=3), random_boxes(100, 300, seed=4)
    back = box_code.decode_boxes(box_code.encode_boxes(boxes, references, (10.0, 5.0)), references, (10.0, 5.0))
    assert torch.allclose(back, boxes, atol=1e-3)
    huge = box_code.decode_boxes(torch.full((1, 4), 1e4), reference, (1.0, 1.0))
    assert torch.allclose(huge[:, 2:] - huge[:, :2], torch.tensor([[625.0, 1250.0]]), rtol=1e-3)


def test_boxes_beyond_the_image_become_empty() -> None:
    clipped = box_code.clip_boxes(torch.tensor([[-5.0, 3.0, 7.0, 50.0], [30.0, 1.0, 40.0, 2.0]]), (20, 30))
    assert clipped.tolist() == [[0, 3, 7, 30], [20, 1, 20, 2]]
    assert box_code.box_areas(clipped).tolist() == [189, 0]


@pytest.mark.parametrize("most_overlap", [0.0, 0.3, 0.7])
def test_non_max_suppression_agrees_with_a_loop_over_all_pairs(most_overlap: float) -> None:
    boxes = random_boxes(75, 40)
    boxes = torch.cat([boxes, boxes + random_boxes(75, 1, seed=6) - 1])
    # Scores of two digits, so that some are equal
    scores = torch.rand(150, generator=torch.Generator().manual_seed(5)).mul(100).round() / 100
    kept: list[int] = []
    for index in sorted(range(150), key=lambda i: (-float(scores[i]), i)):
        y0, x0, y1, x1 = boxes[index].tolist()
        for other in kept:
            v0, u0, v1, u1 = boxes[other].tolist()
            common = max(0, min(y1, v1) - max(y0, v0)) * max(0, min(x1, u1) - max(x0, u0))
            if common / ((y1 - y0) * (x1 - x0) + (v1 - v0) * (u1 - u0) - common) > most_overlap:
                break
        else:
            kept.append(index)
    assert 10 < len(kept) < 150
    assert box_code.non_max_suppression(boxes, scores, most_overlap).tolist() == kept


def test_nothing_is_left_of_no_boxes() -> None:
    assert box_code.non_max_suppression(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []


def test_anchors_stand_in_the_middle_of_their_pixels_in_three_shapes() -> None:
    levels = make_anchors((16, 32, 64, 128, 256), [(2, 3), (1, 2), (1, 1), (1, 1), (1, 1)], torch.device("cpu"))
    assert [len(level) for level in levels] == [18, 6, 3, 3, 3]
    # The middle one of each place is square; places lie in raster order, 4 pixels apart.
    squares = levels[0][1::3]
    assert squares[0].tolist() == [-6, -6, 10, 10]
    assert squares[1].tolist() == [-6, -2, 10, 14]
    assert squares[3].tolist() == [-2, -6, 14, 10]
    assert levels[1][4].tolist() == [4 - 16, 12 - 16, 4 + 16, 12 + 16]
    sizes = levels[4][:, 2:] - levels[4][:, :2]
    assert torch.allclose(sizes.prod(dim=1), torch.tensor(256.0**2))
    assert torch.allclose(sizes[:, 0] / sizes[:, 1], torch.tensor([0.5, 1.0, 2.0]))


def test_proposals_are_the_best_of_all_levels_within_the_image_and_thinned_out() -> None:
    torch.manual_seed(0)
    proposals = RegionProposals(4, (16, 32, 64, 128, 256)).eval()
    with torch.no_grad():
        proposals.deltas.weight.mul_(0.1)
    generator = torch.Generator().manual_seed(0)
    shapes = [(32, 32), (16, 16), (8, 8), (4, 4), (2, 2)]
    pyramid = [torch.randn(2, 4, *shape, generator=generator) for shape in shapes]
    logits, deltas = proposals(pyramid)
    anchors = proposals.anchors(pyramid)
    found = proposals.proposals(logits, deltas, anchors, (128, 128))
    assert len(found) == 2
    for image, boxes in enumerate(found):
        assert 0 < len(boxes) <= 1000
        assert (boxes >= 0).all()
        assert (boxes <= 128).all()
        best = torch.cat([level[image] for level in logits]).argmax()
        decoded = box_code.decode_boxes(
            torch.cat([level[image] for level in deltas])[best, None], torch.cat(anchors)[best, None], (1.0, 1.0)
        )
        assert torch.allclose(boxes[:1], box_code.clip_boxes(decoded, (128, 128)))
