"""Mask R-CNN: its parts against arithmetic by hand and brute force, the whole on one image."""

import math
import re

import pytest
import torch
from monai.apps.detection.utils.box_coder import BoxCoder
from monai.data.box_utils import box_iou
from safetensors.torch import load, save
from torch import Tensor

from unetbio import networks
from unetbio.errors import GeometryError, UsageError
from unetbio.geometry import receptive_field
from unetbio.inference.objects import predict_objects
from unetbio.networks.mask_rcnn import boxes as box_code
from unetbio.networks.mask_rcnn.feature_pyramid import FeaturePyramid
from unetbio.networks.mask_rcnn.network import MaskRCNN, Regions, mask_loss, mask_targets, region_losses, sample_regions
from unetbio.networks.mask_rcnn.proposals import (
    GROUND,
    IGNORED,
    Annotation,
    RegionProposals,
    annotations_of,
    make_anchors,
    match_boxes,
    sample_matches,
    smooth_l1,
)
from unetbio.networks.mask_rcnn.roi_align import assign_levels, roi_align, sample_label_images

BOX_COLUMNS = ("y_start", "x_start", "y_stop", "x_stop")
TINY = {"width": 1 / 16, "backbone": "resnet18"}


def random_boxes(count: int, size: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * size
    return torch.cat([corner, corner + 1 + torch.rand(count, 2, generator=generator) * size / 4], dim=1)


def align_by_hand(features: Tensor, box: list[float], stride: int, bins: int) -> Tensor:
    """RoIAlign of one box, sample by sample, in float64: ``(C, H, W) -> (C, bins, bins)``."""
    channels, height, width = features.shape
    y0, x0, y1, x1 = (edge / stride for edge in box)

    def sample(y: float, x: float) -> Tensor:
        if not (-1 <= y <= height and -1 <= x <= width):
            return torch.zeros(channels, dtype=torch.float64)
        y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
        top, left = math.floor(y), math.floor(x)
        total = torch.zeros(channels, dtype=torch.float64)
        for row, row_weight in ((top, 1 - (y - top)), (top + 1, y - top)):
            for column, column_weight in ((left, 1 - (x - left)), (left + 1, x - left)):
                if row_weight * column_weight > 0:
                    total += row_weight * column_weight * features[:, row, column].double()
        return total

    result = torch.zeros(channels, bins, bins, dtype=torch.float64)
    for i in range(bins):
        for j in range(bins):
            for a in (0.25, 0.75):
                for b in (0.25, 0.75):
                    y = y0 + (y1 - y0) * (i + a) / bins - 0.5
                    x = x0 + (x1 - x0) * (j + b) / bins - 0.5
                    result[:, i, j] += sample(y, x) / 4
    return result


@pytest.mark.parametrize("bins", [7, 14])
def test_roi_align_agrees_with_a_loop_over_samples_in_float64(bins: int) -> None:
    generator = torch.Generator().manual_seed(0)
    pyramid = [torch.randn(2, 3, 512 // stride, 640 // stride, generator=generator) for stride in (4, 8, 16, 32)]
    boxes = [
        [
            [10.3, 20.7, 31.2, 77.7],
            [-30.0, 600.0, 40.0, 690.0],  # half outside, at two sides
            [100.2, 100.4, 100.9, 100.6],  # within a pixel
            [300.0, 300.0, 300.0, 300.0],  # empty
        ],
        [
            [0.0, 0.0, 512.0, 640.0],
            [-400.0, -300.0, -200.0, -100.0],  # far outside
            [490.0, 10.0, 560.0, 300.0],
            [17.0, 13.0, 140.0, 150.0],
            [33.3, 250.0, 270.9, 600.1],
        ],
    ]
    found = roi_align(pyramid, [torch.tensor(part) for part in boxes], bins)
    expected = []
    for image, part in enumerate(boxes):
        for box in part:
            size = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
            level = min(max(math.floor(4 + math.log2(size / 224)), 2), 5) if size else 2
            expected.append(align_by_hand(pyramid[level - 2][image], box, 2**level, bins))
    assert found.shape == (9, 3, bins, bins)
    assert (found - torch.stack(expected)).abs().max() <= 1e-5
    assert found[5].abs().max() == 0


def test_roi_align_of_the_ramp_of_columns_is_the_ramp_within_the_box() -> None:
    # Pixel i of the map has its centre at i + 1/2 there and at 4 i + 2 in the image; its value is i.
    ramp = torch.arange(32.0).expand(1, 1, 32, 32)
    found = roi_align([ramp], [torch.tensor([[8.0, 40.0, 36.0, 68.0]])], 7)
    # Seven bins of 4 pixels: their centres are 42, 46 ... in the image, so 10, 11 ... in the map
    assert torch.allclose(found[0, 0], torch.arange(10.0, 17.0).expand(7, 7))


def test_gradients_flow_through_roi_align_as_differences_say() -> None:
    features = torch.randn(1, 2, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    boxes = [torch.tensor([[1.0, 2.0, 13.0, 11.0], [-3.0, 8.0, 9.0, 30.0]])]
    assert torch.autograd.gradcheck(lambda table: roi_align([table], boxes, 2), features.requires_grad_())


def test_boxes_of_half_the_size_are_looked_at_one_level_finer() -> None:
    sizes = [0.0, 10.0, 111.9, 112.0, 223.9, 224.0, 448.0, 5000.0]
    boxes = torch.tensor([[7.0, 9.0, 7 + size, 9 + size] for size in sizes])
    assert assign_levels(boxes, 4).tolist() == [0, 0, 0, 1, 1, 2, 3, 3]
    # 56 x 224: the root of the area is 112
    assert assign_levels(torch.tensor([[0.0, 0.0, 56.0, 224.0]]), 4).tolist() == [1]


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


def test_share_of_a_bin_that_an_object_covers_by_hand() -> None:
    label_image = torch.tensor([[4, 4, 4, 4], [4, 4, 0, 0]])
    covered = sample_label_images(
        label_image[None], torch.tensor([4]), torch.tensor([0]), torch.tensor([[0.0, 0.0, 2.0, 4.0]]), 1
    )
    # Rows are sampled at .5 and 1.5, columns at 1 and 3: between columns 0 and 1, and between columns 2 and 3.
    assert covered.tolist() == [[[0.75]]]


def test_the_pyramid_adds_each_coarser_map_repeated() -> None:
    pyramid = FeaturePyramid((1, 1), 1)
    with torch.no_grad():
        for layer in pyramid.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.weight.zero_()
                layer.weight[0, 0, layer.kernel_size[0] // 2, layer.kernel_size[1] // 2] = 1
                torch.nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    fine = torch.arange(36.0).reshape(1, 1, 6, 6)
    coarse = torch.tensor([[100.0, 200, 300], [400, 500, 600], [700, 800, 900]])[None, None]
    maps = pyramid([fine, coarse])
    assert maps[0][0, 0, 0].tolist() == [100, 101, 202, 203, 304, 305]
    assert maps[0][0, 0, 3].tolist() == [418, 419, 520, 521, 622, 623]
    assert torch.equal(maps[1], coarse)
    assert maps[2].tolist() == [[[[100, 300], [700, 900]]]]


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


# The whole network


def discs(side: int = 128) -> tuple[Tensor, Tensor]:
    """One image with six discs, two of which touch: ``(1, 1, side, side)`` and its label image."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    label_image = torch.zeros(side, side, dtype=torch.int64)
    places = [(25, 25, 12), (30, 80, 15), (70, 40, 10), (75, 100, 18), (110, 30, 12), (70, 61, 10)]
    for number, (y, x, radius) in enumerate(places, start=1):
        label_image[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = number
    noise = 0.1 * torch.randn(side, side, generator=torch.Generator().manual_seed(0))
    return ((label_image > 0).float() + noise)[None, None], label_image[None]


def build(seed: int = 0, **parameters: object) -> MaskRCNN:
    torch.manual_seed(seed)
    network = networks.build("mask_rcnn", {**TINY, **parameters})
    assert isinstance(network, MaskRCNN)
    return network


def test_parameters_agree_with_torchvision() -> None:
    (published,) = networks.find("mask_rcnn").published
    with torch.device("meta"):
        network = networks.build("mask_rcnn", published.parameters)
    # Batch norm is frozen there: a scale and a shift for each of ResNet-50's 26 560 normalised channels
    assert networks.parameter_count(network) == published.count + 2 * 26_560


@pytest.mark.parametrize(("in_channels", "num_classes"), [(1, 2), (3, 4)])
def test_every_parameter_gets_a_gradient(in_channels: int, num_classes: int) -> None:
    network = build(in_channels=in_channels, num_classes=num_classes)
    image, label_images = discs()
    class_masks = (label_images % (num_classes - 1) + 1) * (label_images > 0)
    network.loss(
        image.expand(2, in_channels, -1, -1), label_images.expand(2, -1, -1), class_masks=class_masks.expand(2, -1, -1)
    ).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_loss_is_the_sum_of_five_and_follows_the_seed() -> None:
    network = build()
    image, label_images = discs()
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(network.loss(image, label_images))
    torch.manual_seed(1)
    parts = network.losses(image, label_images)
    assert list(parts) == ["objectness", "proposal_boxes", "classes", "boxes", "masks"]
    assert losses[0].shape == ()
    assert losses[0] == losses[1]
    assert losses[0].item() == pytest.approx(sum(part.item() for part in parts.values()))
    assert losses[0] != losses[2]


def test_images_without_cells_teach_what_background_is() -> None:
    network = build()
    image, label_images = discs()
    parts = network.losses(image, torch.zeros_like(label_images))
    assert parts["objectness"] > 0
    assert parts["classes"] > 0
    assert parts["proposal_boxes"] == parts["boxes"] == parts["masks"] == 0
    torch.stack(list(parts.values())).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    nothing_known = network.losses(image, torch.zeros_like(label_images), weight_map=torch.zeros_like(image[:, 0]))
    assert all(part == 0 for part in nothing_known.values())


def test_the_loss_is_computed_in_full_precision_under_autocast() -> None:
    network = build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = network.loss(*discs())
    assert loss.dtype == torch.float32
    assert loss.isfinite()


@pytest.mark.parametrize(("in_channels", "num_classes", "shape"), [(1, 2, (64, 96)), (3, 4, (32, 32))])
def test_objects_lie_in_the_image_and_are_the_same_each_time_and_after_saving(
    in_channels: int, num_classes: int, shape: tuple[int, int]
) -> None:
    network = build(in_channels=in_channels, num_classes=num_classes).eval()
    image = torch.randn(1, in_channels, *shape, generator=torch.Generator().manual_seed(3))
    found = network.find_objects(image)
    count = len(found.boxes)
    assert 0 < count <= 1000
    assert found.boxes.shape == (count, 4)
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= torch.tensor([*shape, *shape])).all()
    assert found.masks.shape == (count, 28, 28)
    assert ((found.masks >= 0) & (found.masks <= 1)).all()
    assert set(found.classes.tolist()) == set(range(1, num_classes))
    assert (found.scores.diff() <= 0).all()
    assert found.scores.min() >= 0.05
    loaded = build(seed=1, in_channels=in_channels, num_classes=num_classes).eval()
    loaded.load_state_dict(load(save(network.state_dict())))
    for other in (network.find_objects(image), loaded.find_objects(image)):
        for name in ("boxes", "scores", "classes", "masks"):
            assert torch.equal(getattr(found, name), getattr(other, name))


def test_where_nothing_scores_nothing_is_found() -> None:
    network = build().eval()
    with torch.no_grad():
        network.box_head.classes.bias[0] = 100.0
    found = network.find_objects(discs()[0])
    assert [tuple(part.shape) for part in (found.boxes, found.scores, found.classes, found.masks)] == [
        (0, 4),
        (0,),
        (0,),
        (0, 28, 28),
    ]


def test_forward_gives_maps_and_an_answer_for_every_anchor() -> None:
    answer = build().eval()(torch.zeros(2, 1, 96, 64))
    assert [tuple(level.shape[2:]) for level in answer.pyramid] == [(24, 16), (12, 8), (6, 4), (3, 2), (2, 1)]
    assert [tuple(level.shape) for level in answer.logits] == [(2, 3 * n) for n in (384, 96, 24, 6, 2)]
    assert [tuple(level.shape) for level in answer.deltas] == [(2, 3 * n, 4) for n in (384, 96, 24, 6, 2)]


def test_an_answer_on_the_coarsest_map_sees_what_the_path_says() -> None:
    parameters = networks.find("mask_rcnn").complete({"width": 1 / 64, "backbone": "resnet18"})
    path = networks.find("mask_rcnn").path(parameters)
    network = networks.build("mask_rcnn", parameters).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.1)
    ends = []
    for falling in (True, False):
        # Max pooling passes the largest on, so that on a slope it is the pixel at that end of its window.
        slope = torch.linspace(1, 2, 1024).expand(1, 1, 32, 1024)
        image = (slope.flip(3) if falling else slope).clone().requires_grad_()
        logits = network(image).logits[-1].reshape(1, 16, 3)
        (gradient,) = torch.autograd.grad(logits[0, 8].sum(), image)
        seen = gradient.sum(dim=(0, 1, 2)).nonzero()
        ends.append(int(seen.min() if falling else seen.max()))
    assert ends[1] - ends[0] + 1 == receptive_field(path)


@pytest.mark.slow
def test_six_discs_are_found_after_being_seen_fifty_times() -> None:
    network = build()
    image, label_images = discs()
    optimizer = torch.optim.AdamW(network.parameters(), lr=6e-3)
    for _ in range(50):
        optimizer.zero_grad()
        network.loss(image, label_images).backward()
        optimizer.step()
    label_image, table = predict_objects(image[0].numpy(), network)  # type: ignore[arg-type]
    (known,) = annotations_of(label_images)
    boxes = torch.stack([torch.from_numpy(table[f"bbox_{side}"]) for side in BOX_COLUMNS], dim=1).float()
    overlaps = box_code.box_overlaps(known.boxes, boxes)
    assert (overlaps.amax(dim=1) >= 0.5).sum() >= 5
    assert len(boxes) <= 8
    good_masks = []
    for number in range(1, 7):
        true, found = label_images[0].numpy() == number, label_image == overlaps[number - 1].argmax().item() + 1
        good_masks.append((true & found).sum() >= 0.5 * (true | found).sum())
    assert sum(good_masks) >= 5


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"anchor_sizes": (16, 32)}, "anchor_sizes is (16, 32); it must be 5 whole numbers from 1"),
        ({"anchor_sizes": "large"}, "anchor_sizes is 'large'; it must be 5 whole numbers from 1"),
        ({"backbone": "vgg16"}, "backbone is 'vgg16'; it must be one of resnet18, resnet34, resnet50, resnet101"),
    ],
)
def test_parameters_that_it_cannot_have_are_refused(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"mask_rcnn: {message}")):
        networks.find("mask_rcnn").complete(parameters)


def test_sizes_that_are_not_multiples_of_32_are_refused() -> None:
    with pytest.raises(GeometryError, match="input size 40 along axis 1"):
        build().find_objects(torch.zeros(1, 1, 32, 40))


def test_a_patch_on_which_batch_norm_has_one_value_is_refused() -> None:
    with pytest.raises(UsageError, match="use larger patches or batches"):
        build().loss(torch.zeros(1, 1, 32, 32), torch.zeros(1, 32, 32, dtype=torch.int64))
